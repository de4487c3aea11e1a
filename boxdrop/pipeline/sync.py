"""sync: repair what events and webhooks lost by comparing Label Studio with the ledger.

It relies on no watermark: it lists every task, and looks up every row with a task. Run it now and then, and
whenever something looks wrong; it changes nothing if both agree.

Where time is limited, as in a Lambda function, it works in slices: each returns a cursor, from which the next
goes on. Between two slices, publishers get the project's lease.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from boxdrop.iterables import chunked
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import ConfigFault, find_disconnection, find_fault, is_there
from boxdrop.labelstudio.publishing import CHUNK
from boxdrop.labelstudio.tasks import ProjectTasks, Task
from boxdrop.ledger import Image, Ledger, Outcome, State
from boxdrop.pipeline.collect import Collected, collect
from boxdrop.pipeline.marks import SKIPPED, shown_state, write_states
from boxdrop.pipeline.publish import LedgerRegister, hold_lease, is_copy, mark_tasks, number_of
from boxdrop.services import Services

_WITH_TASKS: Final = (
    State.TASKED,
    State.VERIFIED,
    State.STALE,
    State.FAILED,
    State.WANTED,
    State.RUNNING,
    State.GONE,
)
_TASKS: Final = "tasks"
"""The first stage, in a cursor: ``tasks:NUMBER``; then ``STATE:CURSOR`` of the ledger's pages."""

_AGAIN: Final = "again"
"""In place of a label set's digest: labels and boxes must be published to Label Studio again."""

_Collect = Callable[[int, str], object]


@dataclass(frozen=True, slots=True)
class SyncSummary:
    """What was found; counts of tasks.

    Attributes:
        tasks: boxdrop's tasks in Label Studio.
        unknown: of images that the ledger does not have, or has in another project.
        recorded: made, but not recorded until now.
        removed_twins: second tasks of one image that were deleted.
        lost: recorded, but no longer in Label Studio; their images are wanted again.
        collected: tasks whose review differed from the ledger.
        foreign: tasks that show other boxes than the ledger records: another program published them. The
            recorded ones are published again.
        faults: manual changes to the project itself, and what to do.
        marked: tasks whose column *state* differed from the ledger.
        cursor: where the next slice begins; None if everything was compared.
    """

    tasks: int = 0
    unknown: int = 0
    recorded: int = 0
    removed_twins: int = 0
    lost: int = 0
    collected: int = 0
    marked: int = 0
    foreign: int = 0
    faults: tuple[str, ...] = ()
    cursor: str | None = None


def sync_project(
    services: Services,
    name: str,
    *,
    wait_s: float = 0,
    seconds: float = math.inf,
    cursor: str | None = None,
    on_progress: Callable[[SyncSummary], None] | None = None,
) -> SyncSummary:
    """Compare the tasks of a project with its rows, and repair the differences.

    Args:
        name: the project's in the ledger.
        wait_s: how long to wait for publishers.
        seconds: after which the slice ends, with the chunk of tasks or rows in hand.
        cursor: of the slice before.
        on_progress: called after about every thousand tasks.

    Raises:
        BusyError, LeaseLostError, LabelStudioError, LedgerError: as `boxdrop.pipeline.publish.publish`.
    """
    ledger, connection = services.ledger, services.label_studio

    def collect_task(number: int, image_id: str) -> object:
        return collect(services, name, number, image_id=image_id)

    counts = dict.fromkeys((each for each in SyncSummary.__slots__ if each not in ("faults", "cursor")), 0)
    faults: tuple[str, ...] = ()
    until = time.monotonic() + seconds
    stage, _, position = (cursor or f"{_TASKS}:0").partition(":")

    def progress() -> None:
        if on_progress:
            on_progress(SyncSummary(**counts, faults=faults, cursor=None))

    label_studio_id = number_of(ledger, name)
    with hold_lease(ledger, name, services.settings.lease_s, wait_s) as keep:
        if fault := _find_fault(ledger, connection, name, label_studio_id):
            faults = (fault.message,)
            if not is_there(connection, label_studio_id):
                return SyncSummary(faults=faults)
        tasks = ProjectTasks(connection, label_studio_id, keep)
        register = LedgerRegister(ledger, tasks, name, keep.token, generation=-1)
        # Hashes of number and image: a number may go to another image's task. None if an earlier slice listed
        # some of them; then every row is looked up.
        listed: set[int] | None = set() if cursor is None else None
        newest = int(position) if stage == _TASKS else 0
        following = None
        if stage == _TASKS:
            for found in chunked(tasks.after(int(position)), CHUNK):
                keep()
                if listed is not None:
                    listed.update(hash((task.number, task.image_id)) for task in found)
                newest = found[-1].number
                _compare(ledger, tasks, register, found, collect_task, counts)
                progress()
                if time.monotonic() >= until:
                    following = f"{_TASKS}:{newest}"
                    break
            else:
                ledger.record_audit(name, label_studio_id, newest)
                stage, position = _WITH_TASKS[0], ""
        for state in _WITH_TASKS if following is None else ():
            if _WITH_TASKS.index(state) < _WITH_TASKS.index(State(stage)):
                continue
            page_cursor: str | None = position if state == stage and position else None
            while True:
                page = ledger.list_images(name, state, cursor=page_cursor)
                keep()
                unlisted = [
                    row
                    for row in page.rows
                    if listed is None or hash((row.task_id, row.image_id)) not in listed
                ]
                _find_lost(ledger, tasks, unlisted, collect_task, counts)
                page_cursor = page.cursor
                if page_cursor is None:
                    break
                if time.monotonic() >= until:
                    following = f"{state}:{page_cursor}"
                    break
            progress()
            if following is not None:
                break
        if following is None:
            counts["marked"] += mark_tasks(ledger, tasks, name)
        if counts["foreign"]:
            ledger.record_republished(name, _AGAIN)
    progress()
    return SyncSummary(**counts, faults=faults, cursor=following)


