"""Annotations: verified work, in boxdrop's own document format.

A document describes the current state of one image: an `Annotation` that an annotator submitted, or a
`Tombstone` if the annotation was withdrawn or the task skipped. `docs/annotations.md` describes the files for
readers; `boxdrop.labelstudio.annotations` makes documents from Label Studio's tasks.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TypeGuard, TypeVar

from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.times import time_text

FORMAT: Final = "boxdrop-annotation/1"

T = TypeVar("T")


class AnnotationError(BoxdropError):
    """An invalid document; the message names it and the field."""


class Reason(StrEnum):
    """Why an image is not verified."""

    SKIPPED = "skipped"  # an annotator saw the task and skipped it
    DELETED = "deleted"  # there was an annotation or a skip
    LOST = "lost"  # its task no longer exists in Label Studio


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box that an annotator accepted or drew.

    Attributes:
        xyxy: left, top, right, bottom in upright pixels, clipped to the image; for a rotated rectangle, the
            upright box around it.
        region: Label Studio's id of the region; the predicted box's id, if it came from one.
        rotation: degrees clockwise about its top left corner, if the annotator rotated the rectangle.
    """

    label: str
    xyxy: tuple[float, float, float, float]
    region: str
    rotation: float = 0.0


@dataclass(frozen=True, slots=True)
class OfferedBox:
    """A box that the annotator was shown; fields as in `DrawnBox` and `boxdrop.domain.predictions.Box`."""

    label: str
    score: float
    xyxy: tuple[float, float, float, float]
    region: str


@dataclass(frozen=True, slots=True)
class Offer:
    """The prediction that the annotator started from.

    Attributes:
        boxes: that the annotator was shown.
        blind: the prediction's boxes were left out on purpose (``review: {blind: …}`` of labels.yaml), so
            `boxes` is empty whatever the detector found.
    """

    prediction_id: str
    model_version: str
    boxes: tuple[OfferedBox, ...]
    blind: bool = False


@dataclass(frozen=True, slots=True)
class Opinion:
    """Another annotation of the task: what somebody else, or the same person earlier, says about the image.

    Attributes:
        same_offer: whether the person started from the prediction that the document's `offer` is.
        others: as in `Annotation`.
    """

    annotation_id: int
    version: str
    updated_at: datetime
    user: int | None
    lead_time: float | None
    boxes: tuple[DrawnBox, ...]
    same_offer: bool = False


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotator's boxes for one version of an image.

    Attributes:
        image: name of the file, as in the task.
        image_id, version: see `boxdrop.domain.predictions.Prediction`.
        task_id, annotation_id: Label Studio's numbers.
        order: rises with each document of the image; roughly the time of its content.
        updated_at: when the annotator saved it last, by Label Studio's clock.
        user: Label Studio's id of the last user who saved it; no name.
        lead_time: seconds of work.
        width, height: upright size in pixels; None if neither the task nor a box has it.
        boxes: in Label Studio's order; empty: the annotator found no objects.
        offer: the prediction that they started from; None if there was none, or if it is uncertain because
            the prediction was replaced in the meantime.
        notes: sentences about regions that could not be converted exactly. If there are any, boxes may be
            missing.
        others: the task's other annotations, oldest first, without those that could not be converted exactly.
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
    others: tuple[Opinion, ...] = ()


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Marks an image as not verified, although an annotator once worked on it.

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


def to_json(document: Document) -> str:
    """One JSON object. ASCII only, so file names survive every tool."""
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
            **({"blind": True} if document.offer.blind else {}),
        },
        "notes": list(document.notes),
    }
    if document.others:
        fields["others"] = [
            {
                "annotation_id": each.annotation_id,
                "version": each.version,
                "updated_at": time_text(each.updated_at),
                "user": each.user,
                "lead_time": each.lead_time,
                "boxes": [_box_fields(box) for box in each.boxes],
                "same_offer": each.same_offer,
            }
            for each in document.others
        ]
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def _box_fields(box: DrawnBox) -> dict[str, Any]:
    fields: dict[str, Any] = {"label": box.label, "xyxy": list(box.xyxy), "region": box.region}
    return fields | {"rotation": box.rotation} if box.rotation else fields


