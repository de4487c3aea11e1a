"""Reads the blind control slice of a project, and compares it with the images whose boxes people saw."""

from typing import TYPE_CHECKING

from boxdrop.assessment.control import Control, Watched, compare_sides
from boxdrop.assessment.outcomes import compare
from boxdrop.domain.annotations import DrawnBox, OfferedBox
from boxdrop.domain.predictions import select_boxes
from boxdrop.review.reviewed import Reviewed, read_with_predictions
from boxdrop.store.labelsets import read_label_set

if TYPE_CHECKING:
    from boxdrop.domain.labels import LabelSet
    from boxdrop.ledger import Project
    from boxdrop.services import Services


def measure_control(services: "Services", name: str) -> Control | None:
    """What boxes do to the people of a project; None where too little of the blind slice is verified.

    What the detector found in a blind image is read from its stored prediction, by the thresholds in force.
    Images that another detector or other prompts looked at do not count.

    Args:
        services: needs `ledger` and `data`.

    Raises:
        BoxdropError: the bucket or the ledger cannot be read.
    """
    row = services.ledger.project(name)
    if row is None or row.labels is None:
        return None
    label_set = read_label_set(services.data, row.labels)
    watched = []
    for each in read_with_predictions(services, name):
        if isinstance(each, Reviewed) and each.model_version == row.model_version:
            found = _watched(each, row, label_set)
            if found is not None:
                watched.append(found)
    return compare_sides(watched)


def _watched(reviewed: Reviewed, project: "Project", label_set: "LabelSet") -> Watched | None:
    annotation, prediction = reviewed.annotation, reviewed.prediction
    assert annotation.offer is not None
    offered = annotation.offer.boxes
    if reviewed.is_blind:
        if prediction is None:
            return None
        boxes = select_boxes(prediction.candidates, label_set, project.default_threshold or 0.0)
        offered = tuple(OfferedBox(each.label, each.score, each.xyxy, "") for each in boxes)
    # Region ids say which box became which where people saw boxes; here, places must decide on both sides.
    places = [OfferedBox(each.label, each.score, each.xyxy, f"o{n}") for n, each in enumerate(offered)]
    drawn = [DrawnBox(each.label, each.xyxy, f"d{n}") for n, each in enumerate(annotation.boxes)]
    outcomes = compare(places, drawn)
    return Watched(
        at=annotation.updated_at,
        is_blind=reviewed.is_blind,
        seconds=annotation.lead_time,
        right=sum(each.right for each in outcomes.offered),
        boxes=len(outcomes.offered),
        beyond=sum(not each.found for each in outcomes.drawn),
    )
