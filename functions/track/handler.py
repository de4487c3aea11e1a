"""track: register finished runs in ZenML. See `boxdrop.tracking.track`.

Messages of the queue `track` are S3 events about summaries. On a schedule, it registers waiting runs: those
that finished while ZenML was down, or before their tasks existed. The only function that contains zenml.
"""

import os
import tempfile
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from boxdrop.aws.s3 import Bucket
from boxdrop.aws.s3_events import Happened, parse_events
from boxdrop.domain.errors import TrackingError
from boxdrop.ledger import Ledger
from boxdrop.store.layout import run_of_summary_key
from boxdrop.tracking.register import connect
from boxdrop.tracking.store import configured_store
from boxdrop.tracking.track import Tracking
from functions.environment import read_environment
from functions.messages import Response, each_message
from functions.observability import logger_of

NAME: Final = "track"
LOOK_BACK: Final = timedelta(days=14)
"""The greatest age of a run that the schedule registers; SQS keeps messages no longer either."""

_SPARE_MS: Final = 60_000
logger = logger_of(NAME)


def handler(event: dict[str, Any], context: Any) -> Response | None:
    """Register the runs that messages name; on a schedule, all waiting runs."""
    if "Records" in event:
        return each_message(NAME, event, context, _track)
    summary = _tracking().sync(
        since=datetime.now(UTC) - LOOK_BACK, until=lambda: context.get_remaining_time_in_millis() < _SPARE_MS
    )
    logger.info("looked", summary=summary)
    return None


def _track(body: str) -> None:
    for about in parse_events(body):
        run_id = run_of_summary_key(about.key)
        if run_id is None or about.happened != Happened.CREATED:
            continue
        try:
            registered = _tracking().track(run_id)
        except TrackingError:
            _tracking.cache_clear()  # the key may have changed, or the server moved
            raise
        logger.info("tracked", run_id=run_id, zenml_run=registered.id, first=registered.created)


@cache
def _tracking() -> Tracking:
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:  # the only writable folder for zenml's settings
        os.environ.setdefault("BOXDROP_HOME", tempfile.gettempdir())
    environment = read_environment(NAME)
    data = Bucket(environment.data_bucket)
    return Tracking(connect(configured_store(), data.name), data, Ledger(environment.table))
