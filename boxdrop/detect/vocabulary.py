"""The words that a detector knows, if it lists them: `VOCABULARY` in the bundle's folder, a name per line.

Large zero-shot detectors have no such list. The demo detector has one, and finds nothing else, so boxdrop
warns about other labels before an hour of empty images.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from boxdrop.detect.contract import FIXED
from boxdrop.domain.labels import LabelSet

VOCABULARY: Final = "vocabulary.txt"

DEMO: Final = "demo"
"""Name of the detector that ships with boxdrop."""

FEW: Final = 0.5
"""From this share of images without boxes on, boxdrop warns: users choose photos that show their labels."""

OTHER_DETECTOR: Final = (
    "for photographs and other names, use a larger detector: `boxdrop detectors`, docs/detectors.md, then "
    "`boxdrop bundle push`"
)

_WORDS = re.compile(r"\w+")


class Vocabulary:
    """The names that a detector was trained on.

    Args:
        names: singular and plural, with synonyms.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {words for name in names if (words := _words(name))}
        self._longest = max(map(len, self._names), default=0)

    def __len__(self) -> int:
        return len(self._names)

    def knows(self, prompt: str) -> bool:
        """Whether a prompt is, or contains, one of the names: ``ripe banana`` contains ``banana``."""
        words = _words(prompt)
        return any(
            words[start : start + length] in self._names
            for start in range(len(words))
            for length in range(1, self._longest + 1)
            if start + length <= len(words)
        )

    def unknown(self, label_set: LabelSet) -> tuple[str, ...]:
        """The labels of which no prompt is known, but for those that only examples describe."""
        return tuple(
            label.name
            for label in label_set
            if not label.examples_only and not any(map(self.knows, label.prompts))
        )


def read_vocabulary(text: str) -> Vocabulary:
    """Read the text of a `VOCABULARY`; lines that begin with ``#`` are comments."""
    return Vocabulary(line for line in text.splitlines() if line.strip() and not line.startswith("#"))


def vocabulary_of(folder: Path) -> Vocabulary | None:
    """The vocabulary beside a bundle's graphs; None if the detector has no list."""
    try:
        return read_vocabulary((folder / VOCABULARY).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def doubts_of(detector: str, known: Vocabulary | None, label_set: LabelSet) -> str | None:
    """A warning about labels that the detector may not find; None if there is none.

    Args:
        detector: the bundle's name.
        known: its vocabulary, if it has a list.
    """
    if label_set.lesson is not None:  # people have seen what it finds, and taught it
        return None
    unknown = known.unknown(label_set) if known is not None else ()
    if unknown:
        names = ", ".join(unknown[:8]) + (" …" if len(unknown) > 8 else "")
        return (
            f"the detector {detector} does not know {names} and will find none of them; {OTHER_DETECTOR}; "
            "or draw some boxes and teach it: docs/teaching.md"
        )
    if detector == DEMO:
        return f"the detector {detector} is small and was trained on drawings; {OTHER_DETECTOR}"
    return None


def few_boxes_said(images: int, without: int, detector: str, family: str) -> str | None:
    """A warning about a detector that found nothing in most images; None if it found enough.

    Args:
        images: that the detector processed.
        without: how many of these have no box.
        detector, family: the bundle's.
    """
    if not images or without < FEW * images:
        return None
    share = "no image has" if without == images else f"{without:,} of {images:,} images have no"
    said = f"{share} a box" if without == images else f"{share} box"
    if family == FIXED:  # it knows the labels, or there would have been no run
        return (
            f"{said}: they show none of the labels, or none that the detector {detector} is sure of; try a "
            "lower threshold"
        )
    hint = OTHER_DETECTOR if detector == DEMO else "try other words as prompts, or a lower threshold"
    return f"{said}: the detector {detector} may not know what your labels name; {hint}"


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORDS.findall(text.casefold()))
