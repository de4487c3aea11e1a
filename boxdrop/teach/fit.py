"""The fit: from patches and what people said about them to a scoring head per label.

A head scores patch p as

    logit(p) = scale(p) · (embedding(p) · w + a · shift(p)) + b

with w free in direction and length. The loss is convex, and each label has its own:

    Σ_p weight · BCE(logit(p), target(p))  +  λ_w ‖w − w0‖²  +  λ_a (a − 1)²  +  λ_b b²

where w0 is where the label starts: the query of its words, or the mean embedding of the best patch of each
of its verified boxes. So with little evidence a label stays near where it started.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.teach.lbfgs import History, minimise
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

    Args:
        patches: of all images.
        rows: bool [N], which of them to learn from.
        start: float32 [L, D], w0.
        counts: float32 [L], how much of an observation a patch is; `PATCH_WEIGHT` by default.
        steps: iterations at most.

    Returns:
        The heads. A label without any patch of note stays at its start.
    """
    return fit_several(patches, [rows], [start], counts, steps)[0]


def fit_several(
    patches: Patches,
    rows: Sequence[NDArray[np.bool_]],
    starts: Sequence[NDArray[np.float32]],
    counts: NDArray[np.float32] | None = None,
    steps: int = STEPS,
) -> list[Heads]:
    """Fit heads to several selections of the same patches, such as the folds of a cross-validation.

    The first selection holds the patches of all others. Its solution is where the search for theirs begins,
    so each takes a few iterations, on the same matrix. The minima do not depend on where a search begins.

    Args:
        patches: of all images.
        rows: of each selection, bool [N].
        starts: of each selection, float32 [L, D], w0.
        counts, steps: see `fit`.

    Returns:
        The heads of each selection, as from `fit`.
    """
    labels, width = starts[0].shape
    found = [
        Heads(start.copy(), np.ones(labels, np.float32), np.zeros(labels, np.float32)) for start in starts
    ]
    able = np.flatnonzero(rows[0])
    if not len(able):
        return found
    embeddings = patches.embeddings if len(able) == len(rows[0]) else patches.embeddings[able]
    shifts, scales = patches.shifts[able], patches.scales[able]
    selections = [selection[able] for selection in rows]
    hopeful = scales[:, None] * (embeddings @ starts[0].T + shifts[:, None]) > _HOPELESS
    for label in range(labels):
        targets, counted = patches.targets[able, label], patches.counted[able, label]
        weight = np.float32(PATCH_WEIGHT) if counts is None else counts[label]
        problem = _Problem(embeddings, shifts, scales, targets, patches.weights[able] * weight, counted)
        problem.take_in(hopeful[:, label] | (targets > 0))
        for heads, start, selection in zip(found, starts, selections, strict=True):
            solution = problem.solve(start[label], selection, steps)
            if solution is not None:
                heads.queries[label], heads.shifts[label] = solution[:width], solution[width]
                heads.biases[label] = solution[width + 1]
    return found


class _Problem:
    """One label's loss.

    Most patches score so low for a label that they teach it nothing, and are left out. Those that a solution
    raises are taken in, and it is solved again.
    """

    def __init__(
        self,
        embeddings: NDArray[np.float32],
        shifts: NDArray[np.float32],
        scales: NDArray[np.float32],
        targets: NDArray[np.float32],
        weights: NDArray[np.float32],
        counted: NDArray[np.bool_],
    ) -> None:
        self._embeddings, self._shifts, self._scales = embeddings, shifts, scales
        self._targets, self._weights, self._counted = targets, weights, counted
        width = embeddings.shape[1]
        # In these units the prior is ½|u|², so that a step of length 1 is a good guess for every coordinate.
        self._unit = 1 / np.sqrt(2 * np.r_[np.full(width, LAMBDA_QUERY), LAMBDA_SHIFT, LAMBDA_BIAS])
        self._chosen = np.zeros(len(shifts), bool)
        self._inputs: NDArray[np.float32] = np.empty((0, width + 2), np.float32)
        self._used: NDArray[np.int64] = np.zeros(0, np.int64)
        self._nearby: NDArray[np.float64] | None = None
        self._history = History()

    def take_in(self, patches: NDArray[np.bool_]) -> None:
        """Learn from these patches, bool [N], too."""
        added = np.flatnonzero(patches & self._counted & ~self._chosen)
        if not len(added):
            return
        self._chosen[added] = True
        width, scales = self._embeddings.shape[1], self._scales[added]
        inputs = np.empty((len(added), width + 2), np.float32)
        np.multiply(
            self._embeddings[added], scales[:, None] * np.float32(self._unit[0]), out=inputs[:, :width]
        )
        inputs[:, width] = self._shifts[added] * scales * self._unit[width]
        inputs[:, width + 1] = self._unit[-1]
        self._inputs = np.concatenate([self._inputs, inputs]) if len(self._inputs) else inputs
        self._used = np.concatenate([self._used, added])

    def solve(
        self, start: NDArray[np.float32], selection: NDArray[np.bool_], steps: int
    ) -> NDArray[np.float32] | None:
        """Find w, a and b, float32 [D + 2], from the patches of a selection, bool [N].

        Args:
            start: float32 [D], w0.

        Returns:
            None where no patch of note is selected.
        """
        origin = np.r_[start.astype(np.float64), 1.0, 0.0] / self._unit
        point = origin if self._nearby is None else self._nearby
        history = History() if self._nearby is None else History(self._history)
        solution: NDArray[np.float32] | None = None
        for _ in range(_ROUNDS):
            selected = selection[self._used]
            if not selected.any():
                return None
            point = minimise(self._objective(origin, selected), point, steps, history=history)
            solution = np.asarray(point * self._unit, np.float32)
            raw = self._embeddings @ solution[:-2] + self._shifts * solution[-2]
            risen = self._scales * raw + solution[-1] > _RISEN
            missed = risen & selection & self._counted & ~self._chosen
            if not missed.any():
                break
            self.take_in(missed)
        if self._nearby is None:
            self._nearby, self._history = point, history
        return solution

    def _objective(
        self, origin: NDArray[np.float64], selected: NDArray[np.bool_]
    ) -> Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]:
        inputs, targets = self._inputs, self._targets[self._used]
        weights = np.where(selected, self._weights[self._used], np.float32(0))

        def objective(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            z = inputs @ point.astype(np.float32)
            small = np.exp(-np.abs(z))
            losses = weights * (np.maximum(z, 0) - z * targets + np.log1p(small))
            chance = np.where(z >= 0, 1, small) / (1 + small)
            slope = (weights * (chance - targets)) @ inputs
            away = point - origin
            return float(losses.sum(dtype=np.float64)) + 0.5 * float(away @ away), slope + away

        return objective
