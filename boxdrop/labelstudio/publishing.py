"""Publishing: predictions become tasks; a second run or a broken connection creates no duplicates.

One image has one task, and a newer prediction replaces the older one. Label Studio does not deduplicate: what
is sent twice is stored twice. So existing tasks are looked up before an import and counted after it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from boxdrop.domain.errors import ImageError, LabelStudioError, PredictionError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Failure, Prediction, Record
from boxdrop.iterables import chunked
from boxdrop.labelstudio.config import DATA_KEY
from boxdrop.labelstudio.connection import Connection, InDoubtError
from boxdrop.labelstudio.project import Project
from boxdrop.labelstudio.task_data import SHOWN_AS, fingerprint, to_task
from boxdrop.labelstudio.tasks import ProjectTasks, Task

CHUNK: Final = 500
"""Tasks per import. 500 take 0.7 s; one by one, they would take a minute."""

_REPLACED_AT_ONCE: Final = 50  # each after checking that it was not verified in the meantime; 50 take 5 s
_PAUSES_S: Final = (0.0, 1.0, 4.0)
"""Pauses before looking again for an import whose response was lost; it is sent again if it is missing."""

ImageUrls = Callable[[Sequence[Prediction]], Sequence[str | ImageError]]
"""Returns the address from which Label Studio shows each image, or the reason why there is none."""

Credits = Callable[[Sequence[Prediction]], Mapping[str, Mapping[str, Any]]]
"""Returns task fields with credits, by image_id; images that need no credit are missing."""


def no_credits(_: Sequence[Prediction]) -> Mapping[str, Mapping[str, Any]]:
    """No credits: all images are the user's own."""
    return {}


@dataclass(frozen=True, slots=True)
class PublishSummary:
    """What a publication did; counts of images.

    Attributes:
        created: new tasks.
        replaced: tasks that got a newer prediction.
        unchanged: tasks that already showed this prediction.
        verified: tasks left alone because they have an annotation.
        failures: records without a prediction; they get no task.
        superseded: records about an older image version or older labels than what is wanted now.
        refused: (image, reason) of invalid predictions, and of images that could not be shown.
        removed_twins: duplicate tasks of an image that were deleted.
    """

    created: int = 0
    replaced: int = 0
    unchanged: int = 0
    verified: int = 0
    failures: int = 0
    superseded: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    removed_twins: int = 0

    @property
    def images(self) -> int:
        """Records seen."""
        seen = self.created + self.replaced + self.unchanged + self.verified
        return seen + self.failures + self.superseded + len(self.refused)


class Register(Protocol):
    """Knows which task each image has."""

    newest: int
    """The highest task number that it knows; 0 before the first."""

    def knows(self, task: Task) -> bool:
        """Whether this is the task of its image, not a duplicate."""

    def look_up(self, image_ids: Sequence[str]) -> Mapping[str, Task]:
        """The current tasks of these images; images without one are missing."""

    def settle(self, found: Sequence[Task]) -> Mapping[str, Task]:
        """Record tasks that appeared, lowest number first; return the task of each of their images.

        A known task stays the image's task; else the first one found is. Left out are images that are not of
        this project.
        """

    def shown(self, shown: Sequence[tuple[Prediction, Task]]) -> None:
        """Record that these tasks now show these predictions."""


