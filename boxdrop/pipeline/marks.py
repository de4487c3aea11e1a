"""marks: keep the column *state* of Label Studio's Data Manager in line with the ledger.

The state is stored in a task's data, which Label Studio replaces as a whole. Publishers replace it as well,
so it is written only under the project's lease, from rows that were read under it. Annotations do not change.
"""

from collections.abc import Iterable
from typing import Final

from boxdrop.iterables import chunked
from boxdrop.labelstudio.publishing import CHUNK
from boxdrop.labelstudio.task_data import ACCEPTED
from boxdrop.labelstudio.tasks import ProjectTasks, Task
from boxdrop.ledger import Image, Ledger, State
from boxdrop.pipeline.publish import BusyError, hold_lease
from boxdrop.services import Services

SKIPPED: Final = "skipped"
"""The column's value for a skipped task; the ledger's state of its image is `State.TASKED`."""

_SHOWN_AS_THEY_ARE: Final = (State.VERIFIED, State.STALE, State.GONE, State.FAILED)


def shown_state(row: Image, task: Task) -> str:
    """The value of the column *state* for an image.

    A task that `boxdrop accept` marked stays so until an annotator works on it.

    Args:
        row: the image's.
        task: the image's current task.
    """
    if row.state in _SHOWN_AS_THEY_ARE:
        return row.state
    if task.skipped:
        return SKIPPED
    return ACCEPTED if task.state == ACCEPTED and not task.touched else State.TASKED


def write_states(ledger: Ledger, tasks: ProjectTasks, image_ids: Iterable[str]) -> int:
    """Update the column *state* of images' tasks. Call it under the project's lease.

    Returns:
        How many tasks said something else.
    """
    written = 0
    for some in chunked(dict.fromkeys(image_ids), CHUNK):
        rows = {row.task_id: row for row in ledger.images(some).values() if row.task_id is not None}
        for number, task in tasks.read(rows).items():
            row = rows[number]
            if task.image_id != row.image_id:
                continue
            wanted = shown_state(row, task)
            if task.state != wanted:
                written += tasks.mark(number, wanted)
            if row.flag_is_due:
                ledger.record_flag(row.image_id, row.due_flag)
    return written


def show_states(
    services: Services, name: str, label_studio_id: int, image_ids: Iterable[str], *, wait_s: float = 0
) -> int:
    """Update the column *state* of images' tasks, unless publishers keep the project busy for too long.

    A project with a constantly busy publisher is left to `boxdrop.pipeline.sync`, so publishing never delays
    collecting.

    Args:
        wait_s: how long to wait for publishers.

    Returns:
        How many tasks said something else.
    """
    ledger, connection = services.ledger, services.label_studio
    due = list(dict.fromkeys(image_ids))
    if _is_shown(ledger, ProjectTasks(connection, label_studio_id), due):
        return 0
    try:
        with hold_lease(ledger, name, services.settings.lease_s, wait_s) as keep:
            return write_states(ledger, ProjectTasks(connection, label_studio_id, keep), due)
    except BusyError:
        return 0


def _is_shown(ledger: Ledger, tasks: ProjectTasks, image_ids: list[str]) -> bool:
    """Whether there is nothing to write; repeated events then take no lease."""
    rows = {row.task_id: row for row in ledger.images(image_ids).values() if row.task_id is not None}
    return not any(
        task.image_id == rows[number].image_id
        and (task.state != shown_state(rows[number], task) or rows[number].flag_is_due)
        for number, task in tasks.read(rows).items()
    )
