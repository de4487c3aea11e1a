"""The state of a run in Label Studio, from the ledger."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from boxdrop.iterables import chunked
from boxdrop.ledger import Image, Ledger, State
from boxdrop.tracking.entry import Published

_CHUNK = 1000


def published(ledger: Ledger, project: str, run_id: str, image_ids: Iterable[str]) -> Published:
    """Count the tasks of a run.

    Reads one row per image, and nothing else: half a read unit each, and about a second per 1,000.

    Args:
        ledger: knows the images.
        project: of the run.
        run_id: its id.
        image_ids: of its manifest.
    """
    row = ledger.project(project)
    tasked: list[Image] = []
    waiting = moved_on = 0
    for some in chunked(image_ids, _CHUNK):
        for image in ledger.images(some).values():
            if image.run_id != run_id:
                moved_on += 1  # overwritten, or run again since
            elif image.state == State.RUNNING:
                waiting += 1
            elif image.state in (State.TASKED, State.VERIFIED, State.STALE):
                tasked.append(image)
    return Published(
        project_id=row.label_studio_id if row else None,
        # Images that later runs took over are no longer known.
        tasks=None if moved_on else len(tasked),
        waiting=waiting,
        finished_at=_last(tasked),
    )


def _last(images: Sequence[Image]) -> datetime | None:
    """When the last task was recorded; `since` of a verified image is when a person verified it."""
    return max((image.since for image in images if image.state == State.TASKED), default=None)
