"""Tests that need the machine for themselves, when several processes run tests.

Every test holds a shared lock; a test marked `alone` holds it exclusively. Who waits stands at the turnstile,
so that a steady flow of ordinary tests cannot keep an `alone` test waiting for ever.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path, alone: bool) -> Iterator[None]:
    """Wait for this test's turn, among the processes that share `folder`."""
    with (folder / "running.lock").open("w") as running:
        with (folder / "turnstile.lock").open("w") as turnstile:
            fcntl.flock(turnstile, fcntl.LOCK_EX)
            fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
