"""What became of each box: what a person did with it, and whether the detector was right. Pure functions.

Two questions, answered apart, because they differ:

- **What did the person do?** (`Change`) Label Studio keeps the id of a region from the prediction to the
  annotation, so this is read, not guessed: same id, same label and place: kept; moved: adjusted; another
  label: relabelled; no longer there: deleted; an id that was not offered: added.
- **Was the detector right?** (`Offered.right`, `Drawn.found`) The rule of PASCAL VOC and COCO: boxes in order
  of score, each takes the free verified box of its label with the highest IoU, if that is at least
  `RIGHT_IOU` (Everingham et al., IJCV 2010, section 4.2; pycocotools' `evaluateImg`). One rule is added: a
  box whose own region is still there, under its label, takes that one first, so that two boxes on one object
  cannot swap. A box that a person deleted and drew again is thus *deleted* and *added* as work,
  and right as a detection; a box that was adjusted by a lot is *adjusted* and wrong.

>>> from boxdrop.domain.annotations import DrawnBox, OfferedBox
>>> offered = [OfferedBox("apple", 0.9, (0, 0, 10, 10), "a"), OfferedBox("pear", 0.4, (50, 50, 60, 60), "b")]
>>> drawn = [DrawnBox("apple", (0, 0, 10, 12), "a"), DrawnBox("plum", (80, 80, 99, 99), "new")]
>>> outcomes = compare(offered, drawn)
>>> [(str(each.change), each.right) for each in outcomes.offered]
[('adjusted', True), ('deleted', False)]
>>> [(str(each.change), each.found) for each in outcomes.drawn]
[('adjusted', True), ('added', False)]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.domain import detections
from boxdrop.domain.annotations import DrawnBox, OfferedBox, was_moved

RIGHT_IOU: Final = 0.5
"""A box of the right label is right from this overlap on, as in PASCAL VOC and COCO's AP50."""

Corners = tuple[float, float, float, float]
"""left, top, right, bottom in upright pixels."""


class Change(StrEnum):
    """What a person did with a box."""

    KEPT = "kept"  # same label, moved by less than Label Studio's rounding
    ADJUSTED = "adjusted"  # same label, moved, resized or rotated
    RELABELLED = "relabelled"  # another label, wherever it is now
    DELETED = "deleted"  # offered, and no longer there
    ADDED = "added"  # not offered


@dataclass(frozen=True, slots=True)
class Offered:
    """A box that the person was shown, and what became of it.

    Attributes:
        change: kept, adjusted, relabelled or deleted.
        right: whether a verified box of its label is where it was, see the module.
        iou: overlap with the same region as the person left it, 0 to 1; 0 where it was deleted.
        became: the label that it has now; None where it was deleted.
    """

    label: str
    score: float
    xyxy: Corners
    region: str
    change: Change
    right: bool
    iou: float
    became: str | None


