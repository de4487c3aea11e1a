"""``boxdrop report``: what people changed, by label and detector, and which labels to trust."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxdrop.cli.numbers import SCORE, Whole
from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import counted, say
from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import RenderableType
    from rich.table import Table

    from boxdrop.assessment.intervals import Share
    from boxdrop.ledger import Project
    from boxdrop.review.figures import Figures, Report
    from boxdrop.services import Services

_CONFUSIONS = 8
_PERIODS = 8
_DISAGREEMENTS = 8


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with plots and pictures, one file, instead of printing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option(
    "--trust",
    type=SCORE,
    default=0.8,
    show_default=True,
    help="Precision and recall from which on a label is trusted.",
)
@click.option(
    "--quality",
    "quality_images",
    type=Whole(0),
    default=300,
    show_default=True,
    metavar="IMAGES",
    help="Measure sharpness and brightness of so many images; 0: of none.",
)
@system_option
def report(
    project: str, html: Path | None, as_json: bool, trust: float, quality_images: int, system: str | None
) -> None:
    """Report what annotators changed in the verified images of PROJECT.

    By label: boxes kept, adjusted, relabelled, deleted and added; precision and recall with 95 % intervals;
    the seconds that it took. By size, overlap and image quality: where the detector fails.

    Only what is fresh counts, in the image version that the annotator saw.

    \b
      boxdrop report fruit-baskets
      boxdrop report fruit-baskets --html report.html
    """
    from boxdrop.cli.console import Console
    from boxdrop.review.examples import Examples
    from boxdrop.review.figures import to_fields
    from boxdrop.review.learning import learning_fields, learning_lines
    from boxdrop.review.page import render
    from boxdrop.review.report import make_report
    from boxdrop.review.standing import standing_fields, standing_line, standing_of
    from boxdrop.services import Services
    from boxdrop.store.teachings import read_teachings

    services = Services.of_system(open_system(system))
    standing = standing_of(services.ledger, services.data, _find(services, project))
    teachings = read_teachings(services.data, project)
    examples = Examples()
    with Console(stderr=True).working("Reading what people verified") as working:
        observe = (lambda _: None) if html is None else examples
        made = make_report(services, project, quality_images=quality_images, observe=observe)
        if html is not None:
            working.update("Cutting out examples")
            pictures = list(examples.pictures(services.images))
    if html is not None:
        page = render(
            project,
            made,
            trusted=trust,
            at=services.clock(),
            pictures=pictures,
            teachings=teachings,
            standing=standing,
        )
        write_page(html, page)
        say(f"{counted(made.images, 'verified image')} in {html}", err=as_json)
    if as_json:
        fields = to_fields(made, trust) | {
            "teaching": learning_fields(teachings),
            "acceptance": None if standing is None else standing_fields(standing),
        }
        say(json.dumps({"project": project, "trust": trust, **fields}))
    elif html is None:
        console = Console()
        for each in _lines(project, made, trust):
            console.print(each)
        if standing is not None:
            console.print(
                f"Not counted here: {standing_line(project, standing)}", highlight=False, markup=False
            )
        for line in learning_lines(teachings):
            console.print(line, markup=False, highlight=False)


def write_page(path: Path, text: str) -> None:
    """Write a page, and its folder where there is none.

    Raises:
        BoxdropError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise BoxdropError(f"{path} cannot be written: {error.strerror}") from None


def _find(services: "Services", name: str) -> "Project":
    project = services.ledger.project(name)
    if project is None:
        names = ", ".join(each.name for each in services.ledger.projects()) or "none yet"
        raise BoxdropError(f"there is no project {name}; there are: {names}")
    return project


