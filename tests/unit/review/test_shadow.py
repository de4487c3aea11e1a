"""Which boxes of two detectors are the same object."""

from hypothesis import given
from hypothesis import strategies as st

from boxdrop.domain.predictions import Box
from boxdrop.review.shadow import Fate, compare_boxes

BOTH, RENAMED, ONLY = Fate.BOTH, Fate.RENAMED, Fate.ONLY


def box(label: str, left: int, score: float = 0.5) -> Box:
    return Box(label, score, (float(left), 0.0, left + 100.0, 100.0), label)


def test_a_box_is_shared_renamed_or_only_on_one_side() -> None:
    now = (box("apple", 0), box("pear", 300), box("banana", 600))
    new = (box("plum", 310), box("apple", 20), box("apple", 900))
    seen = compare_boxes("a.jpg", "1", now, new)
    assert seen.fates == ((BOTH, RENAMED, ONLY), (RENAMED, BOTH, ONLY))
    assert sorted(seen.pairs) == [(0, 1), (1, 0)]
    assert seen.difference == 3


def test_the_same_label_comes_first_and_the_nearest_box_of_another_label_next() -> None:
    now = (box("apple", 0), box("pear", 5))
    assert compare_boxes("a", "1", now, (box("pear", 0),)).fates == ((ONLY, BOTH), (BOTH,))
    assert compare_boxes("a", "1", now, (box("plum", 6),)).fates == ((ONLY, RENAMED), (RENAMED,))


some = st.lists(st.builds(box, st.sampled_from("ab"), st.integers(0, 300)), max_size=6).map(tuple)


@given(some, some)
def test_each_object_counts_once_whatever_the_boxes(now: tuple[Box, ...], new: tuple[Box, ...]) -> None:
    seen = compare_boxes("a", "1", now, new)
    for side, boxes in enumerate((now, new)):
        paired = [pair[side] for pair in seen.pairs]
        assert len(set(paired)) == len(paired)
        assert {i for i, fate in enumerate(seen.fates[side]) if fate != ONLY} == set(paired)
        assert len(seen.fates[side]) == len(boxes)
    for ours, theirs in seen.pairs:
        is_same = now[ours].label == new[theirs].label
        assert seen.fates[0][ours] == seen.fates[1][theirs] == (BOTH if is_same else RENAMED)


@given(some)
def test_boxes_agree_with_themselves(boxes: tuple[Box, ...]) -> None:
    assert compare_boxes("a", "1", boxes, boxes).difference == 0
