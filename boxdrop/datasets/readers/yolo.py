"""YOLO detection: a text file per image and the names of the classes. https://docs.ultralytics.com/datasets/detect/"""

from pathlib import Path
from typing import Any, Final

import yaml

from boxdrop.datasets.items import DatasetError
from boxdrop.datasets.readers.reader import Fault, Files, ReadBox, ReadImage, Reading, numbers, score_of

_LISTS: Final = ("classes.txt", "obj.names", "labels.txt")
_NO_LABELS: Final = {*_LISTS, "train.txt", "val.txt", "valid.txt", "test.txt", "notes.txt", "readme.txt"}


def class_names(folder: Path, files: Files) -> list[str] | None:
    """The classes by number: from ``data.yaml``, ``classes.txt`` or ``obj.names``; None if there is neither.

    Raises:
        DatasetError: the file cannot be read.
    """
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            names = yaml.safe_load(files.text(path))
        except yaml.YAMLError as error:
            raise DatasetError(f"{path}: this is not YAML: {error}") from None
        names = names.get("names") if isinstance(names, dict) else None
        if isinstance(names, list):
            return [str(each) for each in names]
        if isinstance(names, dict):
            return _by_number(path, names)
    for name in _LISTS:
        if (folder / name).is_file():
            return [line.strip() for line in files.text(folder / name).splitlines() if line.strip()]
    return None


def _by_number(path: Path, names: dict[Any, Any]) -> list[str]:
    try:
        by_number = {int(number): str(name) for number, name in names.items()}
    except (TypeError, ValueError):
        raise DatasetError(f"{path}: the keys of `names` must be class numbers") from None
    if not by_number or min(by_number) < 0 or max(by_number) > 100_000:
        raise DatasetError(f"{path}: the keys of `names` must be class numbers from 0")
    return [by_number.get(number, "") for number in range(max(by_number) + 1)]


def read_yolo(folder: Path, names: list[str], files: Files) -> Reading:
    """Read every label file of a folder. Of a row with a polygon, the box around it counts."""
    faults: list[Fault] = []
    images = []
    for path in sorted(folder.rglob("*.txt")):
        if path.name.lower() in _NO_LABELS or any(part.startswith(".") for part in path.parts):
            continue
        inner = path.relative_to(folder).with_suffix("").as_posix()
        boxes: list[ReadBox] = []
        for number, line in enumerate(files.text(path).splitlines(), 1):
            if line.strip():
                _read_row(line, f"{path.relative_to(folder)}: line {number}", names, boxes, faults)
        images.append(ReadImage(_image_name(inner), tuple(dict.fromkeys(boxes)), in_shares=True))
    labels = tuple(dict.fromkeys(filter(None, names)))
    return Reading("yolo", labels, tuple(images), tuple(faults), files.digest)


def _image_name(inner: str) -> str:
    """The path without the folder ``labels``, in whose place images lie in ``images``."""
    parts = inner.split("/")
    if "labels" in parts[:-1]:
        del parts[len(parts) - 1 - parts[::-1].index("labels")]
    return "/".join(parts)


def _read_row(line: str, where: str, names: list[str], boxes: list[ReadBox], faults: list[Fault]) -> None:
    fields = line.split()
    values = numbers(fields, len(fields))
    if values is None or len(values) < 5 or values[0] % 1 or values[0] < 0:
        faults.append(Fault("row that is not a class and four numbers", where, line[:80]))
        return
    number = int(values[0])
    label = names[number] if number < len(names) else ""
    if not label:
        faults.append(Fault("box of a class that has no name", where, f"class {number}"))
        return
    if len(values) in (5, 6):
        x, y, width, height = values[1:5]
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        boxes.append(ReadBox(label, corners, score_of(values[5]) if len(values) == 6 else None))
        return
    across, down = values[1::2], values[2::2]
    if len(across) != len(down):
        faults.append(Fault("row that is not a class and four numbers", where, line[:80]))
        return
    boxes.append(ReadBox(label, (min(across), min(down), max(across), max(down))))
