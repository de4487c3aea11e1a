"""``boxdrop tune``: thresholds from verified work."""

import difflib
import json
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from boxdrop.cli.numbers import Finite
from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import counted, say
from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    from boxdrop.assessment.thresholds import Goal, Suggestion
    from boxdrop.cli.labels_file import LabelsFile
    from boxdrop.domain.labels import LabelSet
    from boxdrop.ledger import Project
    from boxdrop.review.gathering import Gathered
    from boxdrop.review.tuning_page import BoxChanges
    from boxdrop.services import Services

_SHARE = Finite(0, 1, min_open=True, max_open=True)


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option(
    "--for",
    "purpose",
    type=click.Choice(["review", "training"]),
    default="review",
    show_default=True,
    help="Boxes that people check, or boxes to train on unchecked, where recall counts double.",
)
@click.option("--precision", type=_SHARE, help="Reach this share of right boxes instead.")
@click.option("--recall", type=_SHARE, help="Reach this share of objects found instead.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write a page with pictures of boxes that would appear and disappear.",
)
@click.option("--apply", "apply_", is_flag=True, help="Write labels.yaml and bring it into force.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@system_option
def tune(
    project: str,
    purpose: str,
    precision: float | None,
    recall: float | None,
    html: Path | None,
    apply_: bool,
    as_json: bool,
    system: str | None,
) -> None:
    """Suggest a threshold for each label of PROJECT, learned from its verified images.

    Shows the change of labels.yaml, and the boxes that it would add and remove in the images that nobody has
    verified. With --apply, those tasks get their new boxes from what is stored; no detector runs, and
    verified work never changes. Labels with few verified boxes stay near the others.

    \b
      boxdrop tune fruit                     best F1, for people who review
      boxdrop tune fruit --precision 0.95    few wrong boxes
      boxdrop tune fruit --html tune.html    with pictures of boxes won and lost
      boxdrop tune fruit --apply
    """
    from boxdrop.assessment.thresholds import REVIEW, TRAINING, Goal, suggest
    from boxdrop.cli.labels_file import LabelsFile
    from boxdrop.cli.report import write_page
    from boxdrop.pipeline.labels import change_by
    from boxdrop.review.gathering import find_project, gather
    from boxdrop.review.tuning_page import render
    from boxdrop.services import Services
    from boxdrop.store.bundles import resolve

    if precision is not None and recall is not None:
        raise BoxdropError("give --precision or --recall, not both")
    goal = TRAINING if purpose == "training" else REVIEW
    if precision is not None or recall is not None:
        goal = Goal(precision=precision, recall=recall)
    chosen = open_system(system)
    services = Services.of_system(chosen)
    row, _ = find_project(services, project)
    file = LabelsFile(chosen, project)
    label_set = file.label_set()
    if change_by(services, row, label_set).detects_again:
        raise BoxdropError(
            f"{file.where} has other prompts, tiling or another detector than what is in force; "
            f"bring it into force first: boxdrop apply {quote(project)}"
        )
    gathered = gather(services, row, label_set)
    default = row.default_threshold or 0.0
    current = [default if each.threshold is None else each.threshold for each in label_set]
    try:
        suggestion = suggest(
            gathered.images, _array(current), goal, resolve(services.data, label_set.detector).floor
        )
    except BoxdropError as error:
        note = _others(gathered)
        raise type(error)(f"{error}{f' ({note})' if note else ''}") from None
    new = _changed(label_set, suggestion)
    changes = _changes(services, row, label_set, new if suggestion.changes else label_set)
    won, lost = changes.won, changes.lost
    text = file.text_with_thresholds(new)
    if as_json:
        say(json.dumps(_fields(label_set, suggestion, goal, won, lost), indent=1))
    else:
        _show(project, label_set, suggestion, goal, gathered)
        _show_diff(file, text, sum(won.values()), sum(lost.values()))
    if html is not None:
        pictures = changes.pictures(services.images)
        page = render(project, label_set.names, suggestion, changes, pictures, services.clock())
        write_page(html, page)
        say(f"Pictures of both: {html}", err=as_json)
    if apply_ and suggestion.changes:
        file.put(text, yes=True)
    elif suggestion.changes and not as_json:
        say(f"\nNothing is changed yet. To apply: {_command(project, purpose, precision, recall)} --apply")


def _array(values: list[float]) -> Any:
    import numpy as np

    return np.array(values, np.float64)


def _changed(label_set: "LabelSet", suggestion: "Suggestion") -> "LabelSet":
    """The label set with the suggested thresholds; labels that keep theirs stay as they are written."""
    labels = tuple(
        replace(label, threshold=each.after) if each.after != each.before else label
        for label, each in zip(label_set, suggestion.labels, strict=True)
    )
    return replace(label_set, labels=labels)


def _changes(services: "Services", row: "Project", before: "LabelSet", after: "LabelSet") -> "BoxChanges":
    """Boxes won and lost in unverified images."""
    from boxdrop.review.differences import differences
    from boxdrop.review.tuning_page import BoxChanges

    found = BoxChanges()
    for each in differences(services, row, before, after) if after != before else ():
        if each is not None:
            found(each)
    return found


def _others(gathered: "Gathered") -> str:
    if not gathered.others:
        return ""
    return (
        f"{counted(gathered.others, 'more image')} verified without the boxes of the detector and prompts in "
        "force"
    )


def _show(
    project: str, label_set: "LabelSet", suggestion: "Suggestion", goal: "Goal", gathered: "Gathered"
) -> None:
    from rich.table import Table
    from rich.text import Text

    from boxdrop.cli.console import Console

    boxes = suggestion.before.objects
    say(
        f"{project}: learned from {counted(suggestion.images, 'verified image')} with "
        f"{counted(boxes, 'box', 'boxes')}. In images that it did not learn from:"
    )
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("label", overflow="fold")
    for column in ("threshold", "suggested", "95 % interval", "verified", "precision", "recall"):
        table.add_column(column, justify="right", no_wrap=True)
    for label, each in zip(label_set, suggestion.labels, strict=True):
        table.add_row(
            Text(label.name),
            f"{each.before:g}",
            "=" if each.after == each.before else f"{each.after:g}",
            f"{each.low:.2f}–{each.high:.2f}",
            f"{each.objects:,}",
            f"{each.shown.precision:.2f}" if each.shown.shown else "–",
            f"{each.shown.recall:.2f}" if each.shown.objects else "–",
        )
    before, after = suggestion.before, suggestion.after
    name = "F1" if goal.beta == 1 else f"F{goal.beta:g}"
    for title, total in (("all, as now", before), ("all, suggested", after)):
        precision, recall = f"{total.precision:.3f}", f"{total.recall:.3f}"
        table.add_row(title, "", "", f"{name} {total.f_score(goal.beta):.3f}", "", precision, recall)
    Console().print(table)
    if note := _others(gathered):
        say(f"Not used: {note}.", err=True)


def _show_diff(file: "LabelsFile", text: str, won: int, lost: int) -> None:
    if text == file.text:
        say("The thresholds in force are as good as any that the verified images suggest; nothing changes.")
        return
    say()
    lines = difflib.unified_diff(
        file.text.splitlines(), text.splitlines(), "labels.yaml", "labels.yaml, suggested", lineterm="", n=1
    )
    for line in lines:
        say(line)
    say(
        f"\nIn the images that nobody has verified, {counted(won, 'box appears', 'boxes appear')} and "
        f"{counted(lost, 'box disappears', 'boxes disappear')}."
    )


def _command(project: str, purpose: str, precision: float | None, recall: float | None) -> str:
    words = ["boxdrop tune", quote(project)]
    if purpose != "review":
        words.append(f"--for {purpose}")
    words += [
        f"--{name} {value:g}" for name, value in (("precision", precision), ("recall", recall)) if value
    ]
    return " ".join(words)


def _fields(
    label_set: "LabelSet",
    suggestion: "Suggestion",
    goal: "Goal",
    won: dict[str, int],
    lost: dict[str, int],
) -> dict[str, Any]:
    def figures(tally: Any) -> dict[str, Any]:
        counts = {"right": tally.right, "shown": tally.shown, "objects": tally.objects}
        return {**counts, "f": round(tally.f_score(goal.beta), 4)}

    return {
        "images": suggestion.images,
        "is_better": suggestion.is_better,
        "before": figures(suggestion.before),
        "after": figures(suggestion.after),
        "labels": [
            {
                "name": label.name,
                "before": each.before,
                "after": each.after,
                "low": round(each.low, 3),
                "high": round(each.high, 3),
                **figures(each.shown),
                "boxes_won": won.get(label.name, 0),
                "boxes_lost": lost.get(label.name, 0),
            }
            for label, each in zip(label_set, suggestion.labels, strict=True)
        ],
    }
