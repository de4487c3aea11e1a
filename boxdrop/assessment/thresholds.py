"""Thresholds from verified work: where to cut each label, and whether that beats what is there.

`suggest` calibrates each label's precision with shrinkage to all labels' (`boxdrop.assessment.calibration`)
and shows a box if P(right) exceeds half of the best F1 that can be reached, which is where F1 is highest
(Lipton et al. 2014, arXiv 1402.1892). No search over thresholds takes place, so noise is not chased: a label
with three boxes hardly moves. The thresholds in force count as evidence, too: the learned ones replace them
as far as there are boxes, all the way where cross-validation clearly says so, and not at all where it does
not say that the result is better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.calibration import Calibration, Floats, best_probability, calibrate, logit, sigmoid
from boxdrop.assessment.evidence import Evidence, Tally, count, tally
from boxdrop.domain.detections import select
from boxdrop.domain.errors import BoxdropError

LEAST_IMAGES: Final = 10
"""Verified images below which nothing is suggested: cross-validation would have two images a fold."""

_FOLDS: Final = 5
_HALF_TRUST: Final = 100
"""Verified boxes at which the thresholds in force and the learned ones count the same, unless
cross-validation clearly says that they differ. Where the default is nearly right, half-way beat all the way
(record 094)."""

_CLEAR: Final = 20
"""Verified boxes below which cross-validation is never clear: ten images with five boxes once seemed to say
so, and F1 fell by 0.09."""

LEAST_BOXES: Final = 10

_LEAST_GAIN: Final = 2.0
"""Boxes that cross-validation must win, in terms of F: less is chance, and once lost 0.006 of F1."""

_LOWEST: Final = 0.01
_HIGHEST: Final = 0.98
_Z95: Final = 1.96
_HARDLY: Final = 0.02
"""P(right) of candidates that no goal would show: they do not compete for objects."""


class TuningError(BoxdropError):
    """Thresholds cannot be learned, with the way out."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What thresholds are for.

    Attributes:
        beta: recall counts `beta` times precision: 1 for people who review, 2 for training on boxes that
            nobody reviews, where low thresholds did best (arXiv 2506.02359).
        precision, recall: reach this share instead; at most one of them.
    """

    beta: float = 1.0
    precision: float | None = None
    recall: float | None = None


REVIEW: Final = Goal()
TRAINING: Final = Goal(beta=2.0)


@dataclass(frozen=True, slots=True)
class LabelThreshold:
    """One label's threshold.

    Attributes:
        before, after: in force, and suggested.
        low, high: where the best cut lies in 95 of 100 cases.
        objects: verified boxes that it was learned from.
        shown: what `after` shows in images that it was not learned from.
    """

    before: float
    after: float
    low: float
    high: float
    objects: int
    shown: Tally


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What verified work says about thresholds.

    Attributes:
        labels: in the order of the label set.
        images: verified images.
        before, after: with the thresholds in force, and with suggested ones in images that they were not
            learned from (cross-validation).
        is_better: whether `after` beats `before` by two boxes or more; if not, all thresholds stay as they
            are.
    """

    labels: tuple[LabelThreshold, ...]
    images: int
    before: Tally
    after: Tally
    is_better: bool

    @property
    def thresholds(self) -> NDArray[np.float32]:
        """The suggested ones, float32 [L]."""
        return np.array([each.after for each in self.labels], np.float32)

    @property
    def changes(self) -> bool:
        """Whether any label's threshold changes."""
        return any(each.after != each.before for each in self.labels)


