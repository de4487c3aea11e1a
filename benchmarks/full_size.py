"""Common parts of the speed benchmarks: full-size models with random weights, their bundles, and a fair
threshold.

The hub may not be reachable, so the models are made from the published configurations. Time does not depend
on the weights' values, but the number of boxes does: with random weights, most boxes exceed a trained model's
threshold. So each model gets a threshold that about 30 boxes per image exceed, and a floor that about 150
exceed, as with trained models on photos; all contestants use the same threshold.
"""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect import Bundle, Detector
from boxdrop.detect.bundle import Defaults
from boxdrop.detectors.coco import COCO_NAMES
from boxdrop.domain.labels import LabelSet
from model_export.pictures import draw

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

TITLES: Final = {
    "owlvit": "OWL-ViT B/32",
    "owlv2": "OWLv2 B/16",
    "grounding-dino": "Grounding DINO tiny",
}
SIZES: Final = {"owlvit": (1024, 768), "owlv2": (1024, 768), "grounding-dino": (1200, 800)}
"""Width and height of the images."""

_SHOWN = 30  # boxes per image
_KEPT = 150


class Stopwatch:
    """Measures a ``with`` block: `wall`, elapsed seconds, and `work`, CPU seconds of this process.

    On a busy machine, the second is more reliable; with idle waits, as for a GPU, the first is.
    """

    wall = 0.0
    work = 0.0

    def __enter__(self) -> "Stopwatch":
        self._began = (time.perf_counter(), time.process_time())
        return self

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self._began[0]
        self.work = time.process_time() - self._began[1]


def source(folder: Path, family: str) -> Path:
    """The model as saved by transformers, created if it is missing."""
    from model_export.stand_ins import FULL_SIZE, make

    path = folder / f"{family}-source"
    if not path.exists():
        make(path, family, FULL_SIZE[family])
    return path


def bundle(folder: Path, family: str, precision: str) -> Bundle:
    """Its bundle, exported if it is missing (with the parity check, which takes minutes)."""
    from model_export.exporter import Choices, export

    path = folder / f"{family}-{precision}"
    if not path.exists():
        export(
            str(source(folder, family)),
            path,
            Choices(name=f"{family}-{precision}", precision=precision),
            print,
        )
    return Bundle.load(path)


def names(count: int) -> LabelSet:
    """The first names of COCO."""
    return LabelSet.from_short_form(", ".join(COCO_NAMES[:count]))


def pictures(family: str, count: int = 4) -> list[NDArray[np.uint8]]:
    """Decoded images: drawn shapes, each in different colours."""
    width, height = SIZES[family]
    drawn = np.asarray(draw("square").resize((width, height)))
    return [np.ascontiguousarray(np.roll(drawn, 37 * number, axis=(0, 1))) for number in range(count)]


def as_if_trained(found: Bundle, label_set: LabelSet, images: list[NDArray[np.uint8]]) -> Bundle:
    """The bundle with a threshold and a floor that as many boxes exceed as with trained weights."""
    detector = Detector.load(found)
    scores = []
    for image in images[:2]:
        (candidates,) = detector.candidates(
            detector.preprocess(image)[None],
            [(image.shape[1], image.shape[0])],
            label_set,
            nms_iou=1.0,
            limit=1_000_000,
            floor=1e-6,
        )
        scores.append(np.sort(candidates.scores)[::-1])
    shown = float(np.mean([each[min(_SHOWN, len(each) - 1)] for each in scores]))
    kept = float(np.mean([each[min(_KEPT, len(each) - 1)] for each in scores]))
    return replace(found, defaults=Defaults(threshold=shown, floor=min(kept, shown)))
