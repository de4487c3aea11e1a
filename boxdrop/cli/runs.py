"""``boxdrop runs``: past runs, from the data bucket; needs no ZenML."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from boxdrop.cli.numbers import Whole
from boxdrop.cli.system import bucket_option, open_data_bucket, open_ledger, system_option, table_option
from boxdrop.cli.terminal import say
from boxdrop.domain.detector_names import shown_digest

if TYPE_CHECKING:
    from rich.table import Table

    from boxdrop.ledger import Ledger
    from boxdrop.store.history import PastRun
    from boxdrop.store.reports import RunSummary

_LIMIT = 20
_NARROW = 110  # columns
_WIDE = frozenset({"model", "images/s", "took", "$"})


class _Runs(click.Group):
    """`boxdrop runs` lists runs, and `boxdrop runs RUN` shows one, without a subcommand."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:  # a run's id, or a part of it
            return "show", show, args
        return super().resolve_command(ctx, args)


@click.group(cls=_Runs, invoke_without_command=True)
@system_option
@bucket_option
@table_option
@click.option("--project", help="Only runs of this project.")
@click.option(
    "-n",
    "--limit",
    type=Whole(),
    default=_LIMIT,
    show_default=True,
    help="Runs to list at most.",
)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.pass_context
def runs(
    ctx: click.Context,
    system: str | None,
    data_bucket: str | None,
    table: str | None,
    project: str | None,
    limit: int,
    everything: bool,
    as_json: bool,
) -> None:
    """List runs, newest first; `boxdrop runs RUN` shows one, and part of its id is enough.

    For unfinished runs, only the number of images and the state are known.
    """
    ctx.obj = data_bucket, system
    if ctx.invoked_subcommand is not None:
        return
    from boxdrop.cli.console import Console
    from boxdrop.pipeline.findings import few_boxes
    from boxdrop.store.history import list_runs
    from boxdrop.store.tracked import tracked_runs

    bucket = open_data_bucket(data_bucket, system)
    ledger = open_ledger(table, system) if table or not data_bucket else None
    found = list(list_runs(bucket, project, None if everything else limit + 1))
    console = Console()
    if as_json:
        shown = found if everything else found[:limit]
        say(json.dumps([_fields(run, _states(ledger, [run])) for run in shown], indent=1))
        return
    if not found:
        console.print("No runs yet." if project is None else f"No runs of {project} yet.")
        return
    shown = found if everything else found[:limit]
    states = _states(ledger, shown)
    console.print(_list(shown, states, tracked_runs(bucket), console.width < _NARROW))
    for run in shown:
        if run.summary is not None and (few := few_boxes(run.summary)):
            console.print(f"{run.run_id}: {few}", style="yellow")
            break  # the newest one is enough
    if len(found) > len(shown):
        console.print(f"… and older ones: --all, or -n {5 * limit}", style="dim")


@runs.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print its summary as JSON, for programs.")
@click.pass_context
def show(ctx: click.Context, run: str, as_json: bool) -> None:
    """Show the summary of RUN.

    Part of its id is enough, such as its first or last digits.
    """
    from boxdrop.cli.console import Console
    from boxdrop.pipeline.findings import findings_of
    from boxdrop.store.history import find_run, finished
    from boxdrop.store.tracked import zenml_urls

    bucket = open_data_bucket(*ctx.obj)
    summary = finished(bucket, find_run(bucket, run))
    if as_json:
        from boxdrop.store.reports import summary_to_json

        say(summary_to_json(summary))
        return
    console = Console()
    console.print(_about(summary, zenml_urls(bucket, summary.run_id)))
    console.print(_by_label(summary))
    for finding in findings_of(summary):
        console.print(finding, style="yellow")


@runs.command()
@click.argument("before")
@click.argument("after")
@click.pass_context
def compare(ctx: click.Context, before: str, after: str) -> None:
    """Show what changed between two runs.

    Labels, model, speed and counts of run BEFORE and run AFTER, side by side.
    """
    from rich.table import Table
    from rich.text import Text

    from boxdrop.cli.console import Console
    from boxdrop.store.history import compare as compare_runs
    from boxdrop.store.history import find_run, finished
    from boxdrop.store.labelsets import read_label_set

    bucket = open_data_bucket(*ctx.obj)
    first, second = (finished(bucket, find_run(bucket, run)) for run in (before, after))
    labels = [read_label_set(bucket, each.labels) for each in (first, second)]
    table = Table(box=None, header_style="dim", pad_edge=False)
    for header in ("", "", first.run_id, second.run_id, "change"):
        table.add_column(header)
    about = ""
    for line in compare_runs(first, second, *labels):
        if about and line.about != about:
            table.add_row()
        cells = (line.about if line.about != about else "", line.name, line.before, line.after)
        about = line.about
        table.add_row(*map(Text, cells), Text(line.change, style="bold" if line.change else ""))
    console = Console()
    if first.project != second.project:
        console.print(f"Runs of two projects: {first.project} and {second.project}")
    console.print(table)