def suggest(
    images: Sequence[Evidence], current: NDArray[np.floating], goal: Goal = REVIEW, floor: float = 0.0
) -> Suggestion:
    """Learn thresholds.

    Args:
        images: verified, in an order that has nothing to do with what they show.
        current: float [L], the thresholds in force.
        goal: what they are for.
        floor: the detector's, below which it keeps nothing.

    Raises:
        TuningError: too few images or boxes, or no threshold reaches the goal.
    """
    if len(images) < LEAST_IMAGES:
        raise TuningError(
            f"{len(images)} verified images are too few to learn thresholds from; "
            f"verify at least {LEAST_IMAGES}"
        )
    boxes = _boxes(images)
    if boxes < LEAST_BOXES:
        raise TuningError(
            f"the verified images hold {boxes} boxes of these labels, too few to learn from; "
            f"verify at least {LEAST_BOXES}"
        )
    least = max(floor, _LOWEST)
    learned = _learn(images, len(current), goal)
    is_fixed = goal.precision is not None or goal.recall is not None
    before, blended, alone = (np.zeros((len(images), len(current), 3), np.int64) for _ in range(3))
    for fold in range(_FOLDS):
        others = [each for number, each in enumerate(images) if number % _FOLDS != fold]
        theirs = _learn(others, len(current), goal, learned.probability if is_fixed else None)
        mixed, pure = (_move(theirs, current, _boxes(others), each, least) for each in (False, True))
        for number in range(fold, len(images), _FOLDS):
            image = images[number]
            before[number] = count(image, current, len(current))
            blended[number] = count(image, mixed, len(current))
            alone[number] = count(image, pure, len(current))
    beta = goal.beta
    is_clear = is_fixed or (
        boxes >= _CLEAR and _beats(alone, blended, beta, 1) and _beats(alone, before, beta, 2)
    )
    after = alone if is_clear else blended
    is_better = is_fixed or _gain(tally(after), tally(before), beta) >= _LEAST_GAIN
    thresholds = current.astype(np.float64)
    if is_better:
        moved = _move(learned, current, boxes, is_clear, least)
        thresholds = np.array([rounded(each, least) for each in moved])
    else:
        after = before
    low, high = (
        np.clip(sigmoid(learned.cuts + sign * _Z95 * learned.errors), least, _HIGHEST) for sign in (-1, 1)
    )
    labels = tuple(
        LabelThreshold(
            before=float(current[label]),
            after=float(thresholds[label]),
            low=float(low[label]),
            high=float(high[label]),
            objects=int(before[:, label, 2].sum()),
            shown=tally(after[:, label]),
        )
        for label in range(len(current))
    )
    return Suggestion(labels, len(images), tally(before), tally(after), is_better)


def rounded(threshold: float, least: float) -> float:
    """A threshold as people write it: two digits; three below 0.1. Never below `least`."""
    digits = 2 if threshold >= 0.1 else 3
    return max(round(threshold, digits), least)


@dataclass(frozen=True, eq=False, slots=True)
class _Learned:
    """What verified images say.

    Attributes:
        probability: the P(right) above which boxes are shown.
        cuts, errors: the best cuts and their standard errors, in logits of the score: float64 [L] each.
    """

    probability: float
    cuts: Floats
    errors: Floats


def fit(images: Sequence[Evidence], labels: int, levels: Floats | None = None) -> Calibration:
    """P(right) of candidates, from verified images; see `boxdrop.assessment.calibration`."""
    return calibrate(
        np.concatenate([each.candidates.scores for each in images]),
        np.concatenate([each.candidates.labels for each in images]),
        np.concatenate([each.right for each in images]),
        labels,
        levels,
    )


def crowding(images: Sequence[Evidence], labels: int) -> Floats:
    """How many candidates each label has, compared with the others: float64 [L], logarithms with mean 0.

    The detector keeps candidates down to one floor for all labels. So a label whose scores are all too high
    has many candidates, one whose scores are too low has few, and it takes no verified box to see that.
    """
    found = np.bincount(np.concatenate([each.candidates.labels for each in images]), minlength=labels)
    counts = np.log(found + 1.0)
    return np.asarray(counts - counts.mean())


def _learn(images: Sequence[Evidence], labels: int, goal: Goal, probability: float | None = None) -> _Learned:
    """Learn from images; `probability` is the P(right) to cut at, where it is known already."""
    calibration = fit(images, labels, crowding(images, labels))
    if probability is None and (goal.precision is not None or goal.recall is not None):
        probability = _probability_for(images, calibration, goal)
    elif probability is None:
        probability = _best_probability(images, calibration, goal.beta)
    cuts = calibration.cuts(probability)
    return _Learned(probability, cuts, calibration.cut_errors(cuts))


