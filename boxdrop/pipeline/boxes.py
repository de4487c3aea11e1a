"""boxes: what was dropped together with an image is shown in place of what a detector would find.

`boxdrop drop --boxes` stores a document per image and records it in the ledger. launch writes those images'
parts itself, so no job looks at them; from there on they are predictions like others. The ledger refuses
any other prediction of that content, whichever comes first.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from boxdrop.domain.errors import RunError
from boxdrop.domain.predictions import Box, Failure, Prediction, Record
from boxdrop.iterables import chunked
from boxdrop.ledger import Image, Ledger, Outcome, Sighting
from boxdrop.services import Services
from boxdrop.store.boxes import DroppedBoxes, list_boxes, read_boxes, write_boxes
from boxdrop.store.layout import PartName, display_key
from boxdrop.store.manifests import ManifestHeader
from boxdrop.store.parts import Part, write_part
from boxdrop.store.write_once import write_once

_AT_ONCE: Final = 16
_LOOKS: Final = 20


@dataclass(frozen=True, slots=True)
class Brought:
    """What became of the boxes of an image.

    Attributes:
        project: the image's, which is asked to launch.
        is_verified: a person has verified the image, so the boxes are not shown.
    """

    project: str
    is_verified: bool


def bring_boxes(
    services: Services, project: str, key: str, boxes: DroppedBoxes, copy: bytes | None = None
) -> Brought:
    """Store the boxes of an image that is in the bucket, and record them in the ledger.

    Args:
        project: the one that the image was dropped into; a project in a folder of it may own the image.
        copy: a JPEG for browsers, where they do not show the image's own pixels; see
            `boxdrop.domain.browsers`.

    Raises:
        BoxdropError: repeat it, which is safe.
    """
    image_id, version = boxes.image_id, boxes.version
    row = _row(services.ledger, project, services.images.name, key, image_id, version)
    if copy is not None:
        write_once(services.data, display_key(row.project, image_id, version), copy, "image/jpeg")
    write_boxes(services.data, row.project, boxes)
    result = services.ledger.record_boxes(image_id, boxes.model_version, version)
    if result.outcome == Outcome.SUPERSEDED and (result.row is None or result.row.version != version):
        raise RunError(f"s3://{services.images.name}/{key} was overwritten meanwhile; run again")
    return Brought(row.project, result.outcome == Outcome.SUPERSEDED)


def _row(ledger: Ledger, project: str, bucket: str, key: str, image_id: str, version: str) -> Image:
    """The image's row, made if its event has not come yet; dispatch then finds it there."""
    row = ledger.image(image_id)
    for _ in range(_LOOKS):
        if row is not None and row.version == version:
            return row
        known = ledger.project(project if row is None else row.project)
        generation = 0 if known is None else known.generation
        if row is None:
            sighting = Sighting(image_id, project, bucket, key, version)
            (result,) = ledger.want([sighting], generation)
        else:
            result = ledger.observe(row, version, generation)
        row = result.row
    raise RunError(f"s3://{bucket}/{key} changes faster than it can be looked at; try again")


def restore_boxes(services: Services, project: str) -> int:
    """Record again which boxes were dropped with the images of a project, after the ledger was lost.

    Returns:
        How many images have boxes of their own.

    Raises:
        BoxdropError: repeat it, which is safe.
    """
    newest: dict[tuple[str, str], tuple[datetime, str]] = {}
    for each in list_boxes(services.data, project):
        about, found = (each.image_id, each.version), (each.dropped_at, each.model_version)
        newest[about] = max(found, newest.get(about, found))
    for (image_id, version), (_, model_version) in newest.items():
        services.ledger.record_boxes(image_id, model_version, version)
    return len(newest)


def write_parts(services: Services, header: ManifestHeader, images: Sequence[Image]) -> int:
    """Write the parts of images that came with boxes. Their numbers follow the lines of the manifest.

    Returns:
        How many parts there are.
    """
    first = header.images
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for some in chunked(images, header.part_images):
            records = tuple(pool.map(lambda image: _record(services, image), some))
            name = PartName(header.project, header.run_id, first, first + len(some))
            write_part(services.data, Part(name, records))
            first += len(some)
    return -(-len(images) // header.part_images)


def _record(services: Services, image: Image) -> Record:
    model_version = image.own_boxes
    assert model_version is not None
    assert image.version is not None
    who = f"s3://{image.bucket}/{image.key}", image.image_id, image.version, model_version
    try:
        found, project = read_boxes(
            services.data, image.project, model_version, image.image_id, image.version
        )
    except RunError as error:
        return Failure(*who, "boxes", str(error))
    boxes = tuple(Box(each.label, each.score, each.xyxy, "") for each in found.boxes)
    display = display_key(project, image.image_id, image.version) if found.display else None
    return Prediction(*who, found.width, found.height, boxes, display=display)
