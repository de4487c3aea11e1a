"""publish: turn parts into tasks in Label Studio; end a run with its summary. See `boxdrop.pipeline.parts`.

Messages of the queue `parts` are S3 events about the data bucket: keys that begin with ``predictions/``, and
``runs/*/summary.json``.
"""

from dataclasses import asdict
from typing import Any

from boxdrop import metrics
from boxdrop.aws.s3_events import Happened, parse_events
from boxdrop.domain.errors import LabelStudioError, RefusedError
from boxdrop.ledger import Stage
from boxdrop.pipeline.contention import put_off
from boxdrop.pipeline.parts import finish_run, publish_part
from boxdrop.pipeline.problems import recording
from boxdrop.pipeline.publish import BusyError, LeaseLostError
from boxdrop.store.layout import PartName, run_of_summary_key
from functions.messages import Response, each_message
from functions.observability import emit, logger_of
from functions.resources import reconnect, services

NAME = "publish"
logger = logger_of(NAME)


def handler(event: dict[str, Any], context: Any) -> Response:
    """Publish the parts that messages name, one after the other."""
    return each_message(NAME, event, context, _publish)


def _publish(body: str) -> None:
    try:
        _publish_all(body)
    except (BusyError, LeaseLostError) as busy:
        delay = put_off(services(NAME).parts, body)
        logger.info("put off", reason=str(busy), seconds=round(delay))


def _publish_all(body: str) -> None:
    for about in parse_events(body):
        part, ended = PartName.from_key(about.key), run_of_summary_key(about.key)
        if about.happened != Happened.CREATED:
            continue
        if part is not None:
            _publish_part(part)
        elif ended is not None:
            project, first = finish_run(services(NAME), ended)
            logger.info("finished", project=project, run_id=ended, first=first)


def _publish_part(part: PartName) -> None:
    of = services(NAME)
    try:
        with recording(of.ledger, part.project, Stage.PUBLISH):
            published = publish_part(of, part)
    except RefusedError as error:  # a retry would be refused again: `status` shows it, and the operator acts
        logger.error("refused", project=part.project, run_id=part.run_id, reason=str(error))
        emit(NAME, {metrics.LABEL_STUDIO_ERRORS: 1})
        return
    except LabelStudioError:
        reconnect(of)
        emit(NAME, {metrics.LABEL_STUDIO_ERRORS: 1})
        raise
    summary, project = published.summary, part.project
    counts = asdict(summary) | {"refused": len(summary.refused)}  # not their names
    logger.info("published", project=project, run_id=part.run_id, first=part.first, counts=counts)
    tasks = summary.created + summary.replaced
    emit(NAME, {metrics.TASKS_PUBLISHED: tasks, metrics.IMAGES_FAILED: published.failed}, project=project)
    for seconds in published.waited_s:
        emit(NAME, {metrics.END_TO_END: seconds}, project=project)
