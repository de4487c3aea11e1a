"""``boxdrop retrieve``: images for a caption, with their licences and credits.

The file is long because it has many options, each declared once for both `retrieve` and `new`.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from boxdrop.cli.numbers import Finite, Whole
from boxdrop.cli.system import open_system, system_option
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.left_out import LeftOut, describe_left_out

if TYPE_CHECKING:
    from boxdrop.cli.console import Console
    from boxdrop.retrieve.candidates import CandidateSource
    from boxdrop.retrieve.destinations import Destination
    from boxdrop.retrieve.licenses import LicenseFilter
    from boxdrop.retrieve.retrieval import Summary
    from boxdrop.retrieve.web import Web

F = TypeVar("F", bound=Callable[..., Any])

OPENVERSE: Final = "openverse"
COMMONS: Final = "commons"
OPENVERSE_URL: Final = "BOXDROP_OPENVERSE_URL"
COMMONS_URL: Final = "BOXDROP_COMMONS_URL"
_SECONDS_BETWEEN_LINES: Final = 10


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options that select images; `new --retrieve` has some of them.

    Attributes:
        source: ``openverse``, ``commons``, a list's file, or an archive: a folder or ``s3://…``.
        licenses, collections, extensions, sizes: as given; one value may hold several.
        min_side: pixels.
        near_duplicates, noai: also keep such images.
        contact: how the operators of servers can reach the user.
        networks: allowed in addition to the public internet.
        workers, pause_s: concurrent downloads; seconds between two from one server.
        ranking: the bundle that ranks an archive; None: the demo detector.
        threshold: the lowest score of an image from an archive.
    """

    source: str = OPENVERSE
    licenses: tuple[str, ...] = ()
    contact: str = ""
    networks: tuple[str, ...] = ()
    min_side: int = 256
    collections: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    near_duplicates: bool = False
    noai: bool = False
    workers: int = 8
    pause_s: float = 0.1
    ranking: str | None = None
    threshold: float = 0.0


_WHERE = (
    click.option(
        "--from",
        "source",
        default=OPENVERSE,
        show_default=True,
        metavar="SOURCE",
        help="openverse; commons (Wikimedia Commons); a list of addresses: FILE.csv, .tsv or .txt; or "
        "your own archive, ranked by the caption with the detector: a folder or s3://bucket/prefix.",
    ),
    click.option(
        "--license",
        "licenses",
        multiple=True,
        metavar="CODES",
        help="Licences to accept: open (the default: CC0, public domain, BY, BY-SA), non-commercial, "
        "no-derivatives, unknown, any, or codes such as by-nc-sa; several with commas.",
    ),
    click.option(
        "--contact",
        envvar="BOXDROP_CONTACT",
        default="",
        help="Your email address or web page, sent to the servers; Wikimedia requires it. "
        "Default: $BOXDROP_CONTACT.",
    ),
    click.option(
        "--allow-network",
        "networks",
        multiple=True,
        envvar="BOXDROP_ALLOW_NETWORKS",
        metavar="NETWORK",
        help="Allow addresses outside the public internet, for a collection of your own: 10.1.0.0/16. "
        "Default: $BOXDROP_ALLOW_NETWORKS.",
    ),
)
_MORE = (
    click.option(
        "--min-side",
        type=Whole(),
        default=256,
        show_default=True,
        help="Least length of the shorter side, in pixels.",
    ),
    click.option("--collection", "collections", multiple=True, help="Openverse only: flickr, met, …"),
    click.option("--extension", "extensions", multiple=True, help="Openverse only: jpg, png, …"),
    click.option(
        "--size",
        "sizes",
        multiple=True,
        type=click.Choice(["small", "medium", "large"]),
        help="Openverse only.",
    ),
    click.option("--near-duplicates", is_flag=True, help="Keep copies of a picture in other sizes."),
    click.option(
        "--noai",
        is_flag=True,
        help="Also accept images that their server marks as not for machine learning (X-Robots-Tag).",
    ),
    click.option(
        "--workers", type=click.IntRange(1, 64), default=8, show_default=True, help="Concurrent downloads."
    ),
    click.option(
        "--pause",
        "pause_s",
        type=Finite(min=0),
        default=0.1,
        show_default=True,
        help="Seconds between two downloads from one server.",
    ),
    click.option(
        "--detector",
        "ranking",
        metavar="NAME",
        help="Own archive only: the detector that ranks the images, a known one or the folder of an exported "
        "one. Default: the demo detector.",
    ),
    click.option(
        "--threshold",
        type=Finite(0, 1),
        default=0.0,
        help="Own archive only: leave out images with a lower score.",
    ),
)


