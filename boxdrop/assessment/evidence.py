"""Verified images as arrays: what the detector found down to its floor, and what a person says is there.

Thresholds, priorities and doubts about verified boxes are all learned from this.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.outcomes import RIGHT_IOU, iou_matrix
from boxdrop.domain.detections import Boxes, Detections, select

if TYPE_CHECKING:
    from boxdrop.domain.annotations import DrawnBox
    from boxdrop.domain.predictions import Candidate


@dataclass(frozen=True, eq=False, slots=True)
class Evidence:
    """A verified image.

    Attributes:
        image: names it for people.
        candidates: all that the detector found, in upright pixels; labels are indices into the label set.
        boxes: float32 [M, 4], xyxy, upright pixels, that a person verified.
        labels: int64 [M], the label of each.
        right: bool [N], for each candidate whether it is right: best score first, each takes the free
            verified box of its label that it overlaps most, if the IoU is at least `RIGHT_IOU`.
    """

    image: str
    candidates: Detections
    boxes: Boxes
    labels: NDArray[np.int64]
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, image: str, candidates: Detections, boxes: Boxes, labels: NDArray[np.int64]) -> "Evidence":
        """Judge the candidates of a verified image."""
        return cls(image, candidates, boxes, labels, right_ones(candidates, boxes, labels))


def right_ones(
    found: Detections, boxes: Boxes, labels: NDArray[np.int64], least_iou: float = RIGHT_IOU
) -> NDArray[np.bool_]:
    """Which detections are right, bool [N]; see `Evidence.right`."""
    right = np.zeros(len(found), np.bool_)
    if not len(labels) or not len(found):
        return right
    overlaps = iou_matrix(found.boxes, boxes)  # type: ignore[arg-type]
    overlaps[found.labels[:, None] != labels[None]] = 0
    for row in np.argsort(-found.scores, kind="stable"):
        best = int(overlaps[row].argmax())
        if overlaps[row, best] >= least_iou:
            right[row] = True
            overlaps[:, best] = 0
    return right


@dataclass(frozen=True, slots=True)
class Tally:
    """What some thresholds show of verified images.

    Attributes:
        right: boxes shown that are right.
        shown: boxes shown.
        objects: verified boxes.
    """

    right: int
    shown: int
    objects: int

    @property
    def precision(self) -> float:
        """Share of the boxes shown that are right; 1 where none is shown."""
        return self.right / self.shown if self.shown else 1.0

    @property
    def recall(self) -> float:
        """Share of the verified boxes that are found; 1 where there are none."""
        return self.right / self.objects if self.objects else 1.0

    def f_score(self, beta: float = 1.0) -> float:
        """F with recall worth `beta` times precision; 1 where there is nothing to show or to find."""
        whole = self.shown + beta * beta * self.objects
        return (1 + beta * beta) * self.right / whole if whole else 1.0


def count(evidence: Evidence, thresholds: NDArray[np.floating], labels: int) -> NDArray[np.int64]:
    """What thresholds show of an image: int64 [labels, 3], right, shown and verified boxes of each label."""
    shown = select(evidence.candidates, thresholds.astype(np.float32))
    right = right_ones(shown, evidence.boxes, evidence.labels)
    columns = (shown.labels[right], shown.labels, evidence.labels)
    return np.stack([np.bincount(each, minlength=labels) for each in columns], axis=1)


def tally(counts: NDArray[np.int64]) -> Tally:
    """Sum what `count` gave: int64 […, 3]."""
    right, shown, objects = counts.reshape(-1, 3).sum(axis=0).tolist()
    return Tally(right, shown, objects)


def detections_of(candidates: "Sequence[Candidate]", names: Sequence[str]) -> Detections:
    """Stored candidates as arrays; those whose label is not among `names` are left out."""
    index = {name: number for number, name in enumerate(names)}
    known = [each for each in candidates if each.label in index]
    return Detections(
        boxes=np.array([each.xyxy for each in known], np.float32).reshape(-1, 4),
        scores=np.array([each.score for each in known], np.float32),
        labels=np.array([index[each.label] for each in known], np.int64),
        prompts=np.zeros(len(known), np.int64),
        queries=np.array([each.query for each in known], np.int64),
    )


def truth_of(drawn: "Iterable[DrawnBox]", names: Sequence[str]) -> tuple[Boxes, NDArray[np.int64]]:
    """Verified boxes as arrays, float32 [M, 4] and int64 [M]; other labels are left out."""
    index = {name: number for number, name in enumerate(names)}
    known = [each for each in drawn if each.label in index]
    boxes = np.array([each.xyxy for each in known], np.float32).reshape(-1, 4)
    return boxes, np.array([index[each.label] for each in known], np.int64)
