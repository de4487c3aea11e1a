"""Local server processes, identified by their command line.

A process id in a file becomes stale, and the system reuses it; a command line that contains our own data
folder is unique. So servers are looked up among the running processes, never in a file.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from boxdrop.home import is_own_folder

_POLL_S = 0.1

PUMP_MARK: Final = "--boxdrop-pump"
"""In the command line of each system's pump, after ``--home`` and its folder."""


def find(arguments: Sequence[str]) -> list[int]:
    """Ids of the processes whose command line contains this sequence of arguments."""
    wanted = " ".join(arguments).split(" ")
    return [
        pid
        for pid, line in _command_lines()
        if pid != os.getpid()
        and any(line[i : i + len(wanted)] == wanted for i in range(len(line) - len(wanted) + 1))
    ]


def argument(pid: int, option: str) -> str | None:
    """The value of an option on a process's command line; None if the process or the option is missing."""
    for each, line in _command_lines():
        if each == pid and option in line[:-1]:
            return line[line.index(option) + 1]
    return None


def other_homes(home: Path) -> list[str]:
    """Homes of this user's other running systems: the ``--home`` of their pumps."""
    found = set()
    for _, line in _command_lines():
        if "--home" in line and PUMP_MARK in line:
            begin, end = line.index("--home") + 1, line.index(PUMP_MARK)
            other = Path(" ".join(line[begin:end]))  # a folder's name may have spaces
            if other != home and is_own_folder(other):
                found.add(str(other))
    return sorted(found)


def parent(pid: int) -> int | None:
    """The process that started another; None if that one has ended."""
    listing = subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True)
    return int(listing.stdout) if listing.stdout.strip() else None


def stop(pid: int, patience_s: float) -> None:
    """End a process and the group that it leads: first with SIGTERM, then with SIGKILL."""
    for each in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(pid, each)
        except ProcessLookupError:
            return
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            if not is_alive(pid):
                return
            time.sleep(_POLL_S)


def is_alive(pid: int) -> bool:
    """Whether a process is running; a zombie is not."""
    try:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    except ChildProcessError:  # not started by this process
        pass
    return any(each == pid for each, _ in _command_lines())


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    """(pid, words) of every visible process; zombies have no command line.

    Words are split at spaces, even within arguments: macOS does not provide more.
    """
    if sys.platform == "linux":
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    line = (folder / "cmdline").read_bytes()
                except OSError:  # it ended in the meantime
                    continue
                if line:
                    yield int(folder.name), os.fsdecode(line).rstrip("\0").replace("\0", " ").split(" ")
        return
    ps = ["ps", "-axww", "-o", "pid=,command="]
    listing = subprocess.run(ps, capture_output=True, text=True, check=True)
    for row in listing.stdout.splitlines():
        pid, _, command = row.strip().partition(" ")
        yield int(pid), command.split(" ")
