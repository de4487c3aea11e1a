"""collect: store verified work as documents in the data bucket, and record it in the ledger.

A webhook only says which tasks to read. So events may arrive twice, late, in any order, or at several
collectors at once. The newest state wins without a clock, because a document is replaced only by one whose
task was read *after* that document:

1. read the stored document, then read the task from Label Studio;
2. if they agree, record that in the ledger and stop;
3. else write the new document, on condition that the stored one has not changed, and start again even if the
   write succeeded: during the write, the task may have changed *back*, and the collector of that event found
   the older document correct.

The ledger records only stored documents, and compares their `order`, which rises with each document of an
image. So a collector that was interrupted before its ledger write cannot undo a later one.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from boxdrop.assessment.outcomes import Change, compare
from boxdrop.domain.annotations import Annotation, Document, Reason, from_json, to_json
from boxdrop.domain.errors import BoxdropError
from boxdrop.labelstudio.annotations import ReviewedTask, document_of, read_reviews
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.webhook import ReviewEvent
from boxdrop.ledger import Image, Ledger, Result
from boxdrop.pipeline.marks import show_states
from boxdrop.pipeline.publish import is_copy
from boxdrop.services import Services
from boxdrop.store.layout import annotation_key
from boxdrop.store.reviews import (
    Pointer,
    annotation_pointer,
    read_review,
    task_pointer,
    write_pointers,
    write_review,
)

_ROUNDS: Final = 20
"""Each lost race means that another collector made progress; more than this are a fault."""


class Found(StrEnum):
    """What collecting a task found."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"  # skipped, or taken back
    NOTHING = "nothing"  # no work on it yet
    LOST = "lost"  # the task no longer exists in Label Studio
    FOREIGN = "foreign"  # not a task that boxdrop made, or a copy from another project
    TWIN = "twin"  # the image's task is a different one
    UNKNOWN = "unknown"  # the task is gone, and its image is unknown


@dataclass(frozen=True, slots=True)
class Collected:
    """What was found, and what was recorded.

    Attributes:
        document: the stored document; None if there is none.
        written: whether this call wrote it.
        result: the ledger's; None if nothing was recorded.
        image_id: the image; None if it is not a task of boxdrop.
    """

    found: Found
    document: Document | None = None
    written: bool = False
    result: Result[Image] | None = None
    image_id: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class CollectSummary:
    """The outcome for the tasks of an event.

    Attributes:
        counts: tasks by `Found`.
        written: documents written.
        look_everywhere: the event does not say which tasks changed: reconcile the project.
        lags_s: for each new document of a verified image, seconds since the annotator saved it.
        marked: tasks whose column *state* was updated.
        changes: what annotators did with the boxes of new documents, where it is known what was offered; an
            image that is saved again counts again.
        seconds: how long they worked on each.
        image_ids: images of the tasks.
    """

    counts: dict[Found, int]
    written: int = 0
    look_everywhere: bool = False
    lags_s: tuple[float, ...] = ()
    marked: int = 0
    changes: Mapping[str, int] = field(default_factory=dict)
    seconds: tuple[float, ...] = ()
    image_ids: tuple[str, ...] = ()


class CollectError(BoxdropError):
    """A task could not be collected; retry."""


def collect_event(
    services: Services, project_name: str, event: ReviewEvent, *, wait_s: float = 10
) -> CollectSummary:
    """Collect the tasks that a webhook or dispatch named, once each, and update their state in Label Studio.

    Args:
        project_name: the project's in the ledger, see `project_of`.
        event: as `boxdrop.labelstudio.webhook.receive` made it.
        wait_s: how long to wait for publishers before updating the column; after that, `boxdrop sync` updates
            it.

    Raises:
        CollectError, LabelStudioError, LedgerError: repeat the event, which is safe.
    """
    tasks = dict.fromkeys(event.tasks)
    unknown = 0
    if not event.tasks:  # events about deleted annotations do not name tasks
        for number in event.annotations:
            pointer = annotation_pointer(services.data, project_name, number)
            if pointer is None:  # no document was made from it, so none changes
                unknown += 1
            else:
                tasks[pointer.task_id] = None
    counts: Counter[Found] = Counter({Found.UNKNOWN: unknown} if unknown else {})
    written = 0
    image_ids: list[str] = []
    lags, seconds = [], []
    changes: Counter[str] = Counter()
    for task_id in tasks:
        collected = collect(services, project_name, task_id)
        counts[collected.found] += 1
        if collected.image_id is not None:
            image_ids.append(collected.image_id)
        written += collected.written
        if collected.written and isinstance(collected.document, Annotation):
            lags.append(max(0.0, (services.clock() - collected.document.updated_at).total_seconds()))
            changes += _changes(collected.document)
            if collected.document.lead_time is not None:
                seconds.append(collected.document.lead_time)
    marked = show_states(services, project_name, event.project, image_ids, wait_s=wait_s)
    return CollectSummary(
        dict(counts),
        written,
        event.is_whole_project,
        tuple(lags),
        marked,
        changes,
        tuple(seconds),
        tuple(image_ids),
    )


