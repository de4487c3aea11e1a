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
from boxdrop.pipeline.problems import recording
from boxdrop.pipeline.sync import sync_project
from functions.messages import Response, each_message, fields_of
from functions.observability import emit, logger_of
from functions.resources import reconnect, services

NAME = "collect"
_WAIT_S = 60
logger = logger_of(NAME)


def handler(event: dict[str, Any], context: Any) -> Response:
    """Collect the tasks that messages name, one message after the other."""
    return each_message(NAME, event, context, _collect)


def _collect(body: str) -> None:
    of = services(NAME)
    event = ReviewEvent.from_fields(fields_of(body, "action", "project"))
    name = project_of(of.ledger, event.project)
    if name is None:
        logger.info("not a boxdrop project", label_studio_project=event.project)
        return
    try:
        with recording(of.ledger, name, Stage.COLLECT):
            summary = collect_event(of, name, event)
            if summary.look_everywhere:
                found = sync_project(of, name, wait_s=_WAIT_S)
                logger.info("compared", project=name, found=found)
                if event.action == SYNC:
                    emit(NAME, {metrics.REVIEWS_MISSED: found.collected}, project=name)
    except LabelStudioError:
        reconnect(of)
        emit(NAME, {metrics.LABEL_STUDIO_ERRORS: 1})
        raise
    logger.info(
        "collected", project=name, action=event.action, counts=summary.counts, written=summary.written
    )
    emit(NAME, {metrics.IMAGES_VERIFIED: summary.counts.get(Found.VERIFIED, 0)}, project=name)
    for seconds in summary.lags_s:
        emit(NAME, {metrics.ANNOTATION_LAG: seconds}, project=name)
