"""Which images to verify next, so that a lesson learns most from them.

Each image is reduced to its *things*: the patches that look most like an object, one per place. A thing
counts for more the closer its score is to its label's threshold. A set of images is good if every thing in
the others resembles a thing in the set. Images are added one by one, each time the one that raises this most;
the result is within 1 − 1/e of the best set (Nemhauser, Wolsey and Fisher 1978). So the images show what is
common and uncertain, and differ from each other and from what is verified already.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.calibration import sigmoid
from boxdrop.detect.features import Features
from boxdrop.domain.detections import iou_matrix

THINGS_PER_IMAGE: Final = 8

_LOOKED_AT: Final = 60
"""Patches that may become things, most object-like first."""

_SAME_PLACE_IOU: Final = 0.5
_LEAST_DOUBT: Final = 0.02
"""Weight of things whose score is far from any threshold: they may have a name that no words describe."""

_SHARPNESS: Final = 2
"""Power of the cosine: things that are only somewhat alike do not stand for each other."""


@dataclass(frozen=True, eq=False, slots=True)
class Things:
    """What an image seems to show.

    Attributes:
        embeddings: float32 [K, D], of unit length.
        objectness: float32 [K], logits of looking like any object; only differences mean something.
        doubts: float32 [K], 1 where a score is at its threshold, near 0 where it is far away.
    """

    embeddings: NDArray[np.float32]
    objectness: NDArray[np.float32]
    doubts: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.objectness)


def things_of(features: Features, margins: NDArray[np.float32]) -> Things:
    """The most object-like patches of an image, none of which overlaps another by half.

    Args:
        features: of the whole image.
        margins: float32 [N], by how many logits each patch's best label is above its threshold.
    """
    objectness = features.shifts * features.scales
    order = np.argsort(-objectness, kind="stable")[:_LOOKED_AT]
    overlaps = iou_matrix(features.boxes[order], features.boxes[order])
    free = np.ones(len(order), bool)
    chosen: list[int] = []
    for place in range(len(order)):
        if free[place] and len(chosen) < THINGS_PER_IMAGE:
            chosen.append(int(order[place]))
            free &= overlaps[place] < _SAME_PLACE_IOU
    rows = np.array(chosen, np.int64)
    chances = sigmoid(margins[rows])
    doubts = (4 * chances * (1 - chances)).astype(np.float32)
    return Things(features.embeddings[rows].astype(np.float32), objectness[rows], doubts)


def choose(pool: Sequence[Things], count: int, seen: Sequence[Things] = ()) -> list[int]:
    """Choose images to verify.

    Args:
        pool: images that nobody has verified.
        count: how many to choose; fewer if the pool is smaller.
        seen: verified images.

    Returns:
        Places in the pool, the most useful first. The same images give the same choice.
    """
    if not pool:
        return []
    embeddings = np.concatenate([each.embeddings for each in pool])
    objectness = np.concatenate([each.objectness for each in pool])
    doubts = np.concatenate([each.doubts for each in pool])
    weights = (sigmoid(objectness - np.median(objectness)) * (doubts + _LEAST_DOUBT)).astype(np.float32)
    reach = np.stack([_likeness(embeddings, each.embeddings) for each in pool])
    covered: NDArray[np.float32] = np.zeros(len(embeddings), np.float32)
    for each in seen:
        np.maximum(covered, _likeness(embeddings, each.embeddings), out=covered)
    chosen: list[int] = []
    for _ in range(min(count, len(pool))):
        gains = np.maximum(reach - covered, 0) @ weights
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        np.maximum(covered, reach[chosen[-1]], out=covered)
    return chosen


def _likeness(embeddings: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each resembles the most similar one of the others, 0 to 1: float32 [N]."""
    if not len(others):
        return np.zeros(len(embeddings), np.float32)
    likeness: NDArray[np.float32] = np.maximum((embeddings @ others.T).max(axis=1), 0) ** _SHARPNESS
    return likeness
