"""Boxes that were dropped with an image, as objects: one immutable document per image and source."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from boxdrop.aws.s3 import Bucket
from boxdrop.documents import from_json, to_json
from boxdrop.domain.errors import RunError
from boxdrop.store.layout import boxes_key, boxes_prefix
from boxdrop.store.nested import get_own, list_own
from boxdrop.store.write_once import write_once

FORMAT: Final = "boxdrop-boxes/1"


@dataclass(frozen=True, slots=True)
class DroppedBox:
    """A box; `xyxy` as in `boxdrop.domain.predictions.Box`, `score` 1 where its source gives none."""

    label: str
    xyxy: tuple[float, float, float, float]
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class DroppedBoxes:
    """The boxes of one version of an image.

    Attributes:
        model_version: names their source and its digest, ``coco.json@0123abcd``.
        width, height: upright size in pixels.
        boxes: none: the source says that there is nothing in the image.
        dropped_at: when; of several sources, the newest counts where the ledger was lost.
        display: whether there is a display copy, since browsers show other pixels than the image's.
        verified: whether they count as verified; then their source is the author of the annotation.
    """

    image_id: str
    version: str
    model_version: str
    width: int
    height: int
    boxes: tuple[DroppedBox, ...]
    dropped_at: datetime
    display: bool = False
    verified: bool = False


def write_boxes(bucket: Bucket, project: str, boxes: DroppedBoxes) -> None:
    """Write a document, once.

    Raises:
        BoxdropError: it may not be written.
    """
    key = boxes_key(project, boxes.model_version, boxes.image_id, boxes.version)
    write_once(bucket, key, to_json(boxes, format=FORMAT).encode())


def has_boxes(bucket: Bucket, project: str) -> bool:
    """Whether boxes were ever dropped into a project.

    Raises:
        BoxdropError: the bucket cannot be listed.
    """
    return next(list_own(bucket, boxes_prefix(project), project, levels=1), None) is not None


def read_boxes(
    bucket: Bucket, project: str, model_version: str, image_id: str, version: str
) -> tuple[DroppedBoxes, str]:
    """Read a document.

    An image may have moved since from a project into one in a folder of it; so the folders above are
    searched, too.

    Returns:
        The document, and the project that it was dropped into.

    Raises:
        RunError: there is none, or it is not valid.
    """
    name = project
    while True:
        key = boxes_key(name, model_version, image_id, version)
        stored = get_own(bucket, key, name)
        if stored is not None:
            where = f"s3://{bucket.name}/{key}"
            return from_json(DroppedBoxes, stored.body, format=FORMAT, where=where, error=RunError), name
        if "/" not in name:
            key = boxes_key(project, model_version, image_id, version)
            raise RunError(f"s3://{bucket.name}/{key} is missing: drop the images with their boxes again")
        name = name.rpartition("/")[0]


def list_boxes(bucket: Bucket, project: str) -> Iterator[DroppedBoxes]:
    """Stream the documents of a project, but not those of projects in folders of it.

    Raises:
        RunError: one is not valid.
    """
    for key in list_own(bucket, boxes_prefix(project), project, levels=1):
        stored = bucket.get(key)
        if stored is not None:
            where = f"s3://{bucket.name}/{key}"
            yield from_json(DroppedBoxes, stored.body, format=FORMAT, where=where, error=RunError)
