"""A lesson made of the words themselves detects what the words detect."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from boxdrop.demo import BUNDLE, SCENES
from boxdrop.detect import Detector
from boxdrop.detect.features import features_of, probes
from boxdrop.detect.lessons import encode_heads
from boxdrop.domain.images import Limits, decode
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import Figures, Lesson, TaughtLabel

LABELS = LabelSet.from_yaml(
    "labels:\n  - pineapple\n  - {name: banana, prompts: [banana, bunch of bananas]}\n  - apple\n"
)
NUMBER = "00000000000000aa"


def lesson_of_words(detector: Detector, labels: tuple[int, ...]) -> Lesson:
    queries = detector.queries(LABELS)
    ones, zeros = np.ones((len(queries), 1), np.float32), np.zeros((len(queries), 1), np.float32)
    heads, owners = np.hstack([queries, ones, zeros]), np.array(LABELS.prompt_labels)
    nothing = Figures(0, 0, 0, None)
    taught = tuple(
        TaughtLabel(
            LABELS.labels[number].name,
            LABELS.labels[number].id,
            LABELS.labels[number].prompts,
            "lesson",
            3,
            encode_heads(heads[owners == number]),
        )
        for number in labels
    )
    return Lesson(
        project="fruit",
        bundle=detector.bundle.name,
        bundle_digest=detector.bundle.digest,
        width=detector.width,
        made_at=datetime(2026, 11, 28, tzinfo=UTC),
        labels=taught,
        images=(),
        boxes=9,
        before=nothing,
        after=nothing,
        figures=(),
    )


@pytest.mark.parametrize("labels", [(0, 1, 2), (1,), ()])
def test_a_lesson_made_of_the_words_gives_the_boxes_of_the_words(labels: tuple[int, ...]) -> None:
    detector = Detector.load(BUNDLE, threads=1)
    detector.learn(NUMBER, lesson_of_words(detector, labels))
    for path in sorted(SCENES.glob("*.jpg"))[:2]:
        image = decode(path.read_bytes(), Limits())
        pixels, size = [detector.preprocess(image.pixels)], [(image.width, image.height)]
        words = detector.candidates(pixels, size, LABELS)[0]
        taught = detector.candidates(pixels, size, replace(LABELS, lesson=NUMBER))[0]
        assert len(words) > 5
        np.testing.assert_array_equal(taught.labels, words.labels)
        np.testing.assert_array_equal(taught.prompts, words.prompts)
        np.testing.assert_array_equal(taught.boxes, words.boxes)
        assert np.abs(taught.scores - words.scores).max() <= 1e-6


def test_features_rebuild_the_scores_of_any_words() -> None:
    detector = Detector.load(BUNDLE, threads=1)
    image = decode(sorted(SCENES.glob("*.jpg"))[0].read_bytes(), Limits())
    pixels, size = [detector.preprocess(image.pixels)], [(image.width, image.height)]
    [features] = detector.features(pixels, size)
    queries = detector.queries(LABELS)
    rebuilt = features.scales[:, None] * (
        features.embeddings.astype(np.float32) @ queries.T + features.shifts[:, None]
    )
    logits, _ = detector.infer(pixels, LABELS)
    np.testing.assert_allclose(rebuilt, logits[0], atol=5e-3)  # embeddings are kept in 16 bits
    np.testing.assert_allclose(np.linalg.norm(features.embeddings.astype(np.float32), axis=1), 1, atol=1e-3)


def test_the_probes_recover_embedding_shift_and_scale() -> None:
    rng = np.random.default_rng(1)
    embeddings = rng.normal(size=(7, 16))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    shifts, scales = rng.normal(size=7), rng.uniform(2, 12, 7)
    logits = scales[:, None] * (embeddings @ probes(16).T + shifts[:, None])
    found = features_of(logits.astype(np.float32), np.zeros((7, 4), np.float32))
    np.testing.assert_allclose(found.shifts, shifts, atol=1e-5)
    np.testing.assert_allclose(found.scales, scales, rtol=1e-5)
    np.testing.assert_allclose(found.embeddings, embeddings, atol=1e-3)


def test_labels_that_only_examples_describe_are_not_asked_for() -> None:
    detector = Detector.load(BUNDLE, threads=1)
    text = "labels:\n  - banana\n  - {name: apple, examples: only}\n"
    image = decode(sorted(SCENES.glob("*.jpg"))[0].read_bytes(), Limits())
    [found] = detector.detect([image.pixels], LabelSet.from_yaml(text))
    assert set(found.labels.tolist()) <= {0}
    only = LabelSet.from_yaml("labels:\n  - {name: apple, examples: only}\n")
    assert len(detector.detect([image.pixels], only)[0]) == 0


def test_the_model_version_tells_lessons_apart() -> None:
    detector = Detector.load(BUNDLE, threads=1)
    with_lesson = replace(LABELS, lesson=NUMBER)
    versions = {
        detector.model_version(LABELS),
        detector.model_version(with_lesson),
        detector.model_version(replace(LABELS, lesson="0" * 16)),
    }
    assert len(versions) == 3
