"""dispatch: mark S3 events of the queue `uploads` in the ledger. See `boxdrop.pipeline.dispatch`."""

from typing import Any

from boxdrop import metrics
from boxdrop.pipeline.dispatch import dispatch
from boxdrop.pipeline.labels import Stored
from functions.messages import Response, bodies, failures
from functions.observability import emit, logger_of
from functions.resources import services

NAME = "dispatch"
logger = logger_of(NAME)


def handler(event: dict[str, Any], context: Any) -> Response:
    """Handle a batch of messages together, since twenty parallel writes take as long as one."""
    summary = dispatch(services(NAME), bodies(event))
    logger.info(
        "marked",
        messages=len(event["Records"]),
        wanted=summary.wanted,
        gone=summary.gone,
        labels=summary.labels,
        ignored=summary.ignored,
        left_out=summary.left_out,
        asked=summary.asked,
    )
    for message_id, reason in summary.failed.items():
        logger.warning("will be tried again", message_id=message_id, reason=reason)
    for project, images in summary.wanted.items():
        emit(NAME, {metrics.IMAGES_IN: images}, project=project)
    for project, stored in summary.labels.items():
        emit(NAME, {metrics.LABELS_REFUSED: stored == Stored.REFUSED}, project=project)
    emit(NAME, {metrics.IMAGES_IGNORED: summary.ignored})
    return failures(summary.failed)
