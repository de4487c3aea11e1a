"""Gathers the evidence of a project: its verified images, with the candidates stored for each."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from boxdrop.assessment.evidence import Evidence, detections_of, truth_of
from boxdrop.domain.errors import BoxdropError
from boxdrop.review.reviewed import LeftOut, read_with_predictions

if TYPE_CHECKING:
    from boxdrop.domain.labels import LabelSet
    from boxdrop.ledger import Project
    from boxdrop.services import Services


@dataclass(frozen=True, eq=False, slots=True)
class Gathered:
    """The verified images of a project.

    Attributes:
        ids: their image ids.
        images: those that the detector in force saw, by image_id, which is a hash: in no order that means
            anything.
        times: when each was saved last.
        others: fresh verified images whose stored prediction is of another detector or other prompts, is
            lost, or was never offered.
    """

    ids: tuple[str, ...]
    images: tuple[Evidence, ...]
    times: tuple[datetime, ...]
    others: int


def find_project(services: "Services", name: str) -> "tuple[Project, str]":
    """The row of a project, and the digest of its labels in force.

    Raises:
        BoxdropError: there is no such project with labels.
    """
    row = services.ledger.project(name)
    if row is None or row.labels is None:
        raise BoxdropError(f"there is no project {name} with labels; `boxdrop status` lists the projects")
    return row, row.labels


def gather(services: "Services", project: "Project", label_set: "LabelSet") -> Gathered:
    """Read the verified images of a project with their stored candidates.

    Args:
        services: needs `ledger` and `data`.
        project: its row.
        label_set: whose labels count.

    Raises:
        BoxdropError: the bucket or the ledger cannot be read.
    """
    found: dict[str, tuple[Evidence, datetime]] = {}
    others = 0
    for each in read_with_predictions(services, project.name):
        if isinstance(each, LeftOut):
            continue
        if each.prediction is None or each.prediction.model_version != project.model_version:
            others += 1
            continue
        candidates = detections_of(each.prediction.candidates, label_set.names)
        boxes, labels = truth_of(each.annotation.boxes, label_set.names)
        evidence = Evidence.of(each.row.key, candidates, boxes, labels)
        found[each.row.image_id] = evidence, each.annotation.updated_at
    ids = tuple(sorted(found))
    kept = [found[image_id] for image_id in ids]
    return Gathered(ids, tuple(image for image, _ in kept), tuple(time for _, time in kept), others)
