"""Tasks: an image with its prediction, published so that a second run changes nothing.

The identity of what a task shows is kept in its data: ``image_id``, ``version`` and ``prediction_id``.
Whoever publishes looks there first: one image has one task, and a newer prediction replaces the older one in
place.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from boxdrop.errors import ImageError, LabelStudioError, PredictionError
from boxdrop.labels import LabelSet
from boxdrop.labelstudio.config import DATA_KEY, FROM_NAME, TO_NAME
from boxdrop.labelstudio.connection import IMPORT_TIMEOUT_S, ONCE, Connection, InDoubtError
from boxdrop.labelstudio.project import Project
from boxdrop.predictions import Box, Failure, Prediction, Record

CHUNK: Final = 500
"""Tasks in one import. 500 take 0.7 s; one by one, they would take a minute."""

_PAGE = 1000
_REPLACED_AT_ONCE = 50  # each after a look whether somebody verified it meanwhile; 50 take 5 s

ImageUrls = Callable[[Sequence[Prediction]], Sequence[str | ImageError]]
"""Gives the address that Label Studio shows each image from, or the reason why it has none."""


@dataclass(frozen=True, slots=True)
class PublishSummary:
    """What a publication did, an image each.

    Attributes:
        created: new tasks.
        replaced: tasks whose prediction is now a newer one.
        unchanged: tasks that showed this prediction already.
        verified: tasks left alone, because a person's annotation is on them.
        failures: records without a prediction; they get no task.
        refused: (image, reason) of predictions that are not valid, and of images that could not be shown.
        removed_twins: second tasks of one image that were found and deleted.
    """

    created: int = 0
    replaced: int = 0
    unchanged: int = 0
    verified: int = 0
    failures: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    removed_twins: int = 0

    @property
    def images(self) -> int:
        """Records seen."""
        seen = self.created + self.replaced + self.unchanged + self.verified
        return seen + self.failures + len(self.refused)


def to_task(prediction: Prediction, label_set: LabelSet, image_url: str) -> dict[str, Any]:
    """Write one task with its prediction, as Label Studio imports it.

    The prediction's score is that of its least certain box, so that sorting by it in the Data Manager brings
    forward what needs a look most; an image without boxes has 0, for nobody vouches for its emptiness.

    Args:
        prediction: whose boxes become regions.
        label_set: the project's.
        image_url: what the browser loads: ``/data/upload/…``, ``s3://…`` or ``https://…``.

    Raises:
        PredictionError: a box has an unknown label, is not inside the image, or has no valid score.
    """
    _check(prediction, label_set)
    scores = [box.score for box in prediction.boxes]
    data = {
        DATA_KEY: image_url,
        # A name that is no UTF-8 is shown with replacement characters; the identity below is exact.
        "file_name": prediction.image.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        "labels_found": _labels_found(prediction.boxes, label_set),
        "boxes": len(prediction.boxes),
        "lowest_score": round(min(scores), 3) if scores else None,
        "caption": label_set.caption or "",
        "model_version": prediction.model_version,
        "state": "tasked",
        "image_id": prediction.image_id,
        "version": prediction.version,
        "prediction_id": prediction.prediction_id,
    }
    return {
        "data": data,
        "predictions": [
            {
                "model_version": prediction.model_version,
                "score": min(scores, default=0.0),
                "result": [_region(prediction, i, box) for i, box in enumerate(prediction.boxes)],
            }
        ],
    }


def publish(
    connection: Connection,
    project: Project,
    records: Iterable[Record],
    label_set: LabelSet,
    image_urls: ImageUrls,
    *,
    on_progress: Callable[[PublishSummary], None] | None = None,
) -> PublishSummary:
    """Make sure that each image has one task that shows its newest prediction.

    Records are taken as a stream. Each prediction is checked before anything is sent; one that is not valid
    is reported and stops nothing. Tasks with a person's annotation are left alone. One publisher a project at
    a time.

    Args:
        connection: see `boxdrop.labelstudio.connection.connect`.
        project: see `boxdrop.labelstudio.project.ensure_project`.
        records: predictions and failures, in the order in which people should see them.
        label_set: the project's.
        image_urls: called with the predictions that need a new or changed task, at most `CHUNK` at once.
        on_progress: called after each chunk with what is done so far.

    Raises:
        LabelStudioError: the server cannot be reached, or did something else than it was asked for. Running
            again is safe: what was published stays, and is not published twice.
    """
    publication = _Publication(connection, project, label_set, image_urls)
    chunk: dict[str, Prediction] = {}
    for record in records:
        if isinstance(record, Failure):
            publication.counts["failures"] += 1
            continue
        if record.image_id in chunk or len(chunk) == CHUNK:
            publication.publish(list(chunk.values()))
            chunk.clear()
            if on_progress:
                on_progress(publication.summary())
        chunk[record.image_id] = record
    publication.publish(list(chunk.values()))
    if on_progress:
        on_progress(publication.summary())
    return publication.summary()


def _check(prediction: Prediction, label_set: LabelSet) -> None:
    """Refuse what Label Studio takes without a word: it answers 201 to wrong labels and x + width > 100."""
    if not prediction.model_version:
        raise PredictionError("the prediction has no model_version")
    if prediction.width < 1 or prediction.height < 1:
        raise PredictionError(f"the image's size is {prediction.width}×{prediction.height}")
    for number, box in enumerate(prediction.boxes, 1):
        what = f"box {number} ({box.label})"
        if box.label not in label_set:
            raise PredictionError(f"{what}: the label is none of {', '.join(label_set.names)}")
        if not 0 <= box.score <= 1:  # catches NaN, too
            raise PredictionError(f"{what}: the score is {box.score}, not from 0 to 1")
        left, top, right, bottom = box.xyxy
        if not all(math.isfinite(value) for value in box.xyxy):
            raise PredictionError(f"{what}: its corners are not finite: {list(box.xyxy)}")
        if not (0 <= left <= right <= prediction.width and 0 <= top <= bottom <= prediction.height):
            raise PredictionError(
                f"{what}: {list(box.xyxy)} is not a box inside {prediction.width}×{prediction.height} pixels"
            )


def _labels_found(boxes: Sequence[Box], label_set: LabelSet) -> str:
    """``apple ×2, banana``, in the label set's order: a text that the Data Manager can filter."""
    counts = Counter(box.label for box in boxes)
    return ", ".join(
        name if counts[name] == 1 else f"{name} ×{counts[name]}" for name in label_set.names if counts[name]
    )


