"""``boxdrop shadow``: what a candidate would change in images that nobody has verified."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxdrop.cli.numbers import Whole
from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import counted, say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from boxdrop.review.shadow import Shadow

_SHOWN = 8


@click.command(no_args_is_help=True)
@click.argument("project")
@click.argument("candidate")
@click.option("--images", type=Whole(1), default=200, show_default=True, help="Unverified images to use.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with pictures.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@system_option
def shadow(
    project: str, candidate: str, images: int, html: Path | None, as_json: bool, system: str | None
) -> None:
    """Run CANDIDATE beside the detector in force, on unverified images of PROJECT, without publishing
    anything (shadow mode).

    CANDIDATE is the name of a detector in the data bucket (or of two: NAME+NAME), a bundle's folder, or a
    labels.yaml (other prompts, labels or detector). It looks at a random sample of the images whose boxes
    wait for a person, on this machine. The answer shows which boxes both have, which only one has, and how
    scores and counts move; nobody has said which is right. `boxdrop compare` says that, on verified images.

    No prediction is stored, no task changes, and no annotator sees a box. Results stay in boxdrop's home: an
    interrupted run goes on where it was, and the next one looks only at new images. Images that the candidate
    was trained on (boxdrop train) are left out.

    \b
      boxdrop shadow fruit-baskets mine
      boxdrop shadow fruit-baskets other-prompts.yaml --html shadow.html
    """
    from boxdrop.cli.console import Console
    from boxdrop.home import home
    from boxdrop.review.shadow import FOLDER, run_shadow, shadow_fields
    from boxdrop.review.shadow_page import render
    from boxdrop.review.sides import open_side, read_current
    from boxdrop.services import Services

    services = Services.of_system(open_system(system))
    row, current = read_current(services, project)
    side = open_side(services, row, current, candidate)
    with Console(stderr=True).working("Reading what is published") as working:

        def show(done: int, all_: int) -> None:
            working.update(f"Detecting: {done:,} of {counted(all_, 'image')} done")

        found = run_shadow(services, row, current, side, images=images, folder=home() / FOLDER, on_image=show)
    if html is not None:
        from boxdrop.cli.report import write_page

        write_page(html, render(project, candidate, found, services.images))
        say(f"{counted(len(found.images), 'image')} in {html}", err=as_json)
    if as_json:
        say(json.dumps({"project": project, "candidate": candidate, **shadow_fields(found)}))
        return
    console = Console()
    for each in _lines(found):
        console.print(each)


def _lines(found: "Shadow") -> "Iterable[RenderableType]":
    from rich.table import Table
    from rich.text import Text

    yield Text(f"{counted(len(found.images), 'unverified image')}; nothing was published", "bold")
    for number, why in ((found.unread, "could not be read"), (found.trained_on, "left out: trained on them")):
        if number:
            yield Text(f"{counted(number, 'image')} {why}", "yellow")
    yield Text()
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("")
    for name in ("now", "candidate"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_row("detector", *found.model_versions)
    table.add_row("boxes", *(f"{each:,}" for each in found.boxes))
    table.add_row("boxes per image", *(f"{each / len(found.images):.2f}" for each in found.boxes))
    table.add_row("images without a box", *(f"{each:,}" for each in found.empty))
    table.add_row(
        "ms per image, here", *("unknown" if each is None else f"{1e3 * each:.1f}" for each in found.seconds)
    )
    yield table
    yield Text()
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("boxes by label", overflow="fold")
    for name in ("now", "cand.", "both", "only now", "only cand.", "renamed", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found.labels:
        counts = (each.now, each.new, each.both, each.only_now, each.only_new, each.renamed)
        moved = "" if each.score_now is None else f"{each.score_now:.2f} → {each.score_new:.2f}"
        table.add_row(each.label, *(f"{count:,}" for count in counts), moved)
    yield table
    if found.renamed:
        yield Text("\nAnother label on the same object (now → candidate)")
    for (now, new), number in found.renamed[:_SHOWN]:
        yield Text(f"  {now} → {new}: {counted(number, 'box', 'boxes')}")
    differing = [each for each in found.images if each.difference][:_SHOWN]
    if differing:
        yield Text("\nLargest differences")
    for image in differing:
        sides = f"{len(image.boxes[0])} now, {len(image.boxes[1])} of the candidate"
        yield Text(f"  {image.key}: {image.difference} differ ({sides})")
    yield Text()
    share = "neither has a box"
    if found.agreement is not None:
        low, high = 100 * found.low, 100 * found.high
        share = (
            f"both have {100 * found.agreement:.0f} % of the objects (95 % interval {low:.0f} to {high:.0f})"
        )
    yield Text(f"{share}; {counted(found.differing, 'image')} would look different", "bold")
    yield Text("Nobody has verified these images: this does not say which is better.", "dim")
