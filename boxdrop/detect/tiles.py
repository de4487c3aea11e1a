"""Tiles: a large image is also processed in parts, to find objects that are small in the whole image.

`plan` computes the parts; `merge` combines their boxes. An object in two tiles is found twice, and one that a
tile's border cuts is found in pieces:

- A box that ends at a border inside the image counts as *cut*; all others are *complete*.
- Cut boxes of one label from different parts are pieces of one object if they agree in the area that both
  parts show: they are joined to the box around them, with the best of their scores.
- A cut or joined box inside a complete one of its label (intersection over its own area, not over the union:
  a piece is smaller than the whole) is the same object, and only the complete one is kept.
- The rest is suppressed by IoU, as within one image. Complete boxes inside one another stay: a banana in a
  bunch of bananas is not a duplicate.

Tiling by overlapping slices and merging over the smaller area: Akyon et al. 2022, "Slicing Aided Hyper
Inference"; joining is new here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.bundle import Preprocess
from boxdrop.domain.detections import MAX_PER_LABEL, NMS_IOU, Detections, concatenate, suppress
from boxdrop.domain.labels import Tiling

MOST_TILES: Final = 12
"""The most tiles that ``auto`` makes per image, which bounds the cost: if more were needed, tiles are
larger."""

_WORTHWHILE = 1.5  # an image must be this many times larger than the model's input before ``auto`` tiles it
_BORDER = 0.02  # share of a tile's side: a box that ends this close to the border may be cut by it
_INSIDE = 0.6  # intersection over the smaller area from which a piece belongs to a box
_AGREE = 0.5  # the same, of two pieces in the part that both tiles show
_QUERIES_OF_A_VIEW = 1_000_000  # query numbers reserved per view, so they are unique


@dataclass(frozen=True, slots=True)
class View:
    """A part of an image, in upright pixels; `right` and `bottom` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top


def plan(width: int, height: int, tiling: Tiling, settings: Preprocess) -> tuple[View, ...]:
    """The parts of an image for the model: the whole image, then its tiles, if any.

    Tiles are squares, if the image allows, evenly spread with at least the requested overlap.

    Args:
        width, height: of the upright image.
        tiling: the label set's.
        settings: the bundle's; ``auto`` uses tiles of the model's input size.
    """
    whole = View(0, 0, width, height)
    if tiling.mode == "off":
        return (whole,)
    size: float = tiling.size
    if tiling.mode == "auto":
        size = min(settings.height, settings.width)
        if max(width, height) < _WORTHWHILE * size:
            return (whole,)
        while _count(width, size, tiling.overlap) * _count(height, size, tiling.overlap) > MOST_TILES:
            size *= 1.02
    side = ceil(size)
    tiles = [
        View(left, top, min(width, left + side), min(height, top + side))
        for top in _starts(height, side, tiling.overlap)
        for left in _starts(width, side, tiling.overlap)
    ]
    return (whole,) if tiles == [whole] else (whole, *tiles)


def _count(length: int, size: float, overlap: float) -> int:
    return max(1, ceil((length - size) / (size * (1 - overlap))) + 1)


def _starts(length: int, size: int, overlap: float) -> list[int]:
    count = _count(length, size, overlap)
    room = max(0, length - size)
    return [round(number * room / max(1, count - 1)) for number in range(count)]


def merge(
    found: Sequence[Detections],
    views: Sequence[View],
    nms_iou: float = NMS_IOU,
    limit: int = MAX_PER_LABEL,
) -> Detections:
    """Combine the detections from each part of an image.

    Args:
        found: detections of each view, in pixels of the view, after suppression.
        views: of `plan`: the whole image first.
        nms_iou, limit: see `boxdrop.domain.detections.suppress`.

    Returns:
        Detections in pixels of the image, best first.
    """
    if len(views) == 1:
        return found[0]
    placed = [
        _placed(each, view, number) for number, (each, view) in enumerate(zip(found, views, strict=True))
    ]
    everything = concatenate(placed)
    origins = np.repeat(np.arange(len(views)), [len(each) for each in placed])
    bounds = np.array([(view.left, view.top, view.right, view.bottom) for view in views], np.float32)
    cut = _cut(everything.boxes, bounds[origins], bounds[0])
    complete = suppress(everything.take(~cut), nms_iou, limit)
    pieces = _joined(everything.take(cut), bounds[origins[cut]], len(views) * _QUERIES_OF_A_VIEW)
    lost = np.zeros(len(pieces), bool)
    scores = complete.scores.copy()
    for label in np.unique(pieces.labels):
        rows, owners = np.flatnonzero(pieces.labels == label), np.flatnonzero(complete.labels == label)
        inside, union = _shares(pieces.boxes[rows], complete.boxes[owners])
        lost[rows] = (inside > _INSIDE).any(axis=1)
        for piece, owner in zip(*np.nonzero(union > nms_iou), strict=True):  # the whole object, joined
            scores[owners[owner]] = max(scores[owners[owner]], pieces.scores[rows[piece]])
    return suppress(concatenate([replace(complete, scores=scores), pieces.take(~lost)]), nms_iou, limit)


