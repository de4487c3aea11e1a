"""Two detectors together: which of them looks for which label, and one scale for their scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.classes import Classes
from boxdrop.detect.settings import Defaults
from boxdrop.domain.detector_names import joined
from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.label import Label
from boxdrop.domain.labels import LabelSet

_CERTAIN: Final = 1e-6
"""Scores are at least this far from 0 and 1 where their logit is needed."""


@dataclass(frozen=True, eq=False, slots=True)
class Allotment:
    """The labels that one of two detectors looks for.

    Attributes:
        detector: which one, 0 or 1.
        label_set: these labels alone; all else is as in the whole label set.
        labels: int64 [L], of each of them the index in the whole label set.
        prompts: int64 [P], the same of their prompts.
    """

    detector: int
    label_set: LabelSet
    labels: NDArray[np.int64]
    prompts: NDArray[np.int64]


def allot(label_set: LabelSet, detectors: Sequence[tuple[str, Sequence[str]]]) -> tuple[Allotment, ...]:
    """Divide labels between detectors: each label goes to the first one that has a class for it, and to one
    that reads words if none has.

    Args:
        label_set: the labels.
        detectors: name and fixed classes of each, in the order of preference; without classes, it reads
            words.

    Returns:
        One for each detector that has something to look for.

    Raises:
        LabelSetError: no detector knows a label, one of them can get no label at all, or the labels use a
            lesson.
    """
    names = [name for name, _ in detectors]
    if len(detectors) > 1 and label_set.lesson is not None:
        raise LabelSetError(
            f"`lesson` belongs to one detector, but two are named ({joined(names)}): name only the one that "
            "was taught, or remove `lesson`"
        )
    for number, (name, classes) in enumerate(detectors[:-1]):
        if not classes:
            raise LabelSetError(
                f"detectors {joined(names)}: {name} reads any words, so no label would be left for "
                f"{names[number + 1]}; put the one with fixed classes first, or name one detector"
            )
    known = [Classes(classes, name) if classes else None for name, classes in detectors]
    owners = [_owner(label, known) for label in label_set]
    firsts = np.cumsum([0, *(len(label.prompts) for label in label_set)])
    allotted = []
    for number in range(len(detectors)):
        rows = [row for row, owner in enumerate(owners) if owner == number]
        if rows:
            allotted.append(
                Allotment(
                    number,
                    replace(label_set, labels=tuple(label_set.labels[row] for row in rows)),
                    np.array(rows, np.int64),
                    np.concatenate([np.arange(firsts[row], firsts[row + 1]) for row in rows]),
                )
            )
    return tuple(allotted)


def _owner(label: Label, known: Sequence[Classes | None]) -> int:
    """The number of the detector that looks for a label."""
    refusal: LabelSetError | None = None
    for number, classes in enumerate(known):
        if classes is None and not (label.classes and refusal):
            return number
        if classes is not None:
            try:
                classes.of_label(label)
            except LabelSetError as error:
                refusal = refusal or error
            else:
                return number
    assert refusal is not None
    raise refusal


def merged_defaults(each: Sequence[Defaults]) -> Defaults:
    """Threshold and floor of detectors together, on the first one's scale; see `shift_between`."""
    first = each[0]
    floors = [first.floor]
    for other in each[1:]:
        moved = shifted(np.array([other.floor]), shift_between(first.threshold, other.threshold))
        floors.append(round(float(moved[0]), 4))
    return Defaults(first.threshold, min(first.threshold, max(floors)))


def shift_between(first: float, second: float) -> float:
    """What is added to the logit of a score of the second detector, so that its default threshold becomes
    that of the first: scores of two models say different things, but both thresholds say "worth showing".

    Args:
        first, second: default thresholds.
    """
    return _logit(first) - _logit(second)


def shifted(scores: NDArray[np.floating], shift: float) -> NDArray[np.float32]:
    """Scores on another scale; the same order, and the same scores for a shift of 0."""
    if shift == 0:
        return scores.astype(np.float32)
    certain = np.clip(scores.astype(np.float64), _CERTAIN, 1 - _CERTAIN)
    moved = 1 / (1 + np.exp(-(np.log(certain / (1 - certain)) + shift)))
    return moved.astype(np.float32)


def _logit(score: float) -> float:
    bounded = min(max(score, _CERTAIN), 1 - _CERTAIN)
    return math.log(bounded / (1 - bounded))
