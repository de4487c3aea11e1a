"""launch: make a run from wanted images. See `boxdrop.pipeline.launch`.

Messages of the queue `launches` are ``{"project": NAME}``, with ``asked_at`` if requests may overlap.
"""

from typing import Any

from boxdrop import metrics
from boxdrop.aws.launchers import LaunchError
from boxdrop.domain.times import read_time
from boxdrop.pipeline.labels import Applied
from boxdrop.pipeline.launch import launch
from functions.messages import Response, each_message, fields_of
from functions.observability import emit, logger_of
from functions.resources import services

NAME = "launch"
logger = logger_of(NAME)


def handler(event: dict[str, Any], context: Any) -> Response:
    """Check the projects that messages name, one after the other."""
    return each_message(NAME, event, context, _look)


def _look(body: str) -> None:
    fields = fields_of(body, "project")
    project, asked_at = str(fields["project"]), fields.get("asked_at")
    try:
        summary = launch(services(NAME), project, read_time(asked_at) if asked_at else None)
    except LaunchError:
        emit(NAME, {metrics.RUNS_FAILED: 1}, project=project)
        raise
    logger.info(
        "launched" if summary.run_id else "nothing to launch",
        project=project,
        run_id=summary.run_id,
        images=summary.images,
        shards=summary.shards,
        labels=summary.labels,
        wanted=summary.wanted,
        parts=summary.parts,
        note=summary.note,
    )
    refused = summary.labels == Applied.REFUSED
    emit(NAME, {metrics.RUN_IMAGES: summary.images, metrics.LABELS_REFUSED: refused}, project=project)
