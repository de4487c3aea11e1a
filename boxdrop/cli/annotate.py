"""``boxdrop annotate``: detect objects in a folder or bucket, without a running system."""

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from boxdrop.cli.numbers import SCORE, Whole
from boxdrop.cli.terminal import counted
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.left_out import describe_left_out
from boxdrop.domain.predictions import damaged_said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boxdrop.annotate.run import AnnotateRun, Summary
    from boxdrop.cli.console import Console
    from boxdrop.detect.merged import AnyDetector
    from boxdrop.labelstudio.connection import Connection
    from boxdrop.sources import Source
    from boxdrop.system import System

DEMO_NOTICE = (
    "Using the demo detector: small, and trained on drawings. For photographs, give another one with "
    "--detector: `boxdrop detectors` lists them."
)
_SECONDS_BETWEEN_LINES = 10  # between lines of progress, if there is no terminal to draw a bar on


@click.command(no_args_is_help=True)
@click.argument("source")
@click.option("--labels", help="What to detect: 'pineapple, banana, apple', or a labels.yaml.")
@click.option(
    "--labels-file",
    type=click.Path(dir_okay=False),
    help="A labels.yaml: labels with synonyms and thresholds, caption, detector. "
    "Without --labels and --labels-file, the labels.yaml in the folder SOURCE is used.",
)
@click.option("--project", type=click.Path(dir_okay=False), hidden=True)
@click.option(
    "--detector",
    metavar="NAME",
    help="A known detector (see: boxdrop detectors), or the folder of an exported one; or two with a + "
    "between them: the second looks for labels that the first does not know. Default: nanodet-coco if it "
    "knows all labels, else the demo detector that ships with boxdrop, which is for drawings.",
)
@click.option(
    "--lesson",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Use what verified images taught this detector: a file that `boxdrop teach PROJECT --out` wrote.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Output folder. Default: NAME-boxes, here.",
)
@click.option(
    "--label-studio",
    metavar="URL",
    help="Publish the images with their boxes to a project in this Label Studio. 'local' is the one that "
    "`boxdrop local up` started; for others, set the access token in LABEL_STUDIO_API_KEY.",
)
@click.option("--title", help="Title of the project. Default: the caption, or the name of SOURCE.")
@click.option(
    "--threshold",
    type=SCORE,
    help="Lowest score of a box, for labels without a threshold of their own. Default: the detector's.",
)
@click.option(
    "--track",
    is_flag=True,
    help="List this run in `boxdrop runs`, and in ZenML with `boxdrop track sync`: its manifest, labels and "
    "summary go to the data bucket of the system that $BOXDROP_SYSTEM names, or of the local one.",
)
@click.option("--limit", type=Whole(), help="Only the first N images.")
@click.option("--retry-failures", is_flag=True, help="Retry images that failed in an earlier run.")
@click.option(
    "--system",
    metavar="NAME",
    help="The system whose credentials read an s3:// SOURCE. Default: the local one, for its own buckets.",
)
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--batch-size", type=Whole(), help="Images per batch. Default: fits the detector.")
@click.option("--workers", type=Whole(), help="Threads that decode images. Default: one per core.")
def annotate(
    source: str,
    labels: str | None,
    labels_file: str | None,
    project: str | None,
    detector: str | None,
    lesson: Path | None,
    out: Path | None,
    label_studio: str | None,
    title: str | None,
    threshold: float | None,
    track: bool,
    limit: int | None,
    retry_failures: bool,
    system: str | None,
    provider: Literal["cpu", "cuda"],
    batch_size: int | None,
    workers: int | None,
) -> None:
    """Detect objects in SOURCE: a folder, one image, or s3://bucket/prefix.

    \b
      boxdrop annotate photos/ --labels "pineapple, banana, apple"
      boxdrop annotate photos/ --labels "dog, person" --detector nanodet-coco
      boxdrop annotate photos/ --labels-file labels.yaml --detector bundles/owlv2
      boxdrop annotate s3://bucket/fruit/ --labels banana --label-studio local

    Writes into the output folder: index.html (look at it first), predictions.jsonl, label-studio.json,
    coco.json, failures.tsv and left-out.tsv. An image that cannot be read is listed in failures.tsv and does
    not stop the run; files that are not images are counted, and listed in left-out.tsv. After an
    interruption, the same command resumes; if only thresholds changed, the detector does not run again.
    """
    from boxdrop.annotate.run import AnnotateRun
    from boxdrop.cli.system import enter_system_of, log_in
    from boxdrop.detect.vocabulary import DEMO, doubts_of, vocabulary_of
    from boxdrop.sources import open_source

    enter_system_of(source, system)
    images = open_source(source)
    output = _output_folder(out, images)
    if project is not None:
        _console().print("--project is now --labels-file; the old name still works", style="dim")
    if project is not None and labels_file is not None:
        raise BoxdropError("--project is the old name of --labels-file: give one of them")
    label_set = _label_set(source, labels, labels_file or project)
    if threshold is not None:
        label_set = label_set.with_threshold(threshold)
    console = _console()
    keeper = _find_system(system) if track else None
    # a wrong token ends the run before the work begins
    connection = log_in(label_studio) if label_studio else None
    chosen = label_set.detector if detector is None else detector
    model = _load_detector(chosen, label_set, provider, console)
    model.embed(label_set)  # a label that the detector cannot look for ends the run before it begins
    if lesson is not None:
        label_set = _with_lesson(model, label_set, lesson)
    run = AnnotateRun(
        images,
        label_set,
        model,
        output,
        batch_size=batch_size,
        workers=workers,
        notice=None if chosen or model.bundle.name != DEMO else DEMO_NOTICE,
    )
    shares = model.shares(label_set)
    for share in shares:
        bundle = share.detector.bundle
        if len(shares) > 1:
            console.print(f"{bundle.name} looks for {', '.join(share.label_set.names)}")
        doubt = doubts_of(bundle.name, vocabulary_of(bundle.path), share.label_set)
        if doubt and (chosen or "does not know" in doubt):  # else the notice has reported it
            console.print(doubt, style="yellow")
    console.print(f"Detecting {', '.join(label_set.names)} in {images.location}")
    started = datetime.now(UTC)
    try:
        with _progress(console, images, limit) as on_progress:
            summary = run.run(on_progress, limit=limit, retry_failures=retry_failures)
    except KeyboardInterrupt:
        console.print("\nStopped. Finished images are kept: run the same command again to resume.")
        raise SystemExit(130) from None
    finished = datetime.now(UTC)
    _report(console, summary, run, limit)
    if connection is not None:
        _publish(console, run, connection, title or label_set.caption or _name(images))
    if keeper is not None:
        from boxdrop.annotate.history import store_run
        from boxdrop.aws.s3 import Bucket

        keeper.enter()  # after the images were read: they may be in another account
        stored = store_run(Bucket(keeper.data_bucket), run, summary, started, finished)
        console.print(f"Recorded as run {stored.run_id}: `boxdrop runs` lists it")


