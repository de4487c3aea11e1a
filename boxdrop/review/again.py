"""Verified images to look at again: which, and why; and the tab in Label Studio that lists them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from boxdrop.assessment.mistakes import Doubt, doubts, reason
from boxdrop.assessment.priority import LEAST_BOXES, LEAST_IMAGES
from boxdrop.assessment.thresholds import TuningError, fit
from boxdrop.labelstudio.tabs import ensure_look_again
from boxdrop.labelstudio.tasks import ProjectTasks
from boxdrop.pipeline.publish import hold_lease, number_of
from boxdrop.review.gathering import find_project, gather
from boxdrop.store.labelsets import read_label_set

if TYPE_CHECKING:
    from boxdrop.services import Services

LEAST_SCORE: Final = 0.3
"""Below it, most doubts are the detector's mistakes (record 096)."""

_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Suspect:
    """A verified image that may hold mistakes.

    Attributes:
        key: of the image.
        task_id: of its task; None if it has none.
        doubts: what may be wrong, each in words too, the most likely first.
    """

    key: str
    task_id: int | None
    doubts: tuple[tuple[Doubt, str], ...]

    @property
    def score(self) -> float:
        """Of the most likely mistake, 0 to 1."""
        return self.doubts[0][0].score

    @property
    def text(self) -> str:
        """``banana, or apple? · kiwi missed?``"""
        return " · ".join(text for _, text in self.doubts[:_NAMED])


def find_suspects(services: "Services", name: str, limit: int) -> list[Suspect]:
    """The verified images of a project that most probably hold a mistake, the most likely first.

    Args:
        services: needs `ledger` and `data`.
        limit: how many at most.

    Raises:
        BoxdropError: there is no such project with labels.
        TuningError: too little is verified to calibrate the detector.
    """
    row, digest = find_project(services, name)
    label_set = read_label_set(services.data, digest)
    gathered = gather(services, row, label_set)
    if len(gathered.images) < LEAST_IMAGES or sum(len(each.labels) for each in gathered.images) < LEAST_BOXES:
        raise TuningError(
            f"too little is verified to compare with; {LEAST_IMAGES} images with {LEAST_BOXES} boxes, which "
            "the detector in force has seen, are enough"
        )
    calibration = fit(gathered.images, len(label_set))
    suspects = []
    for image_id, image in zip(gathered.ids, gathered.images, strict=True):
        found = [each for each in doubts(image, calibration) if each.score >= LEAST_SCORE]
        if found:
            named = tuple((each, reason(each, label_set.names)) for each in found)
            suspects.append((image_id, image.image, named))
    suspects.sort(key=lambda each: -each[2][0][0].score)
    rows = services.ledger.images(image_id for image_id, _, _ in suspects[:limit])
    return [
        Suspect(key, rows[image_id].task_id if image_id in rows else None, named)
        for image_id, key, named in suspects[:limit]
    ]


def mark_suspects(services: "Services", name: str, suspects: Sequence[Suspect], *, wait_s: float = 0) -> None:
    """Show suspects in the tab *Look again*, and take out what was there before.

    Annotations, predictions and states stay as they are: a column of the task's data says what to look at.

    Raises:
        BusyError, LeaseLostError, LabelStudioError: repeat it, which is safe.
    """
    number = number_of(services.ledger, name)
    with hold_lease(services.ledger, name, services.settings.lease_s, wait_s) as keep:
        tasks = ProjectTasks(services.label_studio, number, keep)
        tasks.note({each.task_id: each.text for each in suspects if each.task_id is not None})
        ensure_look_again(services.label_studio, number)
