"""The guard: what is not proven better is not used. On made-up patches, where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from boxdrop.assessment.calibration import logit
from boxdrop.detect.features import Features
from boxdrop.teach.guard import CAUTION, FEWEST_KNOWN_BOXES, SHARES, Verdict, Words, judge
from boxdrop.teach.patches import VerifiedImage, stack
from boxdrop.teach.trial import Trial, try_out, weighted_ap

WIDTH, PATCHES = 32, 30
LOOKS = np.eye(WIDTH, dtype=np.float32)[:3]
"""What things of labels 0, 1 and 2 look like."""


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def images(count: int, seed: int, labels: int = 3, noise: float = 0.25) -> list[VerifiedImage]:
    """Images with up to four things, each in a patch of its own among patches of nothing."""
    rng = np.random.default_rng(seed)
    left = np.arange(PATCHES, dtype=np.float32) * 10
    boxes = np.stack([left, 0 * left, left + 9, 0 * left + 9], axis=1)
    made = []
    for _ in range(count):
        kinds = rng.integers(0, labels, int(rng.integers(0, 5)))
        embeddings = 0.6 * rng.normal(size=(PATCHES, WIDTH)) / np.sqrt(WIDTH)
        embeddings[:, -1] += 1
        embeddings[: len(kinds)] = LOOKS[kinds] + noise * rng.normal(size=(len(kinds), WIDTH))
        features = Features(
            unit(embeddings).astype(np.float16),
            np.full(PATCHES, -0.45, np.float32),
            np.full(PATCHES, 14, np.float32),
            boxes,
            np.ones(PATCHES, np.float32),
        )
        made.append(VerifiedImage(features, boxes[: len(kinds)], kinds, (PATCHES * 10, 9)))
    return made


def words(queries: NDArray[np.floating], owners: list[int] | None = None, labels: int = 3) -> Words:
    every = np.arange(len(queries)) if owners is None else np.array(owners, np.int64)
    return Words(unit(queries), every, np.full(labels, 0.5, np.float32), 0.02)


def decide(verified: list[VerifiedImage], asked: Words) -> Verdict:
    return judge(verified, stack(verified, asked.labels), asked)


def test_words_that_find_everything_are_kept() -> None:
    verdict = decide(images(30, seed=1, noise=0.1), words(LOOKS))
    assert verdict.choices == ("words", "words", "words")
    assert not verdict.new.any()


def test_labels_whose_words_find_nothing_are_taught_and_the_others_are_not() -> None:
    elsewhere = np.eye(WIDTH, dtype=np.float32)[20]
    verdict = decide(images(30, seed=2, noise=0.1), words(np.stack([LOOKS[0], elsewhere, LOOKS[2]])))
    assert verdict.new.tolist() == [False, True, False]
    assert verdict.choices == ("words", "lesson", "words")
    thresholds, only = np.full(3, 0.5, np.float32), np.arange(3) == 1
    assert verdict.before.figures(thresholds, only).f1 < 0.1
    assert verdict.after.figures(thresholds, only).f1 > 0.9


def test_a_label_without_words_is_new_and_a_single_box_teaches_it() -> None:
    verified = images(24, seed=3, labels=2, noise=0.1)
    rare = next(image for image in verified if len(image.labels) > 1)
    rare.features.embeddings[1] = LOOKS[2].astype(np.float16)
    rare.labels[1] = 2
    verdict = decide(verified, words(LOOKS[:1], owners=[0]))
    assert verdict.new.tolist() == [False, True, True]
    assert verdict.choices[1:] == ("lesson", "lesson")


def test_one_missed_box_of_a_known_name_does_not_make_it_new() -> None:
    verified = images(20, seed=4, labels=2, noise=0.1)
    odd = next(image for image in verified if len(image.labels) > 1)
    odd.labels[0] = 2  # drawn once, on what looks like another thing
    verdict = decide(verified, words(LOOKS))
    assert not verdict.new[2]
    assert verdict.choices[2] == "words"


def vague_words() -> Words:
    rng = np.random.default_rng(5)
    return words(LOOKS + 0.2 * rng.normal(size=LOOKS.shape) + 0.45 * np.eye(WIDTH)[-1])


def test_a_dozen_boxes_prove_nothing_about_labels_that_the_words_find() -> None:
    verified = images(8, seed=1)
    assert sum(len(image.labels) for image in verified) < FEWEST_KNOWN_BOXES
    verdict = decide(verified, vague_words())
    assert verdict.new.tolist() == [False, True, False]
    assert verdict.choices == ("words", "lesson", "words")


@pytest.mark.slow
def test_words_that_are_half_right_are_improved() -> None:
    verdict = decide(images(60, seed=5), vague_words())
    assert set(verdict.choices) & {"mixed", "lesson"}
    every, thresholds = np.ones(3, bool), np.full(3, 0.5, np.float32)
    before, after = verdict.before.figures(thresholds, every), verdict.after.figures(thresholds, every)
    assert before.ap is not None
    assert after.ap is not None
    assert after.ap > before.ap
    assert after.f1 >= before.f1
    assert verdict.shares[~verdict.new].max() <= max(SHARES) < 1  # the words keep their part


def with_one_box_of_the_last_label(verified: list[VerifiedImage]) -> list[VerifiedImage]:
    """The same images; of label 2 only the first box is verified."""
    found, kept = [], False
    for image in verified:
        mine = image.labels == 2
        if not kept and mine.any():
            mine[mine.argmax()], kept = False, True
        found.append(replace(image, boxes=image.boxes[~mine], labels=image.labels[~mine]))
    return found


@pytest.mark.slow
def test_a_known_name_with_one_box_learns_with_the_others_and_without_it_is_judged_by_its_words() -> None:
    verified = with_one_box_of_the_last_label(images(60, seed=5))
    asked = words(LOOKS + 0.15 * np.random.default_rng(5).normal(size=LOOKS.shape) + 0.3 * np.eye(WIDTH)[-1])
    verdict = decide(verified, asked)
    assert not verdict.new.any()
    assert verdict.learner.able.all()
    assert verdict.shares[0] > 0
    holder = next(number for number, image in enumerate(verified) if 2 in image.labels)
    before, after = (
        trial.scores[(trial.labels == 2) & trial.right] for trial in (verdict.before, verdict.after)
    )
    assert verdict.after.objects[:, 2].nonzero()[0].tolist() == [holder]
    if verdict.shares[2] > 0:  # only what every mixture is lowered by tells it from the words
        np.testing.assert_allclose(logit(after), logit(before) - CAUTION * verdict.shares[2], atol=1e-4)
    else:
        np.testing.assert_allclose(after, before, atol=1e-6)


@pytest.mark.slow
def test_a_mixture_is_lowered_by_its_share_and_by_nothing_that_few_boxes_say() -> None:
    verdict = decide(images(60, seed=5), vague_words())
    mixed = (verdict.shares > 0) & ~verdict.new
    assert mixed.any()
    np.testing.assert_allclose(verdict.biases[mixed], -CAUTION * verdict.shares[mixed])


@pytest.mark.parametrize("seed", range(3))
def test_boxes_drawn_at_random_teach_nothing_to_labels_that_the_words_find(seed: int) -> None:
    rng = np.random.default_rng(seed)
    verified = images(30, seed=10 + seed, noise=0.1)
    for image in verified[::3]:
        image.labels[:] = rng.integers(0, 3, len(image.labels))
    verdict = decide(verified, words(LOOKS))
    thresholds, every = np.full(3, 0.5, np.float32), np.ones(3, bool)
    clean = images(60, seed=99, noise=0.1)
    patches = stack(clean, 3)
    asked = words(LOOKS).logits(patches)
    taught = verdict.heads.logits(patches)
    used = np.where(verdict.shares > 0, asked + verdict.shares * (taught - asked) + verdict.biases, asked)
    ends = np.flatnonzero(np.diff(patches.images)) + 1
    kept, now = (
        try_out(clean, np.split(each.astype(np.float32), ends), 3, 0.02).figures(thresholds, every).f1
        for each in (asked, used)
    )
    assert now >= kept - 0.01


def test_the_best_of_several_prompts_counts() -> None:
    elsewhere = np.eye(WIDTH, dtype=np.float32)[20]
    asked = words(np.stack([elsewhere, LOOKS[0], LOOKS[1], LOOKS[2]]), owners=[0, 0, 1, 2])
    verified = images(30, seed=6, noise=0.1)
    patches = stack(verified, 3)
    np.testing.assert_array_equal(asked.logits(patches)[:, 1:], patches.logits(LOOKS)[:, 1:])
    np.testing.assert_array_equal(asked.starts(patches), LOOKS)
    assert decide(verified, asked).choices == ("words", "words", "words")


def test_a_box_is_right_once() -> None:
    verified = images(1, seed=8)[0]
    twice = VerifiedImage(verified.features, verified.features.boxes[:1], np.array([0]), verified.size)
    logits = np.full((PATCHES, 1), -9.0, np.float32)
    logits[:2] = 3.0
    moved = twice.features.boxes.copy()
    moved[1] = moved[0] + np.array([3, 0, 3, 0], np.float32)  # IoU 0.5 with the first
    features = Features(
        twice.features.embeddings, twice.features.shifts, twice.features.scales, moved, twice.features.weights
    )
    trial: Trial = try_out(
        [VerifiedImage(features, twice.boxes, twice.labels, twice.size)], [logits], 1, 0.02
    )
    assert trial.right.sum() == 1
    figures = trial.figures(np.full(1, 0.5, np.float32), np.ones(1, bool))
    assert (figures.recall, figures.ap) == (1.0, 1.0)


def test_average_precision_of_a_known_ranking() -> None:
    scores, right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    images, weights = np.array([0, 1, 0, 1]), np.array([[1.0, 1], [2, 2], [1, 0], [0, 1]])
    areas = weighted_ap(scores, right, images, weights, np.array([2.0, 4, 2, 2]))
    assert areas.tolist() == pytest.approx([(1 + 2 / 3) / 2, (1 + 2 / 3) / 2, 1, 0])


def test_an_image_that_counts_twice_is_as_good_as_two_of_it() -> None:
    rng = np.random.default_rng(9)
    count, images = 200, 12
    scores, right = rng.random(count), rng.random(count) < 0.4
    of, times = rng.integers(0, images, count), rng.integers(0, 4, (5, images))
    objects = times.sum(axis=1) * 9.0
    areas = weighted_ap(scores, right, of, times.astype(float), objects)
    for area, each, there in zip(areas, times, objects, strict=True):
        copies = np.repeat(np.arange(count), each[of])
        order = copies[np.argsort(-scores[copies], kind="stable")]
        precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
        last = np.append(scores[order][1:] < scores[order][:-1], True)  # copies of a box are one step
        best = np.maximum.accumulate(np.where(last, precision, 0)[::-1])[::-1]
        assert area == pytest.approx((best * right[order]).sum() / there)
