"""``boxdrop local``: the services of the system, on this machine."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from boxdrop.local.label_studio import Server

NOT_RUNNING = 3
"""Exit code of `status` when nothing runs, as `systemctl status` has it."""

_SERVICES = ("label-studio",)


def _service(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--only",
        type=click.Choice(_SERVICES),
        default=_SERVICES[0],
        expose_value=False,
        help="Which service. Today Label Studio is the only one; the whole system comes later.",
    )(command)


@click.group(no_args_is_help=True)
def local() -> None:
    """Run Label Studio on this machine, in an environment of its own.

    Everything is kept in $BOXDROP_HOME (default ~/.boxdrop). `down` stops the server and keeps its data.
    """


@local.command()
@_service
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Default: the one used last, at first 8080.",
)
def up(port: int | None) -> None:
    """Start Label Studio. The first time, it is installed: about a minute, 1 GB."""
    from boxdrop.local.label_studio import LabelStudio

    server = LabelStudio().up(port, lambda text: click.echo(text, err=True))
    _print(server)


@local.command()
@_service
def status() -> None:
    """Say whether Label Studio runs, in one line. Exit code 0 if it does, 3 if not."""
    from boxdrop.local.label_studio import LabelStudio

    server = LabelStudio().running()
    if server is None:
        click.echo("Label Studio is not running; start it with `boxdrop local up`")
        sys.exit(NOT_RUNNING)
    click.echo(f"Label Studio runs at {server.url} (process {server.pid})")


@local.command()
@_service
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is added, until Ctrl-C.")
def logs(follow: bool) -> None:
    """Print what Label Studio printed."""
    from boxdrop.errors import LocalError
    from boxdrop.local.label_studio import LabelStudio

    path = LabelStudio().log
    if not path.exists():
        raise LocalError(f"there is no log at {path} yet; start Label Studio with `boxdrop local up`")
    with path.open(encoding="utf-8", errors="replace") as log:
        while True:
            for line in log:
                click.echo(line, nl=False)
            if not follow:
                return
            time.sleep(0.5)


@local.command()
@_service
def down() -> None:
    """Stop Label Studio. Its data stays."""
    from boxdrop.local.label_studio import LabelStudio

    label_studio = LabelStudio()
    if label_studio.down(lambda text: click.echo(text, err=True)):
        click.echo(f"Label Studio is stopped; its data stays in {label_studio.data}")
    else:
        click.echo("Label Studio was not running")


def _print(server: "Server") -> None:
    click.echo(f"Label Studio runs at {server.url}")
    click.echo(f"  log in as  {server.email}")
    click.echo(f"  password   {server.password}")
    click.echo(f"  data       {server.data}")
