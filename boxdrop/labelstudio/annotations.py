"""Annotators' work: read from Label Studio's tasks, and turned into the document to store."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeGuard

from boxdrop.domain.annotations import (
    Annotation,
    AnnotationError,
    Document,
    DrawnBox,
    Offer,
    OfferedBox,
    Opinion,
    Reason,
    Tombstone,
    is_number,
    own_opinion,
    time_of,
)
from boxdrop.iterables import chunked
from boxdrop.labelstudio.config import FROM_NAME
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.task_data import BLIND_KEY, stored_version

_PAGE: Final = 100
_PIXEL_DIGITS: Final = 3  # a thousandth of a pixel, as in predictions
_MAX_SIZE: Final = 1_000_000
_TICK: Final = timedelta(microseconds=1)
_SAVED_ONCE: Final = timedelta(seconds=1)
# `include` also applies to nested objects. People's names and addresses are left out.
_FIELDS: Final = (
    "id,data,annotations,predictions,result,was_cancelled,lead_time,created_at,updated_at,"
    "completed_by,updated_by,parent_prediction,model_version,score"
)


@dataclass(frozen=True, slots=True)
class ReviewedTask:
    """A task with its annotations and predictions.

    Attributes:
        number: Label Studio's id of the task.
        data: the task's data.
        annotations, predictions: as Label Studio lists them.
    """

    number: int
    data: Mapping[str, Any]
    annotations: tuple[Mapping[str, Any], ...]
    predictions: tuple[Mapping[str, Any], ...]

    @property
    def image_id(self) -> str | None:
        """The image that it shows; None if boxdrop did not make the task."""
        named = ("image_id", "version", "prediction_id", "model_version")
        if all(isinstance(self.data.get(name), str) and self.data[name] for name in named):
            return str(self.data["image_id"])
        return None


def read_reviews(connection: Connection, project: int, numbers: Iterable[int]) -> dict[int, ReviewedTask]:
    """Read the current tasks of a project with their annotations.

    Args:
        project: Label Studio's number.
        numbers: of tasks; deleted ones are missing from the result.

    Raises:
        LabelStudioError: the server cannot be reached, or has no such project.
    """
    found: dict[int, ReviewedTask] = {}
    for some in chunked(dict.fromkeys(numbers), _PAGE):
        answer = connection.request(
            f"read tasks of project {project}",
            "GET",
            "/api/tasks/",
            params={
                "project": project,
                "fields": "all",
                "include": _FIELDS,
                "resolve_uri": "false",
                "page_size": _PAGE,
                "query": json.dumps({"selectedItems": {"all": False, "included": some}}),
            },
        )
        for task in answer["tasks"]:
            found[task["id"]] = ReviewedTask(
                number=task["id"],
                data=task.get("data") or {},
                annotations=tuple(task.get("annotations") or ()),
                predictions=tuple(task.get("predictions") or ()),
            )
    return found


def document_of(task: ReviewedTask | None, before: Document | None, fetched_at: datetime) -> Document | None:
    """The document to store for an image, given the stored one.

    The annotation that was saved last counts; a skip counts only if nothing was submitted. What an annotation
    was *about* (the image version, and the prediction that it started from) stays as first stored until the
    annotator saves it again: the task may show something newer by now.

    Args:
        task: with its annotations; None if it no longer exists in Label Studio.
        before: the stored document, read *before* the task.
        fetched_at: when the task was read.

    Returns:
        `before` itself if nothing has changed; None if there was never anything to store.
    """
    wanted = _lost(before, fetched_at) if task is None else _present(task, before, fetched_at)
    if before is None or wanted is None:
        return wanted
    if type(wanted) is type(before) and replace(wanted, order=before.order) == before:
        return before
    return replace(wanted, order=max(wanted.order, before.order + _TICK))


def _lost(before: Document | None, fetched_at: datetime) -> Document | None:
    if before is None or (isinstance(before, Tombstone) and before.reason != Reason.SKIPPED):
        return before
    return Tombstone(before.image, before.image_id, before.task_id, fetched_at, Reason.LOST)


def _present(task: ReviewedTask, before: Document | None, fetched_at: datetime) -> Document | None:
    submitted = [each for each in task.annotations if not each.get("was_cancelled")]
    if submitted:
        newest = max(submitted, key=_saved_last)
        annotation = _annotation(task, newest, before)
        others = sorted((each for each in submitted if each is not newest), key=_saved_last)
        return replace(annotation, others=_others(task, others, annotation, before)) if others else annotation
    image, image_id = str(task.data.get("file_name") or ""), str(task.image_id)
    if task.annotations:
        skip = max(task.annotations, key=_saved_last)
        order = time_of(skip.get("updated_at")) or fetched_at
        return Tombstone(image, image_id, task.number, order, Reason.SKIPPED, int(skip["id"]), _user(skip))
    if before is None or (isinstance(before, Tombstone) and before.reason != Reason.SKIPPED):
        return before
    return Tombstone(image, image_id, task.number, fetched_at, Reason.DELETED)


def _saved_last(annotation: Mapping[str, Any]) -> tuple[datetime, int]:
    return time_of(annotation.get("updated_at")) or datetime.min.replace(tzinfo=UTC), int(annotation["id"])


def _annotation(task: ReviewedTask, newest: Mapping[str, Any], before: Document | None) -> Annotation:
    number = int(newest["id"])
    updated_at = time_of(newest.get("updated_at")) or time_of(newest.get("created_at"))
    if updated_at is None:
        raise AnnotationError(f"annotation {number} of task {task.number} has no time")
    version = str(task.data["version"])
    known = before if isinstance(before, Annotation) and before.annotation_id == number else None
    prediction = None if known else _started_from(task, newest)
    if known and known.updated_at == updated_at:
        version = known.version
    result = newest.get("result") or []
    offered = [] if prediction is None else prediction.get("result") or []
    before_size = (known.width, known.height) if known and known.version == version else (None, None)
    size = _size(task.data, before_size, [*offered, *result])
    boxes, notes = _boxes(result, size)
    return Annotation(
        image=str(task.data.get("file_name") or ""),
        image_id=str(task.image_id),
        version=version,
        task_id=task.number,
        annotation_id=number,
        order=updated_at,
        updated_at=updated_at,
        user=_user(newest),
        lead_time=_seconds(newest.get("lead_time")),
        width=size[0] if size else None,
        height=size[1] if size else None,
        boxes=tuple(boxes),
        offer=known.offer if known else _offer(task, prediction, size),
        notes=tuple(notes),
    )


def _others(
    task: ReviewedTask, others: Sequence[Mapping[str, Any]], newest: Annotation, before: Document | None
) -> tuple[Opinion, ...]:
    """The task's other annotations. What each was about stays as it was first stored, as with the newest."""
    known: dict[int, Opinion] = {}
    if isinstance(before, Annotation):
        known = {each.annotation_id: each for each in (*before.others, own_opinion(before))}
    size = None if newest.width is None or newest.height is None else (newest.width, newest.height)
    found = []
    for each in others:
        number = int(each["id"])
        boxes, notes = _boxes(each.get("result") or [], size)
        updated_at = time_of(each.get("updated_at")) or time_of(each.get("created_at"))
        if notes or updated_at is None:
            continue
        earlier = known.get(number)
        if earlier is not None and earlier.updated_at == updated_at:
            version, same_offer = earlier.version, earlier.same_offer and newest.offer is not None
        else:
            version = str(task.data["version"])
            same_offer = newest.offer is not None and _started_from(task, each) is not None
        found.append(
            Opinion(
                annotation_id=number,
                version=version,
                updated_at=updated_at,
                user=_user(each),
                lead_time=_seconds(each.get("lead_time")),
                boxes=tuple(boxes),
                same_offer=same_offer,
            )
        )
    return tuple(found)


