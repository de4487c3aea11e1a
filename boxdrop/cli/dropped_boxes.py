"""The part of ``boxdrop drop`` that is about boxes which exist already."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxdrop.cli.terminal import counted, say
from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    from boxdrop.datasets.dropped import Source
    from boxdrop.datasets.dropping import BoxesDrop
    from boxdrop.domain.labels import LabelSet
    from boxdrop.system import System

_SHOWN = 5


def begin(
    system: "System", project: str, source: "Source", label_set: "LabelSet", files: Sequence[str]
) -> "BoxesDrop":
    """Match a source of boxes with the files that are about to be dropped.

    Raises:
        BoxdropError: none of its images is among them.
    """
    from boxdrop.datasets.dropping import BoxesDrop
    from boxdrop.services import Services

    matched, faults = source.match(files)
    if not matched:
        example = source.reading.images[0].name
        raise BoxdropError(
            f"none of the {counted(len(source.reading.images), 'image')} of --boxes is in the folder: it "
            f"names for example {example!r}, the folder has {files[0]!r}"
        )
    bringing = BoxesDrop(Services.of_system(system), project, source, label_set, matched)
    bringing.faults.add(faults)
    return bringing


def report(bringing: "BoxesDrop", files: int, left_out: Path | None, *, quiet: bool = False) -> None:
    """Say what became of the boxes, and write the list of what was left out."""
    if left_out is not None:
        _write(bringing, left_out)
    if quiet:
        return
    said = f"{counted(bringing.boxes, 'box', 'boxes')} for {counted(bringing.images, 'image')}"
    say(f"{said} as {bringing.model_version}")
    if bringing.kept:
        say(f"  {counted(bringing.kept, 'image')} already verified by people: left as they are", err=True)
    others = files - len(bringing.matched)
    if others:
        say(f"  {counted(others, 'image')} without an entry in --boxes: detected as usual", err=True)
    for number, (what, count) in enumerate(bringing.faults.counts.most_common()):
        first = next(each for each in bringing.faults.listed if each.what == what)
        detail = f": {first.detail}" if first.detail else ""
        say(f"  {count:,} × {what}, such as {first.where}{detail}", err=True)
        if number + 1 == _SHOWN and left_out is None:
            break
    if bringing.faults.listed and left_out is None:
        say("  --left-out FILE lists every one of them", err=True)


def to_fields(bringing: "BoxesDrop") -> dict[str, Any]:
    """What became of the boxes, for programs."""
    return {
        "model_version": bringing.model_version,
        "images": bringing.images,
        "boxes": bringing.boxes,
        "verified_before": bringing.kept,
        "left_out": [asdict(each) for each in bringing.faults.listed],
    }


def _write(bringing: "BoxesDrop", path: Path) -> None:
    rows = sorted((each.what, each.where, each.detail) for each in bringing.faults.listed)
    lines = ("\t".join(cell.encode("unicode_escape").decode() for cell in row) for row in rows)
    try:
        path.write_text("what\twhere\tdetail\n" + "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise BoxdropError(f"{path}: {error.strerror}") from None
