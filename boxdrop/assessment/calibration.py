"""How likely a box is right, given its score and its label, and from which probability on showing it pays.

Scores of different labels mean different things, and most labels have few verified boxes. So the model shares
what all labels have in common, and lets each label depart from it as far as its own boxes justify:

    P(right) = sigmoid(slope · logit(score) + intercept + offset[label])
    offset[label] ~ N(lean · level[label], spread²)

The spread is estimated from the data (empirical Bayes: EM with a Laplace step). A *level* is what is known of
a label without anybody's verdict, such as how many candidates it has: a label whose scores are all too high
has many. How much that says, the lean, is estimated from all labels together.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EM_ROUNDS: Final = 12
_NEWTON_STEPS: Final = 30
_CLOSE: Final = 1e-4
_SLOPE_PRECISION: Final = 0.1  # slope ~ N(1, 10)
_INTERCEPT_PRECISION: Final = 0.01
_LEAN_PRECISION: Final = 0.3  # lean ~ N(0, 3.3)
_SPREADS: Final = (0.05, 5.0)
_LEAST_SLOPE: Final = 0.2
_PAYS: Final = (0.02, 0.95)
_SURE: Final = 1e-6
"""Scores of exactly 0 and 1 have no logit: they are moved by this."""


@dataclass(frozen=True, eq=False, slots=True)
class Calibration:
    """A fitted model of P(right).

    Attributes:
        slope, intercept: shared by all labels.
        offsets: float64 [L], how far each label departs from them.
        spread: standard deviation of the offsets around what the levels say.
        levels: float64 [L], see above; 0 where nothing is known.
        shared_covariance: float64 [3, 3], of slope, intercept and lean.
        pull: float64 [3, L], how each label's own part of its offset moves with these three.
        own_variances: float64 [L], of that part where the three are known.
    """

    slope: float
    intercept: float
    offsets: Floats
    spread: float
    levels: Floats
    shared_covariance: Floats
    pull: Floats
    own_variances: Floats

    def logits(self, scores: NDArray[np.floating], labels: NDArray[np.int64]) -> Floats:
        """logit P(right), float64 [N], of boxes with these scores (0 to 1) and labels."""
        return self.slope * logit(scores) + self.intercept + self.offsets[labels]

    def probabilities(self, scores: NDArray[np.floating], labels: NDArray[np.int64]) -> Floats:
        """P(right), float64 [N], of boxes with these scores (0 to 1) and labels."""
        return sigmoid(self.logits(scores, labels))

    def errors(self, scores: NDArray[np.floating], labels: NDArray[np.int64]) -> Floats:
        """Standard error of `logits`, float64 [N]."""
        known = np.stack([logit(scores), np.ones(len(labels)), self.levels[labels]])
        heads = known - self.pull[:, labels]
        variances = np.einsum("in,ij,jn->n", heads, self.shared_covariance, heads)
        return np.asarray(np.sqrt(variances + self.own_variances[labels]))

    def cuts(self, probability: float) -> Floats:
        """The score of each label at which P(right) is `probability`, as its logit: float64 [L]."""
        wanted = float(logit(np.array(probability)))
        return (wanted - self.intercept - self.offsets) / max(self.slope, _LEAST_SLOPE)

    def cut_errors(self, cuts: Floats) -> Floats:
        """Standard error of `cuts`, in logits: float64 [L]."""
        labels = np.arange(len(cuts))
        return self.errors(sigmoid(cuts), labels) / max(self.slope, _LEAST_SLOPE)


def sigmoid(values: NDArray[np.floating]) -> Floats:
    """1 / (1 + e^-x), without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(np.asarray(values, np.float64), -60, 60))))


def logit(scores: NDArray[np.floating]) -> Floats:
    """The inverse of `sigmoid`; 0 and 1 are moved to 1e-6 and 1 - 1e-6."""
    inside = np.clip(np.asarray(scores, np.float64), _SURE, 1 - _SURE)
    return np.asarray(np.log(inside / (1 - inside)))


