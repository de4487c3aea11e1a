"""Simulated projects: people who keep, delete and add boxes at known rates. Seeded, no server."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from boxdrop.assessment.outcomes import compare
from boxdrop.domain.annotations import Annotation, DrawnBox, Offer, OfferedBox
from boxdrop.ledger import Image, State
from boxdrop.review.reviewed import Reviewed

START = datetime(2026, 11, 2, 9, tzinfo=UTC)
MODEL = "demo@3f9a1c22"


@dataclass(frozen=True, slots=True)
class Rates:
    """What a detector and a team do.

    Attributes:
        right: share of the offered boxes that are right; the others are deleted.
        missed: of the objects, those that nothing was offered for.
        boxes: mean number of objects of an image.
        alike: how much the boxes of one image share their fate, 0 to 1 (beta-binomial).
    """

    right: float = 0.9
    missed: float = 0.1
    boxes: float = 4.0
    alike: float = 0.3


def shared(rng: np.random.Generator, mean: float, alike: float) -> float:
    """One image's own rate."""
    if alike == 0 or mean in (0, 1):
        return mean
    rest = 1 / alike - 1
    return float(rng.beta(mean * rest, (1 - mean) * rest))


def simulate(rng: np.random.Generator, images: int, rates: Rates, label: str = "apple") -> Iterator[Reviewed]:
    """Verified images of a project."""
    for number in range(images):
        right, missed = shared(rng, rates.right, rates.alike), shared(rng, rates.missed, rates.alike)
        offered, drawn = [], []
        for place in range(int(rng.geometric(1 / rates.boxes))):
            corners = (100.0 * place, 0.0, 100.0 * place + 50, 50.0)
            region = f"r{place}"
            if rng.random() < missed:
                drawn.append(DrawnBox(label, corners, f"new{place}"))
                continue
            offered.append(OfferedBox(label, 0.5, corners, region))
            if rng.random() < right:
                drawn.append(DrawnBox(label, corners, region))
        yield reviewed(number, offered, drawn)


def reviewed(
    number: int,
    offered: list[OfferedBox],
    drawn: list[DrawnBox],
    *,
    user: int = 3,
    seconds: float | None = 5.0,
    model: str = MODEL,
    at: datetime | None = None,
) -> Reviewed:
    """A verified image."""
    image_id, when = f"{number:032x}", at or START + timedelta(minutes=number)
    row = Image(image_id, "fruit", "images", f"fruit/{number}.jpg", State.VERIFIED, START, "", version="v1")
    annotation = Annotation(
        row.key,
        image_id,
        "v1",
        number + 1,
        number + 1,
        when,
        when,
        user,
        seconds,
        4000,
        4000,
        tuple(drawn),
        Offer("p", model, tuple(offered)),
    )
    return Reviewed(row, annotation, compare(offered, drawn))
