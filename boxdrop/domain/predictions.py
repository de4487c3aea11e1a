"""The wire format of predictions: one line of JSON per image, versioned and validated.

A line is either a `Prediction` or a `Failure`; both name the image and its version. `docs/predictions.md`
describes the fields for readers of the files.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from boxdrop.domain.detections import RIVAL_IOU, Detections, select
from boxdrop.domain.errors import PredictionError
from boxdrop.domain.identity import prediction_id
from boxdrop.domain.labels import LabelSet

FORMAT: Final = "boxdrop-prediction/1"
_PIXEL_DIGITS = 3  # a thousandth of a pixel
_SCORE_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Box:
    """One box above its label's threshold, as annotators see it.

    Attributes:
        label: name of the label.
        score: 0 to 1.
        xyxy: left, top, right, bottom in upright pixels.
        prompt: the prompt that found it.
        also: (name, score) of lower-scoring labels for the same object, best first.
    """

    label: str
    score: float
    xyxy: tuple[float, float, float, float]
    prompt: str
    also: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One detection above the floor, before thresholds; a changed threshold selects from these.

    Attributes:
        label, prompt: names, as in `Box`.
        query: the detector's own number for the box.
    """

    label: str
    prompt: str
    query: int
    score: float
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a detector found in one version of one image.

    Attributes:
        image: path below the source folder, or ``s3://bucket/key``.
        image_id: see `image_id`.
        version: identifies the image's content.
        model_version: ``bundle-name@detection-digest``.
        width, height: upright size in pixels.
        boxes: best score first.
        candidates: all detections above the floor, best first.
        display: the copy that people are shown, if a browser does not show the image as the detector saw it:
            its key in the data bucket, or its path below the output folder of `boxdrop annotate`. None also
            in records of earlier versions, which made no copies.
        damaged: names of metadata in the file that is damaged and was ignored, such as ``gAMA`` of a PNG.
        doubt: how much there is to check, see `boxdrop.assessment.priority`; None where it was not computed.
            The files do not hold it.

    >>> from boxdrop.domain.predictions import Box, Prediction, to_json
    >>> box = Box("banana", 0.9, (10.0, 20.0, 110.0, 220.0), "banana")
    >>> Prediction("a.jpg", "9f0c", "17a-2048", "demo@0123abcd", 640, 480, (box,)).boxes[0].label
    'banana'
    """

    image: str
    image_id: str
    version: str
    model_version: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    candidates: tuple[Candidate, ...] = ()
    display: str | None = None
    damaged: tuple[str, ...] = ()
    doubt: float | None = None

    @property
    def prediction_id(self) -> str:
        """Identity of this prediction: the same image content and model_version give the same one."""
        return prediction_id(self.image_id, self.version, self.model_version)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one version of one image has no prediction.

    Attributes:
        reason: a short stable word, see `boxdrop.domain.errors.ImageError`.
        message: a sentence for people.
        width, height: upright size if the header was read, else None.
    """

    image: str
    image_id: str
    version: str
    model_version: str
    reason: str
    message: str
    width: int | None = None
    height: int | None = None

    @property
    def prediction_id(self) -> str:
        """Like `Prediction.prediction_id`: a failure is also the outcome of one version under one model."""
        return prediction_id(self.image_id, self.version, self.model_version)


Record = Prediction | Failure


def damaged_said(images: int) -> str | None:
    """A sentence about images whose metadata is damaged; None if there are none."""
    if not images:
        return None
    has = "image has" if images == 1 else "images have"
    return f"{images:,} {has} damaged metadata, which was ignored: the pixels are whole"


def record_key(record: Record) -> str:
    """The S3 key of a record's image, or its path below the source folder."""
    if not record.image.startswith("s3://"):
        return record.image
    return record.image.removeprefix("s3://").partition("/")[2]


def candidates_of(detections: Detections, label_set: LabelSet) -> tuple[Candidate, ...]:
    """Convert arrays to `Candidate`s: one per row, in the same order."""
    names, prompts = label_set.names, label_set.prompts
    return tuple(
        Candidate(
            names[label], prompts[prompt], int(query), round(float(score), _SCORE_DIGITS), _corners(box)
        )
        for box, score, label, prompt, query in zip(
            detections.boxes,
            detections.scores,
            detections.labels,
            detections.prompts,
            detections.queries,
            strict=True,
        )
    )


