"""Mistakes in verified work: where the detector disagrees with what a person verified, and why.

Three kinds, each with a score from 0 to 1 that orders them:

- **missed**: a candidate that is probably right, and that no verified box covers: P(right) · (1 - IoU).
- **wrong label**: on a verified box lies a candidate of another label that is far more probable than the best
  of its own. It is the probability that the person is wrong, if `_WRONG_LABELS` of all labels are and any
  other label is as likely; a label that the detector does not list has the logit `_ABSENT`.
- **badly placed**: the nearest candidate of its label overlaps a verified box only in part:
  √score · (1 - IoU). A candidate that belongs to another verified box of the label does not count.

P(right) is calibrated on the same verified work (`boxdrop.assessment.calibration`), in which mistakes are
few. Measured beside cleanlab's ObjectLab (Tkachenko et al., 2023, arXiv 2309.00832) in record 096.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.calibration import Calibration, Floats, logit, sigmoid
from boxdrop.assessment.evidence import Evidence
from boxdrop.assessment.outcomes import RIGHT_IOU, iou_matrix
from boxdrop.assessment.priority import contenders

_WRONG_LABELS: Final = 0.05
"""Share of verified boxes with a wrong label, before anything is known."""

_ABSENT: Final = -8.0
"""logit P(right) of a label that the detector does not list for a box."""

_NEAR_IOU: Final = 0.1
"""Overlap from which on a candidate of the same label may be about the same object."""


class Kind(StrEnum):
    """What seems to be wrong."""

    MISSED = "missed"
    WRONG_LABEL = "wrong label"
    BADLY_PLACED = "badly placed"


@dataclass(frozen=True, slots=True)
class Doubt:
    """One thing in a verified image that may be a mistake.

    Attributes:
        score: 0 to 1, higher is more likely.
        label: index of the label that the person gave; of a missed object, what the detector found.
        other: index of the label that the detector found.
        box: index of the verified box; None for a missed object.
        xyxy: where the detector found it, upright pixels.
        iou: its overlap with the verified box, or of a missed object with the nearest one.
    """

    kind: Kind
    score: float
    label: int
    other: int
    box: int | None
    xyxy: tuple[float, float, float, float]
    iou: float


def doubts(image: Evidence, calibration: Calibration) -> list[Doubt]:
    """What may be wrong in one verified image, the most likely first; a verified box is named once."""
    found = image.candidates
    if not len(found):
        return []
    logits = calibration.logits(found.scores, found.labels)
    overlaps = iou_matrix(found.boxes, image.boxes)  # type: ignore[arg-type]
    named = _missed(image, calibration)
    # The person's label is one, and it could be any of the others.
    surprise = float(logit(np.array(_WRONG_LABELS))) - np.log(max(1, len(calibration.offsets) - 1))
    for box in range(len(image.labels)):
        kinds = [_wrong_label(image, logits, surprise, overlaps, box), _badly_placed(image, overlaps, box)]
        named += sorted((each for each in kinds if each is not None), key=lambda each: -each.score)[:1]
    return sorted(named, key=lambda each: -each.score)


def _missed(image: Evidence, calibration: Calibration) -> list[Doubt]:
    found = contenders(image.candidates, len(calibration.offsets))
    chances = calibration.probabilities(found.scores, found.labels)
    overlaps = iou_matrix(found.boxes, image.boxes)  # type: ignore[arg-type]
    covered = overlaps.max(axis=1, initial=0)
    return [
        _doubt(Kind.MISSED, float(chances[row] * (1 - covered[row])), image, found.boxes[row],
               int(found.labels[row]), None, float(covered[row]))
        for row in np.flatnonzero(covered < RIGHT_IOU)
    ]  # fmt: skip


def _wrong_label(
    image: Evidence, logits: Floats, surprise: float, overlaps: NDArray[np.float64], box: int
) -> Doubt | None:
    """`surprise`: logit of the probability that a label is wrong and this one is right, before looking."""
    found, label = image.candidates, image.labels[box]
    on_it = overlaps[:, box] >= RIGHT_IOU
    own = logits[on_it & (found.labels == label)].max(initial=_ABSENT)
    others = np.flatnonzero(on_it & (found.labels != label))
    if not len(others):
        return None
    row = int(others[logits[others].argmax()])
    score = float(sigmoid(logits[row] - own + surprise))
    where, other = found.boxes[row], int(found.labels[row])
    return _doubt(Kind.WRONG_LABEL, score, image, where, other, box, float(overlaps[row, box]))


def _badly_placed(image: Evidence, overlaps: NDArray[np.float64], box: int) -> Doubt | None:
    found, label = image.candidates, image.labels[box]
    same = overlaps[:, image.labels == label]
    # Its own object: no verified box of the label is nearer.
    near = (found.labels == label) & (overlaps[:, box] > _NEAR_IOU) & (overlaps[:, box] >= same.max(axis=1))
    rows = np.flatnonzero(near)
    if not len(rows):
        return None
    row = int(rows[found.scores[rows].argmax()])
    overlap = float(overlaps[row, box])
    score = float(found.scores[row]) ** 0.5 * (1 - overlap)
    return _doubt(Kind.BADLY_PLACED, score, image, found.boxes[row], int(label), box, overlap)


def _doubt(
    kind: Kind,
    score: float,
    image: Evidence,
    where: NDArray[np.float32],
    other: int,
    box: int | None,
    overlap: float,
) -> Doubt:
    left, top, right, bottom = (float(each) for each in where)
    label = other if box is None else int(image.labels[box])
    return Doubt(kind, score, label, other, box, (left, top, right, bottom), overlap)


def reason(doubt: Doubt, names: Sequence[str]) -> str:
    """A doubt in a few words for the person who looks again.

    >>> reason(Doubt(Kind.WRONG_LABEL, 0.8, 0, 1, 3, (0, 0, 9, 9), 0.9), ["banana", "apple"])
    'banana, or apple?'
    """
    name, other = names[doubt.label], names[doubt.other]
    if doubt.kind == Kind.MISSED:
        return f"{other} missed?"
    if doubt.kind == Kind.WRONG_LABEL:
        return f"{name}, or {other}?"
    return f"edges of {name}?"