def _output_folder(out: Path | None, images: "Source") -> Path:
    """Where the results go.

    Raises:
        BoxdropError: it is the folder of the images, which would count as results from then on.
    """
    chosen = out or Path(f"{_name(images)}-boxes")
    if images.folder is not None and chosen.resolve() == images.folder and Path(images.location).is_dir():
        raise BoxdropError(f"--out {chosen}: this is the folder of the images; give another")
    return chosen


def _find_system(name: str | None) -> "System":
    """The system that stores the run; looked up before the work, so a missing one is an early error."""
    from boxdrop.system import find_system

    return find_system(name)


def _label_set(source: str, labels: str | None, labels_file: str | None) -> LabelSet:
    if labels and labels_file:
        raise BoxdropError("give --labels or --labels-file, not both")
    if labels or labels_file:
        return LabelSet.load(labels) if labels else LabelSet.from_file(Path(labels_file or ""))
    beside = Path(source) / "labels.yaml"
    if not source.startswith("s3://") and beside.is_file():
        return LabelSet.from_file(beside)
    raise BoxdropError(
        "name the labels to detect: --labels 'pineapple, banana', or --labels-file labels.yaml"
    )


def _console() -> "Console":
    from boxdrop.cli.console import Console

    return Console(stderr=True)


def _name(images: "Source") -> str:
    return Path(images.location.removeprefix("s3://")).stem or "images"


def _load_detector(
    chosen: str | None, label_set: LabelSet, provider: Literal["cpu", "cuda"], console: "Console"
) -> "AnyDetector":
    from boxdrop.cli.detectors import locate_all, offer_fitting
    from boxdrop.demo import BUNDLE
    from boxdrop.detect import Detector
    from boxdrop.detect.merged import merge

    if chosen is not None:
        return merge([Detector.load(each, provider=provider) for each in locate_all(chosen, console)])
    fitting = offer_fitting(label_set, console)
    if fitting is None:
        console.print(DEMO_NOTICE, style="yellow")
    return Detector.load(fitting or BUNDLE, provider=provider)


