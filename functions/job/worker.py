"""The local job: a process that keeps its detector loaded, and works on one shard after the other.

Called by the pump of `boxdrop local` with ``{"run_id": …, "shard": …}``, the messages of the local launcher.
"""

import signal
from datetime import UTC, datetime
from typing import Any

from boxdrop.domain.errors import BundleError
from boxdrop.job.stop import Stop
from boxdrop.store.bundles import resolve
from boxdrop.store.manifests import PinnedBundle
from functions.job.__main__ import make_job
from functions.job.environment import Environment
from functions.job.log import LineLog

_stop = Stop()
# as on Spot: parts in flight are finished if they take no longer than this
signal.signal(signal.SIGTERM, lambda *_: _stop.ask())
_log = LineLog()
_job = make_job(Environment.read(), _log, serves=False)


def _load_default() -> None:
    """Load the detector that most runs will use."""
    try:
        bundle = resolve(_job.data, None)
        _job.detectors.load(PinnedBundle(bundle.name, bundle.digest))
    except BundleError as error:  # if it persists, the next run will fail with this reason
        _log.event("no detector is ready", reason=str(error))


_load_default()


def handler(event: dict[str, Any], context: Any) -> None:
    """Work on a shard. After an exception it is retried a few times."""
    _job.work(str(event["run_id"]), int(event["shard"]), _stop, started=datetime.now(UTC))