@dataclass(frozen=True, slots=True)
class Drawn:
    """A verified box, and where it came from.

    Attributes:
        change: kept, adjusted, relabelled or added.
        found: whether an offered box of its label was where it is, see the module.
        iou: overlap with the region as it was offered, 0 to 1; 0 where it was added.
        was: the label that it was offered with; None where it was added.
    """

    label: str
    xyxy: Corners
    region: str
    change: Change
    found: bool
    iou: float
    was: str | None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of the boxes of one image.

    Attributes:
        offered: one per offered box, in its order. As many are `right` as there are `found` in `drawn`,
            label by label.
        drawn: one per verified box, in its order.
    """

    offered: tuple[Offered, ...]
    drawn: tuple[Drawn, ...]

    @property
    def is_untouched(self) -> bool:
        """Whether the person submitted the prediction as it was."""
        changes = {*(each.change for each in self.offered), *(each.change for each in self.drawn)}
        return changes <= {Change.KEPT}


def compare(offered: Sequence[OfferedBox], drawn: Sequence[DrawnBox]) -> Outcomes:
    """Compare what was offered with what the person left.

    Region ids may repeat: a rectangle with two labels is two boxes. The box with the offered label continues
    the offered one; the others count as added.
    """
    pairs = _pair_regions(offered, drawn)
    overlaps = iou_matrix([each.xyxy for each in offered], [each.xyxy for each in drawn])
    own = [
        (i, j) for i, j in pairs.items() if offered[i].label == drawn[j].label and overlaps[i, j] >= RIGHT_IOU
    ]
    matched = _match(
        [each.label for each in offered],
        [each.score for each in offered],
        [each.label for each in drawn],
        overlaps,
        RIGHT_IOU,
        own,
    )
    found = set(matched.tolist()) - {-1}
    origins = {j: i for i, j in pairs.items()}
    results = []
    for i, box in enumerate(offered):
        j = pairs.get(i)
        change = Change.DELETED if j is None else _change(box, drawn[j])
        overlap = 0.0 if j is None else float(overlaps[i, j])
        became = None if j is None else drawn[j].label
        right = bool(matched[i] >= 0)
        results.append(Offered(box.label, box.score, box.xyxy, box.region, change, right, overlap, became))
    left = []
    for j, verified in enumerate(drawn):
        origin = origins.get(j)
        change = Change.ADDED if origin is None else _change(offered[origin], verified)
        overlap = 0.0 if origin is None else float(overlaps[origin, j])
        was = None if origin is None else offered[origin].label
        left.append(Drawn(verified.label, verified.xyxy, verified.region, change, j in found, overlap, was))
    return Outcomes(tuple(results), tuple(left))


def match(
    labels: Sequence[str],
    scores: Sequence[float],
    boxes: Sequence[Corners],
    truth_labels: Sequence[str],
    truth_boxes: Sequence[Corners],
    least_iou: float = RIGHT_IOU,
) -> NDArray[np.int64]:
    """Match detections of one image, such as stored candidates, with its verified boxes.

    Best score first, each takes the free verified box of its label with the highest IoU (see the module).

    Returns:
        int64 [N], for each detection the index of its verified box, or -1.
    """
    return _match(labels, scores, truth_labels, iou_matrix(boxes, truth_boxes), least_iou)


def iou_matrix(boxes: Sequence[Corners], others: Sequence[Corners]) -> NDArray[np.float64]:
    """Intersection over union of N boxes with M others, float64 [N, M]; 0 where both are empty."""
    first, second = (np.asarray(each, np.float64).reshape(-1, 4) for each in (boxes, others))
    return detections.iou_matrix(first, second)


def _pair_regions(offered: Sequence[OfferedBox], drawn: Sequence[DrawnBox]) -> dict[int, int]:
    """Which verified box continues which offered one, by the ids of the regions."""
    waiting: dict[str, list[int]] = {}
    for j, box in enumerate(drawn):
        waiting.setdefault(box.region, []).append(j)
    pairs: dict[int, int] = {}
    for same_label in (True, False):
        for i, offer in enumerate(offered):
            if i in pairs or not offer.region:
                continue
            free = waiting.get(offer.region, [])
            taken = next((j for j in free if not same_label or drawn[j].label == offer.label), None)
            if taken is not None:
                pairs[i] = taken
                free.remove(taken)
    return pairs


def _change(offer: OfferedBox, box: DrawnBox) -> Change:
    if offer.label != box.label:
        return Change.RELABELLED
    return Change.ADJUSTED if was_moved(box, offer.xyxy) else Change.KEPT


def _match(
    labels: Sequence[str],
    scores: Sequence[float],
    truth_labels: Sequence[str],
    overlaps: NDArray[np.float64],
    least_iou: float,
    certain: Sequence[tuple[int, int]] = (),
) -> NDArray[np.int64]:
    matched = np.full(len(labels), -1, np.int64)
    free: dict[str, list[int]] = {}
    for j, label in enumerate(truth_labels):
        free.setdefault(label, []).append(j)
    for i, j in certain:
        matched[i] = j
        free[truth_labels[j]].remove(j)
    for i in sorted(range(len(labels)), key=lambda each: -scores[each]):
        candidates = free.get(labels[i])
        if matched[i] >= 0 or not candidates:
            continue
        best = max(candidates, key=lambda j: overlaps[i, j])
        if overlaps[i, best] >= least_iou:
            matched[i] = best
            candidates.remove(best)
    return matched
