"""Accepts images that need nobody, and audits that decision: ``review: {accept_above: …}`` of labels.yaml.

The rule and the audit's mathematics are in `boxdrop.assessment.acceptance`. Here, verified work is read, the
decision stored, and tasks marked in Label Studio. An image that a person worked on is never marked.
Everything follows from what is stored and from hashes, so a command that was interrupted is simply repeated.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from shlex import quote
from typing import TYPE_CHECKING, Final

from boxdrop.assessment.acceptance import AcceptanceRule, Audit, is_audited, learn_acceptance, watch
from boxdrop.assessment.evidence import detections_of
from boxdrop.assessment.outcomes import compare
from boxdrop.assessment.priority import Ranking, thresholds_of
from boxdrop.datasets.freshness import Fresh, read_documents_of
from boxdrop.domain.errors import BoxdropError
from boxdrop.iterables import chunked
from boxdrop.labelstudio.tabs import ensure_accepted
from boxdrop.labelstudio.task_data import ACCEPTED
from boxdrop.labelstudio.tasks import ProjectTasks
from boxdrop.ledger import State
from boxdrop.pipeline.marks import write_states
from boxdrop.pipeline.publish import BusyError, hold_lease, number_of
from boxdrop.review.differences import read_unverified
from boxdrop.review.gathering import find_project, gather
from boxdrop.store.acceptances import (
    AcceptedImage,
    StoredAcceptance,
    basis_of,
    read_acceptance,
    write_acceptance,
)
from boxdrop.store.labelsets import read_label_set

if TYPE_CHECKING:
    from boxdrop.domain.label import ReviewRule
    from boxdrop.domain.labels import LabelSet
    from boxdrop.ledger import Project
    from boxdrop.services import Services

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Decision:
    """What `accept_images` did.

    Attributes:
        stored: the decision; None where labels.yaml does not ask for one.
        marked, unmarked: tasks that came into the tab *Accepted*, and that left it.
        waiting: images of the audit that nobody has verified yet.
    """

    stored: StoredAcceptance | None
    marked: int
    unmarked: int
    waiting: int


def accept_images(services: "Services", name: str, *, restart: bool = False, wait_s: float = 0) -> Decision:
    """Decide which images of a project need nobody, and mark their tasks.

    Args:
        services: needs `ledger`, `data` and `label_studio`.
        restart: begin again after the audit stopped the rule; only what was verified since that audit began
            teaches the new rule.
        wait_s: how long to wait for publishers.

    Raises:
        BoxdropError: there is no such project with labels.
        BusyError, LeaseLostError, LabelStudioError: repeat it, which is safe.
    """
    row, digest = find_project(services, name)
    label_set = read_label_set(services.data, digest)
    number = number_of(services.ledger, name)
    before = read_acceptance(services.data, name)
    decided, top = None, 0.0
    if label_set.review.accept_above is not None:
        decided, top = _decide(services, row, label_set, _begin(services, row, label_set, before, restart))
    with hold_lease(services.ledger, name, services.settings.lease_s, wait_s) as keep:
        if read_acceptance(services.data, name) != before:
            raise BusyError(f"another `boxdrop accept {name}` decided in the meantime; run it again")
        tasks = ProjectTasks(services.label_studio, number, keep)
        if decided is None:
            if before is not None:
                write_acceptance(services.data, name, replace(before, images=(), audits=()))
            return Decision(None, 0, _unmark(services, tasks, {}), 0)
        numbers, decided = _free_of_work(services, tasks, decided)
        write_acceptance(services.data, name, decided)  # first: what is marked is always named there
        unmarked = _unmark(services, tasks, numbers)
        marked = sorted(set(numbers) - {task.number for task in tasks.in_state(ACCEPTED)})
        if numbers:
            ensure_accepted(services.label_studio, number)
        tasks.mark_all(marked, ACCEPTED)
        audits = {} if decided.stopped else waiting_audits(services, decided)
        for some in chunked(sorted(audits), _AT_ONCE):
            tasks.rank(dict.fromkeys(some, top))
    return Decision(decided, len(marked), unmarked, len(audits))


def end_acceptance(
    services: "Services", name: str, image_ids: Collection[str] | None = None, *, wait_s: float = 0
) -> int:
    """Give accepted tasks back as soon as their promise no longer holds, without another `boxdrop accept`.

    It ends when the audit has broken the promise, and when labels in force ask for other boxes, for another
    promise, or for none.

    Args:
        services: needs `ledger`, `data` and `label_studio`.
        image_ids: that people have just worked on; unless the audit asks for one of them, nothing else is
            read. None: whatever people did.
        wait_s: how long to wait for publishers.

    Returns:
        How many tasks left the tab *Accepted*.

    Raises:
        BusyError, LeaseLostError, LabelStudioError: repeat it, which is safe.
    """
    before = read_acceptance(services.data, name)
    if before is None:
        return 0
    if image_ids is not None and not {each.image_id for each in before.audits}.intersection(image_ids):
        return 0
    row, digest = find_project(services, name)
    if before.stopped is not None or before.basis != basis_of(row, read_label_set(services.data, digest)):
        ended = replace(before, images=())
    else:
        ended = _after_audit(services, name, before)
        if ended.stopped is None:
            return 0
    with hold_lease(services.ledger, name, services.settings.lease_s, wait_s) as keep:
        if read_acceptance(services.data, name) != before:
            raise BusyError(f"`boxdrop accept {name}` decided in the meantime; try again")
        if ended != before:
            write_acceptance(services.data, name, ended)
        return _unmark(
            services, ProjectTasks(services.label_studio, number_of(services.ledger, name), keep), {}
        )


def _after_audit(services: "Services", name: str, before: StoredAcceptance) -> StoredAcceptance:
    """A decision with what the audit says now: without images, and stopped if it breaks the promise."""
    audit = audit_of(services, name, before)
    return replace(
        before,
        audited=audit.share.images,
        audit_right=audit.share.right,
        audit_boxes=audit.share.of,
        stopped=before.stopped or (services.clock() if audit.broken_after is not None else None),
        images=(),
    )


def audit_of(services: "Services", name: str, stored: StoredAcceptance) -> Audit:
    """What people said about the audited images so far, in the order in which they were verified.

    Args:
        services: needs `ledger` and `data`.

    Raises:
        BoxdropError: the bucket or the ledger cannot be read.
    """
    asked = {each.image_id: each for each in stored.audits}
    rule = read_label_set(services.data, find_project(services, name)[1]).review
    found: list[tuple[datetime, str, tuple[int, int]]] = []
    for each in read_documents_of(services, name, sorted(asked), rule):
        if not isinstance(each, Fresh) or each.annotation.offer is None or each.annotation.offer.blind:
            continue
        offer, wanted = each.annotation.offer, asked[each.row.image_id]
        if (each.annotation.version, offer.prediction_id) != (wanted.version, wanted.prediction_id):
            continue
        offered = compare(offer.boxes, each.annotation.boxes).offered
        counts = sum(box.right for box in offered), len(offered)
        found.append((each.annotation.updated_at, each.row.image_id, counts))
    return watch([counts for _, _, counts in sorted(found)], stored.promise)


def waiting_audits(services: "Services", stored: StoredAcceptance) -> dict[int, str]:
    """Image ids of the audit that nobody has verified yet, by the number of their task."""
    rows = services.ledger.images(each.image_id for each in stored.audits)
    return {
        row.task_id: image_id
        for image_id, row in rows.items()
        if row.state == State.TASKED and row.task_id is not None and not row.skipped
    }


def is_in_force(stored: StoredAcceptance, project: "Project", label_set: "LabelSet") -> bool:
    """Whether a decision is about the boxes that are shown now, and the audit has not stopped it."""
    return stored.stopped is None and stored.basis == basis_of(project, label_set)


def _begin(
    services: "Services",
    project: "Project",
    label_set: "LabelSet",
    stored: StoredAcceptance | None,
    restart: bool,
) -> StoredAcceptance:
    """The decision to go on with: the one before with its audit, or a new one."""
    basis, now = basis_of(project, label_set), services.clock()
    assert label_set.review.accept_above is not None
    if stored is not None and stored.basis == basis and not (restart and stored.stopped):
        return stored
    # Work from before a stop would drown what stopped it.
    since = None if stored is None else stored.began if stored.stopped else stored.since
    return StoredAcceptance(now, now, since, basis, label_set.review.accept_above)


def _decide(
    services: "Services", project: "Project", label_set: "LabelSet", before: StoredAcceptance
) -> tuple[StoredAcceptance, float]:
    """The new decision, and the priority of the image with the most to check."""
    now = services.clock()
    decided = replace(_after_audit(services, project.name, before), at=now)
    if decided.stopped:
        return decided, 0.0
    gathered = gather(services, project, label_set)
    known = zip(gathered.images, gathered.times, strict=True)
    images = [image for image, time in known if decided.since is None or time >= decided.since]
    thresholds = thresholds_of(label_set, project.default_threshold or 0.0)
    learned = learn_acceptance(images, thresholds, before.promise)
    decided = replace(decided, learned_from=len(images))
    if learned is None:
        return decided, 0.0
    proof = learned.proof
    decided = replace(
        decided, proof_right=proof.right, proof_boxes=proof.of, proof_images=proof.images, low=learned.low
    )
    if not learned.proven:
        return decided, 0.0
    ranking, top = Ranking(thresholds, learned.calibration), 0.0
    accepted: list[AcceptedImage] = []
    audits = {each.image_id: each for each in before.audits}
    for image, doubt, is_for_audit in _sure(services, project, label_set, learned, ranking):
        top = max(top, doubt)
        if image is not None and is_for_audit:
            audits.setdefault(image.image_id, image)
        elif image is not None:
            accepted.append(image)
    accepted.sort(key=lambda each: each.image_id)
    known_audits = tuple(audits[each] for each in sorted(audits))
    began = before.began if before.audits else now
    return replace(decided, began=began, images=tuple(accepted), audits=known_audits), top


def _sure(
    services: "Services",
    project: "Project",
    label_set: "LabelSet",
    learned: AcceptanceRule,
    ranking: Ranking,
) -> Iterator[tuple[AcceptedImage | None, float, bool]]:
    """Each unverified image: itself if it may be accepted, its doubt, and whether it is audited."""
    rule: ReviewRule = label_set.review
    for row, prediction in read_unverified(services, project):
        found = detections_of(prediction.candidates, label_set.names)
        sure = not row.skipped and row.task_id is not None and learned.accepts(found)
        image = AcceptedImage(row.image_id, prediction.version, prediction.prediction_id) if sure else None
        yield image, ranking.doubt(found), sure and is_audited(row.image_id, rule.audit)


def _free_of_work(
    services: "Services", tasks: ProjectTasks, decided: StoredAcceptance
) -> tuple[dict[int, str], StoredAcceptance]:
    """Numbers of the accepted tasks, without those that a person has opened, and the decision about them."""
    numbers: dict[int, str] = {}
    for some in chunked(decided.images, _AT_ONCE):
        rows = services.ledger.images(each.image_id for each in some)
        wanted = {row.task_id: each for each in some if (row := rows.get(each.image_id)) and row.task_id}
        for number, task in tasks.read(wanted).items():
            image = wanted[number]
            shown = (task.image_id, task.version, task.prediction_id)
            if not task.touched and shown == (image.image_id, image.version, image.prediction_id):
                numbers[number] = image.image_id
    kept = set(numbers.values())
    return numbers, replace(decided, images=tuple(each for each in decided.images if each.image_id in kept))


def _unmark(services: "Services", tasks: ProjectTasks, accepted: dict[int, str]) -> int:
    """Give the tasks back that are marked and no longer accepted."""
    found = [task for task in tasks.in_state(ACCEPTED) if task.number not in accepted]
    tasks.mark_all([task.number for task in found if not task.touched], State.TASKED)
    write_states(services.ledger, tasks, [task.image_id for task in found if task.touched])
    return len(found)


def read_accepted(services: "Services", name: str) -> frozenset[str]:
    """Image ids that are accepted now, by a decision in force and an audit that is judged anew.

    Raises:
        BoxdropError: labels.yaml asks for none, nothing was decided yet about the boxes that are shown now,
            or the audit broke the promise; says what to do.
    """
    row, digest = find_project(services, name)
    label_set, stored = read_label_set(services.data, digest), read_acceptance(services.data, name)
    command = f"boxdrop accept {quote(name)}"
    if label_set.review.accept_above is None:
        raise BoxdropError(
            f"{name} accepts no images: its labels.yaml has no `review: {{accept_above: 0.98 precision}}`"
        )
    if stored is None or stored.basis != basis_of(row, label_set):
        raise BoxdropError(f"it is not decided yet which images of {name} are accepted; run: {command}")
    if stored.stopped or audit_of(services, name, stored).broken_after is not None:
        raise BoxdropError(
            f"the audit of {name} found too many wrong boxes: nothing is accepted; see {command}"
        )
    return frozenset(each.image_id for each in stored.images)
