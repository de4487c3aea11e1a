"""The data model: items, each a version of an image with its verified boxes."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from boxdrop.domain.annotations import Annotation
from boxdrop.domain.errors import BoxdropError

FORMAT: Final = "boxdrop-dataset/1"

_STEM_LENGTH: Final = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class DatasetError(BoxdropError):
    """A data set that is missing or invalid, or cannot be made."""


Origin = Literal["kept", "adjusted", "relabelled", "drawn", "predicted"]
"""What the annotator did: accepted the detector's box, moved it, relabelled it, or drew a new one; predicted:
nobody has verified the image."""


@dataclass(frozen=True, slots=True)
class Box:
    """A verified box, or a detector's box on an image that nobody has verified.

    Attributes:
        number: see `boxdrop.datasets.identifiers.box_number`.
        class_id: frozen id of the label.
        xyxy: left, top, right, bottom in upright pixels of the image; for a rotated rectangle, the upright
            box around it.
        rotation: degrees clockwise, if the annotator rotated the rectangle; usually 0.
        region: Label Studio's id.
        score: of a detector's box, 0 to 1; None for a verified box.
    """

    number: int
    label: str
    class_id: int
    xyxy: tuple[float, float, float, float]
    region: str
    origin: Origin
    rotation: float = 0.0
    score: float | None = None

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in pixels."""
        left, top, right, bottom = self.xyxy
        return right - left, bottom - top


@dataclass(frozen=True, slots=True)
class Item:
    """One version of an image with its verified boxes. No boxes: verified as empty.

    Or, where a data set includes predictions, an image that nobody has verified with the detector's boxes.

    Attributes:
        number: see `boxdrop.datasets.identifiers.image_number`.
        image_id, version: see `boxdrop.domain.identity`.
        bucket, key: of the image.
        width, height: upright size in pixels.
        split: its split.
        reviewed_at: when an annotator saved it last; for an unverified image, when its task got these boxes.
        user: Label Studio's id of that annotator.
        model_version: the detector whose boxes the annotator started from, if known; for an unverified image,
            the detector that found the boxes.
        verified: whether an annotator verified it.
    """

    number: int
    image_id: str
    bucket: str
    key: str
    version: str
    width: int
    height: int
    split: str
    reviewed_at: datetime
    user: int | None
    model_version: str | None
    boxes: tuple[Box, ...]
    verified: bool = True

    @property
    def stem(self) -> str:
        """Name of its files without the extension: unique per image, and permanent."""
        name = self.key.rpartition("/")[2]
        readable = _UNSAFE.sub("_", name.rpartition(".")[0] or name)[:_STEM_LENGTH]
        return f"{readable}-{self.image_id[:16]}"

    @property
    def address(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"


class Why(StrEnum):
    """Why an image with an annotator's work is not in a data set."""

    SKIPPED = "skipped"
    DELETED = "annotation deleted"
    LOST = "task lost"
    STALE = "overwritten since it was verified"
    GONE = "deleted from the bucket"
    UNVERIFIED = "not verified"
    NOTES = "regions that are not boxes"
    NO_SIZE = "size unknown"
    UNKNOWN_LABEL = "label unknown to the project"
    UNREADABLE = "document cannot be read"
    OLDER = "verified before --since"
    DISPUTED = "annotators disagree"
    UNREVIEWED = "no reviewer's annotation"
    TOO_SMALL = "image smaller than the format allows"
    NO_IMAGE = "image cannot be read"
    OTHER_SIZE = "image has another size than the one verified"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image that is not in the data set.

    Attributes:
        detail: a sentence with details; may be empty.
        annotation: what was said about it, where several people did and no annotation counts by the rule
            of labels.yaml.
    """

    image_id: str
    key: str
    why: Why
    detail: str = ""
    annotation: Annotation | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ClassName:
    """A label with its frozen id."""

    id: int
    name: str