def where_options(command: F) -> F:
    """Where to get images, and under which terms; passed to the command as the argument `wishes`."""
    return _with_wishes(command, _WHERE)


def _with_wishes(command: F, options: Sequence[Callable[[Any], Any]]) -> F:
    @wraps(command)
    def with_wishes(**given: Any) -> Any:
        wishes = {name: given.pop(name) for name in Wishes.__dataclass_fields__ if name in given}
        return command(wishes=Wishes(**wishes), **given)

    wrapped: Any = with_wishes
    for option in reversed(options):
        wrapped = option(wrapped)
    decorated: F = wrapped
    return decorated


def _all_options(command: F) -> F:
    return _with_wishes(command, (*_WHERE, *_MORE))


@click.command(no_args_is_help=True)
@click.argument("caption", required=False)
@click.option(
    "--into",
    metavar="DIR|s3://…",
    help="Where to store the images: a folder, or a prefix of a bucket. Default: a folder named after the "
    "caption.",
)
@click.option(
    "--project", help="Instead of --into: this project of the system, whose pipeline then detects the boxes."
)
@click.option("-n", "--count", type=Whole(), default=100, show_default=True, help="Images wanted.")
@system_option
@_all_options
def retrieve(
    wishes: Wishes, caption: str | None, into: str | None, project: str | None, count: int, system: str | None
) -> None:
    """Retrieve images that match CAPTION, each with its licence and credit.

    \b
      boxdrop retrieve "fruit baskets" -n 200
      boxdrop retrieve "fruit baskets" --project fruit-baskets -n 200
      boxdrop retrieve "fruit baskets" --from commons --contact you@example.org
      boxdrop retrieve "fruit baskets" --from s3://bucket/all/ --into picked/
      boxdrop retrieve --from list.csv --license any --into photos/

    Their provenance is in sources.jsonl, beside the images; `boxdrop credits` makes a page from it. After an
    interruption, run the same command again to resume. Images that you deleted are not fetched again.
    """
    if caption is None and not _is_list(wishes.source):
        raise BoxdropError('what should the images show? boxdrop retrieve "fruit baskets"')
    console = _console()
    destination = _destination(into, project, system, caption or Path(wishes.source).stem)
    try:
        summary = retrieve_into(destination, caption or "", count, wishes, console)
    except KeyboardInterrupt:
        console.print("\nStopped. Retrieved images stay: run the same command again to resume.")
        raise SystemExit(130) from None
    report(console, summary, count)


