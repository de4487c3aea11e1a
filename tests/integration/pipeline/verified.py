"""Verified work as tests of the review loop need it: candidates in a row, and what a person kept of them."""

from collections.abc import Callable
from datetime import UTC, datetime

from boxdrop.domain.annotations import Annotation, DrawnBox, Offer, OfferedBox, to_json
from boxdrop.domain.predictions import Candidate, Prediction
from boxdrop.store.layout import annotation_key

from .world import World

SHOWN = 0.5
"""The threshold above which a candidate was offered."""


def candidate(label: str, place: int, score: float) -> Candidate:
    """A box in one of six places of an image of 640 × 100."""
    left = 10.0 + 100 * place
    return Candidate(label, label, place, score, (left, 10.0, left + 80, 90.0))


def verify(world: World, record: Prediction, is_right: Callable[[Candidate], bool]) -> None:
    """A person keeps the right ones of the boxes that were offered, and draws the right ones that were not.

    The document is stored, and the ledger knows; Label Studio has no annotation.
    """
    row, when = world.ledger.image(record.image_id), datetime.now(UTC)
    assert row is not None
    regions = {f"r{number}": each for number, each in enumerate(record.candidates)}
    offered = tuple(
        OfferedBox(c.label, c.score, c.xyxy, name) for name, c in regions.items() if c.score > SHOWN
    )
    document = Annotation(
        image=row.key,
        image_id=record.image_id,
        version=record.version,
        task_id=row.task_id or 1,
        annotation_id=row.task_id or 1,
        order=when,
        updated_at=when,
        user=3,
        lead_time=1.0,
        width=640,
        height=100,
        boxes=tuple(DrawnBox(c.label, c.xyxy, name) for name, c in regions.items() if is_right(c)),
        offer=Offer(record.prediction_id, record.model_version, offered),
    )
    world.data.put(annotation_key("fruit", record.image_id), to_json(document).encode())
    world.ledger.record_verified(record.image_id, record.version, when)
