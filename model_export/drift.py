"""Drift: how a bundle of reduced precision differs from the one in 32 bits.

For each image and label set, the best `_COMPARED` boxes of the bundle in 32 bits are matched with the other
bundle's boxes: the box of the same label that overlaps most. A box without a counterpart of IoU 0.5 or more
is lost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.detector import Detector
from boxdrop.domain.detections import Detections, iou
from boxdrop.domain.labels import LabelSet
from model_export.pictures import SHAPES, draw

_COMPARED = 100
_SAME = 0.5  # IoU
_LOWEST = 1e-4  # score


@dataclass(frozen=True, slots=True)
class Limits:
    """The allowed drift: share of boxes kept, and the mean difference of their scores."""

    kept: float
    score: float


LIMITS: Final = {"fp16": Limits(kept=0.99, score=0.002), "int8": Limits(kept=0.9, score=0.02)}

CHOOSING_LIMITS: Final = Limits(kept=0.5, score=0.1)
"""For families that select their boxes among positions: a small change selects other positions, and samples
other points. With random weights, the only ones available here, rounding is amplified more than by a trained
model's smooth features. So the limit only catches a broken conversion; read the numbers."""


WARN_KEPT: Final = 0.95
"""Below this share of boxes kept, the export prints a warning, even if the family's limits allow it."""


@dataclass(frozen=True, slots=True)
class Drift:
    """The comparison.

    Attributes:
        boxes: compared.
        kept: how many have a counterpart.
        scores: float32 [kept], differences of score, other minus 32 bits.
        overlaps: float32 [kept], IoU with the counterpart.
    """

    boxes: int
    kept: int
    scores: NDArray[np.float32]
    overlaps: NDArray[np.float32]

    def within(self, limits: Limits) -> bool:
        """Whether the reduced precision is good enough."""
        if not self.kept or self.kept < limits.kept * self.boxes:
            return False
        return bool(np.abs(self.scores).mean() <= limits.score)

    def warning(self) -> str | None:
        """A warning for the user; None if little was lost."""
        lost = self.boxes - self.kept
        if self.kept >= WARN_KEPT * self.boxes:
            return None
        return (
            f"warning: {lost:,} of {self.boxes:,} boxes have no counterpart in 32 bits "
            f"({lost / self.boxes:.0%}). Compare this bundle with the fp32 one on your own "
            "images before you use it."
        )

    def to_json(self) -> dict[str, Any]:
        """For ``bundle.json``."""
        gaps = np.abs(self.scores)
        return {
            "boxes": self.boxes,
            "kept": self.kept,
            "score": _summary({"mean": gaps.mean(), "p95": np.quantile(gaps, 0.95), "max": gaps.max()}),
            "score_shift": _summary({"mean": self.scores.mean()})["mean"],
            "iou": _summary({"mean": self.overlaps.mean(), "p05": np.quantile(self.overlaps, 0.05)}),
        }

    def line(self) -> str:
        """For people."""
        if not self.kept:
            return f"drift: none of {self.boxes} boxes has a counterpart"
        fields = self.to_json()
        score, overlap = fields["score"], fields["iou"]
        return (
            f"drift: {self.kept} of {self.boxes} boxes kept, Δscore mean {score['mean']:g}, 95 % "
            f"{score['p95']:g}, max {score['max']:g}; IoU mean {overlap['mean']:g}, worst 5 % "
            f"{overlap['p05']:g}"
        )


def measure(
    exact: Detector,
    other: Detector,
    label_sets: Sequence[LabelSet],
    pictures: Sequence[str] = tuple(SHAPES),
    say: Callable[[str], None] = lambda _: None,
) -> Drift:
    """Compare a bundle with the one in 32 bits.

    Args:
        exact, other: the bundles, opened.
        label_sets: see `model_export.parity.label_sets_for`.
        pictures: names of `model_export.pictures.SHAPES`.
        say: called with each step.
    """
    images = [np.asarray(draw(name)) for name in pictures]
    boxes, scores, overlaps = 0, [], []
    for label_set in label_sets:
        say(f"drift: {len(images)} pictures, {len(label_set)} labels")
        for image in images:
            size = [(image.shape[1], image.shape[0])]
            best, answered = (
                detector.candidates([detector.preprocess(image)], size, label_set, floor=_LOWEST)[0]
                for detector in (exact, other)
            )
            best = best.take(np.arange(min(_COMPARED, len(best))))
            boxes += len(best)
            for row in range(len(best)):
                found = _counterpart(best, row, answered)
                if found is not None:
                    scores.append(found[0])
                    overlaps.append(found[1])
    return Drift(boxes, len(scores), np.array(scores, np.float32), np.array(overlaps, np.float32))


def _counterpart(best: Detections, row: int, answered: Detections) -> tuple[float, float] | None:
    """(difference of scores, IoU) of the box of the same label that overlaps most."""
    same = np.flatnonzero(answered.labels == best.labels[row])
    if not len(same):
        return None
    shared = iou(best.boxes[row], answered.boxes[same])
    at = int(shared.argmax())
    if shared[at] < _SAME:
        return None
    return float(answered.scores[same[at]] - best.scores[row]), float(shared[at])


def _summary(values: dict[str, Any]) -> dict[str, float]:
    return {key: float(f"{float(value):.3g}") for key, value in values.items()}
