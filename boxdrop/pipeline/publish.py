"""publish: turn predictions of a run into tasks, and record them in the ledger.

Any number of publishers may get the same messages, in any order, and crash anywhere: they take turns with the
project's lease, look up each image's task in the ledger, and search Label Studio for tasks that another
publisher made but could not record.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from boxdrop.domain.errors import BoxdropError, ImageError, RefusedError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Failure, Prediction, Record
from boxdrop.labelstudio.connection import InDoubtError
from boxdrop.labelstudio.project import connect_display_copies
from boxdrop.labelstudio.publishing import CHUNK, ImageUrls, Publisher, PublishSummary, chunks_of_images
from boxdrop.labelstudio.tasks import ProjectTasks, Task
from boxdrop.ledger import FailedImage, Image, Ledger, LedgerError, Outcome, Publication, State
from boxdrop.ledger.projects import Lease
from boxdrop.services import ImageCredits, Services
from boxdrop.store.layout import DISPLAY

_POLL_S: Final = 0.5
_PAUSES_S: Final = (0.0, 2.0)
"""Before Label Studio is asked to connect the display copies, and asked again."""
_RENEWED_AFTER: Final = 0.1  # of the lease's duration


class BusyError(BoxdropError):
    """Another process is publishing this project; try again."""


class NotConnectedError(BoxdropError):
    """The ledger has no Label Studio project for this name."""


class LeaseLostError(BoxdropError):
    """This publisher was too slow, and another one took over."""


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """Records to publish.

    Attributes:
        records: of one run, or one part of it, as a stream. A record whose image has no row in the ledger
            counts as superseded.
        label_set: the project's, with the thresholds by which `records` were selected.
        generation: of the labels that the run detected with.
        run_id: the run.
    """

    records: Iterable[Record]
    label_set: LabelSet
    generation: int
    run_id: str


def publish(
    services: Services,
    name: str,
    batch: Batch,
    *,
    image_urls: ImageUrls | None = None,
    verified_too: bool = False,
    chunk: int = CHUNK,
    one_version: str | None = None,
    wait_s: float = 0,
    on_progress: Callable[[PublishSummary], None] | None = None,
) -> PublishSummary:
    """Make sure that each image has one task that shows its newest prediction, and record which.

    Args:
        name: the project's in the ledger, which must know its number in Label Studio
            (`Ledger.connect_project`).
        batch: what to publish.
        image_urls: where Label Studio shows images from. Default: ``s3://bucket/key`` of the image, or of its
            display copy.
        verified_too: also replace predictions of annotated tasks; the annotations stay.
        chunk: images at once.
        one_version: see `boxdrop.labelstudio.publishing.Publisher`.
        wait_s: how long to wait for other publishers.

    Raises:
        BusyError: another process is publishing this project.
        LeaseLostError: another publisher took over.
        NotConnectedError: the project has no number in Label Studio.
        LabelStudioError, LedgerError: after any of these, it is safe to run again.
    """
    ledger, label_set = services.ledger, batch.label_set
    generation, run_id = batch.generation, batch.run_id
    label_studio_id = number_of(ledger, name)
    with hold_lease(ledger, name, services.settings.lease_s, wait_s) as keep:
        tasks = ProjectTasks(services.label_studio, label_studio_id, keep)
        register = LedgerRegister(ledger, tasks, name, keep.token, generation, services.credits)

        def addresses(predictions: Sequence[Prediction]) -> list[str | ImageError]:
            return _with_copies(services, label_studio_id, predictions, register.addresses(predictions))

        publisher = Publisher(
            tasks,
            label_set,
            image_urls or addresses,
            register,
            verified_too=verified_too,
            credits=register.credits,
            one_version=one_version,
        )
        publisher.audit()
        for predictions, failures in chunks_of_images(batch.records, chunk):
            publisher.counts.update(_record_failures(ledger, tasks, failures, generation, run_id))
            rows = register.remember([each.image_id for each in predictions])
            current = [each for each in predictions if _is_wanted(rows.get(each.image_id), each, generation)]
            publisher.counts["superseded"] += len(predictions) - len(current)
            publisher.publish(current)
            if on_progress:
                on_progress(publisher.summary())
        # else a lost import may still be committed; the next publisher checks again
        if not publisher.in_doubt:
            ledger.record_audit(name, label_studio_id, register.newest)
        mark_tasks(ledger, tasks, name)
    return publisher.summary()


def _with_copies(
    services: Services, project: int, predictions: Sequence[Prediction], addresses: Sequence[str]
) -> list[str | ImageError]:
    """Put the addresses of display copies in the places of images that a browser shows differently.

    An image whose copy Label Studio may not read is refused alone: its original would show other pixels.
    """
    if all(prediction.display is None for prediction in predictions):
        return [*addresses]
    bucket, refusal = services.data.name, None
    for pause in _PAUSES_S:
        time.sleep(pause)
        try:
            connect_display_copies(services.label_studio, project, bucket, DISPLAY)
        except (RefusedError, InDoubtError) as error:  # it also responds with 500 if S3 refuses
            refusal = ImageError("refused", f"browsers do not show it as the detector saw it, and {error}")
        else:
            refusal = None
            break
    return [
        address if prediction.display is None else refusal or f"s3://{bucket}/{prediction.display}"
        for prediction, address in zip(predictions, addresses, strict=True)
    ]


def number_of(ledger: Ledger, name: str) -> int:
    """Label Studio's number of a project.

    Raises:
        NotConnectedError: it has none.
    """
    project = ledger.project(name)
    if project is None:
        raise NotConnectedError(f"there is no project {name}; `boxdrop status` lists them")
    if project.label_studio_id is None:
        raise NotConnectedError(f"the project {name} is not in Label Studio yet: nothing was published")
    return project.label_studio_id


def mark_tasks(ledger: Ledger, tasks: ProjectTasks, name: str) -> int:
    """Mark the tasks of images that were overwritten after verification, or deleted.

    Call it under the project's lease. `boxdrop.pipeline.marks` does it within seconds; this finds what was
    missed.

    Returns:
        How many tasks were marked.
    """
    told = 0
    while due := ledger.images_to_flag(name):
        before = told
        for image in due:
            assert image.task_id is not None
            if tasks.mark(image.task_id, image.state):
                result = ledger.record_flag(image.image_id, image.due_flag)
            else:
                result = ledger.record_lost_task(image.image_id, image.task_id)
            told += result.outcome == Outcome.APPLIED
        if told == before:  # the index lags, or another process was first
            break
    return told


class KeptLease:
    """A lease that is renewed on each call; called before each write to Label Studio."""

    def __init__(self, ledger: Ledger, lease: Lease, seconds: float) -> None:
        self._ledger, self._lease, self._seconds = ledger, lease, seconds
        self._renewed = time.monotonic()

    @property
    def token(self) -> int:
        """The fencing token."""
        return self._lease.token

    def __call__(self) -> None:
        """Renew the lease, if part of its time has passed.

        Raises:
            LeaseLostError: another publisher has it.
        """
        if time.monotonic() - self._renewed < self._seconds * _RENEWED_AFTER:
            return
        renewed = self._ledger.renew_lease(self._lease, seconds=self._seconds)
        if renewed is None:
            raise LeaseLostError(
                f"another publisher took over the project {self._lease.project}; run this again to finish"
            )
        self._lease, self._renewed = renewed, time.monotonic()

    def release(self) -> None:
        """Release it at once; if the ledger cannot be reached, others wait until it expires."""
        with suppress(LedgerError):
            self._ledger.release_lease(self._lease)


@contextmanager
def hold_lease(ledger: Ledger, name: str, seconds: float, wait_s: float = 0) -> Iterator[KeptLease]:
    """Hold a project's lease for the duration of a block.

    Raises:
        BusyError: another process did not release it within `wait_s`.
    """
    # Unique for each holder: two of one process are two.
    owner = f"{socket.gethostname()}/{os.getpid()}/{threading.get_ident()}/{uuid.uuid4().hex[:8]}"
    until = time.monotonic() + wait_s
    while (lease := ledger.acquire_lease(name, owner, seconds=seconds)) is None:
        if time.monotonic() >= until:
            raise BusyError(f"another process is publishing the project {name}; try again in a minute")
        time.sleep(_POLL_S)
    kept = KeptLease(ledger, lease, seconds)
    try:
        yield kept
    finally:
        kept.release()


class LedgerRegister:
    """The ledger's knowledge of a project's tasks; see `boxdrop.labelstudio.publishing.Register`."""

    def __init__(
        self,
        ledger: Ledger,
        tasks: ProjectTasks,
        name: str,
        fence: int,
        generation: int,
        credits: ImageCredits | None = None,
    ) -> None:
        project = ledger.project(name)
        known = project is not None and project.label_studio_id == tasks.project
        self.newest = project.audited_task if project is not None and known else 0
        self._ledger = ledger
        self._tasks = tasks
        self._fence = fence
        self._generation = generation
        self.project = name
        self._credits = credits
        self._rows: dict[str, Image] = {}

    def knows(self, task: Task) -> bool:
        """See `Register`."""
        row = self._ledger.image(task.image_id)
        return row is not None and row.task_id == task.number

    def remember(self, image_ids: Sequence[str]) -> Mapping[str, Image]:
        """Read the rows of a chunk, for `look_up` and `addresses`."""
        self._rows = self._ledger.images(image_ids)
        return self._rows

    def addresses(self, predictions: Sequence[Prediction]) -> list[str]:
        """``s3://bucket/key`` of each image."""
        rows = [self._rows[prediction.image_id] for prediction in predictions]
        return [f"s3://{row.bucket}/{row.key}" for row in rows]

    def credits(self, predictions: Sequence[Prediction]) -> Mapping[str, Mapping[str, Any]]:
        """See `boxdrop.labelstudio.publishing.Credits`."""
        if self._credits is None:
            return {}
        return self._credits(self.project, [self._rows[prediction.image_id] for prediction in predictions])

    def look_up(self, image_ids: Sequence[str]) -> Mapping[str, Task]:
        """See `Register`. A deleted task is forgotten, even if another image's task now has its number."""
        numbers = {
            row.task_id: image_id
            for image_id in image_ids
            if (row := self._rows.get(image_id)) is not None and row.task_id is not None
        }
        tasks = self._tasks.read(numbers)
        found = {task.image_id: task for number, task in tasks.items() if task.image_id == numbers[number]}
        for number, image_id in numbers.items():
            if image_id not in found:
                self._ledger.record_lost_task(image_id, number)
        return found

    def settle(self, found: Sequence[Task]) -> Mapping[str, Task]:
        """See `Register`. Records tasks that were made but not recorded.

        A task of another project's image is a person's copy of it; it is left out.
        """
        rows = self._ledger.images(task.image_id for task in found)
        found = [task for task in found if not is_copy(rows.get(task.image_id), self.project)]
        rows = {task.image_id: rows[task.image_id] for task in found if task.image_id in rows}
        owners: dict[str, Task] = {}
        for task in found:
            row = rows.get(task.image_id)
            if row is None or row.task_id in (None, task.number):
                owners.setdefault(task.image_id, task)
        recorded = {row.task_id: row.image_id for row in rows.values() if row.task_id is not None}
        elsewhere = [number for number, image_id in recorded.items() if image_id not in owners]
        present = self._tasks.read(elsewhere)
        for number in elsewhere:
            image_id = recorded[number]
            if number in present and present[number].image_id == image_id:
                owners[image_id] = present[number]
            else:  # deleted, and made again
                self._ledger.record_lost_task(image_id, number)
                owners[image_id] = next(task for task in found if task.image_id == image_id)
        unrecorded = [
            task for task in owners.values() if task.number not in recorded and task.image_id in rows
        ]
        # Without a generation: only the task's existence is recorded, not what it shows.
        self._record((task, -1) for task in unrecorded)
        return owners

    def shown(self, shown: Sequence[tuple[Prediction, Task]]) -> None:
        """See `Register`."""
        self._record((task, self._generation) for _, task in shown)

    def _record(self, tasks: Iterable[tuple[Task, int]]) -> None:
        self._ledger.record_tasks(
            Publication(
                image_id=task.image_id,
                version=task.version,
                generation=generation,
                prediction_id=task.prediction_id,
                task_id=task.number,
                fence=self._fence,
            )
            for task, generation in tasks
        )


def is_copy(row: Image | None, project: str) -> bool:
    """Whether a task in this project about the image of a row was copied there by a person, from the image's
    own project."""
    return row is not None and row.project != project


def _is_wanted(row: Image | None, prediction: Prediction, generation: int) -> bool:
    if row is None or row.version != prediction.version or row.generation > generation:
        return False
    return row.own_boxes in (None, prediction.model_version)


def _record_failures(
    ledger: Ledger, tasks: ProjectTasks, failures: Sequence[Failure], generation: int, run_id: str
) -> Mapping[str, int]:
    results = ledger.record_failures(
        FailedImage(
            image_id=failure.image_id,
            version=failure.version,
            generation=generation,
            run_id=run_id,
            reason=failure.reason,
            message=failure.message,
        )
        for failure in failures
    )
    recorded = [result.row for result in results if result.outcome in (Outcome.APPLIED, Outcome.ALREADY)]
    for row in recorded:
        if row is not None and row.task_id is not None:  # it shows an earlier version of the image
            tasks.mark(row.task_id, State.FAILED)
    return {"failures": len(recorded), "superseded": len(failures) - len(recorded)}
