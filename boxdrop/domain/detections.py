"""Detections: a detector's results for one image as arrays, and the selection of boxes from them.

A detector reports *candidates* down to a low floor. `select` turns candidates into the boxes that annotators
see: it applies each label's threshold, then keeps one box if several labels claim one object. Candidates are
stored, so a changed threshold needs no detector: selecting from stored candidates gives the same boxes as
detecting again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]
Float = TypeVar("Float", np.float32, np.float64)

NMS_IOU = 0.5
_COMPARED_AT_ONCE = 200  # more boxes are compared one by one, as most of them are suppressed
"""Two boxes of one label that overlap by more than this IoU are one object (0.5 counts as a hit in COCO)."""

RIVAL_IOU = 0.7
"""Two boxes of different labels that overlap by more than this IoU are one object with two names.

Looser than within a label: a banana in a bowl is two objects, an apple that is also called a tomato is one.
"""

MAX_PER_LABEL = 300
"""Candidates kept per label and image, the best ones (LVIS evaluates 300 per image)."""


@dataclass(frozen=True, eq=False, slots=True)
class Detections:
    """Boxes found in one image, best score first.

    Attributes:
        boxes: float32 [N, 4], xyxy, upright pixels, inside the image.
        scores: float32 [N], 0 to 1.
        labels: int64 [N], index into `LabelSet.labels`.
        prompts: int64 [N], index into `LabelSet.prompts`: the prompt that gave the score.
        queries: int64 [N], the detector's own candidate number; one query is one box under all its labels.
        rivals: for each box, (index of label, score) of lower-scoring labels of the same object, best first;
            set by `select`.
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
        """The rows selected by a numpy index or mask, in its order, without rivals."""
        return Detections(
            self.boxes[index],
            self.scores[index],
            self.labels[index],
            self.prompts[index],
            self.queries[index],
        )


def concatenate(parts: Sequence[Detections]) -> Detections:
    """Several passes over one image, concatenated in the given order, without rivals."""
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
    """Intersection over union of one box [4] with others [N, 4], xyxy; 0 if both are empty."""
    overlaps: NDArray[np.float32] = iou_matrix(box[None], others)[0]
    return overlaps


def iou_matrix(boxes: NDArray[Float], others: NDArray[Float]) -> NDArray[Float]:
    """Intersection over union of every pair, xyxy: [N, 4] and [M, 4] to [N, M]; 0 where both are empty."""
    sides = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(boxes[:, None, :2], others[:, :2])
    intersection = np.clip(sides, 0, None).prod(axis=2)
    first, second = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, others))
    union = first[:, None] + second - intersection
    overlaps: NDArray[Float] = np.zeros_like(intersection)
    np.divide(intersection, union, out=overlaps, where=union > 0)
    return overlaps


def suppress(
    candidates: Detections,
    nms_iou: float = NMS_IOU,
    limit: int = MAX_PER_LABEL,
    covered_by: Sequence[int] | None = None,
) -> Detections:
    """Non-maximum suppression within each label, greedy by score.

    Dropping low scores before or after it gives the same boxes, since a box is only ever suppressed by a
    better one of its own label, which has the same threshold. That is what lets thresholds change later.

    Args:
        candidates: in any order.
        nms_iou: overlap above which the lower score is dropped; 1 keeps all.
        limit: how many to keep per label.
        covered_by: what `coverings` says of the boxes that `candidates.queries` counts in, if it is known.
    """
    order = _by_score(candidates)
    place, compare = candidates.queries, None
    if covered_by is None:
        _, first, place = np.unique(candidates.queries, return_index=True, return_inverse=True)
        compare = _Overlaps(candidates.boxes[first])
        if len(first) <= _COMPARED_AT_ONCE:
            covered_by = _bits(compare.of(slice(None)) > nms_iou)
    # One bit per box: "is it suppressed?" and "suppress what this one covers" are single operations on
    # integers, whatever the number of boxes, and a box is compared once for all labels under which it wins.
    found: dict[int, int] = {}
    covered: dict[int, int] = {}
    counts: dict[int, int] = {}
    kept: list[int] = []
    for row, label, box in zip(
        order.tolist(), candidates.labels[order].tolist(), place[order].tolist(), strict=True
    ):
        count = counts.get(label, 0)
        if count == limit or covered.get(label, 0) >> box & 1:
            continue
        kept.append(row)
        counts[label] = count + 1
        if covered_by is not None:
            found[box] = covered_by[box]
        elif compare is not None and box not in found:
            [found[box]] = _bits(compare.of(slice(box, box + 1)) > nms_iou)
        covered[label] = covered.get(label, 0) | found[box]
    return candidates.take(np.array(kept, np.int64))