def _region(prediction: Prediction, index: int, box: Box) -> dict[str, Any]:
    """One region, in percent of the upright size, which is the size that the browser shows."""
    left, top, right, bottom = box.xyxy
    x, width = _percent(left, right, prediction.width)
    y, height = _percent(top, bottom, prediction.height)
    # The same prediction gives the same ids: a region can be followed into the annotation that it became.
    region_id = hashlib.sha256(f"{prediction.prediction_id}/{index}".encode()).hexdigest()[:12]
    return {
        "id": region_id,
        "type": "rectanglelabels",
        "from_name": FROM_NAME,
        "to_name": TO_NAME,
        "original_width": prediction.width,
        "original_height": prediction.height,
        "image_rotation": 0,
        "score": box.score,
        "value": {
            "x": x,
            "y": y,
            "width": width,
            "height": height,
            "rotation": 0,
            "rectanglelabels": [box.label],
        },
    }


def _percent(start: float, end: float, size: int) -> tuple[float, float]:
    """Start and extent in percent; their sum is at most 100 in floating point, too."""
    first = 100.0 * start / size
    extent = min(100.0 * (end - start) / size, 100.0 - first)
    while first + extent > 100.0:
        extent = math.nextafter(extent, 0.0)
    return first, extent


@dataclass(slots=True)
class _Known:
    """A task that exists.

    Attributes:
        task: its id.
        shows: `_fingerprint` of its data.
        verified: a person's annotation is on it; a skipped one is no annotation.
    """

    task: int
    shows: str
    verified: bool


