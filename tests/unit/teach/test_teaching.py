"""Teaching the demo detector a shape that has no name, from a few drawn scenes."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pytest

from boxdrop.demo import BUNDLE
from boxdrop.detect import Detector
from boxdrop.domain.detections import iou, iou_matrix
from boxdrop.domain.errors import LessonError
from boxdrop.domain.identity import lesson_id
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import Lesson
from boxdrop.lessons import read_lesson_text, write_lesson_text
from boxdrop.teach.patches import PATCHES_OF_A_VIEW
from boxdrop.teach.teaching import Examined, Example, examine, teach
from tests.shape_scenes import draw_shapes

NOW = datetime(2026, 11, 28, tzinfo=UTC)
LABELS = LabelSet.from_yaml("labels:\n  - {name: badge, examples: only}\n  - banana\n")
NOTHING = np.zeros((0, 4), np.float32)


class Taught(NamedTuple):
    lesson: Lesson
    number: str


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load(BUNDLE, threads=1)


def examples(seeds: range) -> list[Example]:
    found = []
    for seed in seeds:
        scene = draw_shapes(seed)
        stars = scene.stars
        found.append(
            Example(f"{seed:032x}", "v1", scene.pixels, stars, np.zeros(len(stars), np.int64), NOTHING)
        )
    return found


@pytest.fixture(scope="module")
def seen(detector: Detector) -> list[Examined]:
    return list(examine(detector, LABELS, examples(range(16))))


@pytest.fixture(scope="module")
def taught(detector: Detector, seen: list[Examined]) -> Taught:
    lesson = teach(detector, LABELS, seen, project="badges", made_at=NOW)
    number = lesson_id(write_lesson_text(lesson))
    detector.learn(number, lesson)
    return Taught(lesson, number)


@pytest.mark.slow
def test_sixteen_images_teach_what_no_word_describes(detector: Detector, taught: Taught) -> None:
    found = wrong = 0
    scenes = [draw_shapes(seed) for seed in range(100, 116)]
    with_lesson = replace(LABELS, lesson=taught.number)
    for scene, boxes in zip(scenes, detector.detect([s.pixels for s in scenes], with_lesson), strict=True):
        hits = sum(bool((iou(box, scene.stars) >= 0.5).any()) for box in boxes.boxes)
        found += hits
        wrong += len(boxes) - hits
    assert found >= 0.8 * sum(len(scene.stars) for scene in scenes)
    assert wrong <= 3
    before = detector.detect([scene.pixels for scene in scenes], LABELS)
    assert not any((each.labels == 0).any() for each in before)  # it is not asked for without a lesson


def test_a_lesson_says_what_it_was_taught_on_and_what_it_is_worth(
    taught: Taught, seen: list[Examined]
) -> None:
    lesson = taught.lesson
    assert [(each.name, each.kind) for each in lesson.labels] == [("badge", "lesson")]
    assert [each.image_id for each in lesson.images] == [each.image.image_id for each in seen]
    assert lesson.boxes == sum(len(each.verified.boxes) for each in seen)
    assert (lesson.before.f1, lesson.before.recall) == (0, 0)
    assert lesson.after.recall > 0.8
    assert {each.name: each.taught for each in lesson.figures} == {"badge": "lesson", "banana": "words"}


def test_each_image_is_seen_twice_and_both_views_draw_the_same_boxes(seen: list[Examined]) -> None:
    for each in (each.verified for each in seen if len(each.verified.boxes)):
        [view] = each.views
        assert len(view) <= PATCHES_OF_A_VIEW
        for found in (view, each.features):
            assert (iou_matrix(each.boxes, found.boxes).max(axis=1) > 0.6).all()
        assert view.weights.sum() == pytest.approx(196)


def test_the_same_images_in_any_order_give_the_same_lesson(
    detector: Detector, taught: Taught, seen: list[Examined]
) -> None:
    again = teach(detector, LABELS, seen[::-1], project="badges", made_at=NOW)
    assert write_lesson_text(again) == write_lesson_text(taught.lesson)


def test_a_label_that_the_words_find_well_keeps_its_words(detector: Detector, taught: Taught) -> None:
    assert "banana" not in [each.name for each in taught.lesson.labels]
    scene = draw_shapes(3)
    one = detector.candidates([detector.preprocess(scene.pixels)], [(320, 240)], LABELS)[0]
    two = detector.candidates(
        [detector.preprocess(scene.pixels)], [(320, 240)], replace(LABELS, lesson=taught.number)
    )[0]
    banana = two.take(two.labels == 1)
    np.testing.assert_array_equal(banana.scores, one.scores)  # bit for bit
    np.testing.assert_array_equal(banana.boxes, one.boxes)


def test_too_few_images_are_an_error(detector: Detector, seen: list[Examined]) -> None:
    with pytest.raises(LessonError, match="4 verified images are too few to teach; verify 5 or more"):
        teach(detector, LABELS, seen[:4], project="badges", made_at=NOW)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda lesson: replace(lesson, bundle_digest="0" * 64),
            "taught on detector demo@0000000000000000, not",
        ),
        (lambda lesson: replace(lesson, width=64), "another length"),
        (
            lambda lesson: replace(lesson, labels=(replace(lesson.labels[0], heads="AAAA"),)),
            "weights of label 'badge' are damaged",
        ),
    ],
)
def test_a_lesson_that_does_not_fit_is_refused(
    detector: Detector, taught: Taught, change: Callable[[Lesson], Lesson], said: str
) -> None:
    with pytest.raises(LessonError, match=said):
        detector.learn("0123456789abcdef", change(taught.lesson))


def test_a_lesson_that_was_not_given_is_named(detector: Detector) -> None:
    with pytest.raises(LessonError, match="use lesson 0123456789abcdef, which was not given"):
        detector.embed(replace(LABELS, lesson="0123456789abcdef"))


def test_a_document_is_read_as_it_was_written(taught: Taught) -> None:
    text = write_lesson_text(taught.lesson)
    assert read_lesson_text(text, "here") == taught.lesson
    with pytest.raises(LessonError, match="here: this is not JSON"):
        read_lesson_text(text[: len(text) // 2], "here")


def test_a_renamed_label_keeps_what_it_was_taught_and_other_prompts_end_it(
    detector: Detector, taught: Taught
) -> None:
    badge, banana = LABELS.labels
    renamed = replace(LABELS, labels=(replace(badge, name="medal"), banana), lesson=taught.number)
    assert detector.embed(renamed)[0].heads is not None
    changed = replace(badge, prompts=("star",))
    assert detector.embed(replace(LABELS, labels=(changed, banana), lesson=taught.number))[0].heads is None
