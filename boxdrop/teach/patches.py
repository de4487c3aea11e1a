"""What a lesson is fitted to: the patches of verified images, and what people said about each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.features import Features
from boxdrop.domain.detections import iou_matrix

POSITIVE_IOU: Final = 0.5
"""A patch whose box overlaps a verified box by at least this IoU is an example of its label."""

IGNORED_IOU: Final = 0.3
"""Between this IoU and `POSITIVE_IOU`, a patch is neither an example nor a counterexample."""

PATCHES_KEPT: Final = 320
"""Patches kept per image. A demo image has 196, OWL-ViT 576, OWLv2 3,600."""

PATCHES_OF_A_VIEW: Final = 200
"""Patches kept of the smaller view of an image. So 10,000 images of OWLv2, with 512 numbers of 16 bits a
patch, take 5.3 GB, and 1,000 take 530 MB."""


@dataclass(frozen=True, eq=False, slots=True)
class VerifiedImage:
    """A verified image as the fit sees it.

    Attributes:
        features: of its patches.
        boxes: float32 [M, 4], xyxy, upright pixels: what people verified. None at all is a statement too.
        labels: int64 [M], index of each box's label.
        size: upright width and height in pixels.
        views: features of the same image shown differently, such as smaller; their boxes are in the pixels of
            the image itself. They are learned from, and never judged by.
    """

    features: Features
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    size: tuple[int, int]
    views: tuple[Features, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Patches:
    """The patches of several images, stacked.

    Attributes:
        embeddings, shifts, scales, weights: float32, see `Features`; the first axis counts patches, N.
        images: int64 [N], which image a patch is from.
        targets: float32 [N, L]: for each label the IoU with the verified box where that makes the patch an
            example, else 0.
        counted: bool [N, L]: False where the patch says nothing about the label (`IGNORED_IOU`).
        best: int64 [B, 2], for each verified box that some patch finds, (patch, label) of the best one.
    """

    embeddings: NDArray[np.float32]
    shifts: NDArray[np.float32]
    scales: NDArray[np.float32]
    weights: NDArray[np.float32]
    images: NDArray[np.int64]
    targets: NDArray[np.float32]
    counted: NDArray[np.bool_]
    best: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.shifts)

    def of_labels(self, columns: NDArray[np.int64]) -> "Patches":
        """The same patches, and what people said about some of the labels; without `best`."""
        return replace(
            self,
            targets=self.targets[:, columns],
            counted=self.counted[:, columns],
            best=np.zeros((0, 2), np.int64),
        )

    def logits(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score unit queries, float32 [Q, D]: float32 [N, Q]."""
        return self.scales[:, None] * (self.embeddings @ queries.T + self.shifts[:, None])


def keep_informative(
    features: Features,
    boxes: NDArray[np.float32],
    queries: NDArray[np.float32],
    limit: int = PATCHES_KEPT,
) -> Features:
    """Reduce an image to the patches that can teach something.

    Kept are all patches near a box, then the hardest counterexamples (those that score highest for any
    query, or that look most like an object), and an even sample of the rest, weighted by how many patches
    each stands for.

    Args:
        features: of all patches of the image.
        boxes: float32 [M, 4], every verified box, and every suggestion that people deleted.
        queries: float32 [Q, D], unit queries of the words; may be none.
        limit: how many to keep.
    """
    count = len(features)
    if count <= limit:
        return features
    near = (
        iou_matrix(features.boxes, boxes).max(axis=1) >= IGNORED_IOU if len(boxes) else np.zeros(count, bool)
    )
    hardness = features.shifts * features.scales
    if len(queries):
        similarity = (features.embeddings.astype(np.float32) @ queries.T).max(axis=1)
        hardness = np.maximum(hardness, features.scales * (similarity + features.shifts))
    order = np.argsort(-np.where(near, np.inf, hardness), kind="stable")
    hard = min(count, max(int(near.sum()), limit * 3 // 4))
    chosen, rest = order[:hard], np.sort(order[hard:])
    sample = rest[:: max(1, -(-len(rest) // max(1, limit - hard)))]
    weights = np.ones(len(chosen) + len(sample), np.float32)
    weights[len(chosen) :] = len(rest) / max(1, len(sample))
    return features.take(np.concatenate([chosen, sample]), weights)


def stack_views(verified: Sequence[VerifiedImage], patches: Patches, labels: int) -> Patches:
    """Add the patches of the images' views to those of the images; see `stack`."""
    parts, images = [patches], [patches.images]
    for number, image in enumerate(verified):
        for view in image.views:
            parts.append(stack([replace(image, features=view, views=())], labels))
            images.append(np.full(len(view), number))
    if len(parts) == 1:
        return patches
    firsts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    best = [part.best + np.array([first, 0]) for part, first in zip(parts, firsts, strict=True)]
    return Patches(
        embeddings=np.concatenate([part.embeddings for part in parts]),
        shifts=np.concatenate([part.shifts for part in parts]),
        scales=np.concatenate([part.scales for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        images=np.concatenate(images),
        targets=np.concatenate([part.targets for part in parts]),
        counted=np.concatenate([part.counted for part in parts]),
        best=np.concatenate(best),
    )


def stack(verified: Sequence[VerifiedImage], labels: int) -> Patches:
    """Stack images and work out what people said about each patch.

    A patch is an example of the box that it overlaps most. Every other patch of a verified image is a
    counterexample: the person who verified it would have drawn the box.

    Args:
        verified: at least one image.
        labels: how many labels there are.
    """
    targets, counted, best = [], [], []
    first = 0
    for image in verified:
        target = np.zeros((len(image.features), labels), np.float32)
        counts = np.ones_like(target, bool)
        if len(image.labels):
            overlaps = iou_matrix(image.features.boxes, image.boxes)
            closest = overlaps.max(axis=1)
            for label in np.unique(image.labels):
                mine = overlaps[:, image.labels == label].max(axis=1)
                example = (mine >= POSITIVE_IOU) & (mine >= closest - 1e-6)
                target[example, label] = mine[example]
                counts[(mine > IGNORED_IOU) & ~example, label] = False
            for number, label in enumerate(image.labels.tolist()):
                patch = int(overlaps[:, number].argmax())
                if overlaps[patch, number] >= IGNORED_IOU:
                    best.append((first + patch, label))
        targets.append(target)
        counted.append(counts)
        first += len(image.features)
    parts = [image.features for image in verified]
    return Patches(
        embeddings=np.concatenate([part.embeddings for part in parts]).astype(np.float32),
        shifts=np.concatenate([part.shifts for part in parts]),
        scales=np.concatenate([part.scales for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        images=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        targets=np.concatenate(targets),
        counted=np.concatenate(counted),
        best=np.array(best, np.int64).reshape(-1, 2),
    )
