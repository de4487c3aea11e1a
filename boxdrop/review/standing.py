"""How the images that `boxdrop accept` accepted stand now: counted in the ledger, and said in one line."""

from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Any

from boxdrop.ledger import State
from boxdrop.store.acceptances import StoredAcceptance, basis_of, read_acceptance
from boxdrop.store.labelsets import read_label_set

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket
    from boxdrop.ledger import Ledger, Project


@dataclass(frozen=True, slots=True)
class Standing:
    """How a project's acceptance stands now.

    Attributes:
        stored: what was decided last.
        in_force: whether it is about the boxes and the promise of the labels in force.
        accepted: images that are accepted and that nobody has worked on since.
        audited: verified images of the audit.
    """

    stored: StoredAcceptance
    in_force: bool
    accepted: int
    audited: int


def standing_of(ledger: "Ledger", data: "Bucket", project: "Project") -> Standing | None:
    """How a project's acceptance stands, counted in the ledger; None where its labels ask for none.

    Raises:
        BoxdropError: the bucket or the ledger cannot be read.
    """
    stored = None if project.labels is None else read_acceptance(data, project.name)
    if stored is None or project.labels is None:
        return None
    label_set = read_label_set(data, project.labels)
    if label_set.review.accept_above is None:
        return None
    in_force = stored.basis == basis_of(project, label_set)
    accepted = 0
    if in_force and stored.stopped is None:
        judged = {each.image_id: (each.version, each.prediction_id) for each in stored.images}
        accepted = sum(
            row.state == State.TASKED
            and not row.skipped
            and (row.task_version, row.prediction_id) == judged[image_id]
            for image_id, row in ledger.images(judged).items()
        )
    audits = ledger.images(each.image_id for each in stored.audits)
    audited = sum(row.state == State.VERIFIED for row in audits.values())
    return Standing(stored, in_force, accepted, audited)


def standing_line(project: str, standing: Standing) -> str:
    """How a project's acceptance stands, with the command that decides anew."""
    stored, command = standing.stored, f"boxdrop accept {quote(project)}"
    if stored.stopped:
        return (
            f"the audit stopped accepting: {audited(stored)}, and {stored.promise:.1%} was promised; "
            f"see {command}"
        )
    if not standing.in_force:
        return f"nothing is accepted: labels or boxes changed since that was decided; decide again: {command}"
    return (
        f"{_counted(standing.accepted, 'image')} accepted at a precision of {stored.promise:.1%}; "
        f"{standing.audited:,} of {_counted(len(stored.audits), 'image')} of the audit verified; "
        f"again: {command}"
    )


def audited(stored: StoredAcceptance) -> str:
    """What people said about the audited images when the acceptance was decided last."""
    return (
        f"{stored.audit_right:,} of {_counted(stored.audit_boxes, 'box', 'boxes')} were right in "
        f"{_counted(stored.audited, 'audited image')}"
    )


def standing_fields(standing: Standing) -> dict[str, Any]:
    """The same for programs."""
    stored = standing.stored
    return {
        "at": stored.at.isoformat(),
        "in_force": standing.in_force,
        "promise": stored.promise,
        "accepted": standing.accepted,
        "audit": {"verified": standing.audited, "of": len(stored.audits)},
        "stopped": stored.stopped.isoformat() if stored.stopped else None,
    }


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