def _lines(project: str, report: "Report", trusted: float) -> "Iterable[RenderableType]":
    from rich.text import Text

    whole = report.whole
    left_out = "".join(f", {number:,} {why}" for why, number in report.left_out.items())
    yield Text(f"{project}: {counted(report.images, 'image')} verified{left_out}", "bold")
    if report.unknown_start:
        yield Text(
            f"{counted(report.unknown_start, 'image')} not counted below: the prediction was replaced while "
            "the task was open, so what the annotator started from is unknown.",
            "yellow",
        )
    yield from _control(report)
    if not whole.images:
        yield Text("Nothing to report yet: verify tasks in Label Studio, and run this again.")
        return
    yield Text(f"Detector: {', '.join(report.models)}")
    yield Text(f"{whole.untouched:,} of {counted(whole.images, 'image')} submitted without a change")
    if whole.seconds.median is not None:
        yield Text(
            f"{whole.seconds.median:.1f} s per image (median; 9 of 10 within {whole.seconds.p90:.1f} s), "
            f"{_duration(whole.seconds.total)} in all"
        )
    yield Text()
    yield _changes(report.labels, whole)
    yield Text()
    yield _trust(report.labels, trusted)
    yield Text()
    cuts = [("size", report.sizes), ("overlap", report.overlaps), ("quality", report.qualities)]
    yield _cuts([(cut, name, each) for cut, parts in cuts for name, each in parts.items()])
    if report.quality_images:
        yield Text(f"Quality measured on {counted(report.quality_images, 'image')}.", "dim")
    if report.confusion:
        pairs = sorted(report.confusion.items(), key=lambda pair: -pair[1])
        yield Text("\nRelabelled")
        for (offered, verified), boxes in pairs[:_CONFUSIONS]:
            yield Text(f"  {offered} → {verified}: {boxes:,}")
        if len(pairs) > _CONFUSIONS:
            yield Text(f"  and {len(pairs) - _CONFUSIONS} more pairs; see --json", "dim")
    if report.shared:
        yield Text()
        yield from _agreement(report)
    more = [
        ("detector", report.models),
        ("annotator", report.annotators),
        ("from", dict(list(report.periods.items())[-_PERIODS:])),
    ]
    for title, parts in more:
        if len(parts) > 1:
            yield Text()
            yield work_table(title, parts)


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column(columns[0], overflow="fold", max_width=26)
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _changes(labels: "Mapping[str, Figures]", whole: "Figures") -> "Table":
    table = _table("label", "offered", "kept", "adjusted", "relabelled", "deleted", "added")
    for name, each in (*labels.items(), ("all labels", whole)):
        counts = (each.offered, each.kept, each.adjusted, each.relabelled, each.deleted, each.added)
        style = "bold" if each is whole else ""
        table.add_row(name, *(f"{count:,}" if count else "·" for count in counts), style=style)
    return table


def _trust(labels: "Mapping[str, Figures]", trusted: float) -> "Table":
    from rich.text import Text

    from boxdrop.review.figures import Verdict

    styles = {Verdict.TRUST: "green", Verdict.UNSURE: "dim"}
    table = _table("label", "precision", "recall", "IoU")
    table.add_column("verdict", overflow="fold")
    for name, each in labels.items():
        verdict = each.verdict(trusted)
        table.add_row(
            name,
            _percent(each.precision),
            _percent(each.recall),
            "·" if each.median_iou is None else f"{each.median_iou:.2f}",
            Text(verdict, styles.get(verdict, "red")),
        )
    table.caption = "95 % intervals in brackets; IoU: median of the adjusted boxes"
    table.caption_justify = "left"
    return table


def _cuts(rows: "Iterable[tuple[str, str, Figures]]") -> "Table":
    table = _table("boxes by", "offered", "precision", "verified", "recall")
    for cut, name, each in rows:
        title = name if cut == "quality" else f"{cut}: {name}"
        table.add_row(
            title, f"{each.offered:,}", _percent(each.precision), f"{each.verified:,}", _percent(each.recall)
        )
    return table


def _control(report: "Report") -> "Iterable[RenderableType]":
    from rich.text import Text

    from boxdrop.assessment.control import say_control

    if not report.blind:
        return
    yield Text(f"{counted(report.blind, 'image')} verified without seeing boxes, to measure what boxes do:")
    if report.control is None:
        yield Text("  too few to compare; two with boxes and two without are the least", "dim")
    for each in () if report.control is None else say_control(report.control):
        yield Text(f"  {each}")


def _agreement(report: "Report") -> "Iterable[RenderableType]":
    from rich.text import Text

    yield Text(f"{counted(report.shared, 'image')} annotated by several people")
    table = _table("label", "boxes", "agreement")
    for name, share in report.agreement.items():
        table.add_row(name, f"{share.of:,}", _percent(share))
    yield table
    for each in report.disagreements[:_DISAGREEMENTS]:
        first, second = (f"annotator {user or '?'}" for user in each.users)
        label, other = each.difference.label, each.difference.other
        said = f"{other} by {second}" if other else f"nothing by {second}"
        yield Text(f"  task {each.task_id}: {label} by {first}, {said}")
    if len(report.disagreements) > _DISAGREEMENTS:
        yield Text(f"  and {len(report.disagreements) - _DISAGREEMENTS:,} more; see --json", "dim")


def work_table(title: str, parts: "Mapping[str, Figures]") -> "Table":
    """How much of each part people changed, and how long it took them.

    Args:
        title: of the parts' names.
    """
    table = _table(title, "images", "untouched", "precision", "recall", "s/image")
    for name, each in parts.items():
        median = each.seconds.median
        table.add_row(
            name,
            f"{each.images:,}",
            f"{each.untouched:,}",
            _percent(each.precision),
            _percent(each.recall),
            "·" if median is None else f"{median:.1f}",
        )
    return table


def _percent(share: "Share") -> str:
    if share.value is None:
        return "·"
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f}–{100 * share.high:.0f})"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
