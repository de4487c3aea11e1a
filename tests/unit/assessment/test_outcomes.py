"""What became of each box, by its region; and whether the detector was right, by the rule of VOC and COCO."""

import contextlib
import doctest
import io
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.assessment import outcomes
from boxdrop.assessment.outcomes import Change, compare, iou_matrix, match
from boxdrop.domain.annotations import DrawnBox, OfferedBox

APPLE = (10.0, 10.0, 50.0, 50.0)


def offered(label: str = "apple", xyxy: Any = APPLE, score: float = 0.9, region: str = "a") -> OfferedBox:
    return OfferedBox(label, score, xyxy, region)


def drawn(label: str = "apple", xyxy: Any = APPLE, region: str = "a", rotation: float = 0.0) -> DrawnBox:
    return DrawnBox(label, xyxy, region, rotation)


def test_the_docstring_tells_the_truth() -> None:
    assert doctest.testmod(outcomes).failed == 0


def test_a_box_left_as_it_was_is_kept_and_right() -> None:
    result = compare([offered()], [drawn(xyxy=(10.2, 10.0, 50.0, 49.9))])
    (before,), (after,) = result.offered, result.drawn
    assert (before.change, before.right, before.became) == (Change.KEPT, True, "apple")
    assert (after.change, after.found, after.was) == (Change.KEPT, True, "apple")
    assert result.is_untouched


def test_a_moved_box_is_adjusted_with_its_overlap() -> None:
    (before,) = compare([offered(xyxy=(0.0, 0.0, 10.0, 10.0))], [drawn(xyxy=(0.0, 0.0, 10.0, 20.0))]).offered
    assert (before.change, before.right) == (Change.ADJUSTED, True)
    assert before.iou == pytest.approx(0.5)


def test_a_rotated_box_is_adjusted_though_its_corner_stayed() -> None:
    assert compare([offered()], [drawn(rotation=8.0)]).offered[0].change == Change.ADJUSTED


def test_a_box_dragged_far_away_is_adjusted_and_wrong() -> None:
    result = compare([offered()], [drawn(xyxy=(200.0, 200.0, 240.0, 240.0))])
    assert (result.offered[0].change, result.offered[0].right) == (Change.ADJUSTED, False)
    assert (result.drawn[0].change, result.drawn[0].found) == (Change.ADJUSTED, False)


def test_a_relabelled_box_is_wrong_for_one_label_and_missed_for_the_other() -> None:
    result = compare([offered()], [drawn("pear")])
    (before,), (after,) = result.offered, result.drawn
    assert (before.label, before.became, before.change, before.right) == (
        "apple",
        "pear",
        Change.RELABELLED,
        False,
    )
    assert (after.label, after.was, after.change, after.found) == ("pear", "apple", Change.RELABELLED, False)


def test_a_box_deleted_and_drawn_again_is_work_and_yet_a_right_detection() -> None:
    result = compare([offered()], [drawn(region="by hand")])
    assert (result.offered[0].change, result.offered[0].right) == (Change.DELETED, True)
    assert (result.drawn[0].change, result.drawn[0].found) == (Change.ADDED, True)


def test_of_two_boxes_on_one_object_the_one_that_was_left_is_the_right_one() -> None:
    result = compare([offered(region="a"), offered(score=0.5, region="b")], [drawn(region="b")])
    assert [each.right for each in result.offered] == [False, True]
    assert [each.change for each in result.offered] == [Change.DELETED, Change.KEPT]


def test_a_rectangle_with_two_labels_is_one_kept_and_one_added_box() -> None:
    result = compare([offered()], [drawn("pear"), drawn("apple")])
    assert [each.change for each in result.offered] == [Change.KEPT]
    assert [each.change for each in result.drawn] == [Change.ADDED, Change.KEPT]


def test_nothing_offered_and_nothing_left_is_an_untouched_empty_image() -> None:
    assert compare([], []).is_untouched
    assert compare([offered()], []).offered[0].change == Change.DELETED
    assert compare([], [drawn()]).drawn[0].change == Change.ADDED


corners = st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 8)] * 2).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)
labels = st.sampled_from(["apple", "pear"])
offers = st.lists(
    st.builds(OfferedBox, labels, st.floats(0, 1), corners, st.sampled_from("abcd")), max_size=6
)
annotations = st.lists(st.builds(DrawnBox, labels, corners, st.sampled_from("abcdxyz")), max_size=6)


@given(offers, annotations)
def test_no_box_is_lost_or_counted_twice(before: list[OfferedBox], after: list[DrawnBox]) -> None:
    result = compare(before, after)
    assert [each.label for each in result.offered] == [each.label for each in before]
    assert [each.label for each in result.drawn] == [each.label for each in after]
    shared = (Change.KEPT, Change.ADJUSTED, Change.RELABELLED)
    for change in shared:
        ways = [
            Counter((each.label, each.became) for each in result.offered if each.change == change),
            Counter((each.was, each.label) for each in result.drawn if each.change == change),
        ]
        assert ways[0] == ways[1]
    assert {each.change for each in result.offered} <= {*shared, Change.DELETED}
    assert {each.change for each in result.drawn} <= {*shared, Change.ADDED}
    assert Counter(each.label for each in result.offered if each.right) == Counter(
        each.label for each in result.drawn if each.found
    )


@given(st.lists(st.tuples(corners, st.integers(0, 100)), max_size=7), st.lists(corners, max_size=7))
def test_the_matching_is_cocos(found: list[tuple[Any, int]], truth: list[Any]) -> None:
    """The right boxes are those that pycocotools' `evaluateImg` finds at IoU 0.5."""
    scores = [score + i / 10 for i, (_, score) in enumerate(found)]  # no ties: their order is nobody's rule
    boxes = [box for box, _ in found]
    matched = match(["apple"] * len(boxes), scores, boxes, ["apple"] * len(truth), truth)
    assert len(set(matched[matched >= 0])) == np.count_nonzero(matched >= 0)
    assert [int(each) for each in np.flatnonzero(matched >= 0)] == right_by_coco(boxes, scores, truth)


def right_by_coco(boxes: list[Any], scores: list[float], truth: list[Any]) -> list[int]:
    """The detections that COCO's own code matches at IoU 0.5."""
    from pycocotools.cocoeval import COCOeval

    def entry(number: int, box: Any) -> dict[str, Any]:
        left, top, right, bottom = box
        size = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
        return {"id": number + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "ignore": 0, **size}

    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(iouType="bbox")
    judge.params.imgIds, judge.params.catIds = [1], [1]
    judge._gts[1, 1] = [entry(i, box) for i, box in enumerate(truth)]
    judge._dts[1, 1] = [entry(i, box) | {"score": scores[i]} for i, box in enumerate(boxes)]
    judge.ious = {(1, 1): judge.computeIoU(1, 1)}
    found = judge.evaluateImg(1, 1, [0, 1e10], 100)
    if found is None:
        return []
    return sorted(
        number - 1 for number, hit in zip(found["dtIds"], found["dtMatches"][0], strict=True) if hit
    )


def test_overlaps_of_no_boxes_have_a_shape_and_no_numbers() -> None:
    assert iou_matrix([], [APPLE]).shape == (0, 1)
    assert iou_matrix([(1.0, 1.0, 1.0, 1.0)], [(1.0, 1.0, 1.0, 1.0)]).tolist() == [[0.0]]
