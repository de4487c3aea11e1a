"""How likely a box is right, given its score and its label, and where to cut so that F1 is best.

Scores of different labels mean different things, and most labels have few verified boxes. So the model shares
what all labels have in common and lets each label depart from it as far as its own boxes justify:

    P(right) = sigmoid(slope · logit(score) + intercept + offset[label]),   offset[label] ~ N(0, spread²)

with the spread estimated from the data (empirical Bayes, by EM with a Laplace step).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_EM_ROUNDS: Final = 12
_NEWTON_STEPS: Final = 8
_SLOPE_PRIOR: Final = 0.1  # precision of slope ~ N(1, 10)
_INTERCEPT_PRIOR: Final = 1e-2
_SPREAD_BOUNDS: Final = (0.05, 5.0)
_LEAST_SLOPE: Final = 0.2
LEAST_CUT: Final = 0.02
MOST_CUT: Final = 0.95


@dataclass(frozen=True, eq=False, slots=True)
class Calibration:
    """A fitted model of P(right).

    Attributes:
        slope, intercept: shared by all labels.
        offsets: float64 [L], each label's departure from them; 0 for a label without boxes.
        errors: float64 [L], standard error of each offset.
        spread: standard deviation of the offsets among labels.
    """

    slope: float
    intercept: float
    offsets: NDArray[np.float64]
    errors: NDArray[np.float64]
    spread: float

    def logits(self, logits: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """logit P(right) of boxes, float64 [N], from the logits of their scores and their labels."""
        return self.slope * np.asarray(logits, np.float64) + self.intercept + self.offsets[labels]

    def probabilities(self, logits: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """P(right) of boxes, float64 [N]."""
        return sigmoid(self.logits(logits, labels))

    def cuts(self, probability: float) -> NDArray[np.float64]:
        """For each label the score, 0 to 1, at which P(right) is `probability`: float64 [L]."""
        wanted = np.log(probability / (1 - probability))
        return sigmoid((wanted - self.intercept - self.offsets) / max(self.slope, _LEAST_SLOPE))


def sigmoid(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 / (1 + e^-x), without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(np.asarray(values, np.float64), -60, 60))))


def logit(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """The inverse of `sigmoid`; scores of exactly 0 and 1 are moved to 1e-6 and 1 - 1e-6."""
    inside = np.clip(np.asarray(scores, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(inside / (1 - inside)))


def calibrate(
    logits: NDArray[np.floating], labels: NDArray[np.int64], right: NDArray[np.bool_], count: int
) -> Calibration:
    """Fit P(right).

    Args:
        logits: float [N], of the boxes' scores.
        labels: int64 [N], each box's label.
        right: bool [N], whether a person confirmed it.
        count: how many labels there are, L.
    """
    z = np.asarray(logits, np.float64)
    truth = right.astype(np.float64)
    boxes = np.bincount(labels, minlength=count).astype(np.float64)
    present = boxes > 0
    prior_mean = np.zeros(count + 2)
    prior_mean[0] = 1
    values = prior_mean.copy()
    precision = np.empty(count + 2)
    precision[:2] = _SLOPE_PRIOR, _INTERCEPT_PRIOR
    variance = 0.5
    covariance = np.zeros(count)
    for _ in range(_EM_ROUNDS):
        precision[2:] = 1 / variance
        for _ in range(_NEWTON_STEPS):
            p = sigmoid(values[0] * z + values[1] + values[2:][labels])
            slack = p * (1 - p)
            gradient = precision * (values - prior_mean)
            gradient[0] += z @ (p - truth)
            gradient[1] += (p - truth).sum()
            gradient[2:] += np.bincount(labels, p - truth, count)
            # The Hessian is an arrow: 2 dense rows, a diagonal for the labels. Solve by its Schur complement.
            diagonal = np.bincount(labels, slack, count) + precision[2:]
            border = np.stack([np.bincount(labels, slack * z, count), np.bincount(labels, slack, count)])
            corner = np.array([[slack @ (z * z), slack @ z], [slack @ z, slack.sum()]]) + np.diag(
                precision[:2]
            )
            schur = corner - (border / diagonal) @ border.T
            head = np.linalg.solve(schur, gradient[:2] - (border / diagonal) @ gradient[2:])
            step = np.concatenate([head, (gradient[2:] - border.T @ head) / diagonal])
            values = values - np.clip(step, -2, 2)
            if np.abs(step).max() < 1e-4:
                break
        inverse = np.linalg.inv(schur)
        weighted = border / diagonal
        covariance = 1 / diagonal + np.einsum("il,ij,jl->l", weighted, inverse, weighted)
        if present.any():
            low, high = _SPREAD_BOUNDS
            moments = (values[2:] ** 2 + covariance)[present].mean()
            variance = float(np.clip(moments, low * low, high * high))
    return Calibration(
        float(values[0]), float(values[1]), values[2:], np.sqrt(covariance), float(np.sqrt(variance))
    )


def best_cut(
    probabilities: NDArray[np.float64], right: NDArray[np.bool_], objects: int
) -> tuple[float, float]:
    """The P(right) above which boxes are shown so that F1 is best, and that F1.

    Showing a box pays if P(right) exceeds half of the best reachable F1 (Lipton et al. 2014, arXiv
    1402.1892), which needs no search over thresholds and so does not chase noise.

    Args:
        probabilities: float64 [N], P(right) of every candidate box.
        right: bool [N], whether it is.
        objects: how many there are to find.
    """
    order = np.argsort(-probabilities, kind="stable")
    shown = np.arange(1, len(order) + 1)
    scores = 2 * np.cumsum(right[order]) / (shown + objects)
    best = float(scores.max()) if len(scores) else 0.0
    return float(np.clip(best / 2, LEAST_CUT, MOST_CUT)), best
