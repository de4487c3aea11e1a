"""What comes next: how many mistakes are expected in an image that nobody has verified.

A mistake is a box that a person would delete, or an object that they would add; a wrong label counts as both.

- Before there is enough verified work, `near_thresholds` counts candidates by how close they are to their
  label's threshold: the best of the signals that need no learning.
- After that, `expected_mistakes` adds up what the calibration of verified work
  (`boxdrop.assessment.calibration`) expects: P(wrong) of each box shown, P(right) of each candidate hidden.

Both beat or equal a ridge regression on sixteen signals (rival labels, overlap, sizes, number of boxes …) in
every set of scenes; record 095 has the figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.calibration import Calibration, Floats, logit, sigmoid
from boxdrop.assessment.evidence import Evidence, count
from boxdrop.assessment.thresholds import fit
from boxdrop.domain.detections import Detections, select
from boxdrop.domain.labels import LabelSet

LEAST_IMAGES: Final = 10
LEAST_BOXES: Final = 10
"""Verified images and boxes from which on the calibration orders images better than their scores alone."""

_FOLDS: Final = 5
_Z95: Final = 1.96
_LEAST_CHANCE: Final = 1e-4
_SHIFT_PRECISION: Final = 0.25  # shift ~ N(0, 2²)


def contenders(candidates: Detections, labels: int) -> Detections:
    """Candidates that would be shown if every threshold were at the floor: one for each object."""
    return select(candidates, np.zeros(labels, np.float32))


def near_thresholds(found: Detections, thresholds: NDArray[np.floating]) -> float:
    """How many candidates are near their threshold: each counts exp(-distance in logits).

    Args:
        found: see `contenders`.
        thresholds: float [L], in force.
    """
    return float(np.exp(-np.abs(logit(found.scores) - logit(thresholds)[found.labels])).sum())


def expected_mistakes(found: Detections, thresholds: NDArray[np.floating], calibration: Calibration) -> float:
    """Expected number of mistakes in an image; arguments as in `near_thresholds`."""
    shown, chances = _chances(found, thresholds, calibration)
    return float((1 - chances[shown]).sum() + chances[~shown].sum())


def _chance_of_a_mistake(
    found: Detections, thresholds: NDArray[np.floating], calibration: Calibration
) -> float:
    """P(an image needs a change), if candidates were independent."""
    shown, chances = _chances(found, thresholds, calibration)
    return float(1 - chances[shown].prod() * (1 - chances[~shown]).prod())


def _chances(
    found: Detections, thresholds: NDArray[np.floating], calibration: Calibration
) -> tuple[NDArray[np.bool_], Floats]:
    shown = found.scores >= thresholds.astype(np.float32)[found.labels]
    return shown, calibration.probabilities(found.scores, found.labels)


@dataclass(frozen=True, eq=False, slots=True)
class Ranking:
    """Orders the images of a project.

    Attributes:
        thresholds: float [L], in force.
        calibration: from verified work; None where that is too little.
        images: verified images that it was learned from.
        shift, shift_error: by how much the logit of P(an image needs a change) is off, and its standard
            error, from verified images that the calibration did not see.
    """

    thresholds: NDArray[np.floating]
    calibration: Calibration | None = None
    images: int = 0
    shift: float = 0.0
    shift_error: float = 0.0

    def doubt(self, candidates: Detections) -> float:
        """Expected mistakes in an image; before there is a calibration, candidates near thresholds."""
        found = contenders(candidates, len(self.thresholds))
        if self.calibration is None:
            return near_thresholds(found, self.thresholds)
        return expected_mistakes(found, self.thresholds, self.calibration)

    def chance(self, candidates: Detections) -> float:
        """P(an image needs a change), before `shift`; needs a calibration."""
        assert self.calibration is not None
        found = contenders(candidates, len(self.thresholds))
        return _chance_of_a_mistake(found, self.thresholds, self.calibration)


def learn_ranking(images: Sequence[Evidence], thresholds: NDArray[np.floating]) -> Ranking:
    """Learn from verified images, in an order that has nothing to do with what they show."""
    if len(images) < LEAST_IMAGES or sum(len(each.labels) for each in images) < LEAST_BOXES:
        return Ranking(thresholds)
    labels = len(thresholds)
    calibration = fit(images, labels)
    chances = np.zeros(len(images))
    wrong = np.zeros(len(images), np.bool_)
    for fold in range(_FOLDS):
        theirs = fit([each for number, each in enumerate(images) if number % _FOLDS != fold], labels)
        for number in range(fold, len(images), _FOLDS):
            image = images[number]
            found = contenders(image.candidates, labels)
            chances[number] = _chance_of_a_mistake(found, thresholds, theirs)
            right, shown, objects = count(image, thresholds, labels).sum(axis=0).tolist()
            wrong[number] = shown + objects > 2 * right
    shift, error = _shift(chances, wrong)
    return Ranking(thresholds, calibration, len(images), shift, error)


def _shift(chances: Floats, wrong: NDArray[np.bool_]) -> tuple[float, float]:
    """The constant to add to logit P, and its standard error: Newton on one parameter, prior N(0, 2²)."""
    z = logit(np.clip(chances, _LEAST_CHANCE, 1 - _LEAST_CHANCE))
    shift, curvature = 0.0, _SHIFT_PRECISION
    for _ in range(20):
        p = sigmoid(z + shift)
        curvature = float((p * (1 - p)).sum()) + _SHIFT_PRECISION
        step = (float((p - wrong).sum()) + _SHIFT_PRECISION * shift) / curvature
        shift -= float(np.clip(step, -2, 2))
    return shift, curvature**-0.5


@dataclass(frozen=True, slots=True)
class Outlook:
    """How many of some images need a change.

    Attributes:
        images: how many there are.
        expected: how many of them need a change, on average.
        low, high: interval that holds the true number in 95 of 100 cases.
    """

    images: int
    expected: float
    low: int
    high: int


def outlook(ranking: Ranking, chances: Sequence[float]) -> Outlook:
    """How many images need a change.

    Args:
        ranking: with a calibration.
        chances: `Ranking.chance` of each.
    """
    z = logit(np.clip(np.array(chances, np.float64), _LEAST_CHANCE, 1 - _LEAST_CHANCE))

    def total(errors: float) -> tuple[float, float]:
        p = sigmoid(z + ranking.shift + errors * ranking.shift_error)
        return float(p.sum()), float(np.sqrt((p * (1 - p)).sum()))

    expected, noise = total(0)
    below, above = expected - total(-1)[0], total(1)[0] - expected  # one standard error of the shift
    low = expected - _Z95 * float(np.hypot(below, noise))
    high = expected + _Z95 * float(np.hypot(above, noise))
    return Outlook(len(z), expected, max(0, int(np.floor(low))), min(len(z), int(np.ceil(high))))


def thresholds_of(label_set: LabelSet, default: float) -> Floats:
    """The thresholds in force, float64 [L]; `default` for labels that set none."""
    return np.array([default if each.threshold is None else each.threshold for each in label_set])


def ranking_without_learning(label_set: LabelSet, default: float) -> Ranking:
    """Orders images by candidates near thresholds, for when they are published."""
    return Ranking(thresholds_of(label_set, default))
