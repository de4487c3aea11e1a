"""``boxdrop credits``: the credits of a project's images."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import say
from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    from boxdrop.retrieve.provenance import SourceRecord


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option(
    "--format",
    type=click.Choice(["markdown", "html"]),
    help="Default: by the extension of --out, else markdown.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write. Default: print the page.",
)
@system_option
def credits(project: str, format: str | None, out: Path | None, system: str | None) -> None:
    """Make a page that credits the creators of PROJECT's images: a project, a folder, or s3://bucket/prefix.

    \b
      boxdrop credits fruit-baskets --out credits.html
      boxdrop credits photos/
    """
    from boxdrop.retrieve.credits import credits_page

    records = list(_records(project, system))
    chosen = format or ("html" if out is not None and out.suffix.lower() in (".html", ".htm") else "markdown")
    name = project.rstrip("/").rpartition("/")[2] or project
    page = credits_page(name, records, chosen)
    if out is None:
        say(page, nl=False)
        return
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BoxdropError(f"{out}: cannot be written: {error.strerror}") from None
    say(f"{len(records):,} images are credited in {out}", err=True)


def _records(project: str, system: str | None) -> "Iterator[SourceRecord]":
    """The lines of ``sources.jsonl``: from the folder of that name if there is one, else from the bucket."""
    from boxdrop.retrieve.provenance import SOURCES, SourceRecord, read_sources

    folder = Path(project)
    if not project.startswith("s3://") and (folder / SOURCES).is_file():
        yield from read_sources(folder / SOURCES)
        return
    from boxdrop.aws.s3 import Bucket

    if project.startswith("s3://"):
        bucket, _, prefix = project.removeprefix("s3://").partition("/")
    else:  # a folder of this name may exist as well: `boxdrop new` makes one for labels.yaml
        try:
            bucket, prefix = open_system(system).image_bucket, project
        except BoxdropError as error:
            if not folder.is_dir():
                raise
            raise BoxdropError(
                f"{folder}: no {SOURCES} here, so boxdrop did not retrieve its images; and no project is "
                f"meant: {error}"
            ) from None
    key = f"{prefix.strip('/')}/{SOURCES}"
    stored = Bucket(bucket).get(key)
    if stored is None:
        raise BoxdropError(f"s3://{bucket}/{key} is not there: no images were retrieved into this project")
    for number, line in enumerate(stored.body.splitlines(), 1):
        yield SourceRecord.from_json(line, f"s3://{bucket}/{key}: line {number}")
