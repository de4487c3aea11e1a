"""``boxdrop status``: the progress of projects, from the ledger."""

import math
import sys
import time
from datetime import UTC, datetime
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from boxdrop.cli.account import AccountWork, read_work
from boxdrop.cli.system import LOCAL, open_ledger, open_system, system_option, table_option
from boxdrop.cli.terminal import say
from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import RenderableType

    from boxdrop.aws.s3 import Bucket
    from boxdrop.domain.teaching import Teaching
    from boxdrop.ledger import Image, Ledger, Project, Run
    from boxdrop.pipeline.progress import Progress
    from boxdrop.review.standing import Standing
    from boxdrop.store.outlooks import StoredOutlook
    from boxdrop.store.trainings import TrainingRecord
    from boxdrop.system import System

_WATCH_S = 2.0
_STANDING_S = 60.0  # accepted images are counted one by one
_RUNS_SHOWN = 5
_NARROW = 100  # narrower than this many columns, empty states are left out


@click.command()
@click.argument("project", required=False)
@system_option
@table_option
@click.option("--failures", is_flag=True, help="List the images that failed, each with its reason.")
@click.option(
    "--watch", is_flag=True, help="Keep updating, until Ctrl-C; in a pipe, print one line per change."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def status(
    project: str | None, system: str | None, table: str | None, failures: bool, watch: bool, as_json: bool
) -> None:
    """Show the progress and last runs of PROJECT, or of all projects.

    It lists everything that holds images up, and how to fix it.

    \b
    waiting   the project has no labels yet   wanted  waits for the next run
    running   a job has it                    tasked  in Label Studio, to verify
    verified  a person verified it            failed  no boxes; see --failures
    stale     overwritten since it was        gone    deleted from the bucket
              verified
    """
    from boxdrop.cli.console import Console

    view = View.open(table, system, project)
    console = Console()
    if as_json:
        _print_json(view, failures)
    elif not watch:
        console.print(view.picture(console.width))
        if failures:
            for image in _failed(view.ledger, project):
                console.print(_failure(image), soft_wrap=True)
    elif console.is_terminal:
        from rich.live import Live

        with Live(view.picture(console.width), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(_WATCH_S)
                live.update(view.picture(console.width), refresh=True)
    else:
        _print_changes(view)


def choose_projects(ledger: "Ledger", name: str | None) -> "list[Project]":
    """The project of this name, or all.

    Raises:
        BoxdropError: there is no such project; names the existing ones.
    """
    found = ledger.projects()
    if name is None:
        return found
    chosen = [project for project in found if project.name == name]
    if not chosen:
        names = ", ".join(project.name for project in found) or "none yet"
        raise BoxdropError(f"there is no project {name}; there are: {names}")
    return chosen


class View:
    """The sources of `status`.

    Args:
        data: the data bucket, with the runs' summaries; None if only the table is known.
        queues: URLs by name, to count dead letters; may be empty.
        window_s: how long launch lets images gather.
        name: of the project; None for all.
        system: for long work in its account; None if only the table is known.
    """

    def __init__(
        self,
        ledger: "Ledger",
        data: "Bucket | None",
        queues: "Mapping[str, str]",
        window_s: float,
        name: str | None,
        system: "System | None" = None,
    ) -> None:
        self.ledger, self.name, self._system = ledger, name, system
        self._data, self._queues, self._window_s = data, queues, window_s
        self._standings: dict[str, tuple[float, Standing | None]] = {}

    @classmethod
    def open(cls, table: str | None, system: str | None, name: str | None) -> "View":
        if table is not None:
            return cls(open_ledger(table, system), None, {}, 0.0, name)
        from boxdrop.aws.s3 import Bucket

        found = open_system(system)
        ledger, data = open_ledger(found.table), Bucket(found.data_bucket)
        return cls(ledger, data, found.queues, found.window_s, name, found)

    def standstill(self) -> str | None:
        """Why nothing is processed at all, if that is so."""
        if self._system is None or self._system.name != LOCAL:
            return None
        from boxdrop.local.stack import Stack

        if Stack().pump() is not None:
            return None
        return "Nothing delivers events on this machine: start what is missing with `boxdrop local up`."

    def look(self) -> "list[Progress]":
        from boxdrop.pipeline.progress import look

        return [look(self.ledger, each, self._window_s) for each in choose_projects(self.ledger, self.name)]

    def dead_letters(self) -> dict[str, int]:
        from boxdrop.pipeline.retry import dead_letters

        return {queue: count for queue, count in dead_letters(self._queues).items() if count}

    def findings(self, progress: "Progress") -> tuple[str, ...]:
        """What is worth knowing about the newest finished run."""
        from boxdrop.ledger import RunState
        from boxdrop.pipeline.findings import findings_of
        from boxdrop.store.reports import read_summary

        done = next((run for run in progress.runs if run.state == RunState.SUCCEEDED and run.images), None)
        if done is None or self._data is None:
            return ()
        summary = read_summary(self._data, done.run_id)
        return () if summary is None else findings_of(summary)

    def outlook(self, progress: "Progress") -> "StoredOutlook | None":
        """How many of the images left need a change, as `boxdrop rank` found last."""
        from boxdrop.ledger import State
        from boxdrop.store.outlooks import read_outlook

        if self._data is None or not progress.counts[State.TASKED]:
            return None
        return read_outlook(self._data, progress.project.name)

    def acceptance(self, progress: "Progress") -> "Standing | None":
        """How the images that `boxdrop accept` accepted stand; read again after a minute at the earliest."""
        from boxdrop.review.standing import standing_of

        name, now = progress.project.name, time.monotonic()
        if self._data is None:
            return None
        read_at, standing = self._standings.get(name, (-math.inf, None))
        if now - read_at >= _STANDING_S:
            standing = standing_of(self.ledger, self._data, progress.project)
            self._standings[name] = now, standing
        return standing

    def teaching(self, progress: "Progress") -> "Teaching | None":
        """What came of teaching the project last."""
        from boxdrop.ledger import State
        from boxdrop.store.teachings import read_teachings

        if self._data is None or not progress.counts[State.VERIFIED]:
            return None
        return next(reversed(read_teachings(self._data, progress.project.name)), None)

    def trainings(self, progress: "Progress") -> "tuple[TrainingRecord, ...]":
        """The trainings of the project, the last one last."""
        from boxdrop.ledger import State
        from boxdrop.store.trainings import read_trainings

        if self._data is None or not progress.counts[State.VERIFIED]:
            return ()
        return read_trainings(self._data, progress.project.name)

    def account_work(self, project: str) -> AccountWork:
        """Long work of a project in the account, or of no project if the name is empty."""
        return read_work(self._system, project)

    def picture(self, width: int) -> "RenderableType":
        """The whole report, for a terminal of this width."""
        from rich.console import Group
        from rich.text import Text

        from boxdrop.ledger import State
        from boxdrop.review.standing import standing_line

        seen = self.look()
        if not seen:
            work = self.account_work("").lines()
            return Text("\n".join(["No projects yet: the bucket has no images.", *work]))
        lines: list[RenderableType] = [_counts(seen, width), Text()]
        for each in seen:
            lines += _notes(each, self.findings(each))
            if (seen_last := self.outlook(each)) is not None:
                lines.append(Text(f"  {_outlook(each.project.name, seen_last)}"))
            if (standing := self.acceptance(each)) is not None:
                style = "red" if standing.stored.stopped else ""
                lines.append(Text(f"  {standing_line(each.project.name, standing)}", style))
            if (taught := self.teaching(each)) is not None:
                lines.append(Text(f"  {_taught(taught)}"))
            lines += [Text(f"  {_trained(training)}") for training in self.trainings(each)[-1:]]
        if done := [each.project.name for each in seen if each.counts[State.VERIFIED]]:
            name = done[0] if len(done) == 1 else "PROJECT"
            lines += [Text(f"  Export verified work: boxdrop export {name} --out FOLDER", "dim")]
        if self.name is not None and seen[0].runs:
            lines += [Text(), _runs(seen[0].runs[:_RUNS_SHOWN])]
        if standstill := self.standstill():
            lines.append(Text(standstill, "red"))
        if dead := self.dead_letters():
            listed = ", ".join(f"{count:,} in {queue}" for queue, count in dead.items())
            lines.append(
                Text(
                    f"Messages in dead-letter queues: {listed}; `boxdrop retry PROJECT` sends them again.",
                    "red",
                )
            )
        return Group(*lines)


def _counts(seen: "list[Progress]", width: int) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    from boxdrop.ledger import State

    states = [state for state in State if width >= _NARROW or any(each.counts[state] for each in seen)]
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("project", overflow="fold")
    for state in states:
        table.add_column(state, justify="right", style=_STYLES.get(state, ""), no_wrap=True)
    table.add_column("oldest undone", no_wrap=True)
    for each in seen:
        cells = [f"{each.counts[state]:,}" if each.counts[state] else "·" for state in states]
        table.add_row(Text(each.project.name), *cells, _oldest(each.oldest))
    return table


_STYLES = {"verified": "green", "failed": "red", "stale": "yellow"}


def _oldest(image: "Image | None") -> str:
    """The image that has waited longest for boxes, and what it waits for."""
    if image is None:
        return "–"
    waited = datetime.now(UTC) - (image.wanted_at or image.since)
    return f"{span(waited.total_seconds())} {image.state}"


def _notes(progress: "Progress", findings: tuple[str, ...]) -> "list[RenderableType]":
    from rich.text import Text

    lines: list[RenderableType] = [Text(_headline(progress))]
    lines += [Text(f"  {problem}", "red") for problem in progress.problems]
    lines += [Text(f"  {note}", "yellow") for note in (*progress.failures, *findings)]
    return lines


def _outlook(project: str, seen: "StoredOutlook") -> str:
    ago = span((datetime.now(UTC) - seen.at).total_seconds())
    return (
        f"{ago} ago, about {round(seen.expected):,} of {seen.images:,} images to verify needed a change "
        f"({seen.low:,} to {seen.high:,}); again: boxdrop rank {quote(project)}"
    )


def _taught(teaching: "Teaching") -> str:
    from boxdrop.domain.teaching import sentence_of

    return f"{span((datetime.now(UTC) - teaching.at).total_seconds())} ago: {sentence_of(teaching)}"


def _trained(training: "TrainingRecord") -> str:
    from boxdrop.store.trainings import sentence_of

    return f"{span((datetime.now(UTC) - training.at).total_seconds())} ago: {sentence_of(training)}"


def _headline(progress: "Progress") -> str:
    wait = "" if progress.wait_s is None else f"; all boxes in about {span(progress.wait_s)}"
    return f"{progress.project.name}: {progress.stage}{wait}."


def _runs(runs: "tuple[Run, ...]") -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("run", "state", "images", "begun", "took", "why"):
        justify: Any = "right" if column == "images" else "left"
        table.add_column(column, justify=justify, no_wrap=column != "why")
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


def _failed(ledger: "Ledger", name: str | None) -> "Iterator[Image]":
    from boxdrop.ledger import State

    for project in choose_projects(ledger, name):
        cursor: str | None = None
        while True:
            page = ledger.list_images(project.name, State.FAILED, cursor=cursor)
            yield from page.rows
            cursor = page.cursor
            if cursor is None:
                break


def _failure(image: "Image") -> str:
    return f"s3://{image.bucket}/{image.key}: {image.reason}: {image.message}"


# -- for programs --------------------------------------------------------------------------------------------


def _print_json(view: View, failures: bool) -> None:
    """One object: projects, and dead letters by queue."""
    import json

    from boxdrop.store.trainings import fields_of

    seen = view.look()
    projects = [
        _fields(each, view.findings(each), view.outlook(each), view.acceptance(each), view.teaching(each))
        | {"trainings": [fields_of(training) for training in view.trainings(each)]}
        | {"account_work": view.account_work(each.project.name).fields()}
        for each in seen
    ]
    document: dict[str, Any] = {
        "projects": projects,
        "dead_letters": view.dead_letters(),
        "standstill": view.standstill(),
        "account_work": view.account_work("").fields(),
    }
    if failures:
        document["failures"] = [
            {"key": image.key, "bucket": image.bucket, "reason": image.reason, "message": image.message}
            for image in _failed(view.ledger, view.name)
        ]
    say(json.dumps(document, indent=1))


def _fields(
    progress: "Progress",
    findings: tuple[str, ...],
    outlook: "StoredOutlook | None",
    standing: "Standing | None",
    teaching: "Teaching | None",
) -> dict[str, Any]:
    from boxdrop.review.standing import standing_fields

    project, oldest = progress.project, progress.oldest
    return {
        "project": project.name,
        "bucket": project.bucket,
        "label_studio_project": project.label_studio_id,
        "counts": {str(state): count for state, count in progress.counts.items()},
        "skipped": progress.skipped,
        "stage": progress.stage,
        "problems": list(progress.problems),
        "notes": [*progress.failures, *findings],
        "wait_s": progress.wait_s,
        "need_a_change": None
        if outlook is None
        else {
            "at": outlook.at.isoformat(),
            "images": outlook.images,
            "expected": round(outlook.expected, 1),
            "low": outlook.low,
            "high": outlook.high,
        },
        "acceptance": None if standing is None else standing_fields(standing),
        "teaching": None
        if teaching is None
        else {
            "at": teaching.at.isoformat(),
            "images": teaching.images,
            "lesson": teaching.lesson,
            "f1_with_words": None if teaching.before is None else teaching.before.f1,
            "f1_with_lesson": None if teaching.after is None else teaching.after.f1,
            "problem": teaching.problem,
        },
        "oldest_undone": None
        if oldest is None
        else {
            "key": oldest.key,
            "state": str(oldest.state),
            "since": (oldest.wanted_at or oldest.since).isoformat(),
        },
        "runs": [
            {
                "run": run.run_id,
                "state": str(run.state),
                "images": run.images,
                "created_at": run.created_at.isoformat(),
                "finished_at": None if run.finished_at is None else run.finished_at.isoformat(),
                "reason": run.reason,
            }
            for run in progress.runs
        ],
    }


def _print_changes(view: View) -> None:
    """For a log or a pipe: one line per project whenever its counts or its stage changed."""
    before: dict[str, str] = {}
    while True:
        for each in view.look():
            counts = ", ".join(f"{count:,} {state}" for state, count in each.counts.items() if count)
            said = "; ".join([counts or "no images", each.stage, *each.problems])
            if before.get(each.project.name) != said:
                before[each.project.name] = said
                say(f"{datetime.now():%H:%M:%S} {each.project.name}: {said}")
        sys.stdout.flush()
        time.sleep(_WATCH_S)
