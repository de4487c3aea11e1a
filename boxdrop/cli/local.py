"""``boxdrop local``: the whole system on this machine, or only Label Studio."""

import json
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from boxdrop.cli.terminal import Part, say, say_in_colours
from boxdrop.home import VARIABLE, found_from_here, home

if TYPE_CHECKING:
    from boxdrop.cli.console import Console
    from boxdrop.ledger import Ledger
    from boxdrop.local.label_studio import Server
    from boxdrop.local.stack import Running

NOT_RUNNING = 3
"""Exit code of `status` if something is not running, as for `systemctl status`."""

LABEL_STUDIO = "label-studio"

_PORT = click.IntRange(1, 65535)
_FOLLOW_S = 0.5
_LEVEL_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_LEFT_OUT = frozenset(
    {
        "timestamp",
        "service",
        "message",
        "event",
        "level",
        "location",
        "xray_trace_id",
        "cold_start",
        "function_arn",
        "function_memory_size",
        "function_name",
        "function_request_id",
        "exception_name",
        "stack_trace",
        "sampling_rate",
    }
)


def _only(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--only",
        type=click.Choice((LABEL_STUDIO,)),
        help="Only Label Studio, for `boxdrop annotate --label-studio local`, without buckets and queues.",
    )(command)


def _say(text: str) -> None:
    say(text, err=True)


@click.group(no_args_is_help=True)
def local() -> None:
    """Run the whole system on this machine: a bucket for images, the job, Label Studio.

    All servers listen on 127.0.0.1 only. All data is in one folder: $BOXDROP_HOME, else the nearest .boxdrop
    in this folder or above it, else ~/.boxdrop. `down` stops the system and keeps the data.
    """


@local.command()
@_only
@click.option("--port", type=_PORT, help="Port of Label Studio. Default: the last one used, initially 8080.")
@click.option(
    "--aws-port", type=_PORT, help="Port of the local AWS. Default: the last one used, initially 4566."
)
@click.option(
    "--public-url",
    metavar="URL",
    help="Where your reverse proxy serves Label Studio to people on other machines; '' for nowhere. Kept "
    "until you change it.",
)
@click.option(
    "--detector",
    metavar="NAME",
    help="Use this detector from now on: a known one (see: boxdrop detectors), one in the data bucket, or a "
    "bundle's folder. Default: the one before, initially the demo detector.",
)
def up(
    only: str | None, port: int | None, aws_port: int | None, public_url: str | None, detector: str | None
) -> None:
    """Start everything that is not running.

    The first start also installs it: a minute or two, 1.1 GB. A known detector that is not on this machine is
    got first; in a terminal, you are asked.
    """
    from boxdrop.local.label_studio import LabelStudio

    if only:
        if detector is not None:
            raise click.UsageError("--detector is for the whole system: leave out --only")
        _print_label_studio(LabelStudio().up(port, _say, public_url))
        return
    from boxdrop.local.recovery import settle
    from boxdrop.local.stack import Stack
    from boxdrop.servers.server import terminated_in_order

    stack = Stack()
    with terminated_in_order():
        running = stack.up(port, aws_port, _say, public_url)
    settle(stack, running, _say)
    _print_system(running)
    if detector is not None:
        _use_detector(running, detector)


def _use_detector(running: "Running", detector: str) -> None:
    """Make a detector the system's default."""
    from boxdrop.aws.s3 import Bucket
    from boxdrop.cli.console import Console
    from boxdrop.cli.provision import provide
    from boxdrop.domain.detector_names import pinned_name
    from boxdrop.store.bundles import use

    running.system.enter()
    bucket = Bucket(running.system.data_bucket)
    ref = use(bucket, provide(bucket, detector, Console(stderr=True)).name)
    say(f"Detector: {pinned_name(ref.name, ref.digest)}, for projects whose labels.yaml names none")


