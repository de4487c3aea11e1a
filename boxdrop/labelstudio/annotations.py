"""Annotations: what people verified, read from Label Studio and written as a document of our own.

A document says what is true of one image now: an `Annotation` that a person submitted, or a `Tombstone`
where there was one, or where somebody skipped the task. `docs/annotations.md` describes it for readers of the
files.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeGuard, TypeVar

from boxdrop.errors import BoxdropError
from boxdrop.iterables import chunked
from boxdrop.labelstudio.config import FROM_NAME
from boxdrop.labelstudio.connection import Connection
from boxdrop.times import time_text

FORMAT: Final = "boxdrop-annotation/1"

_PAGE: Final = 100
_PIXEL_DIGITS: Final = 3  # a thousandth of a pixel, as in predictions
_MAX_SIZE: Final = 1_000_000
_TICK: Final = timedelta(microseconds=1)
# `include` goes for the nested objects, too. Left out: names and addresses of people.
_FIELDS: Final = (
    "id,data,annotations,predictions,result,was_cancelled,lead_time,created_at,updated_at,"
    "completed_by,updated_by,parent_prediction,model_version,score"
)

T = TypeVar("T")


class AnnotationError(BoxdropError):
    """A document that is not valid: names it and the field."""


class Reason(StrEnum):
    """Why an image is not verified."""

    SKIPPED = "skipped"  # somebody saw it, and would not say
    DELETED = "deleted"  # there was an annotation or a skip
    LOST = "lost"  # its task is no longer in Label Studio


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box that a person accepted or drew.

    Attributes:
        xyxy: left, top, right, bottom in upright pixels, clipped to the image; of a turned rectangle, the
            upright box around it.
        region: Label Studio's id of the region; that of the predicted box, if it came from one.
        rotation: degrees clockwise about its own left top corner, by which a person turned the rectangle.
    """

    label: str
    xyxy: tuple[float, float, float, float]
    region: str
    rotation: float = 0.0


@dataclass(frozen=True, slots=True)
class OfferedBox:
    """A box that the person was shown; fields as in `DrawnBox` and `boxdrop.predictions.Box`."""

    label: str
    score: float
    xyxy: tuple[float, float, float, float]
    region: str