def _with_lesson(detector: "AnyDetector", label_set: LabelSet, file: Path) -> LabelSet:
    """Let the detector learn a lesson's file, and the label set use it."""
    from boxdrop.detect.lessons import taught_labels
    from boxdrop.lessons import open_lesson

    number, lesson = open_lesson(file)
    detector.learn(number, lesson)
    if not taught_labels(lesson, label_set):
        names = ", ".join(label.name for label in lesson.labels) or "no label"
        raise BoxdropError(f"{file} teaches {names}, and none of these labels; ask for one that it teaches")
    return replace(label_set, lesson=number)


@contextmanager
def _progress(
    console: "Console", images: "Source", limit: int | None
) -> "Iterator[Callable[[Summary], None]]":
    """A bar with images per second and time left; plain lines if there is no terminal."""
    started = time.monotonic()
    if not console.is_terminal:
        printed = started

        def print_line(summary: "Summary") -> None:
            nonlocal printed
            now = time.monotonic()
            if now - printed >= _SECONDS_BETWEEN_LINES:
                printed = now
                rate = summary.computed / (now - started)
                done = counted(summary.computed + summary.resumed, "image")
                console.print(f"{done}, {rate:.1f} images/s")

        yield print_line
        return

    from rich import progress

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]:.1f} images/s"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console) as bar:
        task = bar.add_task("Finding boxes", total=None, rate=0.0)

        def count() -> None:  # the listing is quick; until it is done, the bar has no total
            total = sum(1 for _ in islice(images.images(), limit))
            bar.update(task, total=total)

        threading.Thread(target=count, daemon=True).start()

        def update(summary: "Summary") -> None:
            rate = summary.computed / max(time.monotonic() - started, 1e-9)
            bar.update(task, completed=summary.computed + summary.resumed, rate=rate)

        yield update


def _report(console: "Console", summary: "Summary", run: "AnnotateRun", limit: int | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from boxdrop.detect.vocabulary import few_boxes_said

    boxes = counted(summary.boxes, "box", "boxes")
    done = f"{counted(summary.images, 'image')}, {summary.with_boxes:,} with boxes, {boxes}"
    if summary.computed:
        done += f" ({summary.computed:,} computed now in {summary.seconds:.1f} s)"
    console.print(done)
    table = Table("label", "boxes", box=None, header_style="dim")
    for name in run.label_set.names:
        table.add_row(Text(name), f"{summary.boxes_by_label.get(name, 0):,}")
    console.print(table)
    if summary.failures:
        reasons = ", ".join(
            f"{count:,} {reason}" for reason, count in sorted(summary.failures_by_reason.items())
        )
        console.print(
            f"{summary.failures:,} could not be used ({reasons}): see {run.outputs.failures}",
            style="yellow",
        )
    if summary.not_importable:
        console.print(
            f"{run.outputs.label_studio.name} leaves out {counted(summary.not_importable, 'image')}: "
            "browsers would show other pixels than the detector saw; --label-studio uploads copies",
            style="yellow",
        )
    if left_out := describe_left_out(summary.left_out):
        so_far = f" (up to the last of {counted(limit, 'image')})" if limit else ""
        console.print(f"{left_out}{so_far}: see {run.outputs.left_out}")
    if damaged := damaged_said(summary.damaged):
        console.print(f"{damaged} (`damaged` in {run.outputs.predictions})")
    seen = summary.images - summary.failures
    bundle = run.detector.bundle
    if few := few_boxes_said(seen, seen - summary.with_boxes, bundle.name, bundle.family):
        console.print(few, style="yellow")
    console.print(f"Look at {run.outputs.page.resolve()}")


def _publish(console: "Console", run: "AnnotateRun", connection: "Connection", title: str) -> None:
    from boxdrop.local.label_studio import LabelStudio

    server = LabelStudio().running()
    with console.working("Publishing") as status:
        project, published = run.publish(
            connection, title, lambda so_far: status.update(f"Publishing: {counted(so_far.images, 'image')}")
        )
    done = {
        "new": published.created,
        "replaced": published.replaced,
        "there already": published.unchanged,
        "left alone, since they are verified": published.verified,
    }
    counts = ", ".join(f"{count:,} {what}" for what, count in done.items() if count)
    console.print(f"In Label Studio: {counts or 'no tasks'}")
    for image, reason in published.refused[:10]:
        console.print(f"  not published: {image}: {reason}", style="yellow")
    if len(published.refused) > 10:
        console.print(f"  … and {len(published.refused) - 10:,} more", style="yellow")
    console.print(f"Verify the boxes at {project.url}")
    if server is not None and connection.url == server.url:
        console.print(f"  log in as  {server.email}\n  password   {server.password}")
