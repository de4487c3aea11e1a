"""Label Studio's export in the format JSON. https://labelstud.io/guide/export#JSON"""

import math
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from boxdrop.datasets.readers.reader import (
    Fault,
    Files,
    ReadBox,
    ReadImage,
    Reading,
    numbers,
    score_of,
    size_of,
)
from boxdrop.domain.image_names import is_image_name

_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")
"""Label Studio puts this in front of the names of uploaded files."""


def is_label_studio(document: Any) -> bool:
    """Whether a JSON document is a list of Label Studio's tasks."""
    return isinstance(document, list) and all(
        isinstance(each, dict) and isinstance(each.get("data"), dict) for each in document
    )


def read_label_studio(tasks: list[dict[str, Any]], files: Files) -> Reading:
    """Read the newest annotation of each task, or else its only prediction. Skipped tasks are left out.

    Regions that are no rectangles are faults; of turned ones, the upright box around them counts.
    """
    faults: list[Fault] = []
    images = []
    for number, task in enumerate(tasks, 1):
        where = f"task {task.get('id', number)}"
        name = _image_name(task)
        result = _result(task)
        if name is None:
            faults.append(Fault("task without an image", where))
        elif result is None:
            faults.append(Fault("task without an annotation", where, name))
        else:
            images.append(_image(name, result, where, faults))
    labels = tuple(dict.fromkeys(box.label for image in images for box in image.boxes))
    return Reading("label-studio", labels, tuple(images), tuple(faults), files.digest)


def _result(task: dict[str, Any]) -> list[Any] | None:
    annotations = [each for each in _dicts(task.get("annotations")) if not each.get("was_cancelled")]
    if annotations:
        result = max(annotations, key=lambda each: str(each.get("updated_at"))).get("result")
        return result if isinstance(result, list) else []
    predictions = _dicts(task.get("predictions"))
    if not task.get("annotations") and len(predictions) == 1:
        result = predictions[0].get("result")
        return result if isinstance(result, list) else []
    return None


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _image_name(task: dict[str, Any]) -> str | None:
    """The image's path: boxdrop's own column, else the address with what Label Studio adds taken off."""
    data = task["data"]
    own = data.get("file_name")
    if isinstance(own, str) and is_image_name(own):
        return own
    for value in (data.get("image"), *data.values()):
        if not isinstance(value, str):
            continue
        parts = urlsplit(value)
        local = parse_qs(parts.query)
        inner = next((local[key][0] for key in ("d", "fileuri") if key in local), unquote(parts.path))
        if is_image_name(inner):
            name = inner.replace("\\", "/").lstrip("/")
            if name.startswith("data/upload/"):
                folder, _, last = name.removeprefix("data/upload/").rpartition("/")
                return _UPLOAD.sub("", last, count=1) if folder.isdecimal() else f"{folder}/{last}"
            return name
    return None


def _image(name: str, result: list[Any], where: str, faults: list[Fault]) -> ReadImage:
    boxes: list[ReadBox] = []
    size: tuple[int, int] | None = None
    for region in _dicts(result):
        value = region.get("value")
        value = value if isinstance(value, dict) else {}
        labels = value.get("rectanglelabels")
        corners = numbers([value.get(each) for each in ("x", "y", "width", "height")], 4)
        what = f"{where}: region {region.get('id')}"
        if not isinstance(labels, list) or corners is None:
            faults.append(Fault("region that is not a rectangle with a label", what, name))
            continue
        if region.get("image_rotation"):
            faults.append(Fault("region drawn while the image was turned", what, name))
            continue
        size = size_of(region.get("original_width"), region.get("original_height")) or size
        turned = numbers([value.get("rotation") or 0], 1)
        xyxy = _upright(corners, turned[0] if turned else 0.0, size)
        boxes += [ReadBox(str(label), xyxy, score_of(region.get("score"))) for label in labels]
    return ReadImage(name, tuple(boxes), size, in_shares=True)


def _upright(
    percent: list[float], degrees: float, size: tuple[int, int] | None
) -> tuple[float, float, float, float]:
    """Corners in shares of the image. Label Studio turns a rectangle about its left top corner, in pixels."""
    x, y, width, height = (each / 100 for each in percent)
    image_width, image_height = size or (1, 1)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    places = [(dx * image_width, dy * image_height) for dx in (0, width) for dy in (0, height)]
    across = [(dx * cosine - dy * sine) / image_width for dx, dy in places]
    down = [(dx * sine + dy * cosine) / image_height for dx, dy in places]
    return x + min(across), y + min(down), x + max(across), y + max(down)
