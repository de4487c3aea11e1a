"""retry: failed images are wanted again, stored boxes are sent again, dead letters return to their queues."""

from collections.abc import Callable, Mapping

from boxdrop.aws.s3 import Bucket
from boxdrop.aws.sqs import Queue, redrive
from boxdrop.ledger import Ledger, Outcome, Project, State
from boxdrop.pipeline.labels import part_event, stored_parts

DEAD_LETTERS = "-dlq"
"""What the names of queues of dead letters end with."""


def retry_failed(
    ledger: Ledger,
    project: str,
    reason: str | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Want a project's failed images again; returns how many. A launch is to be asked for.

    Args:
        reason: only those that failed for this one, such as ``run_died``.
        on_progress: told how many are wanted so far, once per page.
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
    """Have the stored predictions of the labels in force published again; returns how many parts.

    Args:
        data: the data bucket.
        parts: queue of publish.
    """
    found = stored_parts(data, project.name, project.model_version)
    return parts.send_all(part_event(data.name, part.key) for part in found)


def dead_letters(queues: Mapping[str, str], make: Callable[[str], Queue] = Queue) -> dict[str, int]:
    """About how many messages each queue's dead letters are, by the queue's name; none is left out.

    Args:
        queues: URLs by name.
        make: makes a queue of its URL.

    Raises:
        QueueError: one cannot be counted.
    """
    return {
        name: make(queues[name + DEAD_LETTERS]).count() for name in queues if name + DEAD_LETTERS in queues
    }


def retry_dead_letters(queues: Mapping[str, str], make: Callable[[str], Queue] = Queue) -> dict[str, int]:
    """Send the dead letters of all queues again; returns how many by the queue's name, zeros left out.

    By hand, message by message: SQS's own redrive (``StartMessageMoveTask``) is not everywhere.

    Raises:
        QueueError: some are still where they were; call it again.
    """
    moved = {
        name: redrive(make(queues[name + DEAD_LETTERS]), make(url))
        for name, url in queues.items()
        if name + DEAD_LETTERS in queues
    }
    return {name: count for name, count in moved.items() if count}
