"""``boxdrop recheck``: verified images that may hold a mistake."""

import json
from typing import TYPE_CHECKING

import click

from boxdrop.cli.system import label_studio_option, log_in, open_system, system_option
from boxdrop.cli.terminal import counted, say

if TYPE_CHECKING:
    from boxdrop.review.again import Suspect

_WAIT_S = 300


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=30, show_default=True, help="Images to name."
)
@click.option(
    "--mark", is_flag=True, help="List them in the tab Look again of Label Studio, with the reason."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@label_studio_option
@system_option
def recheck(project: str, limit: int, mark: bool, as_json: bool, url: str | None, system: str | None) -> None:
    """Name the verified images of PROJECT that most probably hold a mistake, and what it may be.

    An object without a box, a box with the wrong label, or a box in the wrong place: where the detector,
    calibrated on all that is verified, disagrees with the person. Nothing verified changes; with --mark, a
    column of its task says what to look at.

    \b
      boxdrop recheck fruit
      boxdrop recheck fruit --limit 50 --mark
    """
    from boxdrop.review.again import find_suspects, mark_suspects
    from boxdrop.services import Services

    chosen = open_system(system)
    services = Services.of_system(chosen)
    suspects = find_suspects(services, project, limit)
    if mark:
        services = Services.of_system(chosen, label_studio=log_in(url, system))
        mark_suspects(services, project, suspects, wait_s=_WAIT_S)
    if as_json:
        say(json.dumps([_fields(each) for each in suspects], indent=1))
        return
    for each in suspects:
        say(f"{each.score:5.2f}  {each.key}: {each.text}")
    if not suspects:
        say("The detector and people agree on everything that is verified.")
    elif mark:
        say(f"{counted(len(suspects), 'image is', 'images are')} in the tab Look again of Label Studio.")


def _fields(suspect: "Suspect") -> dict[str, object]:
    return {
        "key": suspect.key,
        "task": suspect.task_id,
        "score": round(suspect.score, 3),
        "doubts": [
            {"kind": str(doubt.kind), "reason": text, "score": round(doubt.score, 3), "xyxy": doubt.xyxy}
            for doubt, text in suspect.doubts
        ],
    }