def calibrate(
    scores: NDArray[np.floating],
    labels: NDArray[np.int64],
    right: NDArray[np.bool_],
    count: int,
    levels: Floats | None = None,
) -> Calibration:
    """Fit P(right).

    Args:
        scores: float [N], 0 to 1, of candidate boxes in verified images.
        labels: int64 [N], each box's label.
        right: bool [N], whether a person confirmed it.
        count: how many labels there are, L.
        levels: float64 [L], what is known of each label without that; None: nothing.
    """
    levels = np.zeros(count) if levels is None else levels
    known = np.stack([logit(scores), np.ones(len(labels)), levels[labels]])
    truth = right.astype(np.float64)
    has_boxes = np.bincount(labels, minlength=count) > 0
    shared = len(known)
    prior = np.zeros(shared + count)
    prior[0] = 1
    values = prior.copy()
    precision = np.empty(shared + count)
    precision[:shared] = _SLOPE_PRECISION, _INTERCEPT_PRECISION, _LEAN_PRECISION
    variance = 0.5

    def logits(point: Floats) -> Floats:
        return np.asarray(point[:shared] @ known + point[shared:][labels])

    def loss(point: Floats) -> float:
        """Negative log posterior."""
        scored = logits(point)
        penalty = 0.5 * float(precision @ (point - prior) ** 2)
        return float(np.logaddexp(0, scored).sum() - truth @ scored) + penalty

    for _ in range(_EM_ROUNDS):
        precision[shared:] = 1 / variance
        for _ in range(_NEWTON_STEPS):
            p = sigmoid(logits(values))
            weights = p * (1 - p)
            gradient = precision * (values - prior)
            gradient[:shared] += known @ (p - truth)
            gradient[shared:] += np.bincount(labels, p - truth, count)
            # The Hessian is an arrow: 3 dense rows, and a diagonal for the labels. Its Schur complement
            # solves it.
            diagonal = np.bincount(labels, weights, count) + precision[shared:]
            border = np.stack([np.bincount(labels, weights * each, count) for each in known])
            pull = border / diagonal
            schur = (known * weights) @ known.T + np.diag(precision[:shared]) - pull @ border.T
            head = np.linalg.solve(schur, gradient[:shared] - pull @ gradient[shared:])
            step = np.concatenate([head, (gradient[shared:] - border.T @ head) / diagonal])
            if np.abs(step).max() < _CLOSE:
                break
            before = loss(values)
            while np.abs(step).max() >= _CLOSE and loss(values - step) > before:  # far off, Newton overshoots
                step = step / 2
            values = values - step
        covariance = np.asarray(np.linalg.inv(schur), np.float64)
        spreads = 1 / diagonal + np.einsum("il,ij,jl->l", pull, covariance, pull)
        if has_boxes.any():
            low, high = _SPREADS
            moment = (values[shared:] ** 2 + spreads)[has_boxes].mean()
            variance = float(np.clip(moment, low * low, high * high))
    return Calibration(
        slope=float(values[0]),
        intercept=float(values[1]),
        offsets=values[2] * levels + values[shared:],
        spread=float(np.sqrt(variance)),
        levels=levels,
        shared_covariance=covariance,
        pull=pull,
        own_variances=1 / diagonal,
    )


def best_probability(chances: Floats, right: NDArray[np.bool_], objects: int, beta: float = 1.0) -> float:
    """The P(right) above which showing a box raises F: F* / (1 + β²), clipped to 0.02 to 0.95.

    F* is the best F that can be reached (Lipton et al. 2014, arXiv 1402.1892). This needs no search over
    thresholds, and so does not chase noise.

    Args:
        chances: float64 [N], P(right) of every candidate box.
        right: bool [N], whether a person confirmed it.
        objects: how many objects there are to find.
        beta: how much more recall counts than precision.
    """
    order = np.argsort(-chances, kind="stable")
    shown = np.arange(1, len(order) + 1)
    scores = (1 + beta * beta) * np.cumsum(right[order]) / (shown + beta * beta * objects)
    best = float(scores.max()) if len(scores) else 0.0
    return float(np.clip(best / (1 + beta * beta), *_PAYS))
