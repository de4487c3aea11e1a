"""reconcile: find what was lost. See `boxdrop.pipeline.recover` and `….sync`.

Called by EventBridge: on a schedule, and when a Batch job changes its state; by SNS when SageMaker could not
invoke. With ``"sync": true`` in a schedule's input, collect also compares each project with Label Studio. On
each schedule, projects that say ``teach: auto`` and are due are taught by a job.
"""

from typing import Any

from boxdrop import metrics
from boxdrop.domain.errors import BoxdropError
from boxdrop.labelstudio.webhook import SYNC, ReviewEvent
from boxdrop.pipeline.recover import fail_run_by_id, failed_runs, recover
from boxdrop.services import Services
from functions.observability import emit, logger_of
from functions.resources import services, teaching_offer

NAME = "reconcile"
logger = logger_of(NAME)


def handler(event: dict[str, Any], context: Any) -> None:
    """End the runs whose jobs failed according to an event; on a schedule, check everything."""
    of = services(NAME)
    if event.get("source") == "aws.batch" or "Records" in event:
        for run_id, reason in failed_runs(event):
            project, released = fail_run_by_id(of, run_id, reason)
            logger.warning("failed", project=project, run_id=run_id, reason=reason, released=released)
            emit(NAME, {metrics.RUNS_FAILED: 1, metrics.IMAGES_RELEASED: released}, project=project)
        return
    _look(of)
    if event.get("sync"):
        numbers = [project.label_studio_id for project in of.ledger.projects()]
        of.reviews.send_all(ReviewEvent(SYNC, number).to_fields() for number in numbers if number)
    _teach(of)


def _teach(of: Services) -> None:
    """Order that projects teach themselves; last, since a problem that may pass fails the call."""
    offer = teaching_offer(NAME)
    if offer is None:
        return
    from boxdrop.account.automatic import place_due_teachings

    problems = []
    for due in place_due_teachings(of, offer):
        if due.order is not None:
            logger.info("ordered", project=due.project, order=due.order.id, verified=due.order.occasion)
            continue
        logger.error("not ordered", project=due.project, reason=due.problem)
        if due.passes:
            problems.append(f"{due.project}: {due.problem}")
    if problems:
        raise BoxdropError("; ".join(problems))


def _look(of: Services) -> None:
    found = recover(of)
    logger.info("looked", found=found)
    emit(NAME, {metrics.OLDEST_IMAGE: max(found.oldest_s.values(), default=0.0)})
    for project, images in found.released.items():
        emit(NAME, {metrics.IMAGES_RELEASED: images}, project=project)
    for failed in found.failed:
        emit(NAME, {metrics.RUNS_FAILED: 1}, project=failed.rpartition("/")[0])
