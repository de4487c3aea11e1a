"""How much a lesson gains with the number of verified images, and what more of them would likely bring."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.calibration import logit
from boxdrop.domain.curve import ChoiceGain, Curve, CurvePoint, Forecast
from boxdrop.teach.choice import choose, things_of
from boxdrop.teach.fit import Heads
from boxdrop.teach.guard import Verdict, Words
from boxdrop.teach.patches import Patches, VerifiedImage
from boxdrop.teach.trial import Trial, try_out

FIRST: Final = 10
"""Images of the first point; each of the next ones has twice as many."""

MORE: Final = 50
"""Images that the forecast looks ahead."""

_MOST: Final = 2 / 3
"""A fit leaves at least a third of the images to be judged by."""

_DRAWS: Final = 4
_SEED: Final = 20251129
_T_95: Final = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
"""97.5 % quantiles of Student's t for 1 to 10 degrees of freedom; beyond, 2.1 is near enough."""


def draw_curve(
    verified: Sequence[VerifiedImage], patches: Patches, words: Words, verdict: Verdict
) -> Curve | None:
    """Fit to ever more of the images, and judge each fit by the others.

    Which labels use their lesson, and how much of it, is as the verdict on all images says; so a curve shows
    what the fit gains, not when it would have been adopted.

    Args:
        verified, patches: of all images.
        words: what the detector knows without a lesson.
        verdict: on all images.

    Returns:
        None if the verdict uses no lesson, or there are too few images for a point.
    """
    count = len(verified)
    sizes = [FIRST * 2**power for power in range(16) if FIRST * 2**power <= _MOST * count]
    if not sizes or not verdict.shares.any():
        return None
    rng = np.random.default_rng(_SEED)
    found: list[tuple[int, float, float]] = []
    for size in sizes:
        for _ in range(_DRAWS):
            chosen = np.zeros(count, bool)
            chosen[rng.permutation(count)[:size]] = True
            trial = _trial(verified, patches, words, verdict, verdict.learner.fit(chosen), ~chosen)
            found.append((size, *_figures(trial, words)))
    drawn = np.array(found)
    last = (count, *_figures(verdict.after, words))  # of fits that lacked a fold
    points = [CurvePoint(0, *_rounded(_figures(verdict.before, words)))]
    points += [CurvePoint(size, *_rounded(drawn[drawn[:, 0] == size, 1:].mean(axis=0))) for size in sizes]
    points.append(CurvePoint(count, *_rounded(last[1:])))
    choice = gain_of_choice(verified, patches, words, verdict)
    return Curve(tuple(points), forecast(drawn, last), choice)


def gain_of_choice(
    verified: Sequence[VerifiedImage], patches: Patches, words: Words, verdict: Verdict
) -> ChoiceGain | None:
    """Compare lessons of chosen images with lessons of random ones, on images that are in neither.

    Args:
        verified, patches, words, verdict: see `draw_curve`.

    Returns:
        None if there are too few images.
    """
    count = len(verified)
    judges = round(count * (1 - _MOST))
    if count - judges < 2 * FIRST:
        return None
    margins = (words.logits(patches) - logit(words.thresholds)).max(axis=1).astype(np.float32)
    ends = np.flatnonzero(np.diff(patches.images)) + 1
    things = [
        things_of(image.features, each) for image, each in zip(verified, np.split(margins, ends), strict=True)
    ]
    rng = np.random.default_rng(_SEED)
    found = []
    for _ in range(_DRAWS):
        order = rng.permutation(count)
        judged = np.isin(np.arange(count), order[:judges])
        pool = order[judges:]
        picks = pool[choose([things[place] for place in pool], FIRST)], pool[:FIRST]
        fits = [verdict.learner.fit(np.isin(np.arange(count), each)) for each in picks]
        trials = [_trial(verified, patches, words, verdict, heads, judged) for heads in fits]
        found.append([_figures(trial, words)[0] for trial in trials])
    chosen, random = np.mean(found, axis=0)
    return ChoiceGain(FIRST, count - judges, round(float(chosen), 4), round(float(random), 4))


def forecast(drawn: NDArray[np.float64], last: tuple[int, float, float], more: int = MORE) -> Forecast | None:
    """What so many more images are likely to bring.

    Errors of such a fit shrink about with the square root of the number of examples, so the figures are
    fitted as a + b / √images, and the newest one is moved along that line.

    Args:
        drawn: float64 [draws, 3], images, AP and changes per image of single fits.
        last: the same of all images.
        more: how many more.

    Returns:
        None from fewer than two sizes.
    """
    rows = np.vstack([drawn, np.repeat(np.array([last], np.float64), _DRAWS, axis=0)])
    if len(np.unique(rows[:, 0])) < 2:
        return None
    inputs = np.column_stack([np.ones(len(rows)), 1 / np.sqrt(rows[:, 0])])
    step = np.array([0, 1 / np.sqrt(last[0] + more) - 1 / np.sqrt(last[0])])
    spread = np.linalg.inv(inputs.T @ inputs)
    freedom = len(rows) - 2
    quantile = _T_95[freedom - 1] if freedom <= len(_T_95) else 2.1
    ranges = []
    for column, worst, best in ((1, 0.0, 1.0), (2, np.inf, 0.0)):
        fitted, *_ = np.linalg.lstsq(inputs, rows[:, column], rcond=None)
        variance = float(((rows[:, column] - inputs @ fitted) ** 2).sum() / freedom)
        low, high = min(worst, best), max(worst, best)
        expected = float(np.clip(last[column] + step @ fitted, low, high))
        margin = quantile * float(np.sqrt(variance * (1 + step @ spread @ step)))
        span = float(np.clip(expected - margin, low, high)), float(np.clip(expected + margin, low, high))
        ranges.append((round(expected, 4), (round(span[0], 4), round(span[1], 4))))
    (ap, ap_range), (changes, changes_range) = ranges
    return Forecast(last[0] + more, ap, ap_range, changes, changes_range)


def _trial(
    verified: Sequence[VerifiedImage],
    patches: Patches,
    words: Words,
    verdict: Verdict,
    heads: Heads,
    judged: NDArray[np.bool_],
) -> Trial:
    rows = judged[patches.images]
    asked = words.logits(patches)[rows]
    used = asked + verdict.shares * (heads.logits(patches, rows) - asked) + verdict.biases
    ends = np.flatnonzero(np.diff(patches.images[rows])) + 1
    images = [image for image, is_judged in zip(verified, judged, strict=True) if is_judged]
    return try_out(images, np.split(used.astype(np.float32), ends), words.labels, words.floor)


def _figures(trial: Trial, words: Words) -> tuple[float, float]:
    """AP, and changes per image."""
    right, boxes = (int(count.sum()) for count in trial.counts(words.thresholds))
    objects = int(trial.objects.sum())
    ap = trial.figures(words.thresholds, np.ones(words.labels, bool)).ap or 0.0
    return ap, (boxes + objects - 2 * right) / max(1, len(trial.objects))


def _rounded(figures: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    ap, changes = figures
    return round(float(ap), 4), round(float(changes), 4)
