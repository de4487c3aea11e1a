"""``boxdrop drop``: upload a folder of images to the bucket."""

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from boxdrop.cli.new import check_project, same_labels, warn_of_labels
from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import counted, say
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.left_out import describe_left_out, describe_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from boxdrop.aws.s3 import Bucket
    from boxdrop.datasets.dropped import Source
    from boxdrop.datasets.dropping import BoxesDrop
    from boxdrop.domain.labels import LabelSet
    from boxdrop.pipeline.drop import DropSummary, File

_LINES_SHOWN = 10


@click.command(no_args_is_help=True)
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("project")
@click.option(
    "--labels", help="The project's labels, if it has none: 'pineapple, banana, apple', or a labels.yaml."
)
@click.option("--without-labels", is_flag=True, help="Upload anyway: images wait for a labels.yaml.")
@click.option(
    "--boxes",
    type=click.Path(exists=True, path_type=Path),
    help="Boxes that exist: COCO's or Label Studio's JSON, or a folder of YOLO's or VOC's files. They are "
    "shown in place of detected ones.",
)
@click.option(
    "--label-map",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML or JSON, 'their name: your label' per line; an empty label leaves the boxes out.",
)
@click.option("--verified", is_flag=True, help="The boxes count as verified: nobody has to look at them.")
@click.option(
    "--left-out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write here which boxes and images of --boxes were left out, and why.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, with every file left out.")
@system_option
def drop(
    folder: Path,
    project: str,
    labels: str | None,
    without_labels: bool,
    boxes: Path | None,
    label_map: Path | None,
    verified: bool,
    left_out: Path | None,
    as_json: bool,
    system: str | None,
) -> None:
    """Upload the images of DIR to PROJECT, after its labels.yaml if the project has none.

    Images with the same content in the bucket are skipped, so you can repeat an interrupted drop. An image
    without an image's extension gets that of its content appended: scan becomes scan.png. Files that are not
    images are counted and listed. Detection starts automatically: `boxdrop status PROJECT --watch`.

    With --boxes, images get the boxes of that file or folder, to be verified, and no detector looks at them.
    Images that it does not name are detected as usual. Work that a person has verified stays.

    \b
      boxdrop drop photos/ fruit --labels "pineapple, banana"
      boxdrop drop photos/ fruit --boxes annotations.json --label-map map.yaml
    """
    from boxdrop.aws.s3 import Bucket
    from boxdrop.home import home
    from boxdrop.local.aws import check_disk
    from boxdrop.pipeline.drop import DropSummary, list_files
    from boxdrop.sources import no_images
    from boxdrop.system import LOCAL

    check_project(project)
    if boxes is None and (label_map or verified or left_out):
        raise BoxdropError("--label-map, --verified and --left-out go with --boxes")
    source = None
    if boxes is not None:
        from boxdrop.datasets.dropped import load_source

        source = load_source(boxes, label_map, verified)
    chosen = open_system(system)
    if chosen.name == LOCAL:
        check_disk(home())
    bucket = Bucket(chosen.image_bucket)
    summary = DropSummary()
    label_set = _prepare_labels(bucket, folder, project, labels, without_labels, source)
    files = list_files(folder, project, summary)
    if not files and not summary.failed:
        raise no_images(str(folder), Counter(reason for _, reason in summary.left_out))
    if label_set is not None:
        warn_of_labels(chosen.data_bucket, label_set)
    bringing = None
    if source is not None:
        if label_set is None:
            raise BoxdropError("--boxes needs the project's labels: give --labels")
        from boxdrop.cli.dropped_boxes import begin

        if files:
            bringing = begin(chosen, project, source, label_set, [file.name for file in files])
    _upload(bucket, files, f"{project}/", summary, bringing)
    if bringing is not None:
        bringing.ask()
    if as_json:
        _print_json(summary, bringing)
    else:
        _report(summary, project)
    if bringing is not None:
        from boxdrop.cli.dropped_boxes import report

        report(bringing, len(files), left_out, quiet=as_json)
    if summary.failed:
        sys.exit(1)


