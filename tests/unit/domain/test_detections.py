"""Suppression and selection: the laws that let thresholds change without the detector."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.domain.detections import Detections, coverings, iou, select, suppress


def detections(rows: Sequence[tuple[Sequence[float], float, int, int]]) -> Detections:
    """Rows of (xyxy, score, label, query); the prompt is the label."""
    return Detections(
        boxes=np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row[1] for row in rows], np.float32),
        labels=np.array([row[2] for row in rows], np.int64),
        prompts=np.array([row[2] for row in rows], np.int64),
        queries=np.array([row[3] for row in rows], np.int64),
    )


@st.composite
def scenes(draw: st.DrawFn) -> Detections:
    """Crowded boxes on a small grid: many overlaps, ties and shared queries."""
    rows = []
    for query in range(draw(st.integers(0, 12))):
        left, top = draw(st.integers(0, 6)), draw(st.integers(0, 6))
        box = (left, top, left + draw(st.integers(1, 6)), top + draw(st.integers(1, 6)))
        for label in draw(st.sets(st.integers(0, 2), min_size=1)):
            rows.append((box, draw(st.integers(1, 20)) / 20, label, query))
    return detections(rows)


def as_rows(found: Detections) -> list[tuple[float, ...]]:
    columns = zip(found.boxes.tolist(), found.scores, found.labels, found.queries, strict=True)
    return [(*box, score, label, query) for box, score, label, query in columns]


def test_iou_of_known_boxes() -> None:
    others = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6], [0, 0, 0, 0]], np.float32)
    assert iou(others[0], others) == pytest.approx([1, 1 / 7, 0, 0])
    assert iou(others[3], others[3:]) == pytest.approx([0])


def test_the_better_of_two_boxes_of_one_label_stays() -> None:
    found = suppress(
        detections([((0, 0, 10, 10), 0.6, 0, 0), ((1, 0, 10, 10), 0.9, 0, 1), ((0, 0, 10, 9), 0.5, 1, 2)])
    )
    assert found.queries.tolist() == [1, 2]


def test_one_object_with_two_names_gets_one_box_and_remembers_the_loser() -> None:
    rows = detections([((0, 0, 10, 10), 0.9, 0, 0), ((0, 0, 10, 9.5), 0.7, 1, 1), ((0, 0, 3, 3), 0.6, 1, 2)])
    found = select(suppress(rows), [0.1, 0.1])
    assert found.queries.tolist() == [0, 2]
    ((label, score),) = found.rivals[0]
    assert label == 1
    assert score == pytest.approx(0.7)
    assert found.rivals[1] == ()


def test_a_label_below_its_threshold_does_not_push_another_aside() -> None:
    rows = suppress(detections([((0, 0, 10, 10), 0.4, 0, 0), ((0, 0, 10, 10), 0.3, 1, 0)]))
    assert select(rows, [0.1, 0.1]).labels.tolist() == [0]
    assert select(rows, [0.5, 0.1]).labels.tolist() == [1]


def test_without_suppression_each_query_has_its_best_label() -> None:
    rows = [((0, 0, 9, 9), 0.4, 0, 0), ((0, 0, 9, 9), 0.6, 1, 0), ((0, 0, 9, 9), 0.5, 0, 1)]
    found = select(suppress(detections(rows), nms_iou=1.0), [0.1, 0.1], rival_iou=None)
    assert sorted(zip(found.queries.tolist(), found.labels.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_the_limit_keeps_the_best_of_each_label() -> None:
    rows = [((20 * i, 0, 20 * i + 10, 10), (i + 1) / 50, i % 2, i) for i in range(40)]
    found = suppress(detections(rows), limit=3)
    assert sorted(found.queries.tolist()) == [34, 35, 36, 37, 38, 39]


@pytest.mark.parametrize("count", [40, 300])
def test_overlaps_that_are_known_already_change_nothing(count: int) -> None:
    """Few boxes are compared all at once, many one by one."""
    rng = np.random.default_rng(count)
    corners = rng.integers(0, 50, (count, 2))
    boxes = np.hstack([corners, corners + rng.integers(1, 20, (count, 2))]).astype(np.float32)
    scores = rng.random(count).tolist()
    rows = [
        (boxes[query].tolist(), scores[query], label, query) for query in range(count) for label in range(2)
    ]
    found = detections([row for row in rows if row[1] > 0.1])  # not every box is a candidate
    kept = suppress(found)
    assert len(kept) < len(found)
    assert as_rows(suppress(found, covered_by=coverings(boxes))) == as_rows(kept)
    together = [np.flatnonzero(iou(boxes[query], boxes) > 0.5).tolist() for query in range(count)]
    assert coverings(boxes) == [sum(1 << other for other in others) for others in together]


@given(scenes(), st.lists(st.integers(1, 20), min_size=3, max_size=3))
def test_thresholds_before_suppression_or_after_give_the_same_boxes(
    found: Detections, steps: list[int]
) -> None:
    thresholds = np.array(steps, np.float32) / np.float32(20)
    detected_high = found.take(found.scores >= thresholds[found.labels])
    assert as_rows(select(suppress(detected_high), thresholds)) == as_rows(
        select(suppress(found), thresholds)
    )


@given(scenes(), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(
    found: Detections, random: "np.random.Generator"
) -> None:
    order = list(range(len(found)))
    random.shuffle(order)
    shuffled = found.take(np.array(order, np.int64))
    assert as_rows(suppress(shuffled)) == as_rows(suppress(found))


@given(scenes())
def test_selecting_twice_changes_nothing_and_no_two_boxes_name_one_object(found: Detections) -> None:
    chosen = select(suppress(found), [0.05, 0.05, 0.05])
    assert as_rows(select(chosen, [0.05, 0.05, 0.05])) == as_rows(chosen)
    assert len(set(chosen.queries.tolist())) == len(chosen)
    assert np.all(np.diff(chosen.scores) <= 0)
    for i in range(len(chosen)):
        overlaps = iou(chosen.boxes[i], chosen.boxes)
        for j in range(i):
            assert overlaps[j] <= (0.5 if chosen.labels[i] == chosen.labels[j] else 0.7)
