"""collect: read verified work from Label Studio and store it. See `boxdrop.pipeline.collect`.

Messages of the queue `reviews` contain ids, sent by webhook; a message without ids requests the whole
project.
"""

from typing import Any

from boxdrop import metrics
from boxdrop.domain.errors import LabelStudioError
from boxdrop.labelstudio.webhook import SYNC, ReviewEvent
from boxdrop.ledger import Stage
from boxdrop.pipeline.collect import Found, collect_event, project_of
from boxdrop.pipeline.contention import put_off
from boxdrop.pipeline.problems import recording
from boxdrop.pipeline.publish import BusyError, LeaseLostError
from boxdrop.pipeline.sync import sync_project
from boxdrop.review.acceptance import end_acceptance
from functions.collect.boxes import BOXES
from functions.messages import Response, each_message, fields_of
from functions.observability import emit, logger_of
from functions.resources import reconnect, services

NAME = "collect"
_WAIT_S = 20
SLICE_S = 45.0
"""Of the function's 120 seconds: the chunk in hand and what people changed in it come on top."""

logger = logger_of(NAME)


def handler(event: dict[str, Any], context: Any) -> Response:
    """Collect the tasks that messages name, one message after the other."""
    return each_message(NAME, event, context, _collect)


def _collect(body: str) -> None:
    of = services(NAME)
    fields = fields_of(body, "action", "project")
    event = ReviewEvent.from_fields(fields)
    name = project_of(of.ledger, event.project)
    if name is None:
        logger.info("not a boxdrop project", label_studio_project=event.project)
        return
    try:
        with recording(of.ledger, name, Stage.COLLECT):
            summary = collect_event(of, name, event)
            returned = end_acceptance(of, name, summary.image_ids, wait_s=_WAIT_S)
            if summary.look_everywhere:
                found = sync_project(of, name, wait_s=_WAIT_S, seconds=SLICE_S, cursor=fields.get("cursor"))
                logger.info("compared", project=name, found=found)
                if found.cursor is not None:
                    of.reviews.send(ReviewEvent(SYNC, event.project).to_fields() | {"cursor": found.cursor})
                elif not found.faults:
                    returned += end_acceptance(of, name, wait_s=_WAIT_S)
                if event.action == SYNC:
                    emit(NAME, {metrics.REVIEWS_MISSED: found.collected}, project=name)
    except (BusyError, LeaseLostError) as busy:
        delay = put_off(of.reviews, body)
        logger.info("put off", reason=str(busy), seconds=round(delay))
        return
    except LabelStudioError:
        reconnect(of)
        emit(NAME, {metrics.LABEL_STUDIO_ERRORS: 1})
        raise
    logger.info(
        "collected", project=name, action=event.action, counts=summary.counts, written=summary.written
    )
    if returned:
        logger.warning("acceptance ended", project=name, tasks=returned)
    emit(NAME, {metrics.IMAGES_VERIFIED: summary.counts.get(Found.VERIFIED, 0)}, project=name)
    if summary.changes:
        boxes = {each: summary.changes.get(what, 0) for what, each in BOXES.items()}
        emit(NAME, boxes, project=name)
    for seconds in summary.seconds:
        emit(NAME, {metrics.REVIEW_SECONDS: seconds}, project=name)
    for seconds in summary.lags_s:
        emit(NAME, {metrics.ANNOTATION_LAG: seconds}, project=name)
