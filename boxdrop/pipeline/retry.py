"""retry: run failed images again, publish stored boxes again, return dead letters to their queues."""

from collections.abc import Callable, Mapping

from boxdrop.aws.s3 import Bucket
from boxdrop.aws.sqs import Queue, redrive
from boxdrop.ledger import Ledger, Outcome, Project, State
from boxdrop.pipeline.labels import part_event, stored_parts

DEAD_LETTERS = "-dlq"
"""The suffix of dead-letter queues' names."""


def retry_failed(
    ledger: Ledger,
    project: str,
    reason: str | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Mark a project's failed images as wanted; returns how many. The caller requests the launch.

    Args:
        reason: only images that failed for this reason, such as ``run_died``.
        on_progress: called with the number of wanted images so far, once per page.
    """
    wanted = 0
    cursor: str | None = None
    while True:
        page = ledger.list_images(project, State.FAILED, cursor=cursor)
        ids = [image.image_id for image in page.rows if reason in (None, image.reason)]
        results = ledger.retry(ids)
        wanted += sum(result.outcome == Outcome.APPLIED for result in results)
        on_progress(wanted)
        cursor = page.cursor
        if cursor is None:
            return wanted


def resend_parts(data: Bucket, parts: Queue, project: Project) -> int:
    """Publish the stored predictions of the labels in force again; returns how many parts.

    Args:
        data: the data bucket.
        parts: publish's queue.
    """
    found = stored_parts(data, project, kept=True)
    return parts.send_all(part_event(data.name, part.key) for part in found)


def dead_letters(queues: Mapping[str, str], make: Callable[[str], Queue] = Queue) -> dict[str, int]:
    """The approximate number of dead letters, by the queue's name, including zeros.

    Args:
        queues: URLs by name.
        make: makes a queue from its URL.

    Raises:
        QueueError: one cannot be counted.
    """
    return {
        name: make(queues[name + DEAD_LETTERS]).count() for name in queues if name + DEAD_LETTERS in queues
    }


def retry_dead_letters(queues: Mapping[str, str], make: Callable[[str], Queue] = Queue) -> dict[str, int]:
    """Send the dead letters of all queues again; returns how many, by the queue's name, without zeros.

    Message by message: SQS's own redrive (``StartMessageMoveTask``) is not available everywhere.

    Raises:
        QueueError: some were not sent; call it again.
    """
    moved = {
        name: redrive(make(queues[name + DEAD_LETTERS]), make(url))
        for name, url in queues.items()
        if name + DEAD_LETTERS in queues
    }
    return {name: count for name, count in moved.items() if count}