def _best_probability(images: Sequence[Evidence], calibration: Calibration, beta: float) -> float:
    """The P(right) above which showing a candidate of these images raises F."""
    right = np.concatenate([each.right for each in images])
    chances = np.concatenate(
        [calibration.probabilities(each.candidates.scores, each.candidates.labels) for each in images]
    )
    return best_probability(chances, right, sum(len(each.labels) for each in images), beta)


def _probability_for(images: Sequence[Evidence], calibration: Calibration, goal: Goal) -> float:
    """The P(right) at which boxes reach the stated precision (the lowest such) or recall (the highest).

    Precision and recall are those that the calibration expects, which does not chase the noise of single
    boxes; each must be reached with a margin of one standard error.
    """
    thresholds = np.clip(sigmoid(calibration.cuts(_HARDLY)), _LOWEST, _HIGHEST).astype(np.float32)
    shown = [select(each.candidates, thresholds) for each in images]
    chances = np.sort(
        np.concatenate([calibration.probabilities(each.scores, each.labels) for each in shown])
    )[::-1]
    number, expected = np.arange(1, len(chances) + 1), np.cumsum(chances)
    if goal.precision is not None:
        errors = np.sqrt(np.cumsum(chances * (1 - chances))) / number
        reached = np.flatnonzero(expected / number - errors >= goal.precision)
        if not len(reached):
            best = float((expected / number - errors).max(initial=0))
            raise TuningError(
                f"no thresholds reach a precision of {goal.precision:g}; from what is verified so far, "
                f"{best:.2f} can be promised: verify more images, or ask for less"
            )
        return float(chances[reached[-1]])
    assert goal.recall is not None
    objects = sum(len(each.labels) for each in images)
    recall = np.minimum(expected / objects, 1)
    reached = np.flatnonzero(recall - np.sqrt(recall * (1 - recall) / objects) >= goal.recall)
    if not len(reached):
        best = float(recall.max(initial=0))
        raise TuningError(
            f"no thresholds reach a recall of {goal.recall:g}: with all candidates it is about {best:.2f}; "
            "the detector does not find the rest: give it better prompts, or tiling"
        )
    return float(chances[reached[0]])


def _move(learned: _Learned, current: NDArray[np.floating], boxes: int, alone: bool, least: float) -> Floats:
    """Move the thresholds in force towards the learned ones, in logits: float64 [L].

    Args:
        boxes: verified ones that they were learned from; they say how far.
        alone: go all the way.
    """
    weight = 1.0 if alone else boxes / (boxes + _HALF_TRUST)
    moved = logit(current) + weight * (learned.cuts - logit(current))
    return np.asarray(np.clip(sigmoid(moved), least, _HIGHEST))


def _gain(after: Tally, before: Tally, beta: float) -> float:
    """How many right boxes more would raise F as much."""
    whole = (before.shown + beta * beta * before.objects) / (1 + beta * beta)
    return (after.f_score(beta) - before.f_score(beta)) * whole


def _boxes(images: Sequence[Evidence]) -> int:
    return sum(len(each.labels) for each in images)


def _beats(new: NDArray[np.int64], old: NDArray[np.int64], beta: float, errors: float) -> bool:
    """Whether F is better by so many standard errors of the difference; both are int64 [images, L, 3]."""
    (first, moved), (second, still) = (_influence(each.sum(axis=1), beta) for each in (new, old))
    error = float((moved - still).std(ddof=1)) / float(np.sqrt(len(moved)))
    return first - second > errors * error


def _influence(counts: NDArray[np.int64], beta: float) -> tuple[float, Floats]:
    """F, and how much each image moves it: float64 [images]; the delta method on a ratio of means."""
    right, shown, objects = counts.T.astype(np.float64)
    whole = shown + beta * beta * objects
    score = tally(counts).f_score(beta)
    return score, ((1 + beta * beta) * right - score * whole) / max(float(whole.mean()), 1e-9)
