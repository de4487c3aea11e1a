"""Where several people annotated one image: how far they agree, by label, and where they do not. Pure.

Two people's boxes are paired one to one, best overlap first, where the label is the same and the IoU is
`SAME_IOU` or more. **Agreement** of a label is the share of both people's boxes that have a partner: 2·pairs
/ (boxes of the one + boxes of the other), Dice's coefficient, also called positive agreement. Kappa would
need the number of places where both drew nothing, which boxes do not have; with that number large, kappa
approaches this figure (Hripcsak and Rothschild, J Am Med Inform Assoc 2005).

>>> from boxdrop.domain.annotations import DrawnBox
>>> one = [DrawnBox("apple", (0, 0, 10, 10), "a"), DrawnBox("pear", (50, 50, 60, 60), "b")]
>>> two = [DrawnBox("apple", (0, 0, 10, 9), "c"), DrawnBox("plum", (50, 50, 60, 60), "d")]
>>> [(str(each.kind), each.label, each.other) for each in differences(one, two)]
[('label', 'pear', 'plum')]
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations
from typing import Any, Final

from boxdrop.assessment.outcomes import Corners, iou_matrix
from boxdrop.domain.annotations import Annotation, DrawnBox, Opinion, own_opinion
from boxdrop.domain.label import ReviewRule

SAME_IOU: Final = 0.5
"""Two boxes of one label that overlap so much are the same object, as in COCO's AP50."""


class Kind(StrEnum):
    """How two people differ about a place."""

    LABEL = "label"  # both drew a box there, under different labels
    MISSING = "missing"  # only one drew a box


@dataclass(frozen=True, slots=True)
class Difference:
    """A place about which two people differ.

    Attributes:
        label: of the first person's box, or of the one who drew it.
        other: the other person's label; None where they drew nothing.
        by_first: whether the first person drew the box of `label`.
        xyxy: where.
    """

    kind: Kind
    label: str
    other: str | None
    by_first: bool
    xyxy: Corners


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A difference between two annotations of an image.

    Attributes:
        image: the name of its file.
        task_id: Label Studio's number.
        users: numbers of the one who drew the box of `difference.label`, and of the other.
        difference: what it is about.
    """

    image: str
    task_id: int
    users: tuple[int | None, int | None]
    difference: Difference


def opinions_of(annotation: Annotation) -> list[Opinion]:
    """What each annotator says last about the version that the annotation is about; the newest comes last."""
    latest: dict[tuple[str, int], Opinion] = {}
    everything = [*annotation.others, own_opinion(annotation)]
    for each in sorted(everything, key=lambda one: (one.updated_at, one.annotation_id)):
        if each.version == annotation.version:
            who = ("annotation", each.annotation_id) if each.user is None else ("user", each.user)
            latest.pop(who, None)
            latest[who] = each
    return list(latest.values())


def disagreements(annotation: Annotation) -> Iterator[Disagreement]:
    """What any two annotators of an image differ about."""
    for one, two in combinations(opinions_of(annotation), 2):
        for each in differences(one.boxes, two.boxes):
            users = (one.user, two.user) if each.by_first else (two.user, one.user)
            yield Disagreement(annotation.image, annotation.task_id, users, each)


def choose(annotation: Annotation, rule: ReviewRule) -> Annotation | None:
    """The annotation that counts by the rule; None where none does.

    An image that one person annotated is agreed upon until somebody else says otherwise.
    """
    if rule.counts == "latest":
        return annotation
    opinions = opinions_of(annotation)
    if rule.counts == "agreed":
        return annotation if all_agree([each.boxes for each in opinions]) else None
    chosen = next((each for each in reversed(opinions) if each.user in rule.reviewers), None)
    if chosen is None or chosen.annotation_id == annotation.annotation_id:
        return None if chosen is None else annotation
    return replace(
        annotation,
        annotation_id=chosen.annotation_id,
        updated_at=chosen.updated_at,
        user=chosen.user,
        lead_time=chosen.lead_time,
        boxes=chosen.boxes,
        offer=annotation.offer if chosen.same_offer else None,
        others=tuple(each for each in opinions if each.annotation_id != chosen.annotation_id),
    )


def pairs(one: Sequence[DrawnBox], two: Sequence[DrawnBox], same_label: bool = True) -> list[tuple[int, int]]:
    """Which box of the one is which of the other: one to one, best overlap first."""
    overlaps = iou_matrix([each.xyxy for each in one], [each.xyxy for each in two])
    candidates = sorted(
        (
            (-float(overlaps[i, j]), i, j)
            for i, first in enumerate(one)
            for j, second in enumerate(two)
            if overlaps[i, j] >= SAME_IOU and (first.label == second.label) == same_label
        ),
    )
    found: list[tuple[int, int]] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for _, i, j in candidates:
        if i not in taken[0] and j not in taken[1]:
            found.append((i, j))
            taken[0].add(i)
            taken[1].add(j)
    return found


def differences(one: Sequence[DrawnBox], two: Sequence[DrawnBox]) -> list[Difference]:
    """What two people differ about; empty where they agree."""
    same = pairs(one, two)
    first = [each for i, each in enumerate(one) if i not in {i for i, _ in same}]
    second = [each for j, each in enumerate(two) if j not in {j for _, j in same}]
    named = pairs(first, second, same_label=False)
    found = [Difference(Kind.LABEL, first[i].label, second[j].label, True, first[i].xyxy) for i, j in named]
    for boxes, place, by_first in ((first, 0, True), (second, 1, False)):
        used = {pair[place] for pair in named}
        found += [
            Difference(Kind.MISSING, each.label, None, by_first, each.xyxy)
            for number, each in enumerate(boxes)
            if number not in used
        ]
    return found


def agreement(one: Sequence[DrawnBox], two: Sequence[DrawnBox]) -> Mapping[str, tuple[int, int]]:
    """By label, how many of both people's boxes have a partner, and how many there are."""
    counts = Counter(each.label for each in (*one, *two))
    partnered = Counter(one[i].label for i, _ in pairs(one, two))
    return {label: (2 * partnered[label], count) for label, count in sorted(counts.items())}


def agreement_of(opinions: Sequence[Opinion]) -> Mapping[str, tuple[int, int]]:
    """As `agreement`, over all pairs of annotators of an image."""
    partnered: Counter[str] = Counter()
    boxes: Counter[str] = Counter()
    for one, two in combinations(opinions, 2):
        for label, (right, of) in agreement(one.boxes, two.boxes).items():
            partnered[label] += right
            boxes[label] += of
    return {label: (partnered[label], boxes[label]) for label in sorted(boxes)}


def disagreement_fields(each: Disagreement) -> dict[str, Any]:
    """A disagreement as JSON fields."""
    return {
        "image": each.image,
        "task_id": each.task_id,
        "users": list(each.users),
        "kind": str(each.difference.kind),
        "label": each.difference.label,
        "other": each.difference.other,
        "xyxy": list(each.difference.xyxy),
    }


def all_agree(annotations: Sequence[Sequence[DrawnBox]]) -> bool:
    """Whether no two annotations differ."""
    return not any(differences(one, two) for one, two in combinations(annotations, 2))