def from_json(text: str | bytes, where: str = "annotation") -> Document:
    """Read and check one document.

    Args:
        text: what `to_json` wrote.
        where: its name in messages, ``s3://bucket/annotations/…``.

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
            others=self.opinions(size),
        )

    def opinions(self, size: tuple[int, int] | None) -> tuple[Opinion, ...]:
        if self.fields.get("others") is None:  # older documents have none
            return ()
        found = []
        for number, value in enumerate(self.entries("others")):
            if not isinstance(value, dict):
                raise self.error(f"others[{number}] must be an object")
            inner = _Reader(value, f"{self.where}: others[{number}]")
            opinion = Opinion(
                annotation_id=inner.number("annotation_id"),
                version=inner.text("version"),
                updated_at=inner.time("updated_at"),
                user=inner.optional("user", inner.number),
                lead_time=inner.optional("lead_time", inner.seconds),
                boxes=tuple(inner.drawn(i, each, size) for i, each in enumerate(inner.entries("boxes"))),
                same_offer=value.get("same_offer") is True,
            )
            found.append(opinion)
        return tuple(found)

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
        if not is_number(value) or value < 0:
            raise self.error(f"`{key}` must be seconds, 0 or more, not {value!r}")
        return float(value)

    def time(self, key: str) -> datetime:
        time = time_of(self.fields.get(key))
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
        if not is_number(rotation):
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
            if not is_number(score) or not 0 <= score <= 1:
                raise inner.error(f"{what}: score must be from 0 to 1, not {score!r}")
            boxes.append(OfferedBox(label, float(score), xyxy, region))
        blind = value.get("blind") is True
        return Offer(inner.text("prediction_id"), inner.text("model_version"), tuple(boxes), blind)

    def box(
        self, what: str, entry: Any, size: tuple[int, int] | None
    ) -> tuple[str, tuple[float, float, float, float], str]:
        if not isinstance(entry, dict):
            raise self.error(f"{what} must be an object")
        label, region, xyxy = entry.get("label"), entry.get("region"), entry.get("xyxy")
        if not isinstance(label, str) or not label or not isinstance(region, str):
            raise self.error(f"{what} must have the texts `label` and `region`")
        if not isinstance(xyxy, list) or len(xyxy) != 4 or not all(map(is_number, xyxy)):
            raise self.error(f"{what}: xyxy must be four numbers, not {xyxy!r}")
        left, top, right, bottom = (float(each) for each in xyxy)
        if size is None:
            raise self.error(f"{what}: there is no box without the image's `width` and `height`")
        if not (0 <= left <= right <= size[0] and 0 <= top <= bottom <= size[1]):
            raise self.error(f"{what}: box {xyxy} is not inside the image of {size[0]}×{size[1]} pixels")
        return label, (left, top, right, bottom), region


def time_of(value: Any) -> datetime | None:
    """A time from text, in UTC; None if it is not one."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a JSON value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_SAME_PX: Final = 0.5
"""Label Studio stores percentages and rounds them: coordinates move by less than this without a person."""


def was_moved(box: DrawnBox, before: tuple[float, float, float, float]) -> bool:
    """Whether the person moved, resized or rotated a box that was at `before` (xyxy, pixels)."""
    return bool(box.rotation) or any(abs(a - b) > _SAME_PX for a, b in zip(box.xyxy, before, strict=True))


def own_opinion(annotation: Annotation) -> Opinion:
    """The annotation that a document is about, as its `others` are written."""
    return Opinion(
        annotation.annotation_id,
        annotation.version,
        annotation.updated_at,
        annotation.user,
        annotation.lead_time,
        annotation.boxes,
        same_offer=True,
    )
