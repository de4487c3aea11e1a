"""A task's data and prediction: what Label Studio stores, and what of it identifies the prediction.

A task's data records what it shows: ``image_id``, ``version`` and ``prediction_id``. Publishers check there;
see `boxdrop.labelstudio.publishing`.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from boxdrop.domain.errors import PredictionError
from boxdrop.domain.identity import region_id
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, Prediction
from boxdrop.labelstudio.config import DATA_KEY, FROM_NAME, ORIGINAL_KEY, TO_NAME

SHOWN_AS: Final = "shown_as"
"""In a task's data: the model_version that Label Studio stores its prediction under, if not the true one."""

PRIORITY_KEY: Final = "priority"
"""In a task's data, and the column of that name: how much there is to check in the image."""

ACCEPTED: Final = "accepted"
"""The column *state* of a task whose boxes count without a person; see `boxdrop.review.acceptance`."""

BLIND_KEY: Final = "blind"
"""In the data of a task whose boxes people do not see; see `boxdrop.domain.label.ReviewRule.blind`."""

LOOK_AGAIN_KEY: Final = "look_again"
"""In a task's data, and the column of that name: what may be wrong with what was verified."""

_MOVING: Final = (DATA_KEY, "state", PRIORITY_KEY, LOOK_AGAIN_KEY)
"""What of a task's data may change, or read back differently, while it shows the same prediction."""


def to_task(
    prediction: Prediction, label_set: LabelSet, image_url: str, credit: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Build one task with its prediction, in Label Studio's import format.

    The prediction gets the score exp(-doubt), so sorting by it in the Data Manager shows first what needs
    checking most. Where nobody asked for the doubt, it is the score of the least certain box; an image
    without boxes gets 0: nothing confirms that it is empty.

    A detector's boxes on an image of the blind slice are left out. Boxes that were dropped with an image have
    no candidates, and are never left out.

    Args:
        prediction: its boxes become regions.
        label_set: the project's.
        image_url: where the browser loads the image from: ``/data/upload/…``, ``s3://…`` or ``https://…``.
        credit: the image's credit, see `boxdrop.retrieve.provenance.Credit.task_data`.

    Raises:
        PredictionError: a box has an unknown label or an invalid score, or is not inside the image.
    """
    _check(prediction, label_set)
    is_blind = bool(prediction.candidates) and label_set.review.is_blind(prediction.image_id)
    boxes = () if is_blind else prediction.boxes
    scores = [box.score for box in boxes]
    data = {
        DATA_KEY: image_url,
        "file_name": _file_name(prediction.image),
        "labels_found": _labels_found(boxes, label_set),
        "boxes": len(boxes),
        "lowest_score": round(min(scores), 3) if scores else None,
        **({BLIND_KEY: True} if is_blind else {}),
        **({} if prediction.doubt is None else {PRIORITY_KEY: round(prediction.doubt, 2)}),
        "width": prediction.width,
        "height": prediction.height,
        "caption": label_set.caption or "",
        "model_version": prediction.model_version,
        "state": "tasked",
        "image_id": prediction.image_id,
        "version": prediction.version,
        "prediction_id": prediction.prediction_id,
        # What people see is a copy then, see `Prediction.display`; Label Studio shows a link to the file.
        **({} if prediction.display is None else {ORIGINAL_KEY: _readable(prediction.image)}),
        **(credit or {}),
    }
    return {
        "data": data,
        "predictions": [
            {
                "model_version": prediction.model_version,
                "score": min(scores, default=0.0)
                if prediction.doubt is None
                else certainty(prediction.doubt),
                "result": [_region(prediction, i, box) for i, box in enumerate(boxes)],
            }
        ],
    }


def certainty(doubt: float) -> float:
    """The score of a prediction with so much to check: 1 where there is nothing."""
    return math.exp(-doubt)


def _file_name(image: str) -> str:
    """A readable name for an image; its exact identity is in another field.

    For an object it is the key, since Label Studio replaces every ``s3://…`` in a task's data with an address
    of its own. A name that is not UTF-8 is shown with replacement characters.
    """
    name = image.removeprefix("s3://").partition("/")[2] if image.startswith("s3://") else image
    return _readable(name)


def _readable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _check(prediction: Prediction, label_set: LabelSet) -> None:
    """Validate what Label Studio does not: it returns 201 for wrong labels and x + width > 100."""
    if not prediction.model_version:
        raise PredictionError("the prediction has no model_version")
    if prediction.width < 1 or prediction.height < 1:
        raise PredictionError(f"the image's size is {prediction.width}×{prediction.height}")
    for number, box in enumerate(prediction.boxes, 1):
        what = f"box {number} ({box.label})"
        if box.label not in label_set:
            raise PredictionError(f"{what}: the label is not one of {', '.join(label_set.names)}")
        if not 0 <= box.score <= 1:  # also catches NaN
            raise PredictionError(f"{what}: the score is {box.score}, not from 0 to 1")
        left, top, right, bottom = box.xyxy
        if not all(math.isfinite(value) for value in box.xyxy):
            raise PredictionError(f"{what}: its corners are not finite: {list(box.xyxy)}")
        if not (0 <= left <= right <= prediction.width and 0 <= top <= bottom <= prediction.height):
            raise PredictionError(
                f"{what}: {list(box.xyxy)} is not a box inside {prediction.width}×{prediction.height} pixels"
            )


def _labels_found(boxes: Sequence[Box], label_set: LabelSet) -> str:
    """``apple ×2, banana``, in the label set's order: text that the Data Manager can filter."""
    counts = Counter(box.label for box in boxes)
    return ", ".join(
        name if counts[name] == 1 else f"{name} ×{counts[name]}" for name in label_set.names if counts[name]
    )


def _region(prediction: Prediction, index: int, box: Box) -> dict[str, Any]:
    """One region, in percent of the upright size, which the browser shows."""
    left, top, right, bottom = box.xyxy
    x, width = _percent(left, right, prediction.width)
    y, height = _percent(top, bottom, prediction.height)
    return {
        "id": region_id(prediction.prediction_id, index),
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
    """Start and extent in percent; their sum is at most 100 even in floating point."""
    first = 100.0 * start / size
    extent = min(100.0 * (end - start) / size, 100.0 - first)
    while first + extent > 100.0:
        extent = math.nextafter(extent, 0.0)
    return first, extent


def stored_version(data: Mapping[str, Any]) -> Any:
    """The model_version that the prediction of a task has in Label Studio, by the task's data."""
    return data.get(SHOWN_AS, data.get("model_version"))


def fingerprint(data: Mapping[str, Any]) -> str:
    """Hash of what a task shows according to its data: the prediction, and its boxes under the thresholds
    then in force.

    The image's address and the state are not part of it: Label Studio may return the address in another form,
    and the state changes by itself.
    """
    content = {name: value for name, value in data.items() if name not in _MOVING}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def shows_the_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether two versions of a task's data differ in nothing but the caption, so the boxes stay."""
    return fingerprint({**before, "caption": after["caption"]}) == fingerprint(after)
