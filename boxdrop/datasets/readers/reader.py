"""What a reader gives: images by the names that another tool wrote, with their boxes."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from boxdrop.datasets.items import DatasetError

MAX_BYTES: Final = 1 << 30
"""A larger file is refused: it is read as a whole."""

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ReadBox:
    """A box of another tool.

    Attributes:
        label: the class as that tool names it.
        xyxy: left, top, right, bottom; in pixels, or in shares of the image, see `ReadImage.in_shares`.
        score: 0 to 1, where the tool gives one.
    """

    label: str
    xyxy: Corners
    score: float | None = None


@dataclass(frozen=True, slots=True)
class ReadImage:
    """An image as another tool names it.

    Attributes:
        name: its path or file name, with ``/``; for YOLO without an ending.
        boxes: none: the tool says that the image is empty.
        size: width and height in pixels, where the tool gives them.
        in_shares: whether the boxes are in shares of width and height (0 to 1).
    """

    name: str
    boxes: tuple[ReadBox, ...]
    size: tuple[int, int] | None = None
    in_shares: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that could not be read as a box.

    Attributes:
        what: the kind of fault, to be counted.
        where: the file, image or line.
        detail: more about it.
    """

    what: str
    where: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """All that a source of boxes says.

    Attributes:
        format: ``coco``, ``yolo``, ``voc`` or ``label-studio``.
        labels: the classes that it declares, in its order, or else those that its boxes have.
        digest: sha256 of everything that was read.
    """

    format: str
    labels: tuple[str, ...]
    images: tuple[ReadImage, ...]
    faults: tuple[Fault, ...]
    digest: str


class Files:
    """Reads files and remembers the digest of all of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._hash = hashlib.sha256()

    def read(self, path: Path) -> bytes:
        """The content of a file.

        Raises:
            DatasetError: it cannot be read, or is too large.
        """
        try:
            if path.stat().st_size > MAX_BYTES:
                raise DatasetError(f"{path}: the file is larger than 1 GiB; split it")
            body = path.read_bytes()
        except OSError as error:
            raise DatasetError(f"{path}: {error.strerror or error}") from None
        name = path.name if path == self.root else path.relative_to(self.root).as_posix()
        self._hash.update(f"{name.encode('utf-8', 'surrogateescape')!r} {len(body)}\n".encode() + body)
        return body

    def text(self, path: Path) -> str:
        """The text of a file; bytes that are no UTF-8 become replacement characters."""
        return self.read(path).decode("utf-8-sig", "replace")

    def json(self, path: Path) -> Any:
        """The JSON of a file.

        Raises:
            DatasetError: it is none.
        """
        try:
            return json.loads(self.read(path))
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{path}: this is not JSON: {error}") from None

    @property
    def digest(self) -> str:
        """Of what was read so far."""
        return self._hash.hexdigest()


def numbers(values: Any, count: int) -> list[float] | None:
    """`count` finite numbers, or None. Texts that are numbers count, since some tools write them."""
    if not isinstance(values, list | tuple) or len(values) != count:
        return None
    found = []
    for value in values:
        try:
            number = float(value) if isinstance(value, int | float | str) else math.nan
        except ValueError:
            return None
        if isinstance(value, bool) or not math.isfinite(number):
            return None
        found.append(number)
    return found


def score_of(value: Any) -> float | None:
    """A score from 0 to 1; None for anything else."""
    read = numbers([value], 1)
    return read[0] if read is not None and 0 <= read[0] <= 1 else None


def size_of(width: Any, height: Any) -> tuple[int, int] | None:
    """A size in whole pixels; None where it is not given, or is none."""
    read = numbers([width, height], 2)
    if read is None or read[0] < 1 or read[1] < 1 or read[0] % 1 or read[1] % 1:
        return None
    return int(read[0]), int(read[1])
