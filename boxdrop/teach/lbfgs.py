"""L-BFGS (Nocedal 1980) for small smooth convex problems, with numpy alone."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

_MEMORY: Final = 10
_REDUCTIONS: Final = 12
_DECREASE: Final = 1e-4

Vector = NDArray[np.float64]


class History(deque[tuple[Vector, Vector, float]]):
    """The last steps of a search, from which the curvature is estimated."""

    def __init__(self, steps: Iterable[tuple[Vector, Vector, float]] = ()) -> None:
        super().__init__(steps, _MEMORY)


def minimise(
    objective: Callable[[Vector], tuple[float, Vector]],
    start: Vector,
    steps: int,
    flat: float = 1e-2,
    history: History | None = None,
) -> Vector:
    """Find the minimum of a smooth convex function.

    Args:
        objective: value and gradient at a point; well scaled, so that a step of length 1 is a good guess.
        start: where to begin.
        steps: iterations at most.
        flat: length of the gradient at which to stop.
        history: of a search for the minimum of a similar function; the steps of this one are added.
    """
    point = start
    value, slope = objective(point)
    history = History() if history is None else history
    for _ in range(steps):
        steepness = float(np.linalg.norm(slope))
        if steepness < flat:
            break
        direction = -_divide_by_curvature(slope, history)
        descent = float(direction @ slope)
        length = 1.0 if history else min(1.0, 1 / steepness)
        for _ in range(_REDUCTIONS):
            moved = point + length * direction
            tried, sloped = objective(moved)
            if tried <= value + _DECREASE * length * descent:
                break
            length /= 3
        else:
            break  # rounding hides any further descent
        move, bend = moved - point, sloped - slope
        if (curvature := float(move @ bend)) > 1e-12:
            history.append((move, bend, 1 / curvature))
        point, value, slope = moved, tried, sloped
    return point


def _divide_by_curvature(slope: Vector, history: History) -> Vector:
    """The two-loop recursion: the gradient times an estimate of the inverse Hessian."""
    result = slope.copy()
    shares: list[float] = []
    for move, bend, inverse in reversed(history):
        share = inverse * float(move @ result)
        result -= share * bend
        shares.append(share)
    if history:
        _, bend, inverse = history[-1]
        result /= inverse * float(bend @ bend)
    for (move, bend, inverse), share in zip(history, reversed(shares), strict=True):
        result += (share - inverse * float(bend @ result)) * move
    return result
