"""What a training is to do, and the detectors that it can start from."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from boxdrop.domain.errors import BoxdropError

Device = Literal["auto", "cpu", "cuda"]

FORMAT: Final = "boxdrop-training/1"
LEARNT: Final = "train"
WATCHED: Final = "val"
"""Names of splits: what the detector learns from, and what decides when it ends."""

SMALL: Final = "small"
"""A small detector with random weights; see `model_export.training.starts`."""

DRAWN: Final = "drawn-s"
"""The same one, trained on drawn scenes, which comes with boxdrop; see `model_export.training.drawn`."""

STARTS: Final = {
    "d-fine-s": "ustc-community/dfine-small-coco",
    "d-fine-m": "ustc-community/dfine-medium-coco",
    "d-fine-l": "ustc-community/dfine-large-coco",
    "rt-detr-v2-s": "PekingU/rtdetr_v2_r18vd",
    "rt-detr-v2-l": "PekingU/rtdetr_v2_r50vd",
}
"""Detectors of the Hugging Face hub that were trained on COCO, all under Apache-2.0."""

DEFAULT_START: Final = "d-fine-s"
RATE: Final = 2e-4
_RATES: Final = {SMALL: 1e-3, DRAWN: 1e-3}


_LEAST_SIDE, _STEP = 64, 32


def usual_rate(start: str) -> float:
    """The learning rate of a training that names none."""
    return _RATES.get(start, RATE)


class TrainingError(BoxdropError):
    """A training that cannot begin, or failed; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides what a training does: the same plan on the same machine makes the same detector.

    Attributes:
        name: of the bundle to make.
        project, dataset, digest: the frozen data set.
        start: `SMALL`, `DRAWN`, a name of `STARTS`, a hub id, or a folder that ``save_pretrained`` wrote.
        classes: names, in the order of the detector's scores.
        side: the detector sees images in a square of this side, pixels; None: as the one it starts from.
        epochs: at most.
        patience: epochs without a better AP on the validation images after which it ends.
        batch: images of a step.
        rate: the highest learning rate; that of a trained backbone is a tenth of it.
        seed: of all chance.
        mirror: whether left and right may be exchanged.
        mosaic: how often four images are put together, 0 to 1; never in the last tenth of the epochs.
        device: ``auto`` takes the GPU if there is one.
        threads: of the CPU; None: all cores.
        save_every_s: seconds between checkpoints.
    """

    name: str
    project: str
    dataset: str
    digest: str
    start: str
    classes: tuple[str, ...]
    side: int | None = None
    epochs: int = 60
    patience: int = 15
    batch: int = 8
    rate: float = RATE
    seed: int = 0
    mirror: bool = True
    mosaic: float = 0.5
    device: Device = "auto"
    threads: int | None = None
    save_every_s: float = 120.0

    def __post_init__(self) -> None:
        if self.side is not None and (self.side < _LEAST_SIDE or self.side % _STEP):
            raise ValueError(f"side {self.side} must be a multiple of {_STEP}, and at least {_LEAST_SIDE}")
        if not math.isfinite(self.rate) or self.rate <= 0:
            raise ValueError(f"rate {self.rate} must be above 0")
        if not self.classes:
            raise ValueError("there must be a class")


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is known after an epoch.

    Attributes:
        step: optimizer steps so far.
        loss: mean of the epoch.
        ap50, ap: COCO's on the validation images; None where there are none.
        seconds: of training so far, without interruptions.
    """

    epoch: int
    step: int
    loss: float
    ap50: float | None
    ap: float | None
    seconds: float
