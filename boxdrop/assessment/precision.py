"""COCO's average precision, on images as `Evidence`."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.evidence import Evidence, right_ones
from boxdrop.assessment.outcomes import RIGHT_IOU

IOUS: Final = tuple(0.5 + 0.05 * step for step in range(10))
"""COCO's: AP is the mean over them."""

_RECALLS: Final = np.linspace(0, 1, 101)


def average_precisions(
    images: Sequence[Evidence], labels: int, iou: float = RIGHT_IOU
) -> NDArray[np.float64]:
    """COCO's average precision of each label, float64 [labels]; NaN where no box was verified.

    Precision is made to fall with recall and is averaged at 101 recalls, as pycocotools does.
    """
    found = np.full(labels, np.nan)
    scores = np.concatenate([each.candidates.scores for each in images])
    owners = np.concatenate([each.candidates.labels for each in images])
    right = np.concatenate([_right_at(each, iou) for each in images])
    objects = np.bincount(np.concatenate([each.labels for each in images]), minlength=labels)
    for label in np.flatnonzero(objects):
        own = owners == label
        order = np.argsort(-scores[own], kind="stable")
        hits = np.cumsum(right[own][order])
        recall = hits / objects[label]
        precision = hits / np.arange(1, len(hits) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(recall, _RECALLS, side="left")
        found[label] = np.append(precision, 0.0)[places].mean()
    return found


def _right_at(evidence: Evidence, iou: float) -> NDArray[np.bool_]:
    """As `Evidence.right`, at another IoU."""
    if iou == RIGHT_IOU:
        return evidence.right
    return right_ones(evidence.candidates, evidence.boxes, evidence.labels, iou)
