"""``boxdrop find``: things that look like the one in a box."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Literal

import click

from boxdrop.cli.numbers import Whole
from boxdrop.cli.system import enter_system_of, open_system
from boxdrop.cli.terminal import say
from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from boxdrop.detect import Detector


@click.command(no_args_is_help=True)
@click.argument("image", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--box", required=True, metavar="X,Y,W,H", help="Around one thing, in pixels of the upright image."
)
@click.option(
    "--in",
    "where",
    required=True,
    metavar="SOURCE",
    help="Where to search: a project, a folder, or s3://bucket/prefix.",
)
@click.option("--top", type=Whole(1), default=20, show_default=True, help="Boxes to print.")
@click.option(
    "--detector",
    metavar="NAME",
    help="A known detector, or the folder of an exported one. Default: the project's, or the demo detector.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Output folder. Default: found."
)
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--system", metavar="NAME", help="Which system the project or bucket belongs to.")
def find(
    image: Path,
    box: str,
    where: str,
    top: int,
    detector: str | None,
    out: Path | None,
    provider: Literal["cpu", "cuda"],
    system: str | None,
) -> None:
    """Find things that look like the one in a box of IMAGE, best first.

    \b
      boxdrop find odd.jpg --box 120,80,64,64 --in fruit
      boxdrop find odd.jpg --box 120,80,64,64 --in photos/ --top 50

    Prints score, left, top, width, height and image, one box per line. The output folder holds the page
    index.html with all of them.
    """
    from boxdrop.annotate.run import AnnotateRun
    from boxdrop.cli.console import Console
    from boxdrop.domain.images import DEFAULT_LIMITS, decode, read_file
    from boxdrop.domain.predictions import Prediction
    from boxdrop.sources import open_source
    from boxdrop.teach.likeness import learn_likeness

    corners = _corners(box)
    pixels = decode(read_file(image, DEFAULT_LIMITS)).pixels
    model, source = _open(where, detector, provider, system)
    label_set = learn_likeness(model, pixels, corners)
    console = Console(stderr=True)
    run = AnnotateRun(open_source(source), label_set, model, out or Path("found"))
    with console.working("Searching") as status:
        run.run(lambda done: status.update(f"Searching: {done.computed + done.resumed:,}"))
    found = [
        (each.score, each.xyxy, record.image)
        for record in run.records()
        if isinstance(record, Prediction)
        for each in record.boxes
    ]
    if not found:
        raise BoxdropError("nothing looks like it; give the box around one whole thing")
    for score, (left, upper, right, lower), name in sorted(found, key=lambda each: (-each[0], each[2]))[:top]:
        say(f"{score:.3f}\t{left:.0f},{upper:.0f},{right - left:.0f},{lower - upper:.0f}\t{name}")
    console.print(f"{len(found):,} boxes in all: {run.outputs.page.resolve()}")


def _corners(box: str) -> "NDArray[np.float32]":
    import numpy as np

    try:
        left, top, width, height = (float(each) for each in box.split(","))
    except ValueError:
        raise BoxdropError(f"--box {box!r}: write left, top, width and height: --box 120,80,64,64") from None
    if not (width > 0 and height > 0 and np.isfinite([left, top, width, height]).all()):
        raise BoxdropError(f"--box {box!r}: width and height must be above 0")
    return np.array([left, top, left + width, top + height], np.float32)


def _open(
    where: str, detector: str | None, provider: Literal["cpu", "cuda"], system: str | None
) -> "tuple[Detector, str]":
    """The detector, and the source as `open_source` takes it."""
    from boxdrop.cli.console import Console
    from boxdrop.cli.detectors import locate
    from boxdrop.demo import BUNDLE
    from boxdrop.detect import Detector

    named = None if detector is None else locate(detector, Console(stderr=True))
    if where.startswith("s3://") or Path(where).exists():
        enter_system_of(where, system)
        return Detector.load(named or BUNDLE, provider), where
    from boxdrop.services import Services
    from boxdrop.teach.project import labels_in_force, load_detector

    chosen = open_system(system)
    services = Services.of_system(chosen)
    if services.ledger.project(where) is None:
        raise BoxdropError(f"--in {quote(where)}: there is no such folder, and no such project")
    row, _ = labels_in_force(services, where)
    model = load_detector(services, row, provider) if named is None else Detector.load(named, provider)
    return model, f"s3://{chosen.image_bucket}/{where}/"
