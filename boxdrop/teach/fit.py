"""The fit: from patches and what people said about them to a scoring head per label.

A head scores patch p as

    logit(p) = scale(p) · (embedding(p) · w + a · shift(p)) + b

with w free in direction and length. The loss is convex, and each label has its own:

    Σ_p weight · BCE(logit(p), target(p))  +  λ_w ‖w − w0‖²  +  λ_a (a − 1)²  +  λ_b b²

where w0 is where the label starts: the query of its words, or the mean embedding of the best patch of each
of its verified boxes. So with little evidence a label stays near where it started.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.teach.lbfgs import minimise
from boxdrop.teach.patches import Patches

PATCH_WEIGHT: Final = 0.125
"""Neighbouring patches show the same object, so one patch counts as an eighth of an observation."""

NEW_PATCH_WEIGHT: Final = 0.044
"""The same for labels that start at their boxes instead of words: these starts deserve more trust."""

LAMBDA_QUERY: Final = 5.0
LAMBDA_SHIFT: Final = 15.0
LAMBDA_BIAS: Final = 1.5
STEPS: Final = 25

_HOPELESS: Final = -7.0
"""Patches that start below this logit (a score of 0.001) for a label teach it nothing and are left out."""

_RISEN: Final = -5.0
"""Patches left out that the fit raises above this logit (a score of 0.007) are taken in."""

_ROUNDS: Final = 4


@dataclass(frozen=True, eq=False, slots=True)
class Heads:
    """Scoring heads, one per row.

    Attributes:
        queries: float32 [L, D], w.
        shifts: float32 [L], a.
        biases: float32 [L], b.
    """

    queries: NDArray[np.float32]
    shifts: NDArray[np.float32]
    biases: NDArray[np.float32]

    def logits(self, patches: Patches, rows: NDArray[np.bool_] | slice = slice(None)) -> NDArray[np.float32]:
        """Score patches: float32 [N, L]."""
        raw = patches.embeddings[rows] @ self.queries.T + np.outer(patches.shifts[rows], self.shifts)
        return np.asarray(patches.scales[rows, None] * raw + self.biases, np.float32)


def prototypes(
    patches: Patches, rows: NDArray[np.bool_], labels: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The mean embedding of the best patch of each verified box, of unit length; zeros without a box.

    Args:
        patches: of all images.
        rows: bool [N], which of them to use.
        labels: how many labels there are.

    Returns:
        (means, float32 [L, D]; of how many boxes, int64 [L]).
    """
    mean = np.zeros((labels, patches.embeddings.shape[1]), np.float32)
    used = patches.best[rows[patches.best[:, 0]]]
    np.add.at(mean, used[:, 1], patches.embeddings[used[:, 0]])
    norms = np.linalg.norm(mean, axis=1, keepdims=True)
    unit = np.divide(mean, norms, out=np.zeros_like(mean), where=norms > 0)
    return unit, np.bincount(used[:, 1], minlength=labels)


def fit(
    patches: Patches,
    rows: NDArray[np.bool_],
    start: NDArray[np.float32],
    counts: NDArray[np.float32] | None = None,
    steps: int = STEPS,
) -> Heads:
    """Fit one head per label on some of the patches.

    Most patches score so low for a label that they teach it nothing, and are left out. Those that the fit
    has raised meanwhile are added, and the label is fitted again.

    Args:
        patches: of all images.
        rows: bool [N], which of them to learn from.
        start: float32 [L, D], w0.
        counts: float32 [L], how much of an observation a patch is; `PATCH_WEIGHT` by default.
        steps: iterations at most.

    Returns:
        The heads. A label without any patch of note stays at its start.
    """
    labels, width = start.shape
    heads = Heads(start.copy(), np.ones(labels, np.float32), np.zeros(labels, np.float32))
    able = np.flatnonzero(rows)
    if not len(able):
        return heads
    whole = len(able) == len(rows)
    embeddings = patches.embeddings if whole else patches.embeddings[able]
    shifts, scales, weights = patches.shifts[able], patches.scales[able], patches.weights[able]
    logits = scales[:, None] * (embeddings @ start.T + shifts[:, None])
    targets, counted = patches.targets[able], patches.counted[able]
    chosen = ((logits > _HOPELESS) | (targets > 0)) & counted
    missed = chosen
    for _ in range(_ROUNDS):
        active = np.flatnonzero(missed.any(axis=0))
        if not len(active):
            break
        for label in active:
            use = np.flatnonzero(chosen[:, label])
            weight = weights[use] * (np.float32(PATCH_WEIGHT) if counts is None else counts[label])
            scaled = embeddings[use], shifts[use], scales[use]
            query, shift, bias = np.split(
                _solve(*scaled, targets[use, label], weight, start[label], steps), [width, width + 1]
            )
            heads.queries[label], heads.shifts[label], heads.biases[label] = query, shift[0], bias[0]
        raw = embeddings @ heads.queries[active].T + np.outer(shifts, heads.shifts[active])
        missed = np.zeros_like(chosen)
        missed[:, active] = scales[:, None] * raw + heads.biases[active] > _RISEN
        missed &= counted & ~chosen
        chosen |= missed
    return heads


def _solve(
    embeddings: NDArray[np.float32],
    shifts: NDArray[np.float32],
    scales: NDArray[np.float32],
    targets: NDArray[np.float32],
    weights: NDArray[np.float32],
    start: NDArray[np.float32],
    steps: int,
) -> NDArray[np.float32]:
    """One label's w, a and b, float32 [D + 2], from N patches."""
    width = len(start)
    origin = np.r_[start.astype(np.float64), 1.0, 0.0]
    # In these units the prior is ½|u|², so that a step of length 1 is a good guess for every coordinate.
    unit = 1 / np.sqrt(2 * np.r_[np.full(width, LAMBDA_QUERY), LAMBDA_SHIFT, LAMBDA_BIAS])
    in_units = np.empty((len(scales), width + 2), np.float32)
    np.multiply(embeddings, scales[:, None] * np.float32(unit[0]), out=in_units[:, :width])
    in_units[:, width], in_units[:, width + 1] = shifts * scales * unit[width], unit[width + 1]
    begun = in_units @ (origin / unit).astype(np.float32)

    def objective(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = begun + in_units @ point.astype(np.float32)
        small = np.exp(-np.abs(z))
        losses = weights * (np.maximum(z, 0) - z * targets + np.log1p(small))
        chance = np.where(z >= 0, 1, small) / (1 + small)
        slope = (weights * (chance - targets)) @ in_units
        return float(losses.sum(dtype=np.float64)) + 0.5 * float(point @ point), slope + point

    found = origin + unit * minimise(objective, np.zeros(width + 2), steps)
    return np.asarray(found, np.float32)
