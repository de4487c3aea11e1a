"""Which of a detector's fixed classes a label set asks for."""

import difflib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.label import Label
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.words import same_word

_LISTED: Final = 100
"""Classes that a message lists: COCO has 80, Objects365 would fill a screen."""


class Classes:
    """The classes that a detector was trained on.

    A label asks for the classes that its ``classes:`` name, or else those of its prompts that are classes.
    Case, hyphens and underscores do not matter. The other prompts are for detectors that read words.

    Args:
        names: in the order of the graph's scores; "" for a class without a name.
        detector: the bundle's name, for messages.
    """

    def __init__(self, names: Sequence[str], detector: str) -> None:
        self._names = tuple(names)
        self._detector = detector
        self._numbers: dict[str, list[int]] = {}  # lists of classes repeat a name now and then
        for number, name in enumerate(names):
            if name:
                self._numbers.setdefault(_key(name), []).append(number)

    def of_label(self, label: Label) -> tuple[int, ...]:
        """The numbers of a label's classes, each once; empty for a label that only examples describe.

        Raises:
            LabelSetError: the detector has none of them, or lacks one that ``classes:`` names.
        """
        if label.examples_only:
            return ()
        if unknown := [name for name in label.classes if _key(name) not in self._numbers]:
            raise self._error(label, unknown[0])
        words = label.classes or label.prompts
        numbers = [number for word in words for number in self._numbers.get(_key(word), ())]
        if not numbers:
            raise self._error(label, words[0])
        return tuple(dict.fromkeys(numbers))

    def columns(self, label_set: LabelSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The classes that a label set asks for.

        Returns:
            (prompts, int64 [P], indices into the label set's prompts: the one that named the class, or the
            label's first if ``classes:`` named it; classes, int64 [P]).

        Raises:
            LabelSetError: see `of_label`.
        """
        prompts: list[int] = []
        columns: list[int] = []
        first = 0
        for label in label_set:
            named = {} if label.classes else {_key(word): i for i, word in enumerate(label.prompts)}
            for number in self.of_label(label):
                prompts.append(first + named.get(_key(self._names[number]), 0))
                columns.append(number)
            first += len(label.prompts)
        return np.array(prompts, np.int64), np.array(columns, np.int64)

    def know(self, label_set: LabelSet) -> bool:
        """Whether the detector has a class for every label."""
        try:
            return bool(len(self.columns(label_set)[0])) and not any(each.examples_only for each in label_set)
        except LabelSetError:
            return False

    def _error(self, label: Label, word: str) -> LabelSetError:
        known = [name for name in self._names if name]
        close = difflib.get_close_matches(_key(word), self._numbers, n=1)
        hint = f"did you mean {self._names[self._numbers[close[0]][0]]!r}? Name" if close else "name"
        listed = ", ".join(known[:_LISTED]) + (f" and {len(known) - _LISTED} more" * (len(known) > _LISTED))
        return LabelSetError(
            f"label {label.name!r}: detector {self._detector} has no class {word!r}; {hint}"
            " its class under the label's `classes:`, or use a detector that reads words "
            f"(docs/detectors.md). Its classes are: {listed}"
        )


def check_classes(names: Sequence[str], detector: str, label_set: LabelSet) -> None:
    """Refuse labels for which a detector with fixed classes has none; detectors that read words pass.

    Raises:
        LabelSetError: names the label, and lists the classes.
    """
    if names:
        Classes(names, detector).columns(label_set)


def _key(name: str) -> str:
    return " ".join(same_word(name).replace("_", " ").replace("-", " ").split())
