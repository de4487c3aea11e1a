"""Long work in the account: the container's entry point for an order, see `boxdrop.account`.

Exit codes as those of `functions.job`, and 3: its machine time is used up, which Batch does not try again.
"""

import os
from datetime import UTC, datetime
from typing import Final, get_args

from boxdrop.account.attempt import AGAIN, BROKEN, Place, work_on
from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import BoxdropError, UnavailableError
from boxdrop.store.orders import Kind
from functions.job.log import LineLog

_NEEDED: Final = ("BOXDROP_DATA_BUCKET", "BOXDROP_ORDER_KIND", "AWS_BATCH_JOB_ID")


def main(project: str, number: str) -> int:
    """Work on an order; returns the exit code."""
    log = LineLog()
    try:
        missing = [name for name in _NEEDED if not os.environ.get(name)]
        if missing:
            raise BoxdropError(f"{', '.join(missing)} is not set; the job needs it")
        bucket, kind, job_id = (os.environ[name] for name in _NEEDED)
        if kind not in get_args(Kind):
            raise BoxdropError(f"BOXDROP_ORDER_KIND is {kind!r}; use one of {', '.join(get_args(Kind))}")
        place = Place(job_id, kind, lambda: datetime.now(UTC))  # type: ignore[arg-type]
        return work_on(Bucket(bucket), project, number, place, lambda line: log.event(line, order=number))
    except BoxdropError as error:
        code = AGAIN if isinstance(error, UnavailableError) else BROKEN
        log.event("order stops", reason=str(error), order=number, exit_code=code)
        return code
