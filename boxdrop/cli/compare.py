"""``boxdrop compare``: two detectors, prompts or label sets on verified images."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxdrop.cli.numbers import Finite, Whole
from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import counted, say
from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from boxdrop.review.comparison import Comparison, Score
    from boxdrop.review.sides import Side
    from boxdrop.services import Services

_SHOWN = 8


@click.command(no_args_is_help=True)
@click.argument("project")
@click.argument("a")
@click.argument("b")
@click.option(
    "--images",
    type=Whole(1),
    default=100,
    show_default=True,
    help="Verified images to use.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with pictures.",
)
@click.option("--price", type=Finite(0, 1e6), metavar="DOLLARS", help="What an hour of this machine costs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@system_option
def compare(
    project: str,
    a: str,
    b: str,
    images: int,
    html: Path | None,
    price: float | None,
    as_json: bool,
    system: str | None,
) -> None:
    """Compare A with B on verified images of PROJECT, on this machine.

    A and B are each the name of a detector in the data bucket (or of two: NAME+NAME), a bundle's folder, a
    labels.yaml (other prompts, labels or detector), or 'now': what PROJECT uses.

    No task changes, and no annotator sees a box. Labels that only one of them has are left out, and images
    that one of them was trained on (boxdrop train), too. On images that nobody has verified: boxdrop shadow.

    \b
      boxdrop compare fruit-baskets now owlv2
      boxdrop compare fruit-baskets now other-prompts.yaml --html compare.html
    """
    from boxdrop.cli.console import Console
    from boxdrop.review.comparison import compare_sides, comparison_fields
    from boxdrop.review.comparison_page import render
    from boxdrop.services import Services

    services = Services.of_system(open_system(system))
    first, second = _sides(services, project, a, b)
    with Console(stderr=True).working("Detecting") as working:

        def show(done: int) -> None:
            working.update(f"Detecting: {counted(done, 'image')} done")

        found = compare_sides(services, project, first, second, images=images, on_image=show)
    if html is not None:
        from boxdrop.cli.report import write_page

        write_page(html, render(project, found, services.images))
        say(f"{counted(found.images, 'image')} in {html}", err=as_json)
    if as_json:
        say(json.dumps({"project": project, **comparison_fields(found)}))
        return
    console = Console()
    for each in _lines(found, price):
        console.print(each)


def _sides(services: "Services", project: str, a: str, b: str) -> "tuple[Side, Side]":
    from boxdrop.review.sides import open_side, read_current

    row, current = read_current(services, project)
    sides = [open_side(services, row, current, each) for each in (a, b)]
    shared = [name for name in sides[0].label_set.names if name in sides[1].label_set]
    if not shared:
        raise BoxdropError(f"{a} and {b} have no label in common: compare label sets of the same things")
    first, second = (
        replace(
            side, label_set=replace(side.label_set, labels=tuple(side.label_set[each] for each in shared))
        )
        for side in sides
    )
    return first, second


def _lines(found: "Comparison", price: float | None) -> "Iterable[RenderableType]":
    from rich.table import Table
    from rich.text import Text

    a, b = found.first, found.second
    yield Text(f"{counted(found.images, 'verified image')}, {counted(len(found.labels), 'label')}", "bold")
    if found.unread:
        yield Text(f"{counted(found.unread, 'image')} could not be read", "yellow")
    if found.seen:
        yield Text(f"{counted(found.seen, 'image')} left out: A or B was trained on them", "dim")
    yield Text()
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("")
    for name in (f"A: {a.name}", f"B: {b.name}", "B − A"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_row("detector", a.model_version, b.model_version, "")
    for title, one, two in _shares(a, b):
        table.add_row(title, f"{one:.3f}", f"{two:.3f}", f"{two - one:+.3f}")
    table.add_row(
        "ms per image", f"{1e3 * a.seconds:.1f}", f"{1e3 * b.seconds:.1f}", f"× {b.seconds / a.seconds:.2f}"
    )
    if price is not None:
        costs = [price * 1000 * each.seconds / 3600 for each in (a, b)]
        table.add_row("$ per 1,000 images", *(f"{cost:.4f}" for cost in costs), f"{costs[1] - costs[0]:+.4f}")
    yield table
    yield Text()
    verdict = "B is better" if found.low > 0 else "A is better" if found.high < 0 else "no clear difference"
    yield Text(
        f"{verdict}: F1 differs by {b.f1 - a.f1:+.3f} (95 % interval {found.low:+.3f} to {found.high:+.3f})",
        "bold",
    )
    thresholds = "learned from other images" if found.tuned else "in force: too few images to learn any"
    yield Text(f"F1 at thresholds {thresholds}. Time of this machine, one image at a time.", "dim")
    differing = [each for each in found.pairs if each.difference][:_SHOWN]
    if differing:
        yield Text("\nLargest differences (right boxes of boxes shown)")
    for each in differing:
        shares = [
            f"{int(right.sum())} of {len(shown)}" for right, shown in zip(each.right, each.shown, strict=True)
        ]
        yield Text(f"  {each.key}: A {shares[0]}, B {shares[1]}, verified {len(each.truth)}")


def _shares(a: "Score", b: "Score") -> "Iterable[tuple[str, float, float]]":
    yield "AP50", a.ap50, b.ap50
    yield "AP", a.ap, b.ap
    yield "F1", a.f1, b.f1
    yield "precision", a.precision, b.precision
    yield "recall", a.recall, b.recall
    for label in a.labels:
        yield f"AP50 {label}", a.labels[label], b.labels.get(label, 0.0)
