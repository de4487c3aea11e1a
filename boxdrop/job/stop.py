"""How a job is asked to stop: by a signal, or because its time is up."""

import time
from queue import Empty, SimpleQueue

from boxdrop.domain.errors import BoxdropError


class StoppedError(BoxdropError):
    """The job was asked to stop. What it has finished is kept; another job continues from there."""


class _Request:
    """Whether somebody asked, and a queue that wakes those who wait for it."""

    def __init__(self) -> None:
        self.came = False
        self.wakes: SimpleQueue[None] = SimpleQueue()


class Stop:
    """Tells a job to end: when asked, or when its time is up.

    Not a `threading.Event`: a signal handler runs in the main thread, between any two of its lines. If that
    thread is just entering `Event.wait`, or another handler is in `Event.set`, it holds the lock that the
    handler waits for, and never goes on. `SimpleQueue.put` may be called there.

    Args:
        seconds: until its time is up; None: never.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._request = _Request()
        self._end = None if seconds is None else time.monotonic() + seconds

    def ask(self) -> None:
        """Ask the job to end. Safe to call from a signal handler."""
        self._request.came = True
        self._request.wakes.put(None)

    def wait(self) -> None:
        """Block until the job is asked to end, or its time is up."""
        try:
            left = None if self._end is None else max(0.0, self._end - time.monotonic())
            self._request.wakes.get(timeout=left)
        except Empty:
            return
        self._request.wakes.put(None)  # for others who wait

    def within(self, seconds: float | None) -> "Stop":
        """A stop that shares this one's request, and is also due after `seconds`."""
        nearer = Stop(seconds)
        nearer._request = self._request
        return nearer

    @property
    def is_due(self) -> bool:
        """Whether the job has to end."""
        return self._request.came or (self._end is not None and time.monotonic() >= self._end)

    def check(self) -> None:
        """Raises StoppedError if the job has to end."""
        if self.is_due:
            raise StoppedError("asked to stop; another job continues from here")
