"""The images of a training folder as examples, and as batches for the model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import Dataset

from boxdrop.assessment.evidence import Evidence
from boxdrop.assessment.precision import IOUS, average_precisions
from boxdrop.domain.detections import Detections
from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import decode
from boxdrop.training.folder import TrainingFolder, TrainingImage
from boxdrop.training.plan import Plan, TrainingError
from model_export.training.augmentation import Example, augment, resize

_KEPT_BYTES: Final = 2**30
_LEAST_SCORE: Final = 0.01
_MOST_FOUND: Final = 100
_PLAIN_END: Final = 0.9
"""From this share of the epochs on, no images are put together."""


class Reader:
    """Reads images, and keeps small copies of them as long as there is room.

    Args:
        folder: the training's.
        images: which ones.
        most: the longest side of a copy, pixels: nothing needs more.
    """

    def __init__(self, folder: TrainingFolder, images: Sequence[TrainingImage], most: int) -> None:
        self._folder, self._images, self._most = folder, images, most
        self._kept: dict[int, Example] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._images)

    def __call__(self, number: int) -> Example:
        """An image by its number.

        Raises:
            TrainingError: its file is missing or damaged.
        """
        if number in self._kept:
            return self._kept[number]
        image = self._images[number]
        path = self._folder.images / image.file
        try:
            pixels = decode(path.read_bytes()).pixels
        except (OSError, ImageError) as error:
            raise TrainingError(f"{path}: {error}; delete images.jsonl beside it and train again") from None
        boxes = np.array(image.boxes, np.float32).reshape(-1, 4)
        example = Example(pixels, boxes, np.array(image.labels, np.int64))
        scale = self._most / max(pixels.shape[:2])
        if scale < 1:
            height, width = (max(1, round(each * scale)) for each in pixels.shape[:2])
            example = resize(example, width, height)
        if self._bytes + example.pixels.nbytes <= _KEPT_BYTES:
            self._kept[number] = example
            self._bytes += example.pixels.nbytes
        return example


class Augmented(Dataset[dict[str, Any]]):
    """Changed copies of the images, for the Trainer.

    Attributes:
        epoch: which changes; the Trainer sets it.
    """

    def __init__(self, read: Reader, plan: Plan, processor: Any) -> None:
        self.epoch = 0
        self._read, self._plan, self._processor = read, plan, processor
        self._side = processor.size["width"], processor.size["height"]

    def __len__(self) -> int:
        return len(self._read)

    def __getitem__(self, number: int) -> dict[str, Any]:
        plan = self._plan
        plain = self.epoch >= _PLAIN_END * plan.epochs
        example = augment(
            int(number),
            len(self._read),
            self._read,
            self._side,
            np.random.default_rng((plan.seed, self.epoch, int(number))),
            mirror=plan.mirror,
            mosaic=0.0 if plain else plan.mosaic,
        )
        pixels = self._processor(images=example.pixels, do_resize=False, return_tensors="pt")
        width, height = self._side
        boxes = torch.from_numpy(example.boxes / np.array([width, height] * 2, np.float32))
        centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        return {
            "pixel_values": pixels["pixel_values"][0],
            "labels": {
                "class_labels": torch.from_numpy(example.labels),
                "boxes": torch.cat([centres, sides], dim=1).float().reshape(-1, 4),
            },
        }


def collate(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch."""
    return {
        "pixel_values": torch.stack([each["pixel_values"] for each in examples]),
        "labels": [each["labels"] for each in examples],
    }


def measure(
    model: Any, processor: Any, images: Sequence[TrainingImage], folder: Path, classes: int, batch: int
) -> tuple[float, float]:
    """AP50 and AP of a model in evaluation mode, as means over the classes that have boxes.

    Args:
        images: verified ones, at least one of them with a box.
        folder: of their files.
    """
    evidence: list[Evidence] = []
    device = next(model.parameters()).device
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        pixels = [
            processor(images=decode((folder / each.file).read_bytes()).pixels, return_tensors="pt")
            for each in part
        ]
        with torch.inference_mode():
            stacked = torch.cat([each["pixel_values"] for each in pixels]).to(device)
            outputs = model(pixel_values=stacked)
            scores = outputs.logits.sigmoid().cpu().numpy()
            boxes = outputs.pred_boxes.cpu().numpy()
        evidence += [evidence_of(*each) for each in zip(part, scores, boxes, strict=True)]
    precisions = np.array([average_precisions(evidence, classes, iou) for iou in IOUS])
    known = ~np.isnan(precisions[0])
    return float(precisions[0, known].mean()), float(precisions[:, known].mean())


def evidence_of(image: TrainingImage, scores: Any, boxes: Any) -> Evidence:
    """What a model found in an image, beside what is verified there.

    Args:
        scores: float32 [queries, classes], 0 to 1.
        boxes: float32 [queries, 4], centres and sides, relative to the image.
    """
    queries, labels = np.nonzero(scores > _LEAST_SCORE)
    best = np.argsort(-scores[queries, labels], kind="stable")[:_MOST_FOUND]
    queries, labels = queries[best], labels[best]
    centres, sides = boxes[queries, :2], boxes[queries, 2:]
    size = np.array([image.width, image.height] * 2, np.float32)
    corners = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1) * size
    found = Detections(corners.clip(0, size), scores[queries, labels], labels, labels, queries)
    truth = np.array(image.boxes, np.float32).reshape(-1, 4)
    return Evidence.of(image.file, found, truth, np.array(image.labels, np.int64))


Said = Callable[[str], None]
