"""The interface of formats: a name, what it keeps, and a function that writes a stream of items."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from boxdrop.datasets.items import ClassName, Item


@dataclass(frozen=True, slots=True)
class Entry:
    """An item with its image file.

    Attributes:
        image: path of the file below the data set's folder, with ``/``; if images are not copied, the path
            that it would have.
        address: of the image in S3, if it is not copied; else None.
    """

    item: Item
    image: str
    address: str | None = None


class Source(Protocol):
    """A data set to write. A format may stream its entries repeatedly."""

    @property
    def project(self) -> str:
        """The project's name."""
        ...

    @property
    def classes(self) -> Sequence[ClassName]:
        """The labels by class id."""
        ...

    @property
    def splits(self) -> Sequence[str]:
        """Names of the splits."""
        ...

    @property
    def predictions(self) -> bool:
        """Whether there may be unverified images; then a format marks each image as verified or not."""
        ...

    def entries(self, split: str | None = None) -> Iterator[Entry]:
        """Stream the entries of a split, or of all, by image_id."""
        ...


class Format(Protocol):
    """A format.

    Attributes:
        name: what ``--format`` takes.
        read_by: tools that read it.
        keeps, drops: parts of the verified data, for the table in docs/datasets.md.
        min_image_side: images with a shorter side are left out, because readers refuse them; pixels.
    """

    name: str
    read_by: str
    keeps: str
    drops: str
    min_image_side: int

    def image_path(self, split: str, name: str) -> str:
        """The path of an image file of this name, below the data set's folder."""
        ...

    def write(self, folder: Path, source: Source) -> Iterator[str]:
        """Write everything except the images, and yield the path of each file, below `folder`.

        Files appear under their names only when complete, and depend only on `source`.
        """
        ...


def to_line(value: Any) -> str:
    """JSON on one line, in ASCII, so every tool can read it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def tidy(value: float) -> float:
    """A coordinate to a thousandth of a pixel: rounding noise would make files differ between machines."""
    return round(value, 3)