def retrieve_into(
    destination: "Destination", caption: str, count: int, wishes: Wishes, console: "Console"
) -> "Summary":
    """Retrieve images, with a progress bar: what `retrieve` and `new --retrieve` do.

    Args:
        destination: where to store them.
        caption: what they show.
        count: images wanted at the destination.
        wishes: see `Wishes`.
        console: for progress.

    Raises:
        BoxdropError: an option is wrong, or the collection or the destination fails.
    """
    from boxdrop.retrieve.addresses import AddressGuard
    from boxdrop.retrieve.downloads import Manners
    from boxdrop.retrieve.duplicates import NEAR
    from boxdrop.retrieve.licenses import LicenseFilter
    from boxdrop.retrieve.retrieval import Retrieval
    from boxdrop.retrieve.web import Pauses, Web

    _refuse_overlap(wishes.source, destination.location)
    licenses = LicenseFilter.read(wishes.licenses)
    networks = [part for value in wishes.networks for part in value.split(",") if part.strip()]
    with _progress(console, count) as (show, say):
        pauses = Pauses(on_wait=say)
        web = Web(
            AddressGuard(networks),
            contact=wishes.contact,
            robots=not wishes.noai,
            connections=2 * wishes.workers,
            pauses=pauses,
        )
        try:
            source = _source(web, caption, licenses, wishes, count, say)
            say(
                f"Searching {source.name} for “{caption}”"
                if caption
                else f"Retrieving the images that {source.name} lists"
            )
            return Retrieval(
                source,
                destination,
                caption=caption,
                licenses=licenses,
                min_side=wishes.min_side,
                near=None if wishes.near_duplicates else NEAR,
                manners=Manners(workers=wishes.workers, pause_s=wishes.pause_s),
                stop=pauses.stop,
            ).run(count, show)
        finally:
            web.close()


def _refuse_overlap(source: str, destination: str) -> None:
    """Refuse to copy an archive into itself: it would grow with every run, and rank its own copies.

    Raises:
        BoxdropError: one of the two is inside the other.
    """
    if source.startswith("s3://") != destination.startswith("s3://"):
        return
    if source.startswith("s3://"):
        places = [f"{each.rstrip('/')}/" for each in (source, destination)]
    else:
        if not Path(source).exists():
            return  # the name of a collection
        places = [f"{Path(each).resolve()}/" for each in (source, destination)]
    if places[0].startswith(places[1]) or places[1].startswith(places[0]):
        raise BoxdropError(
            f"--from {source}: the images would be copied into their own archive ({destination}); give an "
            "--into outside of it"
        )


def project_destination(image_bucket: str, project: str) -> "Destination":
    """A project as a destination: the folder of this name in the system's image bucket."""
    from boxdrop.aws.s3 import Bucket
    from boxdrop.home import home
    from boxdrop.retrieve.destinations import BucketPrefix

    return BucketPrefix(Bucket(image_bucket), f"{project.strip('/')}/", home() / "retrieve")


def report(console: "Console", summary: "Summary", wanted: int) -> None:
    """Print the result of a retrieval, and what to do about missing images."""
    _say(
        console,
        f"{summary.kept:,} new images ({summary.bytes / 1e6:,.1f} MB in {summary.seconds:.1f} s), "
        f"{summary.images:,} in all, in {summary.destination}",
    )
    left_out = {
        "offered again, already settled": summary.settled_before,
        "duplicates": summary.duplicates,
        "near duplicates": summary.near_duplicates,
        "too small": summary.too_small,
    } | {f"not usable: {reason}": count for reason, count in sorted(summary.failures.items())}
    for what, count in left_out.items():
        if count:
            _say(console, f"  {count:,} {what}")
    if summary.other_licenses:
        names = ", ".join(f"{name} {count:,}" for name, count in sorted(summary.other_licenses.items()))
        total = sum(summary.other_licenses.values())
        _say(console, f"  {total:,} under other licences ({names}); --license accepts them")
    if summary.images < wanted and summary.exhausted:
        _say(
            console,
            f"The collection has no more: {summary.images:,} of {wanted:,} wanted. Try other words, or "
            "--from another.",
            style="yellow",
        )


def _say(console: "Console", text: str, style: str | None = None) -> None:
    console.print(text, style=style)


def _source(
    web: "Web",
    caption: str,
    licenses: "LicenseFilter",
    wishes: Wishes,
    count: int,
    say: Callable[[str], None],
) -> "CandidateSource":
    """The collection that ``--from`` names."""
    if wishes.source == OPENVERSE:
        from boxdrop.retrieve import openverse

        client_id, secret = os.environ.get(openverse.CLIENT_ID), os.environ.get(openverse.CLIENT_SECRET)
        return openverse.Openverse(
            web,
            caption,
            licenses,
            credentials=openverse.Credentials(client_id, secret) if client_id and secret else None,
            sources=_split(wishes.collections),
            extensions=_split(wishes.extensions),
            sizes=wishes.sizes,
            url=os.environ.get(OPENVERSE_URL) or openverse.URL,
        )
    if wishes.source == COMMONS:
        from boxdrop.retrieve import commons

        url = os.environ.get(COMMONS_URL) or commons.URL
        return commons.WikimediaCommons(web, caption, contact=wishes.contact, url=url)
    if _is_list(wishes.source):
        from boxdrop.retrieve.listing import Listing

        return Listing(web, Path(wishes.source))
    return _archive(caption, wishes, count, say)