def _changes(document: Annotation) -> Counter[str]:
    if document.offer is None or document.offer.blind:
        return Counter()
    outcomes = compare(document.offer.boxes, document.boxes)
    found = Counter(str(each.change) for each in outcomes.offered)
    found[str(Change.ADDED)] += sum(each.change == Change.ADDED for each in outcomes.drawn)
    return found


def project_of(ledger: Ledger, label_studio_id: int) -> str | None:
    """Name of the project with this number in Label Studio; None if boxdrop did not make it."""
    names = (each.name for each in ledger.projects() if each.label_studio_id == label_studio_id)
    return next(names, None)


def collect(services: Services, project_name: str, task_id: int, *, image_id: str | None = None) -> Collected:
    """Update an image's document and its row in the ledger from its task in Label Studio.

    Args:
        project_name: the project's in the ledger.
        task_id: Label Studio's number.
        image_id: the task's image, if the caller knows it. Default: read from an earlier document or from the
            task.

    Raises:
        CollectError: other collectors keep changing it, or the project has no number in Label Studio.
        LabelStudioError, LedgerError, BoxdropError: repeat it, which is safe.
    """
    number = _label_studio_id(services.ledger, project_name)

    def collect_image(identity: str) -> tuple[Collected, ReviewedTask | None]:
        return _collect_image(services, project_name, number, task_id, identity)

    if image_id is not None:
        return collect_image(image_id)[0]
    pointer = task_pointer(services.data, project_name, task_id)
    known = None if pointer is None else pointer.image_id
    if known is not None:
        collected, task = collect_image(known)
        if task is None or task.image_id in (None, known):
            return collected
        # Its number belongs to another task by now: on SQLite, Label Studio numbers imports from the highest
        # id + 1 on, and so reuses the number of a deleted task.
    else:
        task = _read(services.label_studio, number, task_id)
        if task is None:
            return Collected(Found.UNKNOWN)
        if task.image_id is None:
            return Collected(Found.FOREIGN)
    assert task.image_id is not None
    return collect_image(task.image_id)[0]


def _collect_image(
    services: Services, project_name: str, label_studio_id: int, task_id: int, image_id: str
) -> tuple[Collected, ReviewedTask | None]:
    """Collect an image; also return the task that has this number now, whether it is the image's or not."""
    ledger, connection, bucket = services.ledger, services.label_studio, services.data
    row = ledger.image(image_id)
    if is_copy(row, project_name):
        return Collected(Found.FOREIGN), None
    if _is_twin(row, connection, label_studio_id, task_id):
        return Collected(Found.TWIN), None
    where = f"s3://{bucket.name}/{annotation_key(project_name, image_id)}"
    written = False
    for _ in range(_ROUNDS):
        stored = read_review(bucket, project_name, image_id)
        before = None if stored is None else from_json(stored.body, where)
        read = _read(connection, label_studio_id, task_id)
        task = read if read is not None and read.image_id == image_id else None
        document: Document | None = before
        if task is not None or before is None or before.task_id == task_id:  # else it is about the next task
            document = document_of(task, before, services.clock())
        if document == before:
            result = _record(ledger, before, image_id, task_id, task is None)
            return Collected(_found(before, task), before, written, result, image_id), read
        assert document is not None
        # Pointers first, so no document is without them.
        pointer = Pointer(document.task_id, document.image_id)
        write_pointers(bucket, project_name, pointer, document.annotation_id)
        written |= write_review(bucket, project_name, image_id, to_json(document).encode(), stored)
    raise CollectError(f"task {task_id} of {project_name} changes faster than it can be read; try again")


def _label_studio_id(ledger: Ledger, project_name: str) -> int:
    project = ledger.project(project_name)
    if project is None or project.label_studio_id is None:
        raise CollectError(f"the project {project_name} has no project in Label Studio yet")
    return project.label_studio_id


def _read(connection: Connection, project: int, task_id: int) -> ReviewedTask | None:
    return read_reviews(connection, project, [task_id]).get(task_id)


def _is_twin(row: Image | None, connection: Connection, project: int, task_id: int) -> bool:
    """Whether both this task and another exist, and the other is the image's."""
    if row is None or row.task_id is None or row.task_id == task_id:
        return False
    image_id = row.image_id
    found = read_reviews(connection, project, [task_id, row.task_id])
    return [found[each].image_id for each in (task_id, row.task_id) if each in found] == [image_id] * 2


def _record(
    ledger: Ledger, document: Document | None, image_id: str, task_id: int, is_lost: bool
) -> Result[Image] | None:
    """Record in the ledger what is stored, then whether the task is lost. In this order: a review that was
    read before and is recorded after must count as the older one.
    """
    result: Result[Image] | None = None
    if isinstance(document, Annotation):
        result = ledger.record_verified(image_id, document.version, document.order)
    elif document is not None:
        skipped = document.reason == Reason.SKIPPED
        result = ledger.record_unverified(image_id, document.order, skipped)
    return ledger.record_lost_task(image_id, task_id) if is_lost else result


def _found(document: Document | None, task: ReviewedTask | None) -> Found:
    if task is None:
        return Found.LOST
    if document is None:
        return Found.NOTHING
    return Found.VERIFIED if isinstance(document, Annotation) else Found.UNVERIFIED
