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
    """List the bundles in the data bucket.

    A labels.yaml selects one with `detector: NAME`, the current bundle of that name, or with `detector:
    NAME@DIGEST`.
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
        console.print("No detector yet; upload one with: boxdrop bundle push FOLDER")


@bundle.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@bucket_option
def push(folder: Path, data_bucket: str | None) -> None:
    """Upload the bundle in FOLDER to the data bucket.

    From now on, its name refers to this bundle; the very first bundle becomes the default. Runs that began
    with another bundle finish with it.
    """
    from boxdrop.store.bundles import push as push_bundle

    ref = push_bundle(open_data_bucket(data_bucket), folder, on_file=lambda name: say(f"  {name}", err=True))
    say(f"{ref.name}@{ref.digest[:16]}")


@bundle.command()
@click.argument("detector")
@bucket_option
def use(detector: str, data_bucket: str | None) -> None:
    """Make DETECTOR the default for projects whose labels.yaml names none.

    With NAME@DIGEST, the name refers to that bundle from now on: this undoes a push.
    """
    from boxdrop.store.bundles import use as use_bundle

    ref = use_bundle(open_data_bucket(data_bucket), detector)
    say(f"{ref.name}@{ref.digest[:16]} is now the default")
