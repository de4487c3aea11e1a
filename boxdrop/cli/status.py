"""``boxdrop status``: what became of the images, from the ledger."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from boxdrop.cli.system import open_ledger, open_system, system_option, table_option
from boxdrop.errors import BoxdropError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from boxdrop.cli.console import Console
    from boxdrop.ledger import Image, Ledger, Project, Run
    from boxdrop.pipeline.progress import Progress

_WATCH_S = 2.0
_RUNS_SHOWN = 5


@click.command()
@click.argument("project", required=False)
@system_option
@table_option
@click.option("--failures", is_flag=True, help="List the images that failed, each with its reason.")
@click.option("--watch", is_flag=True, help="Go on showing it, until Ctrl-C.")
def status(project: str | None, system: str | None, table: str | None, failures: bool, watch: bool) -> None:
    """Show how far the images of PROJECT are, with its last runs; without PROJECT, of all projects.

    \b
    waiting   the project has no labels.yaml yet     wanted    the detector's turn is next
    running   a job has it                           tasked    in Label Studio, to be verified
    verified  a person verified it                   failed    no boxes; --failures says why
    stale     overwritten after verification         gone      deleted from the bucket
    """
    from rich.live import Live

    from boxdrop.cli.console import Console

    console = Console()
    window_s, queues = 0.0, {}
    if table is None:
        chosen = open_system(system)
        table, window_s, queues = chosen.table, chosen.window_s, dict(chosen.queues)
    ledger = open_ledger(table, system)
    if not watch:
        console.print(picture(ledger, project, window_s, queues))
        if failures:
            _print_failures(console, ledger, project)
        return
    with Live(picture(ledger, project, window_s, queues), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(_WATCH_S)
            live.update(picture(ledger, project, window_s, queues), refresh=True)


def choose_projects(ledger: "Ledger", name: str | None) -> "list[Project]":
    """The project of this name, or all.

    Raises:
        BoxdropError: there is none of this name; names those that there are.
    """
    found = ledger.projects()
    if name is None:
        return found
    chosen = [project for project in found if project.name == name]
    if not chosen:
        names = ", ".join(project.name for project in found) or "none yet"
        raise BoxdropError(f"there is no project {name}; there are: {names}")
    return chosen


def picture(
    ledger: "Ledger", name: str | None, window_s: float, queues: "Mapping[str, str]"
) -> "RenderableType":
    """What there is to see of one project, or of all.

    Args:
        window_s: how long launch lets images gather.
        queues: URLs by name, to count dead letters; may be empty.
    """
    from rich.console import Group
    from rich.text import Text

    from boxdrop.pipeline.progress import look
    from boxdrop.pipeline.retry import dead_letters

    projects = choose_projects(ledger, name)
    if not projects:
        return Text("No projects yet: nothing has been dropped into the bucket.")
    seen = [look(ledger, project, window_s) for project in projects]
    lines: list[RenderableType] = [_counts(seen), Text()]
    for each in seen:
        lines += _notes(each)
    if name is not None and seen[0].runs:
        lines += [Text(), _runs(seen[0].runs[:_RUNS_SHOWN])]
    dead = {queue: count for queue, count in dead_letters(queues).items() if count}
    if dead:
        told = ", ".join(f"{count:,} in {queue}" for queue, count in dead.items())
        lines.append(Text(f"Messages that were given up: {told}; `boxdrop retry` sends them again.", "red"))
    return Group(*lines)


def _counts(seen: "list[Progress]") -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    from boxdrop.ledger import State

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("project")
    for state in State:
        table.add_column(state, justify="right", style=_STYLES.get(state, ""))
    table.add_column("oldest undone")
    for each in seen:
        cells = [f"{each.counts[state]:,}" if each.counts[state] else "·" for state in State]
        table.add_row(Text(each.project.name), *cells, _oldest(each.oldest))
    return table


_STYLES = {"verified": "green", "failed": "red", "stale": "yellow"}


def _oldest(image: "Image | None") -> str:
    """The image that has waited longest for boxes, and for what."""
    if image is None:
        return "–"
    waited = datetime.now(UTC) - (image.wanted_at or image.since)
    return f"{span(waited.total_seconds())} {image.state}"


def _notes(progress: "Progress") -> "list[RenderableType]":
    from rich.text import Text

    wait = "" if progress.wait_s is None else f"; all boxes in about {span(progress.wait_s)}"
    lines: list[RenderableType] = [Text(f"{progress.project.name}: {progress.stage}{wait}.")]
    lines += [Text(f"  {problem}", "red") for problem in progress.problems]
    lines += [Text(f"  {failure}", "yellow") for failure in progress.failures]
    return lines


def _runs(runs: "tuple[Run, ...]") -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("run", "state", "images", "begun", "took", "why"):
        table.add_column(column, justify="right" if column == "images" else "left")
    now = datetime.now(UTC)
    for run in runs:
        ended = run.finished_at
        took = "–" if ended is None else span((ended - run.created_at).total_seconds())
        begun = f"{span((now - run.created_at).total_seconds())} ago"
        table.add_row(run.run_id, run.state, f"{run.images:,}", begun, took, Text(run.reason or ""))
    return table


def span(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h``, ``2 days``."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _print_failures(console: "Console", ledger: "Ledger", name: str | None) -> None:
    from boxdrop.ledger import State

    for project in choose_projects(ledger, name):
        cursor: str | None = None
        while True:
            page = ledger.list_images(project.name, State.FAILED, cursor=cursor)
            for image in page.rows:
                console.print(
                    f"s3://{image.bucket}/{image.key}: {image.reason}: {image.message}",
                    soft_wrap=True,
                )
            cursor = page.cursor
            if cursor is None:
                break