def _seconds(value: Any) -> float | None:
    return round(float(value), 3) if is_number(value) and value >= 0 else None


def _started_from(task: ReviewedTask, annotation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The prediction, if it certainly is the one that the annotator saw.

    Predictions are replaced in place. A prediction that was updated after the submit is a different one by
    now. So is one that lacks a region which, according to the browser (``origin``), came from a prediction.
    """
    parent = annotation.get("parent_prediction")
    candidates = [each for each in task.predictions if parent in (None, each.get("id"))]
    if len(candidates) != 1:
        return None
    (prediction,) = candidates
    replaced_at, submitted_at = time_of(prediction.get("updated_at")), time_of(annotation.get("created_at"))
    if prediction.get("model_version") != stored_version(task.data):
        return None  # is being replaced right now
    if replaced_at is not None and submitted_at is not None and replaced_at > submitted_at:
        return None
    offered = {region.get("id") for region in _regions(prediction.get("result"))}
    for region in _regions(annotation.get("result")):
        if str(region.get("origin", "")).startswith("prediction") and region.get("id") not in offered:
            return None
    return prediction


def _offer(
    task: ReviewedTask, prediction: Mapping[str, Any] | None, size: tuple[int, int] | None
) -> Offer | None:
    if prediction is None:
        return None
    boxes, _ = _boxes(prediction.get("result") or [], size)
    scores = {str(region.get("id")): region.get("score") for region in _regions(prediction.get("result"))}
    offered = []
    for box in boxes:
        score = scores.get(box.region)
        if is_number(score) and 0 <= score <= 1:
            offered.append(OfferedBox(box.label, float(score), box.xyxy, box.region))
    blind = task.data.get(BLIND_KEY) is True
    return Offer(str(task.data["prediction_id"]), str(task.data["model_version"]), tuple(offered), blind)


def _regions(result: Any) -> list[Mapping[str, Any]]:
    return [each for each in result if isinstance(each, dict)] if isinstance(result, list) else []


def _size(
    data: Mapping[str, Any], before: tuple[int | None, int | None], regions: Sequence[Any]
) -> tuple[int, int] | None:
    """Upright size of the image, from the task, the prediction or the annotator's browser."""
    candidates = [(data.get("width"), data.get("height")), before]
    candidates += [(each.get("original_width"), each.get("original_height")) for each in _regions(regions)]
    for width, height in candidates:
        if _is_size(width) and _is_size(height):
            return width, height
    return None


def _boxes(result: Any, size: tuple[int, int] | None) -> tuple[list[DrawnBox], list[str]]:
    """Regions as boxes, with a note on each region that is not a box or not exact."""
    boxes: list[DrawnBox] = []
    notes: list[str] = []
    if not isinstance(result, list):
        return boxes, ["the result is not a list"]
    for region in result:
        if not isinstance(region, dict) or region.get("type") != "rectanglelabels":
            notes.append("left out: a region that is not a rectangle with a label")
            continue
        identity = str(region.get("id") or "")[:64]
        if region.get("from_name") != FROM_NAME:
            notes.append(f"left out: region {identity}, made by a control other than {FROM_NAME!r}")
            continue
        value = region.get("value")
        value = value if isinstance(value, dict) else {}
        labels = value.get("rectanglelabels")
        if not isinstance(labels, list) or not labels or not all(isinstance(x, str) and x for x in labels):
            notes.append(f"left out: region {identity}, which has no label")
            continue
        if region.get("image_rotation"):
            notes.append(f"left out: region {identity}, drawn while the image was turned")
            continue
        xyxy = _corners(value, size) if size else None
        if xyxy is None:
            notes.append(f"left out: region {identity}, which has no area inside the image")
            continue
        if (region.get("original_width"), region.get("original_height")) != size:
            notes.append(f"region {identity} was drawn on an image of another size")
        rotation = float(value.get("rotation") or 0)
        boxes += [DrawnBox(label, xyxy, identity, rotation) for label in labels]
    return boxes, notes


def _corners(value: Mapping[str, Any], size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Percent to pixels, clipped; None if it is not a rectangle, or lies outside the image.

    Label Studio rotates a rectangle about its top left corner, clockwise, in pixels and not in percent.
    """
    percents = [value.get("x"), value.get("width"), value.get("y"), value.get("height")]
    numbers = [float(each) for each in percents if is_number(each)]
    rotation = value.get("rotation") or 0
    if len(numbers) != len(percents) or not is_number(rotation):
        return None
    image_width, image_height = size
    x, width = (each * image_width / 100 for each in numbers[:2])
    y, height = (each * image_height / 100 for each in numbers[2:])
    if width < 0 or height < 0:
        return None
    cosine, sine = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    if rotation % 90 == 0:  # exact
        cosine, sine = round(cosine), round(sine)
    across = [dx * cosine - dy * sine for dx in (0, width) for dy in (0, height)]
    down = [dx * sine + dy * cosine for dx in (0, width) for dy in (0, height)]
    left, right = (_clipped(x + each, image_width) for each in (min(across), max(across)))
    top, bottom = (_clipped(y + each, image_height) for each in (min(down), max(down)))
    if left >= right or top >= bottom:
        return None
    return left, top, right, bottom


def _clipped(value: float, size: int) -> float:
    return min(max(round(value, _PIXEL_DIGITS), 0.0), float(size))


def _user(annotation: Mapping[str, Any]) -> int | None:
    """The id of the user who saved it last, without the name that Label Studio may add.

    Of an annotation that was never saved again, that is its author: for one that boxdrop submits in the name
    of a source of boxes, Label Studio enters the token's user as the one who updated it.
    """
    created, updated = time_of(annotation.get("created_at")), time_of(annotation.get("updated_at"))
    saved_once = created is not None and updated is not None and abs(updated - created) < _SAVED_ONCE
    keys = ("completed_by", "updated_by")
    for key in keys if saved_once else reversed(keys):
        value = annotation.get(key)
        if isinstance(value, dict):
            value = value.get("id")
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _is_size(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_SIZE
