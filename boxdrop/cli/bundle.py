"""``boxdrop bundle``: the detectors that jobs can use."""

from pathlib import Path

import click

from boxdrop.cli.system import bucket_option, open_data_bucket
from boxdrop.cli.terminal import say


@click.group()
def bundle() -> None:
    """List, upload and select detectors in the data bucket, where jobs fetch them from.

    \b
    python -m model_export google/owlv2-base-patch16-ensemble --out bundles/owlv2
    boxdrop bundle push bundles/owlv2
    boxdrop bundle use owlv2-base-patch16-ensemble
    """


@bundle.command("list")
@bucket_option
def list_(data_bucket: str | None) -> None:
    """Show the bundles in the data bucket.

    A labels.yaml chooses one with `detector: NAME`, which means the latest of that name, or with
    `detector: NAME@DIGEST`.
    """
    from rich.table import Table
    from rich.text import Text

    from boxdrop.cli.console import Console
    from boxdrop.store.bundles import list_bundles

    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("bundle", "family", "precision", "threshold", "floor", ""):
        table.add_column(column, justify="right" if column in ("threshold", "floor") else "left")
    for listed in list_bundles(open_data_bucket(data_bucket)):
        ref = listed.bundle
        note = "default" if listed.default else "latest" if listed.latest else ""
        name = Text(f"{ref.name}@{ref.digest[:16]}", style="bold" if listed.default else "")
        table.add_row(name, ref.family, ref.precision, f"{ref.threshold:g}", f"{ref.floor:g}", note)
    console = Console()
    if table.row_count:
        console.print(table)
    else:
        console.print("No detector yet; bring one with: boxdrop bundle push FOLDER")


@bundle.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@bucket_option
def push(folder: Path, data_bucket: str | None) -> None:
    """Copy the bundle in FOLDER into the data bucket.

    Its name means this one from now on; the first bundle of all becomes the default. Runs that were begun
    with another one finish with that one.
    """
    from boxdrop.store.bundles import push as push_bundle

    ref = push_bundle(open_data_bucket(data_bucket), folder, on_file=lambda name: say(f"  {name}", err=True))
    say(f"{ref.name}@{ref.digest[:16]}")


@bundle.command()
@click.argument("detector")
@bucket_option
def use(detector: str, data_bucket: str | None) -> None:
    """Let DETECTOR be what projects use whose labels.yaml names none.

    With a digest, NAME@DIGEST, that name means this one from now on: the way back after a push.
    """
    from boxdrop.store.bundles import use as use_bundle

    ref = use_bundle(open_data_bucket(data_bucket), detector)
    say(f"{ref.name}@{ref.digest[:16]} is the default now")
