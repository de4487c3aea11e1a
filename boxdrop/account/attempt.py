"""One attempt at an order, in its container: runs its command, and meters the machine time.

The command is a process of its own. It is asked to end by SIGTERM, which the container gets before a Spot
machine goes, and when the machine time is over: then a training saves a checkpoint.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from boxdrop.account.budget import START_S, span
from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import BoxdropError
from boxdrop.store.orders import (
    OVER,
    Kind,
    Meter,
    Order,
    OrderError,
    command_of,
    read_meter,
    read_order,
    write_meter,
)

DONE: Final = 0
BROKEN: Final = 1
AGAIN: Final = 75
"""Exit codes, as those of `functions.job`; and `OVER`."""

METER_S: Final = 30.0
"""How often the meter is written, seconds."""

GRACE_S: Final = 100.0
"""How long a command may take to end when the machine time is over; START_S is generous enough for it."""

_LAST_LINES: Final = 40
_COMMANDS: Final[dict[Kind, tuple[str, ...]]] = {
    "train": ("train",),
    "export": ("detectors", "get"),
    "teach": ("teach",),
}


class _TakenError(BoxdropError):
    """Another job works on the order."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attempt runs.

    Attributes:
        job_id: Batch's.
        kind: the only one that this container works on: its role allows no other.
        clock: the time.
        meter_s: how often the meter is written, seconds; after four times as long, the job that wrote it
            counts as dead.
    """

    job_id: str
    kind: Kind
    clock: Callable[[], datetime]
    meter_s: float = METER_S


def work_on(data: Bucket, project: str, number: str, place: Place, say: Callable[[str], None]) -> int:
    """Run an order's command to its end; returns the exit code.

    0: done. 1: it failed, was cancelled, or another job works on it. 3: its machine time is used up. 75: it
    was asked to end, and goes on in the next attempt.

    Raises:
        BoxdropError: the order cannot be read, or the bucket not be written.
    """
    order = _read(data, project, number, place.kind)
    if order.cancelled:
        say(f"{number}: was cancelled")
        return BROKEN
    try:
        meter = _begin(data, order, place, say)
    except _TakenError as error:
        say(str(error))
        return BROKEN
    left = order.limit_s - meter.used_s
    if left <= 0:
        why = f"its machine time is used up: {span(order.limit_s)} in {meter.attempts} attempts"
        say(f"{number}: {why}")
        _end(data, order, meter, OVER, why, place)
        return OVER
    say(f"{command_of(order)}  # attempt {meter.attempts}, {span(left)} of {span(order.limit_s)} left")
    attempt = _Attempt(data, order, meter, place, say)
    code, why = attempt.run(left)
    _end(data, order, attempt.metered(), code, why, place)
    return code


def _read(data: Bucket, project: str, number: str, kind: Kind) -> Order:
    read = read_order(data, project, number)
    if read is None:
        raise OrderError(f"there is no order {number} of the project {project!r}")
    order = read[0]
    command = _COMMANDS[kind]
    if order.kind != kind or order.arguments[: len(command)] != command:
        raise OrderError(f"{number}: this container does not do {command_of(order)!r}")
    return order


def _begin(data: Bucket, order: Order, place: Place, say: Callable[[str], None]) -> Meter:
    """Take the order's meter for this job, with the start of this attempt counted; waits for a dead job."""
    waiting_since: datetime | None = None  # when the other job wrote the meter last
    while True:
        read = read_meter(data, order)
        if read is None:
            first = Meter(place.job_id, place.clock(), START_S)
            if write_meter(data, order, first, None):
                return first
            continue
        meter, etag = read
        is_other = meter.job_id != place.job_id and meter.exit_code is None
        if is_other and place.clock() - meter.at < 4 * timedelta(seconds=place.meter_s):
            if waiting_since is None:
                say(f"{order.id}: waiting until it is sure that the job {meter.job_id} is dead")
                waiting_since = meter.at
            elif meter.at > waiting_since:
                raise _TakenError(f"{order.id}: the job {meter.job_id} works on it already")
            time.sleep(place.meter_s / 3)
            continue
        taken = Meter(place.job_id, place.clock(), meter.used_s + START_S, meter.attempts + 1)
        if write_meter(data, order, taken, etag):
            return taken


def _end(data: Bucket, order: Order, meter: Meter, code: int, why: str, place: Place) -> None:
    """Note how an attempt ended, unless another job has the meter."""
    read = read_meter(data, order)
    if read is not None and read[0].job_id == place.job_id:
        ended = replace(meter, at=place.clock(), exit_code=code, why=why)
        write_meter(data, order, ended, read[1])


class _Attempt:
    """The running command."""

    def __init__(
        self, data: Bucket, order: Order, meter: Meter, place: Place, say: Callable[[str], None]
    ) -> None:
        self._data, self._order, self._meter, self._place, self._say = data, order, meter, place, say
        self._began = time.monotonic()
        self._lines: list[str] = []
        self._ended = threading.Event()
        self._asked = self._is_over = self._is_taken = False
        self._process: subprocess.Popen[str] | None = None

    def run(self, left_s: float) -> tuple[int, str]:
        """Run the command for so long at most, seconds; returns the exit code, and why it failed."""
        with self._hearing():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "boxdrop", *self._order.arguments],
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            if self._asked:  # while it was starting
                self._process.terminate()
            watch = threading.Thread(target=self._watch, args=(left_s,), daemon=True)
            watch.start()
            assert self._process.stdout is not None
            for line in self._process.stdout:
                if line.strip():
                    self._lines = [*self._lines[1 - _LAST_LINES :], line.rstrip()]
                    self._say(line.rstrip())
            code = self._process.wait()
            self._ended.set()
            watch.join()
        return self._outcome(code)

    def metered(self) -> Meter:
        """The meter as it should be now."""
        used = self._meter.used_s + time.monotonic() - self._began
        return replace(self._meter, at=self._place.clock(), used_s=round(used, 1))

    def _outcome(self, code: int) -> tuple[int, str]:
        if code == 0:
            return DONE, ""
        if self._is_taken:
            return BROKEN, "another job took it over"
        if self._is_over:
            return OVER, f"its machine time is used up: {span(self._order.limit_s)}"
        if self._asked or code == AGAIN:
            return AGAIN, ""
        said = [line for line in self._lines if line.startswith(("boxdrop: ", "Error: "))] or self._lines[-3:]
        return BROKEN, " ".join(said).removeprefix("boxdrop: ")[:300]

    def _watch(self, left_s: float) -> None:
        """Write the meter, and end the command when its time is over."""
        end = self._began + left_s
        while not self._ended.wait(min(self._place.meter_s, max(0.0, end - time.monotonic()))):
            if time.monotonic() >= end:
                self._is_over = True
                self._finish()
                return
            try:
                read = read_meter(self._data, self._order)
                if read is None or read[0].job_id != self._place.job_id:
                    self._is_taken = True
                    self._finish()
                    return
                write_meter(self._data, self._order, self.metered(), read[1])
            except BoxdropError as error:
                self._say(f"the meter was not written: {error}")

    def _finish(self) -> None:
        assert self._process is not None
        self._process.terminate()
        if not self._ended.wait(GRACE_S):
            self._process.kill()

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        """Pass SIGTERM and Ctrl-C on to the command."""

        def hear(*_: Any) -> None:
            self._asked = True
            if self._process is not None:
                self._process.terminate()

        before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
