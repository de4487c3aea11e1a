"""``boxdrop status``: what became of the images, from the ledger."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from boxdrop.cli.system import open_ledger, system_option, table_option

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from boxdrop.ledger import Ledger, Project

_WATCH_S = 2.0


@click.command()
@click.argument("project", required=False)
@system_option
@table_option
@click.option("--failures", is_flag=True, help="List the images that failed, each with its reason.")
@click.option("--watch", is_flag=True, help="Go on showing it, until Ctrl-C.")
def status(project: str | None, system: str | None, table: str | None, failures: bool, watch: bool) -> None:
    """Show how far the images of PROJECT are; without PROJECT, of all projects.

    \b
    waiting   the project has no labels.yaml yet     wanted    the detector's turn is next
    running   a job has it                           tasked    in Label Studio, to be verified
    verified  a person verified it                   failed    no boxes; --failures says why
    stale     overwritten after verification         gone      deleted from the bucket
    """
    from rich.console import Console
    from rich.live import Live

    console = Console()
    ledger = open_ledger(table, system)
    if not watch:
        console.print(_counts(ledger, project))
        if failures:
            _print_failures(console, ledger, project)
        return
    with Live(_counts(ledger, project), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(_WATCH_S)
            live.update(_counts(ledger, project), refresh=True)


def _projects(ledger: "Ledger", name: str | None) -> "list[Project]":
    from boxdrop.errors import BoxdropError

    found = ledger.projects()
    if name is None:
        return found
    chosen = [project for project in found if project.name == name]
    if not chosen:
        names = ", ".join(project.name for project in found) or "none yet"
        raise BoxdropError(f"there is no project {name}; there are: {names}")
    return chosen


def _counts(ledger: "Ledger", name: str | None) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    from boxdrop.ledger import State

    listed = _projects(ledger, name)
    if not listed:
        return Text("No projects yet: nothing has been dropped into the bucket.")
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("project")
    for state in State:
        table.add_column(state, justify="right", style=_STYLES.get(state, ""))
    table.add_column("oldest undone")
    for project in listed:
        counts = ledger.count_images(project.name)
        cells = [f"{counts[state]:,}" if counts[state] else "·" for state in State]
        table.add_row(Text(project.name), *cells, _oldest(ledger, project.name))
    return table


_STYLES = {"verified": "green", "failed": "red", "stale": "yellow"}


def _oldest(ledger: "Ledger", project: str) -> str:
    """The image that has waited longest for boxes, and for what."""
    from boxdrop.ledger import State

    undone = [
        image
        for state in (State.WAITING, State.WANTED, State.RUNNING)
        if (image := ledger.oldest_image(project, state)) is not None
    ]
    if not undone:
        return "–"
    image = min(undone, key=lambda each: each.since)
    return f"{_span((datetime.now(UTC) - image.since).total_seconds())} {image.state}"


def _span(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h``, ``2 days``."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _print_failures(console: "Console", ledger: "Ledger", name: str | None) -> None:
    from boxdrop.ledger import State

    for project in _projects(ledger, name):
        cursor: str | None = None
        while True:
            page = ledger.list_images(project.name, State.FAILED, cursor=cursor)
            for image in page.rows:
                console.print(
                    f"s3://{image.bucket}/{image.key}: {image.reason}: {image.message}",
                    highlight=False,
                    markup=False,
                    soft_wrap=True,
                )
            cursor = page.cursor
            if cursor is None:
                break
