"""deletion: delete a project from Label Studio, the ledger and the data bucket; the user's images stay.

Verified work stays too, unless the user chooses otherwise: its documents in the data bucket are
self-contained. The project's ledger row is deleted last, so an interrupted deletion can be repeated.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from boxdrop.domain.errors import BoxdropError
from boxdrop.iterables import chunked
from boxdrop.ledger import State
from boxdrop.pipeline.labels import labels_key
from boxdrop.pipeline.sync import sync_project
from boxdrop.services import Services
from boxdrop.store.layout import (
    annotations_prefix,
    boxes_prefix,
    display_prefix,
    reviews_prefix,
    run_prefix,
)
from boxdrop.store.nested import list_own
from boxdrop.store.parts import list_parts, list_runs_with_parts

_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion removes.

    Attributes:
        images: ledger rows; the objects stay.
        verified: verified images; their documents stay by default.
        runs: with their predictions in the data bucket.
        label_studio_id: the project's number there; None if there is none.
        live: unfinished runs, which prevent the deletion.
    """

    images: int
    verified: int
    runs: tuple[str, ...]
    label_studio_id: int | None
    live: tuple[str, ...]


def plan_deletion(services: Services, name: str) -> Deletion:
    """List what a deletion would remove.

    Raises:
        BoxdropError: there is no such project.
    """
    project = services.ledger.project(name)
    if project is None:
        raise BoxdropError(f"there is no project {name}; `boxdrop status` lists them")
    counts = services.ledger.count_images(name)
    known = services.ledger.list_runs(name, _AT_ONCE)
    stored = list_runs_with_parts(services.data, name)
    return Deletion(
        sum(counts.values()),
        counts[State.VERIFIED] + counts[State.STALE],
        tuple(dict.fromkeys([*(run.run_id for run in known), *stored])),
        project.label_studio_id,
        tuple(run.run_id for run in known if run.is_live),
    )


def delete_project(
    services: Services,
    name: str,
    *,
    verified_too: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Delete a project.

    Args:
        verified_too: also delete the documents of verified work; else they are updated first.
        on_progress: called with what is being deleted.

    Raises:
        BoxdropError: there is no such project, or a run of it is not finished.
        LabelStudioError: it cannot be reached; nothing was deleted.
    """
    plan = plan_deletion(services, name)
    if plan.live:
        raise BoxdropError(f"the run {plan.live[0]} of {name} is not finished; delete the project after it")
    if plan.label_studio_id is not None:
        connection = services.label_studio
        if not verified_too:  # even if the ledger knows of none: a webhook may be lost
            on_progress("collecting verified work")
            sync_project(services, name, wait_s=60)
        on_progress("Label Studio's project")
        with connection.explaining(f"delete project {plan.label_studio_id}"):
            if any(each.id == plan.label_studio_id for each in connection.sdk.projects.list(include="id")):
                connection.sdk.projects.delete(plan.label_studio_id)
    data = services.data
    for run_id in plan.runs:
        on_progress(f"run {run_id}")
        _delete(data.delete_all, (part.key for part in list_parts(data, name, run_id)))
        _delete(data.delete_all, (listed.key for listed in data.list(run_prefix(run_id))))
    prefixes = [
        reviews_prefix(name),
        display_prefix(name),
        *([annotations_prefix(name)] if verified_too else []),
    ]
    for prefix in prefixes:
        _delete(data.delete_all, list_own(data, prefix, name))
    _delete(data.delete_all, list_own(data, boxes_prefix(name), name, levels=1))
    # with labels.yaml, the next upload would make the project again
    if services.images.exists(labels_key(name)):
        services.images.delete_all([labels_key(name)])
    on_progress("the ledger")
    services.ledger.delete_project(name)


def _delete(delete_all: Callable[[list[str]], None], keys: Iterator[str]) -> None:
    for some in chunked(keys, _AT_ONCE):
        delete_all(list(some))
