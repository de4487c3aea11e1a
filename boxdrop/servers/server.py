"""Common parts of local servers: a free port, a lock, a detached process, a health check."""

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar

from boxdrop.domain.errors import LocalError
from boxdrop.servers import processes
from boxdrop.servers.environment import last_lines

HOST: Final = "127.0.0.1"
"""The local system listens only here."""

STOP_S: Final = 10.0

_PORTS_TRIED = 100
_STARTS_TRIED = 5
_PORT_S = 2.0
_ANSWER_S = 20.0  # the process exists: on a busy machine its response may take long
_LOG_BYTES = 20_000_000
_LINES_SHOWN = 12
_POLL_S = 0.05
_TERMINATED = 128 + signal.SIGTERM  # a shell's exit code for a program that SIGTERM ended

_KEPT_VARIABLES = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LANGUAGE"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    )
)

Say = Callable[[str], None]
Started = TypeVar("Started")


class PortTakenError(LocalError):
    """Another program took the port between the choice of it and the server's start."""


def inherited_variables() -> dict[str, str]:
    """The few variables that a server inherits: others, such as ``HOST``, ``PORT`` or ``DEBUG``, could change
    its behaviour."""
    return {
        name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES or name.startswith("LC_")
    }


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
        return True


def start_on_port(
    preferred: int, asked: int | None, option: str, say: Say, start: Callable[[int], Started]
) -> Started:
    """Start a server on a free port: the requested one, or the preferred one or the next.

    It waits a moment for the first choice: a server that was just killed may still hold it. Until the server
    listens, other boxdrop processes of this user leave the port alone; if another program takes it all the
    same, the next free one is tried.

    Args:
        option: the command-line option that requests a port.
        start: starts the server on a port and waits until it responds.

    Returns:
        What `start` returned.

    Raises:
        LocalError: the requested port is taken, a hundred in a row are, or the server cannot be started.
    """
    for attempt in range(1, _STARTS_TRIED + 1):
        with _reserved_port(preferred, asked, option, say) as port:
            try:
                return start(port)
            except PortTakenError:
                if asked is not None or attempt == _STARTS_TRIED:
                    raise
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def _reserved_port(preferred: int, asked: int | None, option: str, say: Say) -> Iterator[int]:
    first = asked or preferred
    until = time.monotonic() + _PORT_S
    while not is_free(first) and time.monotonic() < until:
        time.sleep(0.1)
    for port in range(first, min(first + (1 if asked else _PORTS_TRIED), 65536)):
        with _reservation(port) as reserved:
            if reserved and is_free(port):
                if port != first:
                    say(f"Port {first} is taken by another program; using {port}.")
                yield port
                return
    if asked is not None:
        raise LocalError(
            f"port {asked} is taken by another program; give another {option}, or none for a free one"
        )
    raise LocalError(f"no free port from {first} on; give one with {option}")


@contextmanager
def _reservation(port: int) -> Iterator[bool]:
    """Whether this process alone may start a server on a port, until the block ends.

    Two systems that start at once both find the same port free, and the server of one would respond to the
    health check of the other. The lock is a file of this user; the kernel releases it if the process dies.
    """
    import fcntl

    folder = Path(tempfile.gettempdir()) / f"boxdrop-ports-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:  # a full or read-only disk: the server's own start decides
        yield True
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    else:
        yield True
    finally:
        os.close(lock)


def answers(url: str) -> bool:
    """Whether a GET of this address returns 200; never through a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_ANSWER_S) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def only_one(folder: Path, what: str, say: Say) -> Iterator[None]:
    """Let one process at a time start or stop the servers of a folder; the system releases the lock if it
    dies.

    Args:
        what: its name in messages.
    """
    try:
        import fcntl
    except ImportError:
        raise LocalError("boxdrop local needs Linux or macOS; on Windows, use it inside WSL") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise LocalError(
            f"{folder} cannot be written: {error.strerror}; set BOXDROP_HOME to another folder"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another boxdrop is starting or stopping {what}; waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def end(pid: int, patience_s: float = STOP_S) -> None:
    """Stop a server that `start_detached` started.

    Raises:
        LocalError: it is another user's, or does not end.
    """
    try:
        processes.stop(pid, patience_s)
    except PermissionError:
        raise LocalError(
            f"the server, process {pid}, belongs to another user; stop it as that user"
        ) from None
    if processes.is_alive(pid):
        raise LocalError(f"process {pid} does not end; check it with `ps -fp {pid}`")


@contextmanager
def start_detached(
    command: Sequence[str], log: Path, folder: Path, environment: Mapping[str, str], stop_s: float = STOP_S
) -> "Iterator[tuple[subprocess.Popen[bytes], int]]":
    """Start a server that outlives this process, in a group of its own. If the block fails, stop it.

    Args:
        command: its arguments.
        log: receives its output; truncated when large.
        folder: its working directory.
        environment: its complete environment.
        stop_s: seconds to end before it is killed.

    Yields:
        The process, and the offset in the log at which its lines begin.
    """
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))
    process = None
    try:
        with _signals_held(), log.open("ab") as output:
            begin = output.tell()
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        yield process, begin
    except BaseException:
        if process is not None:
            processes.stop(process.pid, stop_s)
        raise


def wait_for_answer(
    process: "subprocess.Popen[bytes]",
    url: str,
    name: str,
    log: Path,
    patience_s: float,
    *,
    begin: int = 0,
    announcement: str = "",
) -> None:
    """Wait until a server that was just started responds.

    Args:
        url: returns 200 once it is ready.
        name: of the server, for messages.
        log: receives its output.
        patience_s: seconds to wait.
        begin: offset in the log at which its lines begin.
        announcement: must also be in those lines: another program may respond at this port while the server
            is about to fail on it.

    Raises:
        PortTakenError: it ended because the port was taken in the meantime.
        LocalError: it ended, or does not respond in time; with its last lines.
    """
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if process.poll() is not None:
            lines = last_lines(log, _LINES_SHOWN, begin)
            if "already in use" in lines:
                raise PortTakenError(
                    "another program took the port in the meantime; run the same command again"
                )
            raise LocalError(f"{name} ended while it started. The last lines of {log}:\n{lines}")
        announced = not announcement or announcement.encode() in _printed(log, begin)
        if announced and answers(url) and process.poll() is None:
            return
        time.sleep(_POLL_S)
    raise LocalError(f"{name} did not start within {patience_s:g} s; see {log}")


@contextmanager
def terminated_in_order() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so this process stops the servers that it started."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _printed(log: Path, begin: int) -> bytes:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM until the block ends, where they would lose a started process.

    Not by a signal mask: the process started in the block would inherit it, and SIGTERM could not stop it.
    """
    if threading.current_thread() is not threading.main_thread():  # signals interrupt the main thread only
        yield
        return
    came: list[int] = []
    before = {
        each: signal.signal(each, lambda number, _: came.append(number))
        for each in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    for number in came:
        signal.raise_signal(number)