def _prepare_labels(
    bucket: "Bucket",
    folder: Path,
    project: str,
    labels: str | None,
    without_labels: bool,
    source: "Source | None",
) -> "LabelSet | None":
    """Check the labels before uploading images, and upload them if the project has none.

    Returns:
        The project's labels after that; None if it has none.
    """
    from boxdrop.aws.s3 import Put
    from boxdrop.domain.labels import LabelSet

    own = folder / "labels.yaml"
    key = f"{project}/labels.yaml"
    where = f"s3://{bucket.name}/{key}"
    text = None
    if labels is not None:
        text = LabelSet.load(labels).to_yaml(brief=True)
    elif own.is_file():
        LabelSet.from_file(own)
        text = own.read_text(encoding="utf-8-sig")
    if text is None:
        stored = bucket.get(key)
        if stored is not None:
            return LabelSet.from_yaml(stored.body.decode("utf-8", "replace"), where)
        if source is not None and source.labels:
            text = source.label_set().to_yaml(brief=True)
            if bucket.create(key, text.encode(), "application/yaml") == Put.STORED:
                say(f"{where} is new, with the {len(source.labels):,} classes of --boxes", err=True)
            return LabelSet.from_yaml(text)
        if not without_labels:
            raise BoxdropError(
                f"the project {project} has no labels.yaml, neither in {folder} nor at {where}: give "
                f"--labels 'pineapple, banana', or --without-labels to let the images wait for it"
            )
    elif bucket.create(key, text.encode(), "application/yaml") == Put.STORED:
        say(f"{where} is new", err=True)
    elif not same_labels(bucket, key, text):
        say(
            f"{where} has other labels than {own if labels is None else '--labels'}; it stays as it is. To "
            f"change it: boxdrop labels {quote(project)} --file {quote(_given(own, labels))}",
            err=True,
        )

    return None if text is None else LabelSet.from_yaml(text)


def _given(own: Path, labels: str | None) -> str:
    """The file of the given labels; a self-explanatory name if they were typed."""
    if labels is None:
        return str(own)
    return labels if Path(labels).suffix in (".yaml", ".yml") else "LABELS.yaml"


def _upload(
    bucket: "Bucket",
    files: "list[File]",
    prefix: str,
    summary: "DropSummary",
    on_stored: "Callable[[File, bytes, str], None] | None",
) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from boxdrop.cli.console import Console
    from boxdrop.pipeline.drop import drop

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    already = len(summary.failed)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Uploading", total=len(files))

        def advance(so_far: "DropSummary") -> None:
            done = so_far.uploaded + so_far.same + len(so_far.failed) - already
            progress.update(bar, completed=done)

        drop(bucket, files, prefix, summary, advance, on_stored)


def _report(summary: "DropSummary", project: str) -> None:
    said = [f"{summary.uploaded:,} uploaded"]
    if summary.same:
        said.append(f"{summary.same:,} there already")
    if summary.failed:
        said.append(f"{len(summary.failed):,} failed")
    say(f"{'; '.join(said)}. Progress: boxdrop status {quote(project)}")
    _list((f"{name}: {reason}" for name, reason in summary.failed.items()), len(summary.failed))
    if summary.renamed:
        say(f"{counted(len(summary.renamed), 'image')} stored with the extension of the content:", err=True)
        _list((f"{name} → {key}" for name, key in summary.renamed.items()), len(summary.renamed))
    if summary.left_out:
        say(describe_left_out(Counter(reason for _, reason in summary.left_out)))
        listed = (f"{name}: {describe_one(reason)}" for name, reason in summary.left_out)
        _list(listed, len(summary.left_out), " (all of them: --json)")


def _list(lines: Iterable[str], number: int, more: str = "") -> None:
    """Print the first lines of a list, and the number of remaining ones."""
    for line in islice(lines, _LINES_SHOWN):
        say(f"  {line}", err=True)
    if number > _LINES_SHOWN:
        say(f"  … and {number - _LINES_SHOWN:,} more{more}", err=True)


def _print_json(summary: "DropSummary", bringing: "BoxesDrop | None") -> None:
    """One object: the outcome of each file that was not simply uploaded, and the counts."""
    import json

    from boxdrop.cli.dropped_boxes import to_fields

    fields = asdict(summary) | {
        "left_out": [{"name": name, "reason": reason} for name, reason in summary.left_out]
    }
    if bringing is not None:
        fields["boxes"] = to_fields(bringing)
    say(json.dumps(fields, indent=1))
