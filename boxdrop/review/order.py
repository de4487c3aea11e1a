"""The order in which people see what nobody has verified yet, and how much of it needs a change."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boxdrop.assessment.evidence import detections_of
from boxdrop.assessment.priority import Outlook, learn_ranking, outlook, thresholds_of
from boxdrop.iterables import chunked
from boxdrop.labelstudio.tasks import ProjectTasks
from boxdrop.pipeline.publish import hold_lease, number_of
from boxdrop.review.acceptance import is_in_force, waiting_audits
from boxdrop.review.differences import read_unverified
from boxdrop.review.gathering import find_project, gather
from boxdrop.store.acceptances import read_acceptance
from boxdrop.store.labelsets import read_label_set
from boxdrop.store.outlooks import StoredOutlook, write_outlook

if TYPE_CHECKING:
    from boxdrop.domain.labels import LabelSet
    from boxdrop.ledger import Project
    from boxdrop.services import Services

_AT_ONCE = 200

_FIRST = 100.0
"""Priority above which images were put first; nobody expects so many mistakes in one."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """What `order_images` did.

    Attributes:
        images: that nobody has verified and that have boxes.
        changed: tasks whose priority is another one now.
        learned_from: verified images; 0: there were too few, and scores near thresholds count.
        outlook: how many images need a change; None where nothing was learned.
        first: keys of the images with the most to check, and how much, most first.
    """

    images: int
    changed: int
    learned_from: int
    outlook: Outlook | None
    first: tuple[tuple[str, float], ...]


def order_images(
    services: "Services",
    name: str,
    *,
    wait_s: float = 0,
    shown: int = 10,
    on_progress: Callable[[int, int], None] = lambda done, all_: None,
) -> Ordered:
    """Give each image that nobody has verified its priority, learned from those that are.

    Args:
        services: needs `ledger`, `data` and `label_studio`.
        wait_s: how long to wait for publishers.
        shown: how many images `first` names.
        on_progress: called with tasks done, and how many there are.

    Raises:
        BoxdropError: there is no such project with labels.
        BusyError, LeaseLostError, LabelStudioError: repeat it, which is safe.
    """
    row, digest = find_project(services, name)
    label_set = read_label_set(services.data, digest)
    thresholds = thresholds_of(label_set, row.default_threshold or 0.0)
    ranking = learn_ranking(gather(services, row, label_set).images, thresholds)
    doubts: dict[int, float] = {}
    keys: list[tuple[float, str]] = []
    chances: list[float] = []
    for image, prediction in read_unverified(services, row):
        found = detections_of(prediction.candidates, label_set.names)
        doubt = ranking.doubt(found)
        keys.append((doubt, image.key))
        if ranking.calibration is not None:
            chances.append(ranking.chance(found))
        if image.task_id is not None:
            doubts[image.task_id] = doubt
    doubts |= _audited(services, row, label_set, doubts)
    keys = sorted(keys, key=lambda each: (-each[0], each[1]))[:shown]
    changed = 0
    with hold_lease(services.ledger, name, services.settings.lease_s, wait_s) as keep:
        tasks = ProjectTasks(services.label_studio, number_of(services.ledger, name), keep)
        for number, some in enumerate(chunked(sorted(doubts, key=lambda each: -doubts[each]), _AT_ONCE)):
            changed += tasks.rank({each: doubts[each] for each in some})
            on_progress(min(len(doubts), (number + 1) * _AT_ONCE), len(doubts))
    seen = outlook(ranking, chances) if ranking.calibration is not None else None
    if seen is not None:
        stored = StoredOutlook(
            services.clock(), ranking.images, seen.images, seen.expected, seen.low, seen.high
        )
        write_outlook(services.data, name, stored)
    first = tuple((key, doubt) for doubt, key in keys)
    return Ordered(len(doubts), changed, ranking.images, seen, first)


def put_first(services: "Services", name: str, tasks: Sequence[int], *, wait_s: float = 0) -> int:
    """Let people see these tasks before all others, in this order, until `order_images` orders them anew.

    Args:
        services: needs `ledger` and `label_studio`.
        tasks: numbers of tasks that nobody has verified; at most some hundreds.
        wait_s: how long to wait for publishers.

    Returns:
        How many tasks were changed.

    Raises:
        BusyError, LeaseLostError, LabelStudioError: repeat it, which is safe.
    """
    with hold_lease(services.ledger, name, services.settings.lease_s, wait_s) as keep:
        project = ProjectTasks(services.label_studio, number_of(services.ledger, name), keep)
        last = len(tasks)
        return project.rank({task: _FIRST + last - place for place, task in enumerate(tasks)})


def _audited(
    services: "Services", project: "Project", label_set: "LabelSet", doubts: dict[int, float]
) -> dict[int, float]:
    """The priority of tasks that are audited (see `boxdrop.review.acceptance`): with the highest of all."""
    stored = read_acceptance(services.data, project.name)
    if stored is None or not is_in_force(stored, project, label_set):
        return {}
    waiting = waiting_audits(services, stored).keys() & doubts.keys()
    return dict.fromkeys(sorted(waiting), max(doubts.values(), default=0.0))
