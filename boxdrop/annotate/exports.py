"""Files that other tools read: COCO, Label Studio's import format, a table of failures.

Each writer takes record after record and keeps none. The files appear under their names only when complete.
"""

import csv
import json
import shutil
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Protocol, Self
from urllib.parse import quote

from boxdrop.domain.labels import LabelSet
from boxdrop.domain.left_out import LeftOut, describe_one
from boxdrop.domain.predictions import Failure, Prediction, Record, to_json


class AtomicFile:
    """A text file that appears under its name only once it is complete.

    If the ``with`` block fails, the new content is removed and an older file stays unchanged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".partial")

    def __enter__(self) -> IO[str]:
        self._file = self._partial.open("w", encoding="utf-8", errors="surrogateescape", newline="\n")
        return self._file

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self._file.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)


class RecordWriter(Protocol):
    """Writes records to a file, one after the other."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: Any) -> None: ...

    def add(self, record: Record) -> None:
        """Write one record."""


class _FileWriter:
    """The part that all writers share: an `AtomicFile` between a head and a tail."""

    def __init__(self, path: Path) -> None:
        self._atomic = AtomicFile(path)

    def __enter__(self) -> Self:
        self._file = self._atomic.__enter__()
        self._file.write(self._head())
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self._finish()
        self._atomic.__exit__(kind, error, trace)

    def _head(self) -> str:
        return ""

    def _finish(self) -> None:
        """Write what comes after the last record."""


class PredictionWriter(_FileWriter):
    """``predictions.jsonl``: every record as `boxdrop.domain.predictions` writes it."""

    def add(self, record: Record) -> None:
        self._file.write(to_json(record) + "\n")


class FailureWriter(_FileWriter):
    """``failures.tsv``: one line per image without a prediction.

    Control characters in names are escaped, and a cell with a quotation mark is quoted as CSV has it.
    """

    def _head(self) -> str:
        return "image\treason\tmessage\n"

    def add(self, record: Record) -> None:
        if isinstance(record, Failure):
            cells = (record.image, record.reason, record.message)
            table = csv.writer(self._file, delimiter="\t", lineterminator="\n")
            table.writerow([_escape(cell) for cell in cells])


class LeftOutWriter:
    """``left-out.tsv``: one line per file, folder or object that is left out, escaped as in failures.tsv."""

    def __init__(self, path: Path) -> None:
        self._atomic = AtomicFile(path)

    def __enter__(self) -> Self:
        file = self._atomic.__enter__()
        file.write("name\treason\tmessage\n")
        self._table = csv.writer(file, delimiter="\t", lineterminator="\n")
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._atomic.__exit__(kind, error, trace)

    def add(self, name: str, reason: LeftOut) -> None:
        """Write one line."""
        self._table.writerow([_escape(name), reason, describe_one(reason)])


class LabelStudioWriter(_FileWriter):
    """``label-studio.json``: tasks with predictions, for a manual import.

    Args:
        path: the file.
        to_task: turns a prediction into a task; None leaves it out.
    """

    def __init__(self, path: Path, to_task: Callable[[Prediction], dict[str, Any] | None]) -> None:
        super().__init__(path)
        self._to_task = to_task
        self._separator = "\n"

    def _head(self) -> str:
        return "["

    def add(self, record: Record) -> None:
        task = self._to_task(record) if isinstance(record, Prediction) else None
        if task is not None:
            self._file.write(self._separator + json.dumps(task))
            self._separator = ",\n"

    def _finish(self) -> None:
        self._file.write("\n]\n")


def local_files_url(folder: Path, image: str, below: Path | None = None) -> str:
    """The address that Label Studio serves an image of a local folder from.

    It is relative to the server's document root, which has to be the parent of the folder: Label Studio
    refuses a Local Files storage at the document root itself
    (``LocalFilesMixin.validate_connection``, 1.23).

    Args:
        folder: of the images.
        image: path below the folder, with ``/``; bytes that are no UTF-8 as surrogates.
        below: another folder that `image` is below, itself below the document root.
    """
    root = folder.resolve().parent
    start = (below or folder).resolve().relative_to(root).as_posix()
    return f"/data/local-files/?d={quote(f'{start}/{image}', errors='surrogateescape')}"


class CocoWriter(_FileWriter):
    """``coco.json``: COCO's object detection format, with a ``score`` on each annotation.

    Category ids are the label set's frozen ids; boxes are [left, top, width, height] in upright pixels.
    https://cocodataset.org/#format-data
    """

    def __init__(self, path: Path, label_set: LabelSet) -> None:
        super().__init__(path)
        self._label_set = label_set
        self._images = self._annotations = 0

    def __enter__(self) -> Self:
        # Annotations come after all images in the file; __exit__ closes this.
        self._later = tempfile.TemporaryFile("w+", encoding="utf-8")
        return super().__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with self._later:
            super().__exit__(kind, error, trace)

    def _head(self) -> str:
        info = {"description": self._label_set.caption or "boxdrop predictions", "version": "1.0"}
        categories = [{"id": label.id, "name": label.name} for label in self._label_set]
        opening = f'{{"info": {json.dumps(info)},\n"licenses": [],\n'
        return f'{opening}"categories": {json.dumps(categories)},\n"images": ['

    def add(self, record: Record) -> None:
        if isinstance(record, Failure):
            return
        self._images += 1
        image = {
            "id": self._images,
            "file_name": record.image,
            "width": record.width,
            "height": record.height,
        }
        self._file.write((",\n" if self._images > 1 else "\n") + json.dumps(image))
        for box in record.boxes:
            self._annotations += 1
            left, top, right, bottom = box.xyxy
            width, height = right - left, bottom - top
            annotation = {
                "id": self._annotations,
                "image_id": self._images,
                "category_id": self._label_set[box.label].id,
                "bbox": [left, top, round(width, 3), round(height, 3)],
                "area": round(width * height, 3),
                "iscrowd": 0,
                "score": box.score,
            }
            self._later.write((",\n" if self._annotations > 1 else "\n") + json.dumps(annotation))

    def _finish(self) -> None:
        self._file.write('\n],\n"annotations": [')
        self._later.seek(0)
        shutil.copyfileobj(self._later, self._file)
        self._file.write("\n]}\n")


def _escape(text: str) -> str:
    """Backslash codes for all that could end a line or steer a terminal; halves of characters too."""
    return "".join(_CODES.get(each) or (each if _is_plain(each) else ascii(each)[1:-1]) for each in text)


_CODES: Final = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def _is_plain(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
