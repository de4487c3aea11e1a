"""``boxdrop accept``: images that need nobody, as labels.yaml asks."""

import json
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from boxdrop.cli.system import label_studio_option, log_in, open_system, system_option
from boxdrop.cli.terminal import counted, say

if TYPE_CHECKING:
    from boxdrop.review.acceptance import Decision
    from boxdrop.store.acceptances import StoredAcceptance

_WAIT_S = 300


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option("--restart", is_flag=True, help="Begin again after the audit stopped the rule.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@label_studio_option
@system_option
def accept(project: str, restart: bool, as_json: bool, url: str | None, system: str | None) -> None:
    """Accept the images of PROJECT whose boxes are so sure that nobody has to check them.

    labels.yaml asks for it: `review: {accept_above: 0.98 precision}`. Verified work must prove that
    precision; accepted tasks then move to the tab Accepted of Label Studio. People still verify a random
    part, 5 % unless `audit` says otherwise, and once they find too many mistakes, all accepted tasks go back
    to To verify. Run it again as verified work grows and after new images came. It changes no task that
    anybody worked on.

    \b
      boxdrop accept fruit
      boxdrop accept fruit --restart
    """
    from boxdrop.cli.console import Console
    from boxdrop.review.acceptance import accept_images
    from boxdrop.services import Services

    services = Services.of_system(open_system(system), label_studio=log_in(url, system))
    with Console(stderr=True).working(f"Deciding about {project}"):
        done = accept_images(services, project, restart=restart, wait_s=_WAIT_S)
    if as_json:
        say(json.dumps(_fields(done), indent=1))
    else:
        _show(project, done)


def _show(project: str, done: "Decision") -> None:
    from boxdrop.review.standing import audited

    stored = done.stored
    if stored is None:
        say(
            f"{project} accepts no images: its labels.yaml has no `review: {{accept_above: 0.98 precision}}`."
        )
    elif stored.stopped:
        say(
            f"{project}: the audit stopped the rule. {audited(stored)}, and {stored.promise:.1%} was "
            "promised. Nothing is accepted; people verify all images."
        )
        say(f"Once the cause is found: boxdrop accept {quote(project)} --restart")
    elif not stored.images:
        say(f"{project}: nothing is accepted yet. {_not_proven(stored)}")
    else:
        say(
            f"{project}: {counted(len(stored.images), 'image')} accepted at a precision of "
            f"{stored.promise:.1%}. {_proof(stored)}"
        )
    if stored is not None and stored.audits and not stored.stopped:
        waiting = f"{done.waiting:,} of {counted(len(stored.audits), 'image')} wait, first in To verify"
        say(f"Audit: {audited(stored)}; {waiting}.")
    if done.marked or done.unmarked:
        say(
            f"{counted(done.marked, 'task')} moved to the tab Accepted, "
            f"{counted(done.unmarked, 'task')} back to To verify."
        )


def _proof(stored: "StoredAcceptance") -> str:
    return (
        f"{stored.proof_right:,} of {counted(stored.proof_boxes, 'box', 'boxes')} were right in "
        f"{counted(stored.proof_images, 'verified image')} that are as sure, which proves {stored.low:.1%}."
    )


def _not_proven(stored: "StoredAcceptance") -> str:
    if not stored.proof_boxes:
        return (
            f"None of {counted(stored.learned_from, 'verified image')} is sure enough to prove a precision "
            f"of {stored.promise:.1%}; verify more, or promise less."
        )
    if stored.low < stored.promise:
        return f"{_proof(stored)} {stored.promise:.1%} is promised: verify more, or promise less."
    return f"{_proof(stored)} No other image is as sure."


def _fields(done: "Decision") -> dict[str, Any]:
    stored = done.stored
    if stored is None:
        return {"promise": None, "accepted": 0, "marked": done.marked, "unmarked": done.unmarked}
    return {
        "promise": stored.promise,
        "accepted": len(stored.images),
        "marked": done.marked,
        "unmarked": done.unmarked,
        "learned_from": stored.learned_from,
        "proof": {
            "images": stored.proof_images,
            "boxes": stored.proof_boxes,
            "right": stored.proof_right,
            "precision_at_least": round(stored.low, 4),
        },
        "audit": {
            "images": stored.audited,
            "boxes": stored.audit_boxes,
            "right": stored.audit_right,
            "waiting": done.waiting,
            "of": len(stored.audits),
        },
        "stopped": stored.stopped.isoformat() if stored.stopped else None,
    }