@local.command()
@click.option(
    "--detector",
    metavar="NAME",
    help="The detector for the photographs: a known one (see: boxdrop detectors), one in the data bucket, or "
    "a bundle's folder. Default: nanodet-coco.",
)
def demo(detector: str | None) -> None:
    """Try it with sample images.

    Uploads drawn scenes that ship with boxdrop, and a few photographs; waits for their boxes, and prints
    their address in Label Studio. The photographs and their detector are downloaded on the first call; where
    that is not possible, the drawn scenes are there all the same.
    """
    from boxdrop.cli.console import Console
    from boxdrop.demo import SCENES
    from boxdrop.domain.errors import LocalError
    from boxdrop.ledger import Ledger
    from boxdrop.local.samples import PROJECT, drop_samples, wait_for_tasks
    from boxdrop.local.stack import Stack

    running = Stack().running()
    if running is None:
        raise LocalError("the local system is not running; start it with: boxdrop local up")
    running.system.enter()
    ledger = Ledger(running.system.table)
    console = Console(stderr=True)
    with console.working("Uploading the sample images") as spinner:
        images = drop_samples(running.system.image_bucket)
        found = wait_for_tasks(ledger, PROJECT, images, lambda text: spinner.update(text))
    photos, missing = _show_photos(running, ledger, detector, console)
    one_more = SCENES / "fruit-basket-01.jpg"
    say(f"{found:,} images of fruit baskets are in Label Studio, with their boxes:")
    say()
    say(f"  {running.label_studio.page_url}/projects/{_number(ledger, PROJECT)}/data")
    if photos is not None:
        say("and photographs (`boxdrop credits` names who took them):")
        say(f"  {running.label_studio.page_url}/projects/{_number(ledger, photos)}/data")
    else:
        say(f"Photographs are not shown: {missing}")
    say(f"  log in as  {running.label_studio.email}")
    say(f"  password   {running.label_studio.password}")
    say()
    say("Copy one more image into the bucket, and it appears there a moment later:")
    say(f"  {copy_line(running, one_more, f'{PROJECT}/one-more.jpg')}")
    say("or a folder of yours:")
    say(f"  {_program()} drop photos/ my-project --labels 'dog, cat, bicycle'")


def _show_photos(
    running: "Running", ledger: "Ledger", detector: str | None, console: "Console"
) -> tuple[str | None, str]:
    """Upload the photographs and wait for their boxes.

    Returns:
        their project; or None, and why there is none.
    """
    from boxdrop.aws.s3 import Bucket
    from boxdrop.cli.provision import provide
    from boxdrop.detectors.choice import VARIABLE as POLICY
    from boxdrop.detectors.choice import policy
    from boxdrop.detectors.nanodet import NAME
    from boxdrop.domain.errors import BoxdropError
    from boxdrop.local.photos import find_photos
    from boxdrop.local.samples import drop_photos, wait_for_tasks

    if detector is None and policy() == "never":
        return None, f"{POLICY} is `never`, and their detector would be downloaded"
    try:
        ref = provide(Bucket(running.system.data_bucket), detector or NAME, console)
        with console.working("Uploading photographs") as spinner:
            folder = find_photos(lambda text: spinner.update(text))
            project, images = drop_photos(running.system.image_bucket, folder, ref.name, ref.classes)
            wait_for_tasks(ledger, project, images, lambda text: spinner.update(text))
    except BoxdropError as error:
        if detector is not None:  # the user asked for it
            raise
        return None, str(error).partition("\n")[0]
    return project, ""


def _program() -> str:
    """The command that starts this boxdrop, for this system, from the current folder."""
    own = Path(sys.argv[0]).absolute()
    known = shutil.which("boxdrop")
    if known is not None and Path(known).absolute() == own:
        program = "boxdrop"
    elif own.is_relative_to(Path.cwd()):
        program = shlex.quote(str(own.relative_to(Path.cwd())))
    else:
        program = shlex.quote(str(own))
    same = found_from_here() == home()
    return program if same else f"{VARIABLE}={shlex.quote(str(home()))} {program}"


def _number(ledger: "Ledger", name: str) -> int | None:
    project = ledger.project(name)
    return project.label_studio_id if project is not None else None


@local.command()
@_only
def status(only: str | None) -> None:
    """Show what is running; exit code 3 if something is not."""
    from boxdrop.local.label_studio import LabelStudio

    if only:
        server = LabelStudio().running()
        if server is None:
            say("Label Studio is not running; start it with `boxdrop local up`")
            sys.exit(NOT_RUNNING)
        say(f"Label Studio is running at {server.url} (process {server.pid})")
        return
    from boxdrop.domain.errors import LocalError
    from boxdrop.local.aws import check_disk
    from boxdrop.local.stack import Stack

    stack = Stack()
    aws, studio, pump, worker = (
        stack.aws.running(),
        stack.label_studio.running(),
        stack.pump(),
        stack.worker(),
    )
    lines = {
        "Label Studio": f"runs at {studio.page_url} (process {studio.pid})" if studio else None,
        "AWS": f"runs at {aws.url} (process {aws.pid})" if aws else None,
        "the pump": f"delivers events (process {pump})" if pump else None,
        "the job": f"is ready (process {worker})" if worker else None,
    }
    for what, said in lines.items():
        say(f"{what:13s} {said or 'is not running'}")
    try:
        check_disk(stack.folder)
    except LocalError as error:
        say(f"careful: {error}")
    if not all((aws, studio, pump)):
        say("start what is missing with: boxdrop local up")
        sys.exit(NOT_RUNNING)


