"""A trial: what boxes some scores would give on verified images, and which of them are right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.families.arrays import sigmoid
from boxdrop.detect.postprocess import candidates_of, clip_boxes
from boxdrop.domain.detections import coverings, iou_matrix, suppress
from boxdrop.domain.lesson import Figures
from boxdrop.teach.patches import POSITIVE_IOU, VerifiedImage


@dataclass(frozen=True, eq=False, slots=True)
class Trial:
    """The boxes of several images, down to the floor, judged by what people verified.

    Attributes:
        scores: float32 [K], 0 to 1.
        labels, images: int64 [K].
        right: bool [K], whether the box is the best one of a verified box of its label (IoU 0.5).
        objects: int64 [images, L], verified boxes.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    images: NDArray[np.int64]
    right: NDArray[np.bool_]
    objects: NDArray[np.int64]

    def counts(self, thresholds: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Right boxes, and boxes, that reach the thresholds: int64 [images, L] each."""
        shown = self.scores >= thresholds[self.labels]
        right, boxes = np.zeros_like(self.objects), np.zeros_like(self.objects)
        np.add.at(boxes, (self.images[shown], self.labels[shown]), 1)
        hits = shown & self.right
        np.add.at(right, (self.images[hits], self.labels[hits]), 1)
        return right, boxes

    def figures(self, thresholds: NDArray[np.float32], which: NDArray[np.bool_]) -> Figures:
        """Over some labels, bool [L]; AP is the mean over those that people drew."""
        right, boxes = (int(count[:, which].sum()) for count in self.counts(thresholds))
        objects = int(self.objects[:, which].sum())
        drawn = np.flatnonzero(which & (self.objects.sum(axis=0) > 0))
        found = [self.average_precision(int(label)) for label in drawn]
        return Figures(
            precision=round(right / max(1, boxes), 4),
            recall=round(right / max(1, objects), 4),
            f1=round(2 * right / max(1, boxes + objects), 4),
            ap=round(float(np.mean(found)), 4) if found else None,
        )

    def average_precision(self, label: int) -> float:
        """Area below the precision of one label, which must have a verified box."""
        mine = self.labels == label
        objects = np.array([self.objects[:, label].sum()])
        weights = np.ones((1, len(self.objects)))
        return float(weighted_ap(self.scores[mine], self.right[mine], self.images[mine], weights, objects)[0])


def weighted_ap(
    scores: NDArray[np.floating],
    right: NDArray[np.bool_],
    images: NDArray[np.int64],
    weights: NDArray[np.float64],
    objects: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Average precision of boxes whose images count several times, for each of several weightings.

    Args:
        scores: float [K].
        right: bool [K].
        images: int64 [K], which image a box is of.
        weights: float64 [W, images].
        objects: float [W], how many there are to find.

    Returns:
        float64 [W]; 0 where there is nothing to find.
    """
    order = np.argsort(-scores, kind="stable")
    of, hits = images[order], np.flatnonzero(right[order])
    if not len(hits):
        return np.zeros(len(weights))
    # Precision falls between two right boxes, so only its values at right boxes matter: a box counts from the
    # first right one that is not before it.
    boxes, found = np.zeros((2, weights.shape[1], len(hits)))
    counted = np.arange(int(hits[-1]) + 1)
    np.add.at(boxes, (of[counted], np.searchsorted(hits, counted)), 1)
    found[of[hits], np.arange(len(hits))] = 1
    gained = weights @ found
    precision = np.cumsum(gained, axis=1) / np.maximum(weights @ np.cumsum(boxes, axis=1), 1e-9)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    area: NDArray[np.float64] = (envelope * gained).sum(axis=1) / np.maximum(objects, 1e-9)
    return area


def compare_patches(verified: Sequence[VerifiedImage]) -> list[list[int]]:
    """Which patches of each image suppress which, as `try_out` takes it: the same for all scores."""
    return [coverings(clip_boxes(image.features.boxes, image.size)) for image in verified]


def try_out(
    verified: Sequence[VerifiedImage],
    logits: Sequence[NDArray[np.float32]],
    labels: int,
    floor: float,
    covered_by: Sequence[Sequence[int]] | None = None,
) -> Trial:
    """Make boxes of scores, as detection does, and judge them.

    Args:
        verified: the images.
        logits: of each image's patches, float32 [N, L].
        labels: how many labels there are.
        floor: lowest score kept.
        covered_by: what `compare_patches` says of the images.
    """
    if covered_by is None:
        covered_by = compare_patches(verified)
    rows: list[tuple[float, int, int, bool]] = []
    objects = np.zeros((len(verified), labels), np.int64)
    for number, (image, scored) in enumerate(zip(verified, logits, strict=True)):
        np.add.at(objects[number], image.labels, 1)
        found = suppress(
            candidates_of(sigmoid(scored), image.features.boxes, np.arange(labels), floor, image.size),
            covered_by=covered_by[number],
        )
        overlaps = iou_matrix(found.boxes, image.boxes)
        overlaps[found.labels[:, None] != image.labels[None]] = 0
        for box, (score, label) in enumerate(zip(found.scores.tolist(), found.labels.tolist(), strict=True)):
            best = int(overlaps[box].argmax()) if len(image.boxes) else -1
            is_right = best >= 0 and overlaps[box, best] >= POSITIVE_IOU
            if is_right:
                overlaps[:, best] = 0  # it is found
            rows.append((score, label, number, is_right))
    scores, owners, images, right = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Trial(
        np.array(scores, np.float32),
        np.array(owners, np.int64),
        np.array(images, np.int64),
        np.array(right, bool),
        objects,
    )
