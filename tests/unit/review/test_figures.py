"""The figures of the report, on images whose truth is known."""

from dataclasses import replace
from datetime import timedelta

import pytest

from boxdrop.domain.annotations import DrawnBox, OfferedBox
from boxdrop.review.figures import Report, Verdict, count, size_of, to_fields
from boxdrop.review.reviewed import LeftOut, Reviewed, Why
from tests.unit.review.simulated import START, reviewed

Corners = tuple[float, float, float, float]
A, B, C = (0.0, 0.0, 20.0, 20.0), (200.0, 0.0, 250.0, 50.0), (400.0, 0.0, 600.0, 200.0)


def offer(label: str, xyxy: Corners, region: str) -> OfferedBox:
    return OfferedBox(label, 0.9, xyxy, region)


def report(*images: Reviewed | LeftOut) -> Report:
    return count(images)


@pytest.fixture
def busy() -> Reviewed:
    """One box of each fate: an apple kept, a pear that was an apple, a banana deleted, a plum added."""
    return reviewed(
        1,
        [offer("apple", A, "a"), offer("apple", B, "b"), offer("banana", C, "c")],
        [DrawnBox("apple", A, "a"), DrawnBox("pear", B, "b"), DrawnBox("plum", C, "new")],
    )


def test_each_fate_is_counted_under_its_label(busy: Reviewed) -> None:
    labels = report(busy).labels
    apple, pear, banana, plum = (labels[name] for name in ("apple", "pear", "banana", "plum"))
    assert (apple.kept, apple.relabelled, apple.offered, apple.verified) == (1, 1, 2, 1)
    assert (pear.relabelled_to, pear.offered, pear.verified) == (1, 0, 1)
    assert (banana.deleted, banana.offered, banana.verified) == (1, 1, 0)
    assert (plum.added, plum.offered, plum.verified) == (1, 0, 1)
    assert (apple.precision.right, apple.precision.of) == (1, 2)
    assert (pear.recall.right, pear.recall.of) == (0, 1)
    assert report(busy).confusion == {("apple", "pear"): 1}


def test_the_whole_is_the_sum_of_its_labels(busy: Reviewed) -> None:
    found = report(busy, reviewed(2, [offer("apple", A, "a")], [DrawnBox("apple", A, "a")]))
    for name in (
        "kept",
        "adjusted",
        "relabelled",
        "deleted",
        "added",
        "relabelled_to",
        "offered",
        "verified",
    ):
        assert getattr(found.whole, name) == sum(getattr(each, name) for each in found.labels.values()), name
    assert found.whole.images == 2
    assert found.whole.untouched == 1


def test_images_that_do_not_count_are_counted_by_their_reason(busy: Reviewed) -> None:
    unknown = replace(busy, outcomes=None, annotation=replace(busy.annotation, offer=None))
    out = [
        LeftOut("1", "a.jpg", Why.SKIPPED),
        LeftOut("2", "b.jpg", Why.SKIPPED),
        LeftOut("3", "c", Why.STALE),
    ]
    found = report(busy, unknown, *out)
    assert (found.images, found.unknown_start, found.whole.images) == (2, 1, 1)
    assert found.left_out == {"skipped": 2, "overwritten since it was verified": 1}


def test_adjusted_boxes_have_a_distribution_of_overlaps() -> None:
    images = [
        reviewed(n, [offer("apple", C, "a")], [DrawnBox("apple", (400.0, 0.0, 600.0, 200.0 * part), "a")])
        for n, part in enumerate((0.92, 0.62, 0.32))
    ]
    apple = report(*images).labels["apple"]
    assert apple.adjusted == 3
    assert [place for place, number in enumerate(apple.ious) if number] == [6, 12, 18]
    assert apple.median_iou == pytest.approx(0.625)
    assert (apple.precision.right, apple.recall.right) == (2, 2)  # 0.32 is another place


def test_sizes_are_cocos() -> None:
    assert [size_of((0, 0, side, side)) for side in (31.9, 32, 95.9, 96)] == [
        "small",
        "medium",
        "medium",
        "large",
    ]


def test_a_box_that_grew_counts_under_both_sizes_once() -> None:
    found = report(reviewed(1, [offer("apple", A, "a")], [DrawnBox("apple", B, "a")])).sizes
    assert (found["small"].offered, found["small"].precision.of, found["small"].recall.of) == (1, 1, 0)
    assert (found["medium"].precision.of, found["medium"].recall.of) == (0, 1)


def test_overlap_is_told_by_the_nearest_other_box() -> None:
    boxes = [A, (0.0, 0.0, 20.0, 18.0), C]
    image = reviewed(1, [offer("apple", box, str(n)) for n, box in enumerate(boxes)], [])
    overlaps = report(image).overlaps
    assert [overlaps[name].deleted for name in ("alone", "some overlap", "much overlap")] == [1, 0, 2]


def test_time_and_annotators_have_figures_of_their_own() -> None:
    kept = [offer("apple", A, "a")], [DrawnBox("apple", A, "a")]
    images = [reviewed(n, *kept, user=3 + n % 2, seconds=float(n)) for n in range(10)]
    found = report(*images)
    assert {user: each.images for user, each in found.annotators.items()} == {"3": 5, "4": 5}
    seconds = found.whole.seconds
    assert (seconds.images, seconds.total, seconds.median, seconds.p90) == (10, 45.0, 4.5, 9.0)
    assert list(found.periods) == ["2026-11-02"]
    later = reviewed(11, *kept, at=START + timedelta(days=30), seconds=None)
    weekly = report(*images, later)
    assert list(weekly.periods) == ["2026-11-02", "2026-11-30"]
    assert weekly.whole.seconds.images == 10


@pytest.mark.parametrize(
    ("right", "missed", "verdict"),
    [(40, 0, Verdict.TRUST), (10, 0, Verdict.IMPRECISE), (40, 60, Verdict.MISSES), (10, 60, Verdict.BOTH)],
)
def test_a_label_is_judged_by_its_intervals(right: int, missed: int, verdict: Verdict) -> None:
    images: list[Reviewed] = []
    for number in range(40):
        drawn = [DrawnBox("apple", A, "a")] if number < right else []
        images.append(reviewed(number, [offer("apple", A, "a")], drawn))
    images += [reviewed(100 + n, [], [DrawnBox("apple", A, "new")]) for n in range(missed)]
    assert report(*images).labels["apple"].verdict(0.8) == verdict


def test_two_images_are_too_little_to_tell() -> None:
    images = [reviewed(n, [offer("apple", A, "a")], [DrawnBox("apple", A, "a")]) for n in range(2)]
    assert report(*images).labels["apple"].verdict() == Verdict.UNSURE


def test_nothing_verified_is_a_report_too() -> None:
    fields = to_fields(report())
    assert fields["images"] == 0
    assert fields["whole"]["precision"] == {"value": None, "right": 0, "of": 0, "images": 0}


def test_the_json_holds_what_the_report_says(busy: Reviewed) -> None:
    fields = to_fields(report(busy))
    assert fields["labels"]["apple"]["kept"] == 1
    assert fields["labels"]["apple"]["verdict"] == "unsure"
    assert fields["confusion"] == [{"offered": "apple", "verified": "pear", "boxes": 1}]
    assert fields["models_by_label"][0]["model_version"] == "demo@3f9a1c22"