@dataclass(frozen=True, slots=True)
class Offer:
    """The prediction that a person started from."""

    prediction_id: str
    model_version: str
    boxes: tuple[OfferedBox, ...]


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a person says is in one version of an image.

    Attributes:
        image: name of the file, as in the task.
        image_id, version: see `boxdrop.predictions.Prediction`.
        task_id, annotation_id: Label Studio's numbers.
        order: rises with each document of the image; the time of what it says, roughly.
        updated_at: when the person saved it last, by Label Studio's clock.
        user: Label Studio's number of whoever saved it last; no name.
        lead_time: seconds that they worked on it.
        width, height: upright size in pixels; None where neither the task nor a box tells it.
        boxes: in Label Studio's order; none: the person says that there is nothing.
        offer: what they started from; None if that is not known for sure, because the prediction was
            replaced meanwhile, or if there was none.
        notes: sentences about regions that could not be taken over as they are. Where there are any, the
            boxes may not be all.
    """

    image: str
    image_id: str
    version: str
    task_id: int
    annotation_id: int
    order: datetime
    updated_at: datetime
    user: int | None
    lead_time: float | None
    width: int | None
    height: int | None
    boxes: tuple[DrawnBox, ...]
    offer: Offer | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tombstone:
    """That an image is not verified, though somebody once did something with it.

    Attributes:
        annotation_id, user: of the skip; None for other reasons.
        others: as in `Annotation`.
    """

    image: str
    image_id: str
    task_id: int
    order: datetime
    reason: Reason
    annotation_id: int | None = None
    user: int | None = None


Document = Annotation | Tombstone


@dataclass(frozen=True, slots=True)
class ReviewedTask:
    """A task with all that people did on it.

    Attributes:
        number: Label Studio's id of it.
        data: the task's.
        annotations, predictions: as Label Studio lists them.
    """

    number: int
    data: Mapping[str, Any]
    annotations: tuple[Mapping[str, Any], ...]
    predictions: tuple[Mapping[str, Any], ...]

    @property
    def image_id(self) -> str | None:
        """Which image it shows; None if it is no task of ours."""
        named = ("image_id", "version", "prediction_id", "model_version")
        if all(isinstance(self.data.get(name), str) and self.data[name] for name in named):
            return str(self.data["image_id"])
        return None


def read_reviews(connection: Connection, project: int, numbers: Iterable[int]) -> dict[int, ReviewedTask]:
    """Read tasks of a project with their annotations, as they are now.

    Args:
        project: Label Studio's number.
        numbers: of tasks; those that are no longer in the project are missing in the answer.

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
    """What has to be stored of an image, given what is.

    The annotation that was saved last counts; skips count only where nothing was submitted. What an
    annotation was *about* (the version, and the prediction that it started from) stays as it was first
    stored, until a person saves it again: the task may show something newer by now.

    Args:
        task: with its annotations; None: no longer in Label Studio.
        before: what is stored, read *before* the task was.
        fetched_at: when the task was read.

    Returns:
        `before` itself where it still says it all; None where nothing ever happened.
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
        return _annotation(task, max(submitted, key=_saved_last), before)
    image, image_id = str(task.data.get("file_name") or ""), str(task.image_id)
    if task.annotations:
        skip = max(task.annotations, key=_saved_last)
        order = _time(skip.get("updated_at")) or fetched_at
        return Tombstone(image, image_id, task.number, order, Reason.SKIPPED, int(skip["id"]), _user(skip))
    if before is None or (isinstance(before, Tombstone) and before.reason != Reason.SKIPPED):
        return before
    return Tombstone(image, image_id, task.number, fetched_at, Reason.DELETED)


def _saved_last(annotation: Mapping[str, Any]) -> tuple[datetime, int]:
    return _time(annotation.get("updated_at")) or datetime.min.replace(tzinfo=UTC), int(annotation["id"])


def _annotation(task: ReviewedTask, newest: Mapping[str, Any], before: Document | None) -> Annotation:
    number = int(newest["id"])
    updated_at = _time(newest.get("updated_at")) or _time(newest.get("created_at"))
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
    lead_time = newest.get("lead_time")
    return Annotation(
        image=str(task.data.get("file_name") or ""),
        image_id=str(task.image_id),
        version=version,
        task_id=task.number,
        annotation_id=number,
        order=updated_at,
        updated_at=updated_at,
        user=_user(newest),
        lead_time=round(float(lead_time), 3) if _is_number(lead_time) and lead_time >= 0 else None,
        width=size[0] if size else None,
        height=size[1] if size else None,
        boxes=tuple(boxes),
        offer=known.offer if known else _offer(task, prediction, size),
        notes=tuple(notes),
    )


def _started_from(task: ReviewedTask, annotation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The prediction, if it surely is the one that the person was shown.

    Predictions are replaced in place. One that was touched after the submit is another one by now; and so is
    one that lacks a region that, says the browser (``origin``), came from a prediction.
    """
    parent = annotation.get("parent_prediction")
    candidates = [each for each in task.predictions if parent in (None, each.get("id"))]
    if len(candidates) != 1:
        return None
    (prediction,) = candidates
    replaced_at, submitted_at = _time(prediction.get("updated_at")), _time(annotation.get("created_at"))
    if prediction.get("model_version") != task.data.get("model_version"):
        return None  # just being replaced
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
        if _is_number(score) and 0 <= score <= 1:
            offered.append(OfferedBox(box.label, float(score), box.xyxy, box.region))
    return Offer(str(task.data["prediction_id"]), str(task.data["model_version"]), tuple(offered))


def _regions(result: Any) -> list[Mapping[str, Any]]:
    return [each for each in result if isinstance(each, dict)] if isinstance(result, list) else []


def _size(
    data: Mapping[str, Any], before: tuple[int | None, int | None], regions: Sequence[Any]
) -> tuple[int, int] | None:
    """Upright size of the image, as the task, the prediction or the person's browser tells it."""
    candidates = [(data.get("width"), data.get("height")), before]
    candidates += [(each.get("original_width"), each.get("original_height")) for each in _regions(regions)]
    for width, height in candidates:
        if _is_size(width) and _is_size(height):
            return width, height
    return None