def select_boxes(
    candidates: tuple[Candidate, ...],
    label_set: LabelSet,
    default_threshold: float,
    rival_iou: float | None = RIVAL_IOU,
) -> tuple[Box, ...]:
    """Select the boxes to show from stored candidates, by the thresholds of a label set.

    Args:
        candidates: of one image; those whose label is no longer in the label set are left out.
        label_set: gives the thresholds.
        default_threshold: for labels that set none, usually the bundle's.
        rival_iou: see `boxdrop.domain.detections.select`.
    """
    index = {name: i for i, name in enumerate(label_set.names)}
    known = [candidate for candidate in candidates if candidate.label in index]
    detections = Detections(
        boxes=np.array([c.xyxy for c in known], np.float32).reshape(-1, 4),
        scores=np.array([c.score for c in known], np.float32),
        labels=np.array([index[c.label] for c in known], np.int64),
        prompts=np.arange(len(known), dtype=np.int64),
        queries=np.array([c.query for c in known], np.int64),
    )
    thresholds = [default_threshold if lb.threshold is None else lb.threshold for lb in label_set]
    chosen = select(detections, thresholds, rival_iou)
    boxes = []
    for row, rivals in zip(chosen.prompts, chosen.rivals, strict=True):
        winner = known[int(row)]
        also = tuple((label_set.names[label], round(score, _SCORE_DIGITS)) for label, score in rivals)
        boxes.append(Box(winner.label, winner.score, winner.xyxy, winner.prompt, also))
    return tuple(boxes)


def reselect(prediction: Prediction, label_set: LabelSet, default_threshold: float) -> Prediction:
    """The same prediction with its boxes selected again after thresholds changed; needs no detector."""
    return replace(prediction, boxes=select_boxes(prediction.candidates, label_set, default_threshold))


def _corners(box: Any) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(float(value), _PIXEL_DIGITS) for value in box)
    return left, top, right, bottom