def _states(ledger: "Ledger | None", listed: "list[PastRun]") -> dict[str, str]:
    """The ledger's record of runs without a summary."""
    if ledger is None:
        return {}
    states = {}
    for run in listed:
        if run.summary is None and (row := ledger.run(run.project, run.run_id)) is not None:
            states[run.run_id] = f"{row.state}: {row.reason}" if row.reason else str(row.state)
    return states


def _fields(run: "PastRun", states: dict[str, str]) -> dict[str, Any]:
    """The fields of a run in `--json`."""
    fields: dict[str, Any] = {"run": run.run_id, "project": run.project, "images": run.images}
    summary = run.summary
    if summary is None:
        return fields | {"state": states.get(run.run_id, "not finished"), "finished_at": None}
    return fields | {
        "state": "finished",
        "finished_at": summary.finished_at.isoformat(),
        "model_version": summary.model_version,
        "boxes": summary.boxes,
        "images_without_boxes": summary.without_boxes,
        "failed": summary.failed,
        "seconds": summary.seconds,
        "estimated_cost_usd": summary.estimated_cost_usd,
    }


def _list(listed: "list[PastRun]", states: dict[str, str], tracked: set[str], narrow: bool) -> "Table":
    """One row per run; narrow rows omit model, speed, time and cost."""
    from rich.table import Table
    from rich.text import Text

    from boxdrop.store.history import images_per_s

    table = Table(box=None, header_style="dim", pad_edge=False)
    left = ("run", "project", "finished", "model")
    right = ("images", "boxes", "failed", "images/s", "took", "$")
    headers = [*left, *right, *(["ZenML"] if tracked else [])]
    shown = [number for number, header in enumerate(headers) if not (narrow and header in _WIDE)]
    for number in shown:
        header = headers[number]
        justify: Any = "right" if header in right else "center" if header == "ZenML" else "left"
        table.add_column(
            header, justify=justify, no_wrap=header in ("run", "project", "finished") or header in right
        )
    for run in listed:
        mark = ["✓" if run.run_id in tracked else "·"] if tracked else []
        summary = run.summary
        if summary is None:
            state = states.get(run.run_id, "not finished")
            cells = [run.run_id, run.project, state, "", f"{run.images:,}", *[""] * 5]
        else:
            cells = [
                run.run_id,
                run.project,
                _ago(summary.finished_at),
                summary.model_version,
                f"{summary.images:,}",
                f"{summary.boxes:,}",
                f"{summary.failed:,}" if summary.failed else "·",
                f"{images_per_s(summary):.1f}",
                _span(summary.seconds),
                "" if summary.estimated_cost_usd is None else f"{summary.estimated_cost_usd:.4f}",
            ]
        row = [*cells, *mark]
        table.add_row(*(Text(row[number]) for number in shown))
    return table


def _about(summary: "RunSummary", zenml: list[str]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    from boxdrop.store.history import images_per_s

    bundle = summary.bundle
    cost = summary.estimated_cost_usd
    rows: dict[str, Any] = {
        "run": summary.run_id,
        "project": summary.project,
        "finished": f"{summary.finished_at:%Y-%m-%d %H:%M:%S} UTC, after {_span(summary.seconds)}",
        "images": f"{summary.images:,}: {summary.predicted:,} with predictions, {summary.failed:,} failed, "
        f"{summary.superseded:,} overwritten and {summary.gone:,} deleted during the run",
        "failures": ", ".join(f"{count:,} {why}" for why, count in summary.failures_by_reason.items()),
        "model": f"{summary.model_version} ({bundle.family}, {bundle.precision}, "
        f"{shown_digest(bundle.digest)})",
        "ran on": f"{summary.device}, {summary.provider}"
        + (f", {summary.instance_type}" if summary.instance_type else "")
        + (" Spot" if summary.spot else ""),
        "speed": f"{images_per_s(summary):.1f} images/s in {len(summary.shards)} shard"
        + ("s" if len(summary.shards) != 1 else ""),
        summary.device_kind: f"{summary.gpu_seconds:,.0f} s"
        + (f", about ${cost:.4f}" if cost is not None else ""),
        "labels": summary.labels[:16],
        "ZenML": ", ".join(url or "the store on this machine" for url in zenml),
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(value))
    return table


def _by_label(summary: "RunSummary") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("label")
    table.add_column("boxes", justify="right")
    table.add_column("scores, 0 to 1")
    for label, counts in summary.score_histograms.items():
        table.add_row(Text(label), f"{summary.boxes_by_label.get(label, 0):,}", _sparkline(counts))
    return table


def _sparkline(counts: "tuple[int, ...]") -> str:
    most = max(counts, default=0)
    return "".join("·" if not count else "▁▂▃▄▅▆▇█"[min(7, 8 * count // (most + 1))] for count in counts)


def _ago(time: datetime) -> str:
    return f"{_span((datetime.now(UTC) - time).total_seconds())} ago"


def _span(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h``, ``2 days``."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
