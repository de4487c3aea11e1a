"""What other thresholds would change in the images that nobody has verified yet: boxes won and lost."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boxdrop.domain.predictions import Box, Prediction, select_boxes
from boxdrop.ledger import Image
from boxdrop.pipeline.labels import stored_parts
from boxdrop.review.unverified import waiting_among
from boxdrop.store.parts import read_part

if TYPE_CHECKING:
    from boxdrop.domain.labels import LabelSet
    from boxdrop.ledger import Project
    from boxdrop.services import Services


@dataclass(frozen=True, slots=True)
class Difference:
    """What two label sets show differently of one image.

    Attributes:
        row: the image's row in the ledger.
        prediction: with the boxes of the second label set.
        won: boxes that only the second one shows; an object that another label now claims is won and lost.
        lost: boxes that only the first one shows.
    """

    row: Image
    prediction: Prediction
    won: tuple[Box, ...]
    lost: tuple[Box, ...]


def read_unverified(services: "Services", project: "Project") -> Iterator[tuple[Image, Prediction]]:
    """Stream the images that wait for a person, with what the detector in force found, part by part.

    An image of which there are two equal predictions comes once.

    Args:
        services: needs `ledger` and `data`.

    Raises:
        BoxdropError: the bucket or the ledger cannot be read.
    """
    seen: set[str] = set()
    for name in stored_parts(services.data, project):
        records = [each for each in read_part(services.data, name.key).records if each.image_id not in seen]
        for row, prediction in waiting_among(services, project, records):
            seen.add(row.image_id)
            yield row, prediction


def differences(
    services: "Services", project: "Project", before: "LabelSet", after: "LabelSet"
) -> Iterator[Difference | None]:
    """Compare two label sets image by image, on stored candidates; None for an image that they agree on."""
    default = project.default_threshold or 0.0
    for row, prediction in read_unverified(services, project):
        old, new = (select_boxes(prediction.candidates, each, default) for each in (before, after))
        known = [{(box.label, box.xyxy) for box in boxes} for boxes in (old, new)]
        won = tuple(box for box in new if (box.label, box.xyxy) not in known[0])
        lost = tuple(box for box in old if (box.label, box.xyxy) not in known[1])
        yield Difference(row, prediction, won, lost) if won or lost else None
