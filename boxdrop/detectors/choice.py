"""Which detector a command uses when the user names one, or none."""

import os
from pathlib import Path
from typing import Final, Literal

from boxdrop.detect.classes import Classes
from boxdrop.detectors.catalogue import KNOWN, KnownDetector, known_detector
from boxdrop.detectors.shelf import find_detector
from boxdrop.domain.labels import LabelSet

VARIABLE: Final = "BOXDROP_GET_DETECTORS"
"""``never``: no command gets or chooses a detector by itself; it uses the named one, or the demo detector."""

Policy = Literal["ask", "never"]


def policy() -> Policy:
    """What `VARIABLE` says."""
    return "never" if os.environ.get(VARIABLE, "").strip().lower() == "never" else "ask"


def fitting(label_set: LabelSet) -> KnownDetector | None:
    """The known detector with fixed classes that has a class for every label; None if none has, or if the
    label set needs something else: a lesson, or labels that only examples describe."""
    if label_set.lesson is not None or policy() == "never":
        return None
    return next(
        (each for each in KNOWN if each.classes and Classes(each.classes, each.name).know(label_set)), None
    )


def named(detector: str) -> Path | KnownDetector:
    """What a name or path stands for: a bundle's folder, or a known detector that is not here yet.

    A folder of this name comes first. What is neither is taken as a path, whose error names it.
    """
    path = Path(detector).expanduser()
    if path.exists():
        return path
    return find_detector(detector) or known_detector(detector) or path