def _archive(caption: str, wishes: Wishes, count: int, say: Callable[[str], None]) -> "CandidateSource":
    from boxdrop.cli.console import Console
    from boxdrop.cli.detectors import locate
    from boxdrop.demo import BUNDLE
    from boxdrop.detect import Detector
    from boxdrop.retrieve.archive import Archive, Ranking, rank
    from boxdrop.sources import open_source

    if not wishes.source.startswith("s3://") and not Path(wishes.source).exists():
        raise BoxdropError(
            f"--from {wishes.source}: give openverse, commons, the file of a list (.csv, .tsv, .txt), or "
            "a folder or s3://bucket/prefix that exists"
        )
    source = open_source(wishes.source)
    say(f"Ranking the images of {source.location} by “{caption}”")
    said = time.monotonic()

    def show(ranking: Ranking) -> None:
        nonlocal said
        if time.monotonic() - said >= _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            say(f"{ranking.images:,} images ranked")

    # Twice as many as wanted, since some will be duplicates or too small.
    named = None if wishes.ranking is None else locate(wishes.ranking, Console(stderr=True))
    detector = Detector.load(named or BUNDLE)
    left_out: Counter[LeftOut] = Counter()
    ranked = rank(
        source,
        detector,
        caption,
        top=2 * count,
        threshold=wishes.threshold,
        on_progress=show,
        on_left_out=lambda _, reason: left_out.update([reason]),
    )
    if left_out:
        say(describe_left_out(left_out))
    return Archive(source, ranked)


def _split(values: tuple[str, ...]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _is_list(source: str) -> bool:
    return Path(source).suffix.lower() in (".csv", ".tsv", ".txt") and not source.startswith("s3://")


def _destination(into: str | None, project: str | None, system: str | None, name: str) -> "Destination":
    from boxdrop.retrieve.destinations import Folder

    if project:
        if into:
            raise BoxdropError("give --into or --project, not both")
        return project_destination(open_system(system).image_bucket, project)
    if into and into.startswith("s3://"):
        bucket, _, prefix = into.removeprefix("s3://").partition("/")
        if not bucket or not prefix.strip("/"):
            raise BoxdropError(f"--into {into}: name a bucket and a folder in it: s3://bucket/fruit-baskets/")
        return project_destination(bucket, prefix)
    return Folder(Path(into or "-".join(name.lower().split())[:60]))


def _console() -> "Console":
    from boxdrop.cli.console import Console

    return Console(stderr=True)


@contextmanager
def _progress(
    console: "Console", wanted: int
) -> Iterator[tuple[Callable[["Summary"], None], Callable[[str], None]]]:
    """A bar of images kept, with notes beside it; plain lines if there is no terminal."""

    def say(text: str) -> None:
        _say(console, text)

    started = time.monotonic()
    if not console.is_terminal:
        printed = started

        def print_line(summary: "Summary") -> None:
            nonlocal printed
            if time.monotonic() - printed >= _SECONDS_BETWEEN_LINES:
                printed = time.monotonic()
                say(f"{summary.images:,} images, {summary.settled - summary.kept:,} left out")

        yield print_line, say
        return

    from rich import progress

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[left_out]:,} left out"),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=console) as bar:
        task = bar.add_task("Retrieving", total=wanted, left_out=0)

        def update(summary: "Summary") -> None:
            bar.update(task, completed=summary.images, left_out=summary.settled - summary.kept)

        yield update, say