@local.command()
@click.argument("part", type=click.Choice(("pump", "aws", LABEL_STUDIO)), required=False)
@_only
@click.option("-f", "--follow", is_flag=True, help="Keep printing new lines, until Ctrl-C.")
@click.option("--json", "raw", is_flag=True, help="Print the lines unchanged, for programs.")
def logs(part: str | None, only: str | None, follow: bool, raw: bool) -> None:
    """Print the log of a component.

    PART is pump (the functions and the job; the default), aws or label-studio.
    """
    from boxdrop.domain.errors import LocalError
    from boxdrop.local.stack import Stack

    paths = Stack().logs()
    name = only or part or next((each for each, path in paths.items() if path.exists()), "pump")
    path = paths[name]
    if not path.exists():
        raise LocalError(f"there is no log at {path} yet; start it with `boxdrop local up`")
    with path.open(encoding="utf-8", errors="replace") as log:
        for line in _lines(log, follow):
            say_in_colours([(line, None)] if raw else readable(line))


def _lines(log: TextIO, follow: bool) -> Iterator[str]:
    """Complete lines of a log; with `follow`, also later ones, each once it is complete."""
    begun = ""
    while True:
        for piece in log:
            begun += piece
            if begun.endswith("\n"):
                yield begun
                begun = ""
        if not follow:
            if begun:
                yield begun
            return
        time.sleep(_FOLLOW_S)


def readable(line: str) -> list[Part]:
    """A line of JSON as ``12:34:56 publish published project=fruit``, in coloured pieces.

    A line that is not JSON is returned unchanged. Metrics, which are for CloudWatch, and empty fields are
    left out; an exception is shortened to its last line.
    """
    try:
        fields: Any = json.loads(line)
    except (ValueError, RecursionError):
        return [(line, None)]
    if isinstance(fields, dict) and "_aws" in fields:
        return []
    if not isinstance(fields, dict) or not ("message" in fields or "event" in fields):
        return [(line, None)]
    moment = str(fields.get("timestamp", ""))
    clock = re.search(r"\d\d:\d\d:\d\d", moment)
    level = str(fields.get("level", "INFO"))
    mark = f"{level}: " if level not in ("INFO", "DEBUG") else ""
    more = " ".join(
        f"{name}={_value(name, value)}"
        for name, value in fields.items()
        if name not in _LEFT_OUT and value not in (None, "", [], {})
    )
    return [
        (f"{clock[0] if clock else moment:8s} ", "bright_black"),
        (f"{fields.get('service', '')!s:9s} ", "cyan"),
        (f"{mark}{fields.get('message', fields.get('event'))}", _LEVEL_COLOURS.get(level)),
        (f" {more}" if more else "", "bright_black"),
        ("\n", None),
    ]


def _value(name: str, value: object) -> str:
    if name == "exception" and isinstance(value, str):
        return value.rstrip().rpartition("\n")[2]
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


@local.command()
@_only
def down(only: str | None) -> None:
    """Stop everything. All data stays."""
    from boxdrop.local.label_studio import LabelStudio

    if only:
        label_studio = LabelStudio()
        if label_studio.down(_say):
            say(f"Label Studio is stopped; its data stays in {label_studio.data}")
        else:
            say("Label Studio was not running")
        return
    from boxdrop.local.stack import Stack

    stack = Stack()
    stopped = stack.down(_say)
    if not stopped:
        say("nothing was running")
        return
    say(f"stopped: {', '.join(stopped)}; all data stays in {stack.folder}")


def _print_label_studio(server: "Server") -> None:
    say(f"Label Studio runs at {server.page_url}")
    if server.public_url:
        say(f"  proxied to {server.url}")
    say(f"  log in as  {server.email}")
    say(f"  password   {server.password}")
    say(f"  data       {server.data}")


def _print_system(running: "Running") -> None:
    _print_label_studio(running.label_studio)
    say(f"AWS runs at {running.aws.url}")
    say(f"  images     s3://{running.system.image_bucket}/PROJECT/")
    say(f"  data       {running.aws.data}")
    say("Drop images: boxdrop drop DIR PROJECT, or copy them with")
    say(f"  {copy_line(running, Path('photo.jpg'), 'PROJECT/')}")


def copy_line(running: "Running", image: Path, key: str) -> str:
    """The command that copies one image into the bucket with only the AWS command line."""
    from boxdrop.system import LOCAL_KEY

    return (
        f"AWS_ACCESS_KEY_ID={LOCAL_KEY} AWS_SECRET_ACCESS_KEY={LOCAL_KEY} "
        f"aws --endpoint-url {running.system.endpoint_url} --region {running.system.region} "
        f"s3 cp {image} s3://{running.system.image_bucket}/{key}"
    )
