"""Output folders: one writer at a time, and usable again after a kill."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from boxdrop.domain.errors import BoxdropError


@contextlib.contextmanager
def exclusive(lock: Path, taken: str) -> Iterator[None]:
    """Hold a lock file, which the system releases if the process dies. Creates the folder if it is missing.

    Raises:
        BoxdropError: with the message `taken`, if another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BoxdropError(taken) from None
        yield


_UNFIT = (
    *(errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
    *(errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL),
)


@contextlib.contextmanager
def clear_disk_errors(folder: Path, elsewhere: str = "") -> Iterator[None]:
    """Say what to do when a folder cannot be written.

    Args:
        elsewhere: how to choose another one, if the user can: ``give another --out``.

    Raises:
        BoxdropError: the disk is full, or the folder may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BoxdropError(
                f"{folder}: the disk is full; free some space and run again; finished work is kept"
            ) from None
        if error.errno in _UNFIT:
            fix = f"; {elsewhere}" if elsewhere else ""
            raise BoxdropError(
                f"{error.filename or folder}: cannot be written: {error.strerror}{fix}"
            ) from None
        raise


def remove_torn_line(path: Path) -> None:
    """Truncate a file after its last line end: the rest is an incomplete write of a process that died."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)