def _boxes(result: Any, size: tuple[int, int] | None) -> tuple[list[DrawnBox], list[str]]:
    """Regions as boxes, and a note on each that is none or is not exact."""
    boxes: list[DrawnBox] = []
    notes: list[str] = []
    if not isinstance(result, list):
        return boxes, ["the result is no list"]
    for region in result:
        if not isinstance(region, dict) or region.get("type") != "rectanglelabels":
            notes.append("left out: a region that is no rectangle with a label")
            continue
        identity = str(region.get("id") or "")[:64]
        if region.get("from_name") != FROM_NAME:
            notes.append(f"left out: region {identity}, which another control made than {FROM_NAME!r}")
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
            notes.append(f"left out: region {identity}, which is nowhere in the image")
            continue
        if (region.get("original_width"), region.get("original_height")) != size:
            notes.append(f"region {identity} was drawn on an image of another size")
        rotation = float(value.get("rotation") or 0)
        boxes += [DrawnBox(label, xyxy, identity, rotation) for label in labels]
    return boxes, notes


def _corners(value: Mapping[str, Any], size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Percent to pixels, clipped; None for what is no rectangle, or has nothing of itself in the image.

    Label Studio turns a rectangle about its left top corner, clockwise, in pixels and not in percent.
    """
    percents = [value.get("x"), value.get("width"), value.get("y"), value.get("height")]
    numbers = [float(each) for each in percents if _is_number(each)]
    rotation = value.get("rotation") or 0
    if len(numbers) != len(percents) or not _is_number(rotation):
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
    """Who saved it last: the number alone, also where Label Studio tells more."""
    for key in ("updated_by", "completed_by"):
        value = annotation.get(key)
        if isinstance(value, dict):
            value = value.get("id")
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _time(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_size(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_SIZE


def to_json(document: Document) -> str:
    """One JSON object. Only ASCII, so that any file name survives any tool."""
    fields: dict[str, Any] = {
        "format": FORMAT,
        "verified": isinstance(document, Annotation),
        "image": document.image,
        "image_id": document.image_id,
        "task_id": document.task_id,
        "annotation_id": document.annotation_id,
        "order": time_text(document.order),
        "user": document.user,
    }
    if isinstance(document, Tombstone):
        fields["reason"] = str(document.reason)
        return json.dumps(fields, separators=(",", ":"), allow_nan=False)
    fields |= {
        "version": document.version,
        "updated_at": time_text(document.updated_at),
        "lead_time": document.lead_time,
        "width": document.width,
        "height": document.height,
        "boxes": [_box_fields(box) for box in document.boxes],
        "started_from": None
        if document.offer is None
        else {
            "prediction_id": document.offer.prediction_id,
            "model_version": document.offer.model_version,
            "boxes": [
                {"label": box.label, "score": box.score, "xyxy": list(box.xyxy), "region": box.region}
                for box in document.offer.boxes
            ],
        },
        "notes": list(document.notes),
    }
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def _box_fields(box: DrawnBox) -> dict[str, Any]:
    fields: dict[str, Any] = {"label": box.label, "xyxy": list(box.xyxy), "region": box.region}
    return fields | {"rotation": box.rotation} if box.rotation else fields


def from_json(text: str | bytes, where: str = "annotation") -> Document:
    """Read and check one document.

    Args:
        text: what `to_json` wrote.
        where: names it in messages, ``s3://bucket/annotations/…``.

    Raises:
        AnnotationError: not JSON, another format, a field missing, of the wrong type or out of its range.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{where}: this is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise AnnotationError(f"{where}: a document must be a JSON object")
    return _Reader(fields, where).document()


class _Reader:
    """Checks one decoded document field by field."""

    def __init__(self, fields: dict[str, Any], where: str) -> None:
        self.fields = fields
        self.where = where

    def error(self, message: str) -> AnnotationError:
        return AnnotationError(f"{self.where}: {message}")

    def document(self) -> Document:
        if self.fields.get("format") != FORMAT:
            raise self.error(f"format is {self.fields.get('format')!r}; this boxdrop reads {FORMAT!r}")
        verified = self.fields.get("verified")
        if not isinstance(verified, bool):
            raise self.error("`verified` must be true or false")
        image = self.fields.get("image")
        if not isinstance(image, str):
            raise self.error(f"`image` must be text, not {image!r}")
        image_id, task_id, order = self.text("image_id"), self.number("task_id"), self.time("order")
        user = self.optional("user", self.number)
        if not verified:
            reason = self.fields.get("reason")
            if reason not in list(Reason):
                raise self.error(f"`reason` must be one of {', '.join(Reason)}, not {reason!r}")
            annotation_id = self.optional("annotation_id", self.number)
            return Tombstone(image, image_id, task_id, order, Reason(reason), annotation_id, user)
        width, height = self.optional("width", self.number), self.optional("height", self.number)
        if (width is None) != (height is None):
            raise self.error("`width` and `height` must both be known, or neither")
        size = None if width is None or height is None else (width, height)
        notes = self.entries("notes")
        if not all(isinstance(note, str) for note in notes):
            raise self.error("`notes` must be texts")
        return Annotation(
            image=image,
            image_id=image_id,
            version=self.text("version"),
            task_id=task_id,
            annotation_id=self.number("annotation_id"),
            order=order,
            updated_at=self.time("updated_at"),
            user=user,
            lead_time=self.optional("lead_time", self.seconds),
            width=width,
            height=height,
            boxes=tuple(self.drawn(i, each, size) for i, each in enumerate(self.entries("boxes"))),
            offer=self.offer(size),
            notes=tuple(notes),
        )

    def text(self, key: str) -> str:
        value = self.fields.get(key)
        if not isinstance(value, str) or not value:
            raise self.error(f"`{key}` must be text, not {value!r}")
        return value

    def number(self, key: str) -> int:
        value = self.fields.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.error(f"`{key}` must be a whole number, 1 or more, not {value!r}")
        return value

    def seconds(self, key: str) -> float:
        value = self.fields.get(key)
        if not _is_number(value) or value < 0:
            raise self.error(f"`{key}` must be seconds, 0 or more, not {value!r}")
        return float(value)

    def time(self, key: str) -> datetime:
        time = _time(self.fields.get(key))
        if time is None:
            raise self.error(
                f"`{key}` must be a time, 2026-11-22T12:00:00.000000Z, not {self.fields.get(key)!r}"
            )
        return time

    def optional(self, key: str, read: Callable[[str], T]) -> T | None:
        return None if self.fields.get(key) is None else read(key)

    def entries(self, key: str) -> list[Any]:
        value = self.fields.get(key)
        if not isinstance(value, list):
            raise self.error(f"`{key}` must be a list")
        return value

    def drawn(self, number: int, entry: Any, size: tuple[int, int] | None) -> DrawnBox:
        what = f"boxes[{number}]"
        label, xyxy, region = self.box(what, entry, size)
        rotation = entry.get("rotation", 0)
        if not _is_number(rotation):
            raise self.error(f"{what}: rotation must be degrees, not {rotation!r}")
        return DrawnBox(label, xyxy, region, float(rotation))

    def offer(self, size: tuple[int, int] | None) -> Offer | None:
        value = self.fields.get("started_from")
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error("`started_from` must be an object or null")
        inner = _Reader(value, f"{self.where}: started_from")
        boxes = []
        for number, entry in enumerate(inner.entries("boxes")):
            what = f"boxes[{number}]"
            label, xyxy, region = inner.box(what, entry, size)
            score = entry.get("score")
            if not _is_number(score) or not 0 <= score <= 1:
                raise inner.error(f"{what}: score must be from 0 to 1, not {score!r}")
            boxes.append(OfferedBox(label, float(score), xyxy, region))
        return Offer(inner.text("prediction_id"), inner.text("model_version"), tuple(boxes))

    def box(
        self, what: str, entry: Any, size: tuple[int, int] | None
    ) -> tuple[str, tuple[float, float, float, float], str]:
        if not isinstance(entry, dict):
            raise self.error(f"{what} must be an object")
        label, region, xyxy = entry.get("label"), entry.get("region"), entry.get("xyxy")
        if not isinstance(label, str) or not label or not isinstance(region, str):
            raise self.error(f"{what} must have the texts `label` and `region`")
        if not isinstance(xyxy, list) or len(xyxy) != 4 or not all(map(_is_number, xyxy)):
            raise self.error(f"{what}: xyxy must be four numbers, not {xyxy!r}")
        left, top, right, bottom = (float(each) for each in xyxy)
        if size is None:
            raise self.error(f"{what}: there is no box without the image's `width` and `height`")
        if not (0 <= left <= right <= size[0] and 0 <= top <= bottom <= size[1]):
            raise self.error(f"{what}: box {xyxy} is not inside the image of {size[0]}×{size[1]} pixels")
        return label, (left, top, right, bottom), region