def to_json(record: Record) -> str:
    """One line of JSON, without the newline. ASCII only, so file names survive every tool."""
    fields: dict[str, Any] = {
        "format": FORMAT,
        "image": record.image,
        "image_id": record.image_id,
        "version": record.version,
        "model_version": record.model_version,
        "width": record.width,
        "height": record.height,
    }
    if isinstance(record, Failure):
        fields["error"] = {"reason": record.reason, "message": record.message}
    else:
        if record.display is not None:
            fields["display"] = record.display
        if record.damaged:
            fields["damaged"] = list(record.damaged)
        fields["boxes"] = [
            {
                "label": box.label,
                "score": box.score,
                "xyxy": list(box.xyxy),
                "prompt": box.prompt,
                **(
                    {"also": [{"label": name, "score": score} for name, score in box.also]}
                    if box.also
                    else {}
                ),
            }
            for box in record.boxes
        ]
        fields["candidates"] = [[c.label, c.prompt, c.query, c.score, *c.xyxy] for c in record.candidates]
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def from_json(line: str | bytes, where: str = "prediction") -> Record:
    """Read and check one line.

    Args:
        line: what `to_json` wrote.
        where: names the line in messages, ``predictions.jsonl: line 7``.

    Raises:
        PredictionError: not JSON, another format, a field missing, of the wrong type or out of its range.
    """
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise PredictionError(f"{where}: this is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise PredictionError(f"{where}: a record must be a JSON object")
    return _Reader(fields, where).record()


class _Reader:
    """Checks one decoded record field by field."""

    def __init__(self, fields: dict[str, Any], where: str) -> None:
        self.fields = fields
        self.where = where

    def error(self, message: str) -> PredictionError:
        return PredictionError(f"{self.where}: {message}")

    def record(self) -> Record:
        if self.fields.get("format") != FORMAT:
            raise self.error(f"format is {self.fields.get('format')!r}; this boxdrop reads {FORMAT!r}")
        identity = [self._text(key) for key in ("image", "image_id", "version", "model_version")]
        image, image_identity, version, model_version = identity
        problem = self.fields.get("error")
        if problem is not None:
            if not isinstance(problem, dict) or not all(
                isinstance(problem.get(key), str) for key in ("reason", "message")
            ):
                raise self.error("error must hold the texts `reason` and `message`")
            width = None if self.fields.get("width") is None else self._size("width")
            height = None if self.fields.get("height") is None else self._size("height")
            return Failure(
                image,
                image_identity,
                version,
                model_version,
                problem["reason"],
                problem["message"],
                width,
                height,
            )
        width, height = self._size("width"), self._size("height")
        boxes = tuple(self._box(i, entry, width, height) for i, entry in enumerate(self._list("boxes")))
        rows = enumerate(self._list("candidates"))
        candidates = tuple(self._candidate(i, row, width, height) for i, row in rows)
        display = None if self.fields.get("display") is None else self._text("display")
        damaged = tuple(self._list("damaged")) if "damaged" in self.fields else ()
        if not all(isinstance(each, str) for each in damaged):
            raise self.error("`damaged` must be a list of texts")
        return Prediction(
            image, image_identity, version, model_version, width, height, boxes, candidates, display, damaged
        )

    def _text(self, key: str) -> str:
        value = self.fields.get(key)
        if not isinstance(value, str) or not value:
            raise self.error(f"`{key}` must be text, not {value!r}")
        return value

    def _size(self, key: str) -> int:
        value = self.fields.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.error(f"`{key}` must be a whole number of pixels, 1 or more, not {value!r}")
        return value

    def _list(self, key: str) -> list[Any]:
        value = self.fields.get(key)
        if not isinstance(value, list):
            raise self.error(f"`{key}` must be a list")
        return value

    def _box(self, number: int, entry: Any, width: int, height: int) -> Box:
        what = f"boxes[{number}]"
        if not isinstance(entry, dict):
            raise self.error(f"{what} must be an object")
        label, prompt = entry.get("label"), entry.get("prompt")
        if not isinstance(label, str) or not label or not isinstance(prompt, str):
            raise self.error(f"{what} must have the texts `label` and `prompt`")
        also = entry.get("also", [])
        if not isinstance(also, list) or not all(
            isinstance(rival, dict) and isinstance(rival.get("label"), str) for rival in also
        ):
            raise self.error(f"{what}: `also` must be a list of labels with scores")
        rivals = tuple((rival["label"], self._score(what, rival.get("score"))) for rival in also)
        score = self._score(what, entry.get("score"))
        return Box(label, score, self._xyxy(what, entry.get("xyxy"), width, height), prompt, rivals)

    def _candidate(self, number: int, row: Any, width: int, height: int) -> Candidate:
        what = f"candidates[{number}]"
        if not isinstance(row, list) or len(row) != 8:
            raise self.error(f"{what} must be [label, prompt, query, score, left, top, right, bottom]")
        label, prompt, query, score, *xyxy = row
        if not isinstance(label, str) or not isinstance(prompt, str) or not isinstance(query, int):
            raise self.error(f"{what} must begin with label, prompt and query")
        return Candidate(
            label, prompt, query, self._score(what, score), self._xyxy(what, xyxy, width, height)
        )

    def _score(self, what: str, value: Any) -> float:
        if not _is_number(value) or not 0 <= value <= 1:
            raise self.error(f"{what}: score must be from 0 to 1, not {value!r}")
        return float(value)

    def _xyxy(self, what: str, value: Any, width: int, height: int) -> tuple[float, float, float, float]:
        if not isinstance(value, list) or len(value) != 4 or not all(_is_number(v) for v in value):
            raise self.error(f"{what}: xyxy must be four numbers, not {value!r}")
        left, top, right, bottom = (float(v) for v in value)
        if not (0 <= left <= right <= width and 0 <= top <= bottom <= height):
            raise self.error(f"{what}: box {value} is not inside the image of {width}×{height} pixels")
        return left, top, right, bottom


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_predictions(path: str | Path) -> Iterator[Record]:
    """Read a ``predictions.jsonl``, record by record: a `Prediction`, or a `Failure` with its reason.

    Raises:
        PredictionError: naming the file and the line.

    >>> import tempfile
    >>> from boxdrop import Prediction, read_predictions
    >>> from boxdrop.domain.predictions import to_json
    >>> record = Prediction("a.jpg", "9f0c", "17a-2048", "demo@0123abcd", 640, 480, boxes=())
    >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    ...     print(to_json(record), file=file, flush=True)
    ...     list(read_predictions(file.name)) == [record]
    True
    """
    return read_jsonl(Path(path))


def read_jsonl(path: Path) -> Iterator[Record]:
    """Read a file of records line by line, in constant memory.

    Raises:
        PredictionError: naming the file and the line.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            yield from_json(line, f"{path.name}: line {number}")
