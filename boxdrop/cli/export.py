"""``boxdrop export``: verified work in a format that other tools read."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxdrop.cli.dataset import Choice, selection_options
from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import counted, say
from boxdrop.datasets.formats import FORMATS
from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from boxdrop.datasets.export import Progress, Summary

_S3 = "s3://"


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option("--format", "format_", type=click.Choice(tuple(FORMATS)), default="coco", show_default=True)
@click.option(
    "--out", required=True, metavar="DIR|s3://…", help="A new or empty folder, or a prefix of a bucket."
)
@click.option(
    "--images",
    type=click.Choice(["copy", "link", "none"]),
    default="copy",
    show_default=True,
    help="Copy the images, refer to them in S3, or neither.",
)
@click.option(
    "--pixels",
    type=click.Choice(["upright", "original"]),
    default="upright",
    show_default=True,
    help="Rotate images upright, like their boxes, or copy them byte for byte.",
)
@click.option(
    "--include",
    type=click.Choice(["predictions", "accepted"]),
    help="Add the images that nobody has verified, with the detector's boxes, marked as such: all of them, "
    "or those that `boxdrop accept` accepted.",
)
@click.option("--dataset", metavar="NAME", help="Export a frozen data set instead of current verified work.")
@selection_options
@system_option
def export(
    project: str,
    format_: str,
    out: str,
    images: str,
    pixels: str,
    include: str | None,
    dataset: str | None,
    choice: Choice,
    system: str | None,
) -> None:
    """Write the verified images of PROJECT, with their boxes, to a folder.

    It writes only up-to-date work, in the image version that the annotator saw. The rest is counted, and
    listed in left-out.tsv. DATASET.md describes the data set; manifest.tsv has the sha256 of each file. After
    an interruption, the same command resumes.

    \b
      boxdrop export fruit-baskets --format coco --out fruit/
      boxdrop export fruit --format yolo --out fruit/ --split train=80,val=20
      boxdrop export fruit --format yolo --out s3://training/fruit/
    """
    from boxdrop.datasets.collection import Collection
    from boxdrop.datasets.credited import read_credits
    from boxdrop.datasets.export import Images, Progress, export
    from boxdrop.datasets.pictures import Pixels
    from boxdrop.services import Services

    if not out.strip():
        raise BoxdropError("--out is empty: give a folder, or s3://bucket/prefix/")
    services = Services.of_system(open_system(system))
    if include is not None:
        choice = replace(choice, predictions=True)
    if include == "accepted" and dataset is None:
        from boxdrop.review.acceptance import read_accepted

        choice = replace(choice, accepted=read_accepted(services, project))
    stored = choice.open(services, project, dataset)
    folder = _staging(out) if out.startswith(_S3) else Path(out)
    with _Progress() as show:
        if isinstance(stored, Collection):
            stored.on_compared = lambda done: show(Progress("comparing", done))
        summary = export(
            project,
            stored,
            FORMATS[format_],
            folder,
            images=Images(images),
            pixels=Pixels(pixels),
            credits=read_credits(services.images, project),
            on_progress=show,
        )
        if out.startswith(_S3):
            from boxdrop.aws.s3 import Bucket
            from boxdrop.datasets.bucket_copy import copy_to_bucket

            bucket, _, prefix = out.removeprefix(_S3).partition("/")
            copy_to_bucket(folder, Bucket(bucket), f"{prefix.strip('/')}/".lstrip("/"), show)
    _report(summary, out)


def _staging(out: str) -> Path:
    """Where an export is written before it is copied to S3; kept, so that the next one copies only changes.

    Raises:
        BoxdropError: no bucket is named.
    """
    import hashlib

    from boxdrop.home import home

    if not out.removeprefix(_S3).partition("/")[0]:
        raise BoxdropError(f"--out {out}: no bucket named; write s3://bucket/prefix/")
    return home() / "exports" / hashlib.sha256(out.rstrip("/").encode()).hexdigest()[:16]


class _Progress:
    """Shows the progress of an export on a terminal."""

    def __enter__(self) -> "_Progress":
        from rich.progress import Progress

        from boxdrop.cli.console import Console

        console = Console(stderr=True)
        self._bar = Progress(console=console, disable=not console.is_terminal)
        self._bar.start()
        self._step = ""
        self._task: TaskID | None = None
        return self

    def __call__(self, progress: "Progress") -> None:
        if progress.step != self._step:
            self._step = progress.step
            self._task = self._bar.add_task(progress.step.capitalize(), total=progress.total or None)
        if self._task is not None:
            self._bar.update(self._task, completed=progress.done)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _report(summary: "Summary", out: str) -> None:
    say(f"{counted(summary.images, 'image')} with {counted(summary.boxes, 'box', 'boxes')} in {out}")
    if summary.predicted_images:
        boxes = counted(summary.predicted_boxes, "box", "boxes")
        say(
            f"  and {counted(summary.predicted_images, 'image')} that nobody has verified, with {boxes} of a "
            "detector; unverified.tsv lists them"
        )
    if summary.empty_splits:
        say(
            f"  no image in {', '.join(summary.empty_splits)}: there are few images, or most look alike and "
            "stay together; --near-duplicates ignore spreads them",
            err=True,
        )
    for why, count in sorted(summary.left_out.items()):
        say(f"  {counted(count, 'image')} left out: {why}", err=True)
    for why, count in sorted(summary.dropped_boxes.items()):
        say(f"  {counted(count, 'box', 'boxes')} left out: {why}", err=True)
    if summary.turned:
        say(f"  {counted(summary.turned, 'box', 'boxes')} turned; see {out}/DATASET.md", err=True)