def _find_fault(
    ledger: Ledger, connection: Connection, name: str, label_studio_id: int
) -> ConfigFault | None:
    """Check the project for damage; if labels or boxes must be restored, request it."""
    row = ledger.project(name)
    if row is None:
        return None
    fault = find_fault(connection, label_studio_id, f"s3://{row.bucket}/{name}/", row.label_ids)
    if fault is None:
        bucket = None if row.storage_id is None else row.bucket
        webhook = row.webhook_id is not None
        fault = find_disconnection(connection, label_studio_id, bucket=bucket, webhook=webhook)
    if fault is not None and not fault.by_hand:
        ledger.record_prepared(name, _AGAIN)
        ledger.record_republished(name, _AGAIN)
    return fault


def _compare(
    ledger: Ledger,
    tasks: ProjectTasks,
    register: LedgerRegister,
    found: Sequence[Task],
    collect: _Collect,
    counts: dict[str, int],
) -> None:
    marking: list[str] = []
    before = ledger.images(task.image_id for task in found)
    owners = register.settle(found)
    for task in found:
        row = before.get(task.image_id)
        if is_copy(row, register.project):
            counts["tasks"] += 1
            counts["unknown"] += 1
            continue
        owner = owners[task.image_id]
        counts["tasks"] += 1
        counts["unknown"] += row is None
        counts["recorded"] += row is not None and row.task_id is None and owner.number == task.number
        if owner.number != task.number and tasks.delete_twin(task.number):
            counts["removed_twins"] += 1
        elif row is not None and _is_foreign(row, task):
            counts["foreign"] += 1
        elif row is not None and _review_is_missing(row, task):
            counts["collected"] += _is_news(collect(task.number, task.image_id))
            marking.append(task.image_id)
        elif row is not None and task.state != shown_state(row, task):
            marking.append(task.image_id)
    counts["marked"] += write_states(ledger, tasks, marking)


def _is_news(collected: object) -> bool:
    """Whether there was something to collect: a restored document has a later time than its task."""
    if not isinstance(collected, Collected):
        return True
    result = collected.result
    return collected.written or (result is not None and result.outcome == Outcome.APPLIED)


def _is_foreign(row: Image, task: Task) -> bool:
    """Whether an unverified task shows other boxes than the recorded ones, or none."""
    if row.state != State.TASKED or row.task_id != task.number or task.verified or task.touched:
        return False
    return task.prediction_id != row.prediction_id or not task.shows


def _review_is_missing(row: Image, task: Task) -> bool:
    if task.verified != (row.verified_version is not None):
        return True
    if row.state == State.TASKED and task.skipped != row.skipped:
        return True
    if task.reviewed_at is None:  # a withdrawn skip leaves no time
        return task.state == SKIPPED
    return task.reviewed_at != row.reviewed_at


def _find_lost(
    ledger: Ledger,
    tasks: ProjectTasks,
    rows: Sequence[Image],
    collect: _Collect,
    counts: dict[str, int],
) -> None:
    """Of the rows whose task was not listed, those whose task does not exist."""
    suspects = {row.task_id: row for row in rows if row.task_id is not None}
    present = tasks.read(suspects)
    for number, row in suspects.items():
        if number in present and present[number].image_id == row.image_id:
            continue
        if row.verified_version is not None:
            collect(number, row.image_id)
            counts["collected"] += 1
        lost = ledger.record_lost_task(row.image_id, number)
        counts["lost"] += lost.outcome in (Outcome.APPLIED, Outcome.ALREADY)
