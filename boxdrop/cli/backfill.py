"""``boxdrop backfill``: import images that are already in the bucket."""

import time
from shlex import quote
from typing import TYPE_CHECKING

import click

from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import counted, say
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.left_out import describe_left_out

if TYPE_CHECKING:
    from boxdrop.pipeline.backfill import BackfillSummary


@click.command(no_args_is_help=True)
@click.argument("location", metavar="s3://BUCKET/PREFIX")
@click.option("--start-after", default="", metavar="KEY", help="Continue after this key.")
@system_option
def backfill(location: str, start_after: str, system: str | None) -> None:
    """Import images that are already in the image bucket, and detect their boxes.

    For images that were uploaded before boxdrop was deployed, and for lost events. Memory does not grow with
    the number of images. Known images do not change, so you can repeat it; an interrupted import prints how
    to continue.
    """
    from boxdrop.cli.console import Console
    from boxdrop.pipeline.backfill import BackfillError, list_objects
    from boxdrop.pipeline.backfill import backfill as mark
    from boxdrop.pipeline.dispatch import Dispatcher
    from boxdrop.services import Services

    chosen = open_system(system)
    name, _, prefix = location.removeprefix("s3://").partition("/")
    if not location.startswith("s3://") or name != chosen.image_bucket:
        raise BoxdropError(
            f"{location}: the system {chosen.name} takes its images from s3://{chosen.image_bucket}/; copy "
            "them there, or deploy boxdrop on that bucket"
        )
    services = Services.of_system(chosen)
    images, dispatcher = services.images, Dispatcher(services)
    console = Console(stderr=True)
    reached, began = start_after, time.monotonic()
    with console.working(f"Listing {location}") as spinner:

        def progress(so_far: "BackfillSummary") -> None:
            nonlocal reached
            reached = so_far.cursor
            rate = so_far.listed / max(time.monotonic() - began, 1e-6)
            spinner.update(f"{so_far.listed:,} objects, {rate:,.0f} a second; at {so_far.cursor}")

        try:
            summary = mark(dispatcher, name, list_objects(images, prefix, start_after), progress)
        except (BoxdropError, KeyboardInterrupt) as error:
            cursor = error.cursor if isinstance(error, BackfillError) and error.cursor else reached
            if cursor:
                console.print(
                    f"To continue: boxdrop backfill {quote(location)} --start-after {quote(cursor)}"
                )
            raise
    wanted, left_out = sum(summary.wanted.values()), summary.left_out.total()
    say(
        f"{counted(summary.listed, 'object')}: {counted(wanted, 'image')} wanted in "
        f"{counted(len(summary.wanted), 'project')}, "
        f"{summary.listed - left_out - wanted:,} known or boxdrop's own"
    )
    if left_out:
        say(describe_left_out(summary.left_out))
