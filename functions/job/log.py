"""The job's log: one JSON object per line on stdout, which CloudWatch Logs collects."""

import json
import sys
import threading
from datetime import UTC, datetime
from typing import Any

from boxdrop.domain.times import time_text
from boxdrop.job.log import Log
from boxdrop.metrics import Metric, emf


class LineLog(Log):
    """Writes events as JSON, and metrics in the embedded metric format."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def event(self, name: str, **fields: Any) -> None:
        moment = time_text(datetime.now(UTC))
        self._print(json.dumps({"time": moment, "service": "job", "message": name, **fields}))

    def metrics(self, values: dict[Metric, float], **dimensions: str) -> None:
        self._print(emf("job", values, now=None, **dimensions))

    def _print(self, line: str) -> None:
        with self._lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
