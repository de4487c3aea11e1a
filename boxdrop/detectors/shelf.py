"""The detectors on this machine: bundles in boxdrop's folder, and the one that ships with boxdrop."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from boxdrop.detect.bundle import CARD
from boxdrop.detect.vocabulary import DEMO
from boxdrop.detectors.catalogue import KnownDetector
from boxdrop.domain.errors import BoxdropError
from boxdrop.folders import clear_disk_errors, exclusive
from boxdrop.home import home

_SPEED: Final = "speed.json"


def shelf() -> Path:
    """The folder of the detectors; it may not exist."""
    return home() / "known-detectors"  # ``detectors`` holds copies of those in data buckets


def find_detector(name: str) -> Path | None:
    """The bundle of this name on this machine; None if there is none."""
    if name == DEMO:
        from boxdrop.demo import BUNDLE

        return BUNDLE
    folder = shelf() / name
    return folder if (folder / CARD).is_file() else None


@contextlib.contextmanager
def replacement(known: KnownDetector) -> Iterator[Path]:
    """A folder for making a detector: its ``bundle`` takes the detector's place when the block ends well.

    Whatever an earlier attempt left, because it was killed, is removed first.

    Raises:
        BoxdropError: the disk is too small or full, or another process is getting the same detector.
    """
    folder = shelf() / known.name
    lock = shelf() / f".{known.name}.lock"
    with (
        clear_disk_errors(shelf(), "set BOXDROP_HOME to a folder that you can write"),
        exclusive(lock, f"{known.name} is being fetched by another process; wait for it"),
    ):
        for left in shelf().glob(f".{known.name}.making-*"):
            shutil.rmtree(left, ignore_errors=True)
        free = shutil.disk_usage(shelf()).free // 10**6
        if free < known.disk_mb:
            raise BoxdropError(
                f"{shelf()}: {free:,} MB of the disk are free, but getting {known.name} takes "
                f"{known.disk_mb:,}; free some space, or set BOXDROP_HOME to another disk"
            )
        workshop = Path(tempfile.mkdtemp(dir=shelf(), prefix=f".{known.name}.making-"))
        try:
            yield workshop
            made = workshop / "bundle"
            if folder.exists():
                folder.rename(workshop / "earlier")
            made.rename(folder)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)


def write_speed(name: str, seconds: float) -> None:
    """Record how long an image takes on this machine."""
    (shelf() / name / _SPEED).write_text(json.dumps({"seconds": round(seconds, 4)}), encoding="utf-8")


def read_speed(name: str) -> float | None:
    """Seconds that an image takes on this machine; None if it was not measured."""
    try:
        return float(json.loads((shelf() / name / _SPEED).read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