class Publisher:
    """Publishes chunks of predictions to Label Studio, one after the other.

    Args:
        tasks: the project's.
        label_set: the project's.
        image_urls: called with the predictions that need a new or changed task, at most `CHUNK` at once.
        register: knows the project's tasks.
        verified_too: also replace predictions of annotated tasks; the annotations stay.
        credits: called with each chunk.
        one_version: given if the project has predictions of several model_versions at once. In the label
            stream, Label Studio shows only those of the project's version; so all are stored as that one, or
            as this if it has none yet, and the task's data names the true one.
    """

    def __init__(
        self,
        tasks: ProjectTasks,
        label_set: LabelSet,
        image_urls: ImageUrls,
        register: Register,
        *,
        verified_too: bool = False,
        credits: Credits = no_credits,
        one_version: str | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: list[tuple[str, str]] = []
        self.in_doubt = False
        """Whether a response was lost: the server may still carry out the call."""
        self._tasks = tasks
        self._label_set = label_set
        self._image_urls = image_urls
        self._register = register
        self._verified_too = verified_too
        self._credits = credits
        self._one_version = one_version

    def summary(self) -> PublishSummary:
        """What it has done so far."""
        return PublishSummary(**self.counts, refused=tuple(self.refused))

    def audit(self) -> dict[str, Task]:
        """Record tasks that appeared since the last check, and delete duplicates without an annotator's work.

        A client may give up on an import that the server commits later, so this runs after every import. It
        lists the newest known task again; if that task was replaced or deleted, it lists all tasks, since on
        SQLite, Label Studio reuses the numbers of deleted tasks.

        Returns:
            For each image of a task that appeared, the image's task.
        """
        register = self._register
        appeared = self._tasks.after(register.newest - 1)
        if register.newest:
            first = next(appeared, None)
            if first is None or first.number != register.newest or not register.knows(first):
                register.newest = 0
                appeared = self._tasks.after(0)
        owners: dict[str, Task] = {}
        for found in chunked(appeared, CHUNK):
            settled = register.settle(found)
            owners |= settled
            for task in found:
                if settled.get(task.image_id, task).number != task.number:
                    self.counts["removed_twins"] += self._tasks.delete_twin(task.number)
            register.newest = max([register.newest, *(task.number for task in settled.values())])
        return owners

    def publish(self, predictions: Sequence[Prediction]) -> None:
        """Publish one chunk to Label Studio: at most `CHUNK` predictions, each of a different image."""
        known = self._register.look_up([prediction.image_id for prediction in predictions])
        new: list[Prediction] = []
        newer: list[tuple[Prediction, Task]] = []
        there: list[tuple[Prediction, Task]] = []
        drafts: dict[str, dict[str, Any]] = {}
        credits = self._credits(predictions) if predictions else {}
        for prediction in predictions:
            image_id = prediction.image_id
            try:
                content = to_task(prediction, self._label_set, "", credits.get(image_id))
                content = drafts[image_id] = self._as_shown(content)
            except PredictionError as error:
                self.refused.append((prediction.image, str(error)))
                continue
            task = known.get(prediction.image_id)
            if task is None:
                new.append(prediction)
            elif task.shows == fingerprint(content["data"]):
                there.append((prediction, task))
            elif task.verified and not self._verified_too:
                self.counts["verified"] += 1
            else:
                newer.append((prediction, task))
        contents = self._with_images([*new, *(prediction for prediction, _ in newer)], drafts)
        created = []
        for prediction, task in self._create([p for p in new if p.image_id in contents], contents):
            if task.shows == fingerprint(contents[prediction.image_id]["data"]):
                created.append((prediction, task))
            else:  # an older import, abandoned long ago, was committed only now, and came first
                newer.append((prediction, task))
        # even if all of it exists: an earlier run may have ended before this line
        if shown := there + created:
            self._tasks.show(_version(drafts[shown[-1][0].image_id]))
            self._register.shown(shown)
        self.counts["unchanged"] += len(there)
        self.counts["created"] += len(created)
        replacing = [(prediction, task) for prediction, task in newer if prediction.image_id in contents]
        for some in chunked(replacing, _REPLACED_AT_ONCE):
            self._replace(some, contents)

    def _as_shown(self, content: dict[str, Any]) -> dict[str, Any]:
        """A task whose prediction is stored under the version that the project shows; see `one_version`."""
        if self._one_version is None:
            return content
        version = self._tasks.shown_version or self._one_version
        if version == _version(content):
            return content
        (prediction,) = content["predictions"]
        return {
            "data": {**content["data"], SHOWN_AS: version},
            "predictions": [{**prediction, "model_version": version}],
        }

    def _with_images(
        self, predictions: list[Prediction], drafts: Mapping[str, dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """Tasks by image_id, with the addresses of their images filled in; images without one are
        reported."""
        if not predictions:
            return {}
        contents = {}
        for prediction, url in zip(predictions, self._image_urls(predictions), strict=True):
            if isinstance(url, ImageError):
                self.refused.append((prediction.image, str(url)))
            else:
                draft = drafts[prediction.image_id]
                contents[prediction.image_id] = {**draft, "data": {**draft["data"], DATA_KEY: url}}
        return contents

    def _create(
        self, predictions: list[Prediction], contents: Mapping[str, Mapping[str, Any]]
    ) -> list[tuple[Prediction, Task]]:
        """Import tasks, then count them: a lost response does not mean a lost import."""
        waiting = {prediction.image_id: prediction for prediction in predictions}
        created = []
        for pause in _PAUSES_S:
            if not waiting:
                break
            lost: InDoubtError | None = None
            try:
                self._tasks.create([contents[image_id] for image_id in waiting])
            except InDoubtError as error:
                lost = error
                self.in_doubt = True
                time.sleep(pause)
            owners = self.audit()
            created += [
                (waiting.pop(image_id), task) for image_id, task in owners.items() if image_id in waiting
            ]
            if lost is None and waiting:
                raise LabelStudioError(
                    f"Label Studio reported {len(created) + len(waiting)} new tasks, but has only "
                    f"{len(created)} of them; check its log, then run this again"
                )
        if waiting:
            assert lost is not None
            raise lost
        return created

    def _replace(
        self, replacing: list[tuple[Prediction, Task]], contents: Mapping[str, Mapping[str, Any]]
    ) -> None:
        by_number = {task.number: contents[prediction.image_id] for prediction, task in replacing}
        now = self._tasks.replace(by_number, verified_too=self._verified_too)
        done = []
        for prediction, task in replacing:
            if task.number not in now:
                raise LabelStudioError(f"task {task.number} was deleted while publishing; run this again")
            current = now[task.number]
            if current.shows == fingerprint(by_number[task.number]["data"]):
                done.append((prediction, current))
        self._register.shown(done)
        self.counts["replaced"] += len(done)
        self.counts["verified"] += len(replacing) - len(done)


def _version(content: Mapping[str, Any]) -> str:
    return str(content["predictions"][0]["model_version"])


class MemoryRegister:
    """Reads all tasks of a project once and remembers them; for a single publisher on one machine."""

    def __init__(self) -> None:
        self.newest = 0
        self._known: dict[str, Task] = {}

    def knows(self, task: Task) -> bool:
        """See `Register`."""
        known = self._known.get(task.image_id)
        return known is not None and known.number == task.number

    def look_up(self, image_ids: Sequence[str]) -> Mapping[str, Task]:
        """See `Register`."""
        return {image_id: self._known[image_id] for image_id in image_ids if image_id in self._known}

    def settle(self, found: Sequence[Task]) -> Mapping[str, Task]:
        """See `Register`."""
        for task in found:
            self._known.setdefault(task.image_id, task)
        return {task.image_id: self._known[task.image_id] for task in found}

    def shown(self, shown: Sequence[tuple[Prediction, Task]]) -> None:
        """See `Register`."""
        self._known.update((prediction.image_id, task) for prediction, task in shown)


def publish(
    connection: Connection,
    project: Project,
    records: Iterable[Record],
    label_set: LabelSet,
    image_urls: ImageUrls,
    *,
    credits: Credits = no_credits,
    on_progress: Callable[[PublishSummary], None] | None = None,
) -> PublishSummary:
    """Make sure that each image has one task that shows its newest prediction.

    Records are read as a stream. Each prediction is validated before anything is sent; an invalid one is
    reported and does not stop the others. Tasks with an annotation are left alone. Only one publisher may
    work on a project at a time; for several, see `boxdrop.pipeline.publish`.

    Args:
        connection: see `boxdrop.labelstudio.connection.connect`.
        project: see `boxdrop.labelstudio.project.ensure_project`.
        records: predictions and failures, in the order in which annotators should see them.
        label_set: the project's.
        image_urls: called with the predictions that need a new or changed task, at most `CHUNK` at once.
        credits: called with each chunk.
        on_progress: called after each chunk with the summary so far.

    Raises:
        LabelStudioError: the server cannot be reached, or did not do what it was asked. It is safe to run
            again: published tasks stay, and are not published twice.
    """
    tasks = ProjectTasks(connection, project.id)
    publisher = Publisher(tasks, label_set, image_urls, MemoryRegister(), credits=credits)
    publisher.audit()
    for predictions, failures in chunks_of_images(records, CHUNK):
        publisher.counts["failures"] += len(failures)
        publisher.publish(predictions)
        if on_progress:
            on_progress(publisher.summary())
    return publisher.summary()


def chunks_of_images(
    records: Iterable[Record], size: int
) -> Iterator[tuple[list[Prediction], list[Failure]]]:
    """Predictions and failures of at most `size` images at a time; a repeated image starts a new chunk."""
    predictions: dict[str, Prediction] = {}
    failures: dict[str, Failure] = {}
    for record in records:
        seen = record.image_id in predictions or record.image_id in failures
        if seen or len(predictions) + len(failures) == size:
            yield list(predictions.values()), list(failures.values())
            predictions, failures = {}, {}
        if isinstance(record, Failure):
            failures[record.image_id] = record
        else:
            predictions[record.image_id] = record
    if predictions or failures:
        yield list(predictions.values()), list(failures.values())
