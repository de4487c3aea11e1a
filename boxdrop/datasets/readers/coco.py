"""COCO object detection, as annotation tools export it. https://cocodataset.org/#format-data"""

from pathlib import Path
from typing import Any

from boxdrop.datasets.items import DatasetError
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


def is_coco(document: Any) -> bool:
    """Whether a JSON document is COCO's."""
    return isinstance(document, dict) and "images" in document and "annotations" in document


def read_coco(path: Path, document: Any, files: Files) -> Reading:
    """Read the boxes of a document; masks are passed over, crowds are boxes like others.

    Raises:
        DatasetError: it is not COCO's.
    """
    lists = [document.get(name, []) for name in ("categories", "images", "annotations")]
    if not all(isinstance(each, list) for each in lists):
        raise DatasetError(f"{path}: `categories`, `images` and `annotations` must be lists")
    categories, images, annotations = ([x for x in each if isinstance(x, dict)] for each in lists)
    faults: list[Fault] = []
    names: dict[Any, str] = {}
    for each in categories:
        number, name = _key(each.get("id")), each.get("name")
        if number in names:
            faults.append(Fault("category id given twice", f"category {number}", str(name)))
        elif isinstance(name, str) and name.strip():
            names[number] = name.strip()
    boxes: dict[Any, list[ReadBox]] = {}
    for each in images:
        number = _key(each.get("id"))
        if number in boxes:
            faults.append(Fault("image id given twice", f"image {number}", str(each.get("file_name"))))
        boxes.setdefault(number, [])
    for each in annotations:
        where = f"annotation {each.get('id')}"
        bbox = numbers(each.get("bbox"), 4)
        label = names.get(_key(each.get("category_id")))
        found = boxes.get(_key(each.get("image_id")))
        if found is None:
            faults.append(Fault("box of an image that is not listed", where, f"image {each.get('image_id')}"))
        elif label is None:
            faults.append(
                Fault("box of a category that is not listed", where, f"category {each.get('category_id')}")
            )
        elif bbox is None:
            faults.append(Fault("box that is not four numbers", where, str(each.get("bbox"))[:80]))
        else:
            left, top, width, height = bbox
            found.append(ReadBox(label, (left, top, left + width, top + height), score_of(each.get("score"))))
    read = []
    seen = set()
    for each in images:
        number, name = _key(each.get("id")), each.get("file_name")
        if number in seen:
            continue
        seen.add(number)
        if not isinstance(name, str) or not name:
            faults.append(Fault("image without a file name", f"image {number}"))
            continue
        size = size_of(each.get("width"), each.get("height"))
        read.append(ReadImage(name.replace("\\", "/"), tuple(boxes[number]), size))
    return Reading("coco", tuple(dict.fromkeys(names.values())), tuple(read), tuple(faults), files.digest)


def _key(value: Any) -> Any:
    """An id that can be compared: some tools write numbers as texts in one list and not in the other."""
    return str(value)
