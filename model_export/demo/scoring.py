"""Average precision by pycocotools, precision and recall at a threshold, and which prompts answer with
nothing.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_export.demo.scenes import Scene


@dataclass(frozen=True)
class Found:
    """What a detector said about one image."""

    boxes: NDArray[np.float32]
    """float32 [N, 4], xyxy, pixels of the image."""
    scores: NDArray[np.float32]
    """float32 [N], 0 to 1."""
    labels: NDArray[np.int64]
    """int64 [N], index into the labels that were asked for."""


def overlap(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of every pair: [N, 4] and [M, 4], xyxy → [N, M]."""
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    far = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.clip(far - corner, 0, None).prod(-1)
    area = (first[:, 2:] - first[:, :2]).prod(-1)[:, None] + (second[:, 2:] - second[:, :2]).prod(-1)[None]
    return np.asarray(common / np.maximum(area - common, 1e-9), np.float64)


def suppress(found: Found, same: float = 0.5, other: float = 0.8, most: int = 100) -> Found:
    """Greedy suppression: a box goes where a better one of its label (IoU > same) or of any label (> other)
    is.
    """
    order = np.argsort(-found.scores, kind="stable")[:300]
    boxes, scores, labels = found.boxes[order], found.scores[order], found.labels[order]
    pairs = overlap(boxes, boxes)
    rivals = pairs > np.where(labels[:, None] == labels[None], same, other)
    dead, kept = np.zeros(len(order), bool), []
    for index in range(len(order)):
        if not dead[index]:
            kept.append(index)
            dead |= rivals[index]
    chosen = np.array(kept[:most], np.int64)
    return Found(boxes[chosen], scores[chosen], labels[chosen])


def average_precision(scenes: Sequence[Scene], found: Sequence[Found], labels: int) -> NDArray[np.float64]:
    """AP at IoU 0.5 of each label, float64 [labels], NaN where the scenes show none (pycocotools, 101
    points).
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for image, (scene, one) in enumerate(zip(scenes, found, strict=True), start=1):
        for box, label in zip(scene.boxes.astype(float), scene.labels, strict=True):
            if label < labels:
                extent = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
                truth.append({"id": len(truth) + 1, "image_id": image, "category_id": int(label) + 1, "bbox":
                extent,
                              "area": extent[2] * extent[3], "iscrowd": 0})  # fmt: skip
        for box, score, label in zip(one.boxes.astype(float), one.scores, one.labels, strict=True):
            extent = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            answers.append(
                {"image_id": image, "category_id": int(label) + 1, "bbox": extent, "score": float(score)}
            )
    if not answers:
        present = np.isin(np.arange(labels), np.concatenate([scene.labels for scene in scenes]))
        return np.where(present, 0.0, np.nan)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(1, len(scenes) + 1)],
            "categories": [{"id": label} for label in range(1, labels + 1)],
            "annotations": truth,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(answers), "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, -1]  # [recalls, labels], all areas, 100 detections
    return np.where((precision > -1).any(0), np.where(precision > -1, precision, 0).mean(0), np.nan)


@dataclass(frozen=True)
class Tally:
    """Right boxes, all boxes and all objects at one threshold."""

    right: int
    boxes: int
    objects: int

    @property
    def precision(self) -> float:
        """Share of the boxes that are right; 1 where there are none."""
        return self.right / self.boxes if self.boxes else 1.0

    @property
    def recall(self) -> float:
        """Share of the objects that have a right box."""
        return self.right / self.objects if self.objects else 1.0


def count_right(
    scenes: Sequence[Scene], found: Sequence[Found], threshold: float, labels: Sequence[int]
) -> Tally:
    """Match boxes of these labels at or above the threshold, best first, each to a free object at IoU ≥
    0.5.
    """
    right = boxes = objects = 0
    for scene, one in zip(scenes, found, strict=True):
        asked = np.isin(scene.labels, labels)
        truth_boxes, truth_labels = scene.boxes[asked], scene.labels[asked]
        taken = np.zeros(len(truth_labels), bool)
        objects += len(truth_labels)
        order = np.argsort(-one.scores, kind="stable")
        for index in order[(one.scores[order] >= threshold) & np.isin(one.labels[order], labels)]:
            boxes += 1
            if not len(truth_labels):
                continue
            pairs = overlap(one.boxes[index : index + 1], truth_boxes)[0]
            pairs[taken | (truth_labels != one.labels[index])] = 0
            best = int(pairs.argmax())
            if pairs[best] >= 0.5:
                taken[best] = True
                right += 1
    return Tally(right, boxes, objects)
