"""``boxdrop rank``: order what people see, by what verification has taught."""

import json
from typing import TYPE_CHECKING

import click

from boxdrop.cli.system import label_studio_option, log_in, open_system, system_option
from boxdrop.cli.terminal import counted, say

if TYPE_CHECKING:
    from boxdrop.assessment.priority import Outlook

_WAIT_S = 300


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@label_studio_option
@system_option
def rank(project: str, as_json: bool, url: str | None, system: str | None) -> None:
    """Put the images of PROJECT with the most to correct first in Label Studio.

    It learns from what is verified so far, sets the column priority of each task that nobody has verified
    (the expected number of mistakes), and with it the order of the tab To verify and of the label stream. It
    also says how many of these images probably need a change. Run it again as verified work grows.
    """
    from boxdrop.cli.console import Console
    from boxdrop.review.order import order_images
    from boxdrop.services import Services

    services = Services.of_system(open_system(system), label_studio=log_in(url, system))
    console = Console(stderr=True)
    with console.working(f"Ordering {project}") as spinner:
        done = order_images(
            services,
            project,
            wait_s=_WAIT_S,
            on_progress=lambda number, all_: spinner.update(
                f"Ordering {project}: {number:,} of {all_:,} tasks"
            ),
        )
    if as_json:
        seen = done.outlook
        fields = {
            "images": done.images,
            "changed": done.changed,
            "learned_from": done.learned_from,
            "need_a_change": None
            if seen is None
            else {"expected": round(seen.expected, 1), "low": seen.low, "high": seen.high},
            "first": [{"key": key, "priority": round(doubt, 2)} for key, doubt in done.first],
        }
        say(json.dumps(fields, indent=1))
        return
    if done.outlook is None:
        say(
            f"{project}: too little is verified to learn from (10 images with 10 boxes are enough); "
            f"{counted(done.images, 'image is', 'images are')} ordered by candidates near their thresholds."
        )
    else:
        say(
            f"{project}: learned from {counted(done.learned_from, 'verified image')}. {said_of(done.outlook)}"
        )
    say(f"{counted(done.changed, 'task has', 'tasks have')} a new priority. Most to check:")
    for key, doubt in done.first:
        say(f"  {doubt:6.2f}  {key}")


def said_of(outlook: "Outlook") -> str:
    """``About 40 of 300 images that nobody has verified need a change (29 to 52).``"""
    number = round(outlook.expected)
    return (
        f"About {number:,} of {counted(outlook.images, 'image')} that nobody has verified "
        f"{'needs' if number == 1 else 'need'} a change ({outlook.low:,} to {outlook.high:,})."
    )