def _placed(found: Detections, view: View, number: int) -> Detections:
    shift = np.array([view.left, view.top, view.left, view.top], np.float32)
    return replace(
        found, boxes=found.boxes + shift, queries=found.queries + number * _QUERIES_OF_A_VIEW, rivals=()
    )


def _cut(
    boxes: NDArray[np.float32], bounds: NDArray[np.float32], image: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Which boxes end at a border of their view that is not a border of the image."""
    sides = np.tile(bounds[:, 2:] - bounds[:, :2], 2)
    inner = bounds != image
    at_border: NDArray[np.bool_] = (inner & (np.abs(boxes - bounds) <= _BORDER * sides)).any(axis=1)
    return at_border


def _joined(pieces: Detections, bounds: NDArray[np.float32], first_query: int) -> Detections:
    """Join the pieces of each object.

    Args:
        pieces: cut boxes of all views.
        bounds: [N, 4], of the view of each.
        first_query: the number of the first object.
    """
    group = np.arange(len(pieces))
    for label in np.unique(pieces.labels):
        rows = np.flatnonzero(pieces.labels == label)
        for place, row in enumerate(rows):
            others = rows[place + 1 :]
            others = others[(bounds[others] != bounds[row]).any(axis=1)]
            shared_low = np.maximum(bounds[row, :2], bounds[others, :2])
            shared_high = np.minimum(bounds[row, 2:], bounds[others, 2:])
            window = np.concatenate([shared_low, np.maximum(shared_low, shared_high)], axis=1)
            mine = _clipped(pieces.boxes[row], window)
            theirs = _clipped(pieces.boxes[others], window)
            for other in others[_same(mine, theirs)]:
                group[group == group[other]] = group[row]
    heads = np.unique(group)
    if len(heads) == len(pieces):
        return pieces
    order = np.lexsort((pieces.queries, -pieces.scores))
    best = {int(group[row]): int(row) for row in reversed(order)}
    merged = pieces.take(np.array([best[head] for head in heads.tolist()], np.int64))
    boxes = np.stack(
        [
            np.concatenate(
                [pieces.boxes[group == head, :2].min(axis=0), pieces.boxes[group == head, 2:].max(axis=0)]
            )
            for head in heads
        ]
    )
    # A query is one box under all its labels, but joined boxes differ between labels.
    return replace(merged, boxes=boxes, queries=np.arange(first_query, first_query + len(heads)))


def _clipped(boxes: NDArray[np.float32], window: NDArray[np.float32]) -> NDArray[np.float32]:
    low = np.clip(boxes[..., :2], window[:, :2], window[:, 2:])
    high = np.clip(boxes[..., 2:], window[:, :2], window[:, 2:])
    clipped: NDArray[np.float32] = np.concatenate([low, high], axis=1)
    return clipped


def _same(mine: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether boxes, row by row, agree in the area that both views show (IoU)."""
    sides = np.minimum(mine[:, 2:], theirs[:, 2:]) - np.maximum(mine[:, :2], theirs[:, :2])
    intersection = np.clip(sides, 0, None).prod(axis=1)
    areas = (mine[:, 2:] - mine[:, :2]).prod(axis=1) + (theirs[:, 2:] - theirs[:, :2]).prod(axis=1)
    agree: NDArray[np.bool_] = intersection > _AGREE * np.maximum(areas - intersection, 1e-9)
    return agree


def _shares(
    pieces: NDArray[np.float32], boxes: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """[pieces, boxes]: intersection over the piece's area if the piece is smaller, else 0; and IoU."""
    low = np.maximum(pieces[:, None, :2], boxes[None, :, :2])
    high = np.minimum(pieces[:, None, 2:], boxes[None, :, 2:])
    intersection = np.clip(high - low, 0, None).prod(axis=2)
    of_pieces = (pieces[:, 2:] - pieces[:, :2]).prod(axis=1)[:, None]
    of_boxes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[None, :]
    union = of_pieces + of_boxes - intersection
    # A joined box may be slightly larger than the complete box of the same object.
    smaller = np.minimum(of_pieces, of_boxes)
    share = np.where(of_pieces <= 2 * of_boxes, intersection / np.maximum(smaller, 1e-9), 0)
    return share.astype(np.float32), (intersection / np.maximum(union, 1e-9)).astype(np.float32)