def coverings(boxes: Boxes, nms_iou: float = NMS_IOU) -> list[int]:
    """Of each box, an integer whose bit i is set if it overlaps box i by more than `nms_iou`."""
    return _bits(_Overlaps(boxes).of(slice(None)) > nms_iou)


class _Overlaps:
    """Pairwise IoU of boxes by columns: ten times faster than `iou`."""

    def __init__(self, boxes: Boxes) -> None:
        self._left, self._top, self._right, self._bottom = np.ascontiguousarray(boxes.T)
        self._areas = (self._right - self._left) * (self._bottom - self._top)

    def of(self, which: slice) -> NDArray[np.float32]:
        """The same result as `iou_matrix` of some of the boxes with all of them, [K, N]."""
        left, top, right, bottom, areas = (
            each[which, None] for each in (self._left, self._top, self._right, self._bottom, self._areas)
        )
        width = np.minimum(self._right, right) - np.maximum(self._left, left)
        height = np.minimum(self._bottom, bottom) - np.maximum(self._top, top)
        intersection = np.maximum(width, 0) * np.maximum(height, 0)
        union = areas + self._areas - intersection
        overlaps: NDArray[np.float32] = np.zeros_like(intersection)
        np.divide(intersection, union, out=overlaps, where=union > 0)
        return overlaps


def _bits(flags: NDArray[np.bool_]) -> list[int]:
    """Of each row, bool [K, N], an integer whose bit i is flag i."""
    packed = np.packbits(flags, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def select(
    candidates: Detections,
    thresholds: Sequence[float] | NDArray[np.float32],
    rival_iou: float | None = RIVAL_IOU,
) -> Detections:
    """Select the boxes that annotators see.

    Args:
        candidates: after `suppress`, with scores down to the floor.
        thresholds: for each label of the label set, the lowest score to show.
        rival_iou: overlap above which boxes of different labels are one object; the highest-scoring label
            keeps the box, the others become its rivals. None compares only boxes of one query, which is the
            "maximum over labels" of transformers' post-processing.

    Returns:
        Detections, best first, with `rivals` filled.
    """
    limits = np.asarray(thresholds, np.float32)
    shown = candidates.take(candidates.scores >= limits[candidates.labels])
    shown = shown.take(_by_score(shown))
    _, first, place = np.unique(shown.queries, return_index=True, return_inverse=True)
    overlaps = _Overlaps(shown.boxes[first])
    labels = shown.labels.tolist()
    winners: list[int] = []
    rivals: list[dict[int, float]] = []
    claims: list[list[int]] = [[] for _ in first]  # by box, the winners that claim it, best first
    owned: dict[int, int] = {}  # by box, its own winner
    for row, (box, score) in enumerate(zip(place.tolist(), shown.scores.tolist(), strict=True)):
        label = labels[row]
        own = owned.get(box)
        winner = next((w for w in claims[box] if w == own or labels[winners[w]] != label), own)
        if winner is not None:
            rivals[winner].setdefault(label, score)
            continue
        winner = owned[box] = len(winners)
        winners.append(row)
        rivals.append({})
        if rival_iou is not None:
            for other in np.flatnonzero(overlaps.of(slice(box, box + 1))[0] > rival_iou).tolist():
                claims[other].append(winner)
    chosen = shown.take(np.array(winners, np.int64))
    return Detections(
        chosen.boxes,
        chosen.scores,
        chosen.labels,
        chosen.prompts,
        chosen.queries,
        tuple(tuple(lost.items()) for lost in rivals),
    )


def _by_score(detections: Detections) -> NDArray[np.int64]:
    """Sort by score, ties by query and then label, so the same input always gives the same output."""
    order: NDArray[np.int64] = np.lexsort((detections.labels, detections.queries, -detections.scores))
    return order
