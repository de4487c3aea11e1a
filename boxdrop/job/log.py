"""Where a job reports what it does."""

import time
from typing import Any, Final

from boxdrop.detect.stream import StageClock
from boxdrop.metrics import Metric

PROGRESS_S: Final = 10.0
"""Seconds between two progress lines: CloudWatch keeps, and charges for, every line."""


class Log:
    """Events and metrics of a job, one line each. This one discards them."""

    def event(self, name: str, **fields: Any) -> None:
        """Report an event."""

    def metrics(self, values: dict[Metric, float], **dimensions: str) -> None:
        """Report values of metrics that share these dimensions."""


class Progress:
    """Reports the progress of a shard every `PROGRESS_S`."""

    def __init__(self, log: Log, run_id: str, shard: int) -> None:
        self._log = log
        self._run_id = run_id
        self._shard = shard
        self._started = self._last = time.monotonic()

    def report(self, done: int, images: int, clock: StageClock) -> None:
        """Report how many images are done, if the last line is old enough."""
        now = time.monotonic()
        if now - self._last < PROGRESS_S:
            return
        self._last = now
        self._log.event(
            "progress",
            run_id=self._run_id,
            shard=self._shard,
            done=done,
            images=images,
            images_per_s=round(done / (now - self._started), 2),
            stages=clock.seconds,
        )
