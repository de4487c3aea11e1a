"""Several annotations of one image: how far they agree, and which one counts."""

import doctest
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.assessment import agreement as module
from boxdrop.assessment.agreement import (
    agreement,
    agreement_of,
    all_agree,
    choose,
    differences,
    disagreements,
    opinions_of,
)
from boxdrop.domain.annotations import Annotation, DrawnBox, OfferedBox, Opinion
from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.label import LATEST, ReviewRule
from boxdrop.domain.labels import LabelSet
from tests.unit.review.simulated import reviewed

A, B = (0.0, 0.0, 20.0, 20.0), (100.0, 100.0, 140.0, 140.0)


def box(label: str = "apple", xyxy: Any = A) -> DrawnBox:
    return DrawnBox(label, xyxy, "r")


def annotated(*opinions: tuple[int, list[DrawnBox]], version: str = "v1") -> Annotation:
    """An image, annotated by these people one after the other; the last counts as *latest*."""
    user, boxes = opinions[-1]
    base = reviewed(1, [OfferedBox("apple", 0.9, A, "r")], boxes, user=user).annotation
    others = tuple(
        Opinion(
            100 + number,
            version,
            base.updated_at - timedelta(minutes=len(opinions) - number),
            who,
            2.0,
            tuple(drawn),
            same_offer=True,
        )
        for number, (who, drawn) in enumerate(opinions[:-1])
    )
    return replace(base, annotation_id=500, others=others)


def test_the_docstring_tells_the_truth() -> None:
    assert doctest.testmod(module).failed == 0


def test_agreement_is_the_share_of_boxes_that_have_a_partner() -> None:
    one = [box(), box("pear", B)]
    two = [box(xyxy=(0.0, 0.0, 20.0, 15.0)), box("apple", B)]
    assert agreement(one, two) == {"apple": (2, 3), "pear": (0, 1)}
    assert [(each.label, each.other) for each in differences(one, two)] == [("pear", "apple")]


drawings = st.lists(
    st.builds(
        DrawnBox,
        st.sampled_from(["apple", "pear"]),
        st.tuples(*[st.integers(0, 6)] * 2).map(lambda c: (c[0], c[1], c[0] + 6.0, c[1] + 6.0)),
        st.just("r"),
    ),
    max_size=5,
)


@given(drawings, drawings)
def test_agreement_does_not_depend_on_who_comes_first(one: list[DrawnBox], two: list[DrawnBox]) -> None:
    assert agreement(one, one) == {label: (of, of) for label, (_, of) in agreement(one, one).items()}
    assert all_agree([one, one])
    assert {label: of for label, (_, of) in agreement(one, two).items()} == {
        label: of for label, (_, of) in agreement(two, one).items()
    }
    assert all_agree([one, two]) == all(right == of for right, of in agreement(one, two).values())


def test_only_what_a_person_said_last_is_compared() -> None:
    changed_mind = annotated((3, []), (3, [box()]))
    assert len(opinions_of(changed_mind)) == 1
    assert list(disagreements(changed_mind)) == []


def test_annotations_of_an_earlier_version_are_not_compared() -> None:
    assert len(opinions_of(annotated((4, []), (3, [box()]), version="v0"))) == 1


def test_a_disagreement_names_who_drew_the_box_first() -> None:
    (found,) = disagreements(annotated((4, [box("pear", B), box()]), (3, [box()])))
    assert (found.users, found.difference.label, found.difference.other) == ((4, 3), "pear", None)
    assert agreement_of(opinions_of(annotated((4, []), (5, [box()]), (3, [box()])))) == {"apple": (2, 4)}


def test_latest_is_the_one_that_was_saved_last() -> None:
    shared = annotated((4, []), (3, [box()]))
    assert choose(shared, LATEST) is shared


def test_agreed_counts_where_everybody_agrees() -> None:
    rule = ReviewRule("agreed")
    alike, alone = annotated((4, [box()]), (3, [box()])), annotated((3, [box()]))
    assert choose(alike, rule) is alike
    assert choose(alone, rule) is alone
    assert choose(annotated((4, []), (3, [box()])), rule) is None


def test_a_reviewer_counts_and_nobody_else() -> None:
    rule = ReviewRule("reviewer", (4, 9))
    found = choose(annotated((4, [box("pear", B)]), (3, [box()])), rule)
    assert found is not None
    assert (found.user, found.annotation_id, found.lead_time) == (4, 100, 2.0)
    assert [each.label for each in found.boxes] == ["pear"]
    assert found.offer is not None
    assert [each.user for each in found.others] == [3]
    assert choose(annotated((3, [box()])), rule) is None
    last = annotated((4, []), (9, [box()]))
    assert choose(last, rule) is last


def test_labels_yaml_says_which_one_counts_and_the_detector_does_not_run_again() -> None:
    plain = LabelSet.from_yaml("labels: [apple]")
    ruled = LabelSet.from_yaml("labels: [apple]\nreview: {counts: reviewer, reviewers: [4, 9]}")
    assert plain.review == LATEST
    assert ruled.review == ReviewRule("reviewer", (4, 9))
    assert ruled.digest("bundle") == plain.digest("bundle")
    assert LabelSet.from_snapshot(ruled.to_yaml(), "snapshot") == ruled
    assert "review" not in plain.to_yaml()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("review: latest", "must be written as `key: value`"),
        ("review: {counts: best}", "must be latest, agreed or reviewer, not 'best'"),
        ("review: {counts: [agreed]}", "must be latest, agreed or reviewer, not a list"),
        ("review: {reviewers: [4]}", "`review` has no `counts`"),
        ("review: {counts: reviewer}", "`review` has no `reviewers`"),
        ("review: {counts: reviewer, reviewers: [anna]}", "must be numbers that people have in Label Studio"),
        ("review: {count: agreed}", "did you mean `counts`?"),
    ],
)
def test_a_mistake_in_review_names_its_line_and_the_way_out(text: str, message: str) -> None:
    with pytest.raises(LabelSetError, match=r"labels\.yaml: line 2: ") as error:
        LabelSet.from_yaml(f"labels: [apple]\n{text}")
    assert message in str(error.value)
