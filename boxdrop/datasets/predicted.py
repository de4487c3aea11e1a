"""Images that nobody has verified, with the boxes that their tasks show. A data set may include them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from boxdrop.domain.predictions import Prediction, reselect
from boxdrop.ledger import Image, State
from boxdrop.pipeline.labels import stored_parts
from boxdrop.store.labelsets import read_label_set
from boxdrop.store.parts import read_part

if TYPE_CHECKING:
    from boxdrop.services import Services


def read_predictions(services: "Services", project: str) -> Iterator[tuple[Image, Prediction]]:
    """Stream the images that wait for an annotator, with the boxes that Label Studio shows.

    These are the detector's, by the thresholds in force, or those dropped with the image. Skipped images are
    not among them.

    One part is in memory at a time, so an image comes twice where two parts hold the same prediction.

    Raises:
        BoxdropError: the bucket or the ledger cannot be read.
    """
    row = services.ledger.project(project)
    if row is None or row.labels is None:
        return
    label_set = read_label_set(services.data, row.labels)
    for name in stored_parts(services.data, row, kept=True):
        records = read_part(services.data, name.key).records
        images = services.ledger.images({each.image_id for each in records})
        for record in records:
            image = images.get(record.image_id)
            if not isinstance(record, Prediction) or image is None or not _is_shown(image, record, project):
                continue
            if record.candidates:
                yield image, reselect(record, label_set, row.default_threshold or 0.0)
            else:  # dropped with the image
                known = tuple(box for box in record.boxes if box.label in label_set)
                yield image, replace(record, boxes=known)


def _is_shown(image: Image, prediction: Prediction, project: str) -> bool:
    """Whether the image waits for an annotator with this prediction, made for its present content."""
    return (
        image.state == State.TASKED
        and not image.skipped
        and image.project == project
        and image.version == prediction.version
        and image.prediction_id == prediction.prediction_id
    )
