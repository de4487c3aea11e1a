"""``boxdrop backfill``: import images that are already in the bucket."""

import time
from collections import deque
from collections.abc import Iterator
from shlex import quote
from typing import TYPE_CHECKING

import click

from boxdrop.cli.numbers import Whole
from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import counted, say
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.left_out import describe_left_out

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket, ListedObject
    from boxdrop.pipeline.backfill import BackfillSummary


@click.command(no_args_is_help=True)
@click.argument("location", metavar="s3://BUCKET/PREFIX")
@click.option("--start-after", default="", metavar="KEY", help="Continue after this key.")
@click.option(
    "--inventory",
    metavar="s3://BUCKET/…/manifest.json",
    help="Take the keys from an S3 Inventory in CSV instead of listing the bucket.",
)
@click.option(
    "--skip", default=0, type=Whole(0), metavar="N", help="With --inventory: continue after N keys."
)
@system_option
def backfill(location: str, start_after: str, inventory: str | None, skip: int, system: str | None) -> None:
    """Import images that are already in the image bucket, and detect their boxes.

    For images that were uploaded before boxdrop was deployed, and for lost events. Memory does not grow with
    the number of images. Known images do not change, so you can repeat it; an interrupted import prints how
    to continue.
    """
    from boxdrop.cli.console import Console
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
    if inventory and start_after:
        raise click.UsageError("an inventory is not in the order of keys: continue it with --skip")
    if skip and not inventory:
        raise click.UsageError("--skip counts the keys of an --inventory")
    services = Services.of_system(chosen)
    dispatcher = Dispatcher(services)
    console = Console(stderr=True)
    listing = _Listing(services.images, location, prefix, start_after, inventory, skip)
    began = time.monotonic()
    with console.working(f"Reading {inventory}" if inventory else f"Listing {location}") as spinner:

        def progress(so_far: "BackfillSummary") -> None:
            listing.reached(so_far.cursor)
            rate = so_far.listed / max(time.monotonic() - began, 1e-6)
            spinner.update(f"{so_far.listed:,} objects, {rate:,.0f} a second; at {so_far.cursor}")

        try:
            summary = mark(dispatcher, name, listing.objects(), progress)
        except (BoxdropError, KeyboardInterrupt):
            if command := listing.to_continue():
                console.print(f"To continue: {command}")
            raise
    wanted, left_out = sum(summary.wanted.values()), summary.left_out.total()
    say(
        f"{counted(summary.listed, 'object')}: {counted(wanted, 'image')} wanted in "
        f"{counted(len(summary.wanted), 'project')}, {summary.listed - left_out - wanted:,} known or "
        "boxdrop's own"
    )
    if left_out:
        say(describe_left_out(summary.left_out))


class _Listing:
    """The objects to import, and how to continue where it was interrupted."""

    def __init__(
        self, images: "Bucket", location: str, prefix: str, start_after: str, inventory: str | None, skip: int
    ) -> None:
        self._images = images
        self._location = location
        self._prefix = prefix
        self._inventory = inventory
        self._skip = skip
        self._cursor = start_after
        self._taken: deque[str] = deque()  # keys of the inventory that are not marked yet, in order

    def objects(self) -> "Iterator[ListedObject]":
        from boxdrop.pipeline.backfill import list_objects

        if self._inventory is None:
            return list_objects(self._images, self._prefix, self._cursor)
        from boxdrop.aws.inventory import current_objects, read_inventory
        from boxdrop.aws.s3 import Bucket

        name, _, key = self._inventory.removeprefix("s3://").partition("/")
        if not self._inventory.startswith("s3://") or not key:
            raise BoxdropError(f"{self._inventory}: name an inventory by s3://BUCKET/…/manifest.json")
        found = read_inventory(Bucket(name), key)
        if found.bucket != self._images.name:
            raise BoxdropError(
                f"{self._inventory} is the inventory of s3://{found.bucket}/, not of s3://{self._images.name}/"
            )
        return current_objects(self._images, map(self._take, found.keys(self._prefix, self._skip)))

    def _take(self, key: str) -> str:
        self._taken.append(key)
        return key

    def reached(self, key: str) -> None:
        """All objects up to this one, in the order of the listing, are marked."""
        self._cursor = key
        while self._taken:
            self._skip += 1
            if self._taken.popleft() == key:
                break

    def to_continue(self) -> str:
        """The command that continues; empty if nothing is marked yet."""
        command = f"boxdrop backfill {quote(self._location)}"
        if self._inventory:
            return f"{command} --inventory {quote(self._inventory)} --skip {self._skip}" if self._skip else ""
        return f"{command} --start-after {quote(self._cursor)}" if self._cursor else ""
