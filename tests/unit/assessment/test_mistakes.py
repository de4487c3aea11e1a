"""Mistakes in verified work: what is wrong is named with its kind, and what is right is not."""

import numpy as np
import pytest

from boxdrop.assessment.calibration import calibrate
from boxdrop.assessment.evidence import Evidence
from boxdrop.assessment.mistakes import Kind, doubts, reason
from boxdrop.domain.detections import Detections

NAMES = ["banana", "apple", "kiwi"]
SIDE = 40.0


def box(place: int) -> tuple[float, float, float, float]:
    left = place * 60.0
    return left, 0.0, left + SIDE, SIDE


def image(found: list[tuple[int, int, float]], verified: list[tuple[int, int]]) -> Evidence:
    """Candidates as (place, label, score), verified boxes as (place, label)."""
    boxes = np.array([box(place) for place, _, _ in found], np.float32).reshape(-1, 4)
    labels = np.array([label for _, label, _ in found], np.int64)
    scores = np.array([score for _, _, score in found], np.float32)
    queries = np.array([place for place, _, _ in found], np.int64)
    truth = np.array([box(place) for place, _ in verified], np.float32).reshape(-1, 4)
    drawn = np.array([label for _, label in verified], np.int64)
    return Evidence.of("x.jpg", Detections(boxes, scores, labels, labels, queries), truth, drawn)


rng = np.random.default_rng(0)
scores = rng.uniform(0.03, 0.97, 600)
CALIBRATION = calibrate(scores, rng.integers(0, 3, 600), rng.random(600) < scores, 3)


def test_what_is_right_raises_no_doubt() -> None:
    good = image([(0, 0, 0.95), (1, 1, 0.9), (2, 2, 0.03)], [(0, 0), (1, 1)])
    assert [each for each in doubts(good, CALIBRATION) if each.score > 0.15] == []


@pytest.mark.parametrize(
    ("found", "verified", "kind", "box_", "words"),
    [
        ([(0, 0, 0.9), (1, 1, 0.9)], [(0, 0)], Kind.MISSED, None, "apple missed?"),
        ([(0, 1, 0.9), (0, 0, 0.05)], [(0, 0)], Kind.WRONG_LABEL, 0, "banana, or apple?"),
    ],
)
def test_a_mistake_is_named_with_its_kind(
    found: list[tuple[int, int, float]],
    verified: list[tuple[int, int]],
    kind: Kind,
    box_: int | None,
    words: str,
) -> None:
    first = doubts(image(found, verified), CALIBRATION)[0]
    assert (first.kind, first.box, reason(first, NAMES)) == (kind, box_, words)
    assert first.score > 0.5


def test_a_box_beside_its_object_is_badly_placed_and_one_beside_another_object_of_its_label_is_not() -> None:
    shifted = image([(0, 0, 0.95)], [(0, 0)])
    beside = Evidence.of("x", shifted.candidates, shifted.boxes + np.float32(18), shifted.labels)
    (first, *_) = doubts(beside, CALIBRATION)
    assert (first.kind, reason(first, NAMES)) == (Kind.BADLY_PLACED, "edges of banana?")
    assert first.score > 0.5
    # Two bananas that overlap, both found in place: the neighbour's candidate says nothing about this one.
    pair = np.array([[0, 0, 40, 40], [15, 0, 55, 40]], np.float32)
    none = np.zeros(2, np.int64)
    found = Detections(pair, np.array([0.95, 0.9], np.float32), none, none, np.arange(2))
    both = Evidence.of("x", found, pair, none)
    assert [
        each for each in doubts(both, CALIBRATION) if each.kind == Kind.BADLY_PLACED and each.score > 0
    ] == []


def test_a_verified_box_is_named_once() -> None:
    both = image([(0, 1, 0.9), (0, 2, 0.9)], [(0, 0)])
    assert [each.box for each in doubts(both, CALIBRATION)].count(0) == 1


def test_nothing_found_raises_no_doubt() -> None:
    assert doubts(image([], [(0, 0)]), CALIBRATION) == []
    assert doubts(image([], []), CALIBRATION) == []
