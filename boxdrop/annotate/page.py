"""Writes the page: records in, ``index.html`` and its data scripts out, in constant memory."""

import html
import json
import os
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote_from_bytes

from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, Failure, Prediction, Record

PAGE: Final = "index.html"
DATA_FOLDER: Final = "report"

_CHUNK_RECORDS = 1000
_CHUNK_BYTES = 400_000
"""Most records or bytes per data script: a browser takes about 10 ms to read one."""

_BINS = 20
_OTHER_COLOR = "#808890"


class ReportWriter:
    """Writes ``index.html`` and ``report/data-NNNN.js`` into an output folder.

    Use it as a context manager and `add` the records in the order of the page. The page appears when the
    block ends without an error; otherwise an older page stays unchanged. Thumbnails are not written here: the
    page looks for them at `thumbnail_path`.

    Args:
        folder: the output folder.
        label_set: gives names, colours and the caption.
        title: the page's title; None: the caption, or the names of the labels.
        source: where the images came from, in the user's words.
        model_version: of the run.
        notice: a sentence to show on top, such as that the demo detector was used.
        originals: folder that the images' names are relative to, so the page can show them in full size; None
            if a browser cannot reach them.
    """

    def __init__(
        self,
        folder: Path,
        label_set: LabelSet,
        *,
        title: str | None = None,
        source: str = "",
        model_version: str = "",
        notice: str | None = None,
        originals: Path | None = None,
    ) -> None:
        self._folder = folder
        self._partial = folder / f"{DATA_FOLDER}.partial"
        self._title = title or label_set.caption or _some(label_set.names)
        self._source, self._model_version, self._notice = source, model_version, notice
        self._originals = _relative_url(originals, folder) if originals is not None else None
        self._labels = [
            {"name": label.name, "color": label.color, "boxes": 0, "bins": [0] * _BINS} for label in label_set
        ]
        self._index = {label.name: i for i, label in enumerate(label_set)}
        self._only_prompt = {label.name: label.prompts[0] for label in label_set if len(label.prompts) == 1}
        self._counts = {"images": 0, "with_boxes": 0, "boxes": 0, "failures": 0}
        self._lowest = 1.0
        self._rows: list[str] = []
        self._bytes = 0
        self._chunks = 0

    def __enter__(self) -> Self:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        if kind is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
            return
        self._flush()
        data = self._folder / DATA_FOLDER
        shutil.rmtree(data, ignore_errors=True)
        self._partial.rename(data)
        page = self._folder / PAGE
        partial = page.with_name(f"{PAGE}.partial")
        partial.write_text(self._html(), encoding="utf-8", errors="replace")
        partial.replace(page)

    def add(self, record: Record) -> None:
        """Add one image, the next in order."""
        self._counts["images"] += 1
        size = [record.width or 0, record.height or 0]
        if isinstance(record, Failure):
            self._counts["failures"] += 1
            row: list[Any] = [record.image, record.image_id, *size, None, record.reason, record.message]
        else:
            row = [record.image, record.image_id, *size, *self._boxes(record)]
            if record.display is not None:  # the original would be another picture under these boxes
                row += [{}] * (6 - len(row)) + [record.display]
        line = json.dumps(row, separators=(",", ":"))
        self._rows.append(line)
        self._bytes += len(line)
        if len(self._rows) >= _CHUNK_RECORDS or self._bytes >= _CHUNK_BYTES:
            self._flush()

    def _boxes(self, prediction: Prediction) -> list[Any]:
        """Flat numbers, six per box (label, score in thousandths, xyxy), and fields that only some boxes
        have."""
        self._counts["with_boxes"] += bool(prediction.boxes)
        self._counts["boxes"] += len(prediction.boxes)
        numbers: list[float] = []
        extras: dict[int, list[Any]] = {}
        for i, box in enumerate(prediction.boxes):
            label = self._label(box)
            numbers += [label, round(box.score * 1000), *(_short(value) for value in box.xyxy)]
            prompt = None if self._only_prompt.get(box.label) == box.prompt else box.prompt
            if prompt or box.also:
                extras[i] = [prompt, [[name, round(score * 1000)] for name, score in box.also]]
        return [numbers, extras] if extras else [numbers]

    def _label(self, box: Box) -> int:
        """Count the box and find the number of its label; labels that were removed from the label set come
        last."""
        index = self._index.setdefault(box.label, len(self._labels))
        if index == len(self._labels):
            self._labels.append({"name": box.label, "color": _OTHER_COLOR, "boxes": 0, "bins": [0] * _BINS})
        label: dict[str, Any] = self._labels[index]
        label["boxes"] += 1
        label["bins"][min(int(box.score * _BINS), _BINS - 1)] += 1
        self._lowest = min(self._lowest, box.score)
        return index

    def _flush(self) -> None:
        if not self._rows:
            return
        text = "boxdrop.add([\n" + ",\n".join(self._rows) + "\n]);\n"
        (self._partial / _chunk_name(self._chunks)).write_text(text, encoding="ascii")
        self._chunks += 1
        self._rows, self._bytes = [], 0

    def _html(self) -> str:
        meta = {
            "counts": self._counts,
            "labels": self._labels,
            "lowest": self._lowest if self._counts["boxes"] else 0,
            "chunks": [f"{DATA_FOLDER}/{_chunk_name(i)}" for i in range(self._chunks)],
            "originals": self._originals,
        }
        template, style, script = (_resource(name) for name in ("page.html", "page.css", "page.js"))
        # Only ASCII and no "<": nothing in it can end the script element.
        data = json.dumps(meta, separators=(",", ":")).replace("<", "\\u003c")
        values = {
            "title": html.escape(self._title),
            "source": html.escape(self._source),
            "model_version": html.escape(self._model_version),
            "notice": html.escape(self._notice or ""),
            "meta": data,
            "style": style,
            "script": script,
        }
        parts = template.split("{{")
        return parts[0] + "".join(values[key] + rest for key, rest in (_split(part) for part in parts[1:]))


def _some(names: Sequence[str], most: int = 6) -> str:
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def _split(part: str) -> Sequence[str]:
    return part.split("}}", 1)


def _resource(name: str) -> str:
    return (files("boxdrop.annotate") / name).read_text(encoding="utf-8")


def _chunk_name(number: int) -> str:
    return f"data-{number:04}.js"


def _short(value: float) -> float:
    """A tenth of a pixel is enough for display, and whole numbers need no decimals."""
    rounded = round(value, 1)
    return int(rounded) if rounded == int(rounded) else rounded


def _relative_url(target: Path, start: Path) -> str:
    """The URL of a folder as seen from a page in `start`, with a slash at its end; any bytes are quoted."""
    relative = os.path.relpath(target.resolve(), start.resolve())
    return quote_from_bytes(os.fsencode(relative.replace(os.sep, "/"))) + "/"
