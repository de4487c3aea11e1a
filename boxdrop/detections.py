"""Detections: what a detector found in one image, as arrays, and how boxes are chosen from them.

A detector reports *candidates* down to a low floor. `select` turns candidates into the boxes that people
see: thresholds label by label, then one box where several labels claim one object. Candidates are stored,
so a changed threshold needs no detector: selecting from stored ones gives what detecting again would give.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]

NMS_IOU = 0.5
"""Two boxes of one label that overlap by more than this IoU are one object (0.5 counts as a hit in COCO)."""

RIVAL_IOU = 0.7
"""Two boxes of different labels that overlap by more than this IoU are one object with two names.

Looser than within a label: a banana in a bowl is two objects, an apple that is also called a tomato is one.
"""

MAX_PER_LABEL = 300
"""Candidates kept for each label and image, the best ones (LVIS evaluates 300 an image)."""


@dataclass(frozen=True, eq=False, slots=True)
class Detections:
    """Boxes found in one image, best score first.

    Attributes:
        boxes: float32 [N, 4], xyxy, upright pixels, inside the image.
        scores: float32 [N], 0 to 1.
        labels: int64 [N], index into `LabelSet.labels`.
        prompts: int64 [N], index into `LabelSet.prompts`: the prompt that gave the score.
        queries: int64 [N], the detector's own candidate number; one query is one box under all its labels.
        rivals: for each box, (index of label, score) of the labels that lost it, best first; set by `select`.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    prompts: NDArray[np.int64]
    queries: NDArray[np.int64]
    rivals: tuple[tuple[tuple[int, float], ...], ...] = ()

    @classmethod
    def empty(cls) -> "Detections":
        """No detection at all."""
        none = np.zeros(0, np.int64)
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), none, none, none)

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Detections":
        """The rows that a numpy index or mask names, in its order, without rivals."""
        return Detections(
            self.boxes[index],
            self.scores[index],
            self.labels[index],
            self.prompts[index],
            self.queries[index],
        )


def concatenate(parts: Sequence[Detections]) -> Detections:
    """Several passes over one image as one, in the order given, without rivals."""
    if len(parts) == 1:
        return parts[0]
    return Detections(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.prompts for part in parts]),
        np.concatenate([part.queries for part in parts]),
    )


def iou(box: Boxes, others: Boxes) -> NDArray[np.float32]:
    """Intersection over union of one box [4] with others [N, 4], xyxy; 0 where both are empty."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    intersection = np.clip(sides, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + areas - intersection
    overlap: NDArray[np.float32] = np.zeros_like(intersection)
    np.divide(intersection, union, out=overlap, where=union > 0)
    return overlap


def suppress(candidates: Detections, nms_iou: float = NMS_IOU, limit: int = MAX_PER_LABEL) -> Detections:
    """Non-maximum suppression within each label, greedy by score.

    Dropping low scores before or after it gives the same boxes, since a box is only ever suppressed by a
    better one of its own label, which has the same threshold. That is what lets thresholds change later.

    Args:
        candidates: in any order.
        nms_iou: overlap above which the lower score goes; 1 keeps all.
        limit: how many to keep for each label.
    """
    order = _by_score(candidates)
    kept: list[int] = []
    for label in np.unique(candidates.labels):
        rows = order[candidates.labels[order] == label]
        boxes = candidates.boxes[rows]
        alive = np.ones(len(rows), bool)
        count = 0
        for i in range(len(rows)):
            if not alive[i]:
                continue
            kept.append(int(rows[i]))
            count += 1
            if count == limit:
                break
            alive[i + 1 :] &= iou(boxes[i], boxes[i + 1 :]) <= nms_iou
    chosen = candidates.take(np.array(sorted(kept), np.int64))
    return chosen.take(_by_score(chosen))


def select(
    candidates: Detections,
    thresholds: Sequence[float] | NDArray[np.float32],
    rival_iou: float | None = RIVAL_IOU,
) -> Detections:
    """Choose the boxes that people see.

    Args:
        candidates: after `suppress`, with scores down to the floor.
        thresholds: for each label of the label set, the lowest score to show.
        rival_iou: overlap above which boxes of different labels are one object, named by the better score;
            the loser is kept among the winner's rivals. None compares only boxes of one query, which is the
            "maximum over labels" of transformers' post-processing.

    Returns:
        Detections, best first, with `rivals` filled.
    """
    limits = np.asarray(thresholds, np.float32)
    shown = candidates.take(candidates.scores >= limits[candidates.labels])
    shown = shown.take(_by_score(shown))
    alive = np.ones(len(shown), bool)
    winners: list[int] = []
    rivals: list[tuple[tuple[int, float], ...]] = []
    for i in range(len(shown)):
        if not alive[i]:
            continue
        same = shown.queries[i + 1 :] == shown.queries[i]
        if rival_iou is not None:
            overlap = iou(shown.boxes[i], shown.boxes[i + 1 :]) > rival_iou
            same |= overlap & (shown.labels[i + 1 :] != shown.labels[i])
        losers = np.flatnonzero(same & alive[i + 1 :]) + i + 1
        alive[losers] = False
        best: dict[int, float] = {}
        for loser in losers:
            best.setdefault(int(shown.labels[loser]), float(shown.scores[loser]))
        winners.append(i)
        rivals.append(tuple(best.items()))
    chosen = shown.take(np.array(winners, np.int64))
    return Detections(
        chosen.boxes, chosen.scores, chosen.labels, chosen.prompts, chosen.queries, tuple(rivals)
    )


def _by_score(detections: Detections) -> NDArray[np.int64]:
    """Order by score, ties by query and then label, so that the same input always gives the same output."""
    order: NDArray[np.int64] = np.lexsort((detections.labels, detections.queries, -detections.scores))
    return order
