"""How a job is asked to stop: by a signal, or because its time is up."""

import threading
import time

from boxdrop.domain.errors import BoxdropError


class StoppedError(BoxdropError):
    """The job was asked to stop. What it has finished is kept; another job continues from there."""


class Stop:
    """Tells a job to end: when asked, or when its time is up.

    Args:
        seconds: until its time is up; None: never.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._asked = threading.Event()
        self._end = None if seconds is None else time.monotonic() + seconds

    def ask(self) -> None:
        """Ask the job to end. Safe to call from a signal handler."""
        self._asked.set()

    def wait(self) -> None:
        """Block until the job is asked to end, or its time is up."""
        self._asked.wait(None if self._end is None else max(0.0, self._end - time.monotonic()))

    def within(self, seconds: float | None) -> "Stop":
        """A stop that shares this one's request, and is also due after `seconds`."""
        nearer = Stop(seconds)
        nearer._asked = self._asked
        return nearer

    @property
    def is_due(self) -> bool:
        """Whether the job has to end."""
        return self._asked.is_set() or (self._end is not None and time.monotonic() >= self._end)

    def check(self) -> None:
        """Raises StoppedError if the job has to end."""
        if self.is_due:
            raise StoppedError("asked to stop; another job continues from here")