def _fingerprint(data: dict[str, Any]) -> str:
    """Hash of what a task says it shows: the prediction, and its boxes under the thresholds of the time.

    The image's address and the state are not in it: the first may read back differently, the second moves by
    itself.
    """
    content = {name: value for name, value in data.items() if name not in (DATA_KEY, "state")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


class _Publication:
    """One call of `publish`: what is known of the project's tasks, and what was done."""

    def __init__(
        self, connection: Connection, project: Project, label_set: LabelSet, image_urls: ImageUrls
    ) -> None:
        self.connection = connection
        self.project = project
        self.label_set = label_set
        self.image_urls = image_urls
        self.counts: Counter[str] = Counter()
        self.refused: list[tuple[str, str]] = []
        self.known: dict[str, _Known] = {}
        self.newest_task = 0
        with connection.explaining(f"read project {project.id}"):
            self.shown_version = connection.sdk.projects.get(project.id).model_version
        self._audit()

    def summary(self) -> PublishSummary:
        return PublishSummary(**self.counts, refused=tuple(self.refused))

    def publish(self, predictions: list[Prediction]) -> None:
        """Bring one chunk into Label Studio."""
        new, newer, there = [], [], []
        for prediction in predictions:
            try:
                task = to_task(prediction, self.label_set, "")
            except PredictionError as error:
                self.refused.append((prediction.image, str(error)))
                continue
            known = self.known.get(prediction.image_id)
            if known is None:
                new.append(prediction)
            elif known.shows == _fingerprint(task["data"]):
                self.counts["unchanged"] += 1
                there.append(prediction.model_version)
            elif known.verified:
                self.counts["verified"] += 1
            else:
                newer.append(prediction)
        tasks = self._with_images(new + newer)
        created = [task for image, task in tasks.items() if image not in self.known]
        if created:
            self._create(created)
            there.append(created[-1]["data"]["model_version"])
        if there:  # even if all of it was: an earlier run may have ended before it came here
            self._show(there[-1])
        replacing = [(self.known[p.image_id].task, tasks[p.image_id]) for p in newer if p.image_id in tasks]
        for start in range(0, len(replacing), _REPLACED_AT_ONCE):
            self._replace(replacing[start : start + _REPLACED_AT_ONCE])

    def _with_images(self, predictions: list[Prediction]) -> dict[str, dict[str, Any]]:
        """Tasks by image_id, now with the addresses of their images; images without one are reported."""
        if not predictions:
            return {}
        tasks = {}
        for prediction, url in zip(predictions, self.image_urls(predictions), strict=True):
            if isinstance(url, ImageError):
                self.refused.append((prediction.image, str(url)))
            else:
                tasks[prediction.image_id] = to_task(prediction, self.label_set, url)
        return tasks

    def _create(self, tasks: list[dict[str, Any]]) -> None:
        """Import tasks, then count what is there: that an answer is lost does not mean that the import is."""
        sent = {task["data"]["image_id"] for task in tasks}
        answer = None
        try:
            with self.connection.explaining(f"import {len(tasks)} tasks into project {self.project.id}"):
                answer = self.connection.sdk.projects.import_tasks(
                    self.project.id,
                    request=tasks,
                    return_task_ids=True,
                    request_options={**ONCE, "timeout_in_seconds": int(IMPORT_TIMEOUT_S)},
                )
        except InDoubtError:
            self._audit()
            if not sent <= self.known.keys():
                raise
        else:
            self._audit()
        missing = sent - self.known.keys()
        if missing or (answer is not None and answer.prediction_count != len(tasks)):
            made = None if answer is None else answer.prediction_count
            raise LabelStudioError(
                f"Label Studio made {len(sent) - len(missing)} tasks and {made} predictions of {len(tasks)} "
                f"that were sent to project {self.project.id}; look at its log, then run this again"
            )
        self.counts["created"] += len(tasks)

    def _replace(self, newer: list[tuple[int, dict[str, Any]]]) -> None:
        """Put newer predictions into the place of those that tasks have; `newer` holds (task id, content).

        In place: deleting a prediction makes the submit of an annotator who has the task open fail. The
        task's data comes last: it says that everything before it was done.
        """
        sdk = self.connection.sdk
        found = {task.id: task for task in self._tasks([number for number, _ in newer])}
        for number, content in newer:
            identity = content["data"]["image_id"]
            task = found.get(number)
            if task is None:
                raise LabelStudioError(f"task {number} was deleted while publishing; run this again")
            if task.total_annotations:  # verified since we first looked
                self.known[identity].verified = True
                self.counts["verified"] += 1
                continue
            prediction = content["predictions"][0]
            current = min((each.id for each in task.predictions or ()), default=None)
            with self.connection.explaining(f"replace the prediction of task {number}"):
                if current is None:
                    sdk.predictions.create(task=number, request_options=ONCE, **prediction)
                else:
                    sdk.predictions.update(current, task=number, **prediction)
            self._show(prediction["model_version"])
            with self.connection.explaining(f"update task {number}"):
                sdk.tasks.update(str(number), data=content["data"])
            self.known[identity].shows = _fingerprint(content["data"])
            self.counts["replaced"] += 1

    def _show(self, model_version: str) -> None:
        """Make annotators see this version: they are shown predictions of the project's version alone."""
        if model_version == self.shown_version:
            return
        with self.connection.explaining(f"show predictions of {model_version} in project {self.project.id}"):
            self.connection.sdk.projects.update(self.project.id, model_version=model_version)
        self.shown_version = model_version

    def _audit(self) -> None:
        """Read the identities of tasks that appeared since the last look, and remove twins.

        A client may give up on an import that the server commits later. So after every import the tasks are
        looked through by the identity in their data: the lowest id stays, a twin that nobody worked on goes.
        """
        twins = []
        for task in self._tasks_after(self.newest_task):
            self.newest_task = max(self.newest_task, task.id)
            data = task.data or {}
            identity = data.get("image_id")
            if not isinstance(identity, str):
                continue  # people imported it by other means
            if identity not in self.known:
                self.known[identity] = _Known(task.id, _fingerprint(data), bool(task.total_annotations))
            elif not (task.total_annotations or task.cancelled_annotations or task.draft_exists):
                twins.append(task.id)
        for twin in twins:
            with self.connection.explaining(f"delete task {twin}, the second one of its image"):
                self.connection.sdk.tasks.delete(str(twin))
            self.counts["removed_twins"] += 1

    def _tasks_after(self, newest: int) -> Iterator[Any]:
        """Tasks with a higher id than `newest`, lowest first."""
        after = {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": newest}
        return self._list(
            {"filters": {"conjunction": "and", "items": [after]}, "ordering": ["tasks:id"]},
            fields="task_only",
            include="id,data,total_annotations,cancelled_annotations,draft_exists",
        )

    def _tasks(self, numbers: list[int]) -> Iterator[Any]:
        """These tasks with their predictions; deleted ones are missing."""
        return self._list(
            {"selectedItems": {"all": False, "included": numbers}},
            fields="all",
            include="id,total_annotations,predictions",
        )

    def _list(self, query: dict[str, Any], **options: Any) -> Iterator[Any]:
        with self.connection.explaining(f"list the tasks of project {self.project.id}"):
            yield from self.connection.sdk.tasks.list(
                project=self.project.id, query=json.dumps(query), page_size=_PAGE, **options
            )
