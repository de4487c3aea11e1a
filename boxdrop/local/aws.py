"""Local AWS: MiniStack, which provides S3, SQS, EventBridge, DynamoDB and secrets in one process.

It listens on 127.0.0.1 only. All its files are below ``aws/`` in boxdrop's home: ``venv``, ``data`` (never
deleted here), ``server.json`` with its port, ``server.log``. Why MiniStack, and what survives a crash:
docs/decisions/025-aws-on-this-machine.md.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from boxdrop.domain.errors import LocalError
from boxdrop.home import home
from boxdrop.servers import processes
from boxdrop.servers.environment import Environment
from boxdrop.servers.server import (
    HOST,
    Say,
    answers,
    end,
    inherited_variables,
    only_one,
    start_detached,
    start_on_port,
    wait_for_answer,
)

VERSION: Final = "1.5.33"
PREFERRED_PORT: Final = 4566
REGION: Final = "us-east-1"

SIGNER: Final = "label-studio"
"""Access key id and secret with which Label Studio signs image URLs."""

_START_S = 300  # half a second on an idle machine, plus the time to load its state
_STOP_S = 120.0  # it saves tables and queues when it ends, which takes time
_DISK_BYTES = 100_000_000
_FREE_BYTES: Final = 200_000_000
"""With less free disk than this, it refuses to start: MiniStack returns 200 for objects that it cannot
store."""

_PROGRAM = "import sys; del sys.argv[1:]; from ministack.app import main; main()"
"""MiniStack has no folder argument; the extra arguments let `processes` find it."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running MiniStack.

    Attributes:
        url: endpoint of every AWS service.
        pid: of the process.
        data: the folder with objects and state.
        log: what it prints.
        crashed: whether it was not stopped cleanly, and `Aws.recovered` was not called since. Then its tables
            and queues are those of the last clean stop, or empty; its objects are complete.
    """

    url: str
    pid: int
    data: Path
    log: Path
    crashed: bool = False


class Aws:
    """The AWS of one boxdrop home.

    Args:
        folder: of all its files. Default: ``aws`` in `boxdrop.home.home`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or home() / "aws"
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self.environment = Environment(
            self.folder / "venv",
            Path(__file__).with_name("ministack-requirements.txt"),
            f"MiniStack {VERSION}",
            _DISK_BYTES,
        )
        self._port_file = self.folder / "server.json"
        self._in_use = self.folder / "in-use"  # from a start to the next clean stop
        self._crashed = self.folder / "crashed"  # until `recovered`
        # The part of the command line that identifies the server.
        self._mark = ["--data-dir", str(self.data), "--boxdrop-aws"]

    def up(self, port: int | None = None, say: Say = print) -> Server:
        """Install and start the server, and wait for it, as needed; a running server is returned at once.

        Args:
            port: use exactly this one. Default: the last one used, initially 4566; the next free one if it is
                taken.
            say: called with a sentence before each step that takes time.

        Raises:
            LocalError: the installation or the start failed, the port is taken, or the disk is full; with the
                way out.
        """
        with self._only_one(say):
            running = self.running()
            if running is not None:
                taken = running.url.rpartition(":")[2]
                if port is not None and str(port) != taken:
                    raise LocalError(
                        f"AWS is already running on port {taken}; to move "
                        "it, run `boxdrop local down` and then "
                        f"`boxdrop local up --aws-port {port}`"
                    )
                return running
            self._stop_if_stuck()
            self.install(say)
            check_disk(self.folder)
            crashed = self._in_use.exists()

            def start(free: int) -> Server:
                self._port_file.write_text(json.dumps({"port": free}))
                if crashed:
                    self._crashed.touch()
                self._in_use.touch()
                return self._server(self._start(free), free)

            return start_on_port(self._last_port(), port, "--aws-port", say, start)

    def install(self, say: Say = print) -> None:
        """Install the server's venv, unless it is complete."""
        if not self.environment.is_complete():
            say(f"Installing MiniStack {VERSION} (AWS on this machine): once, some seconds, 50 MB …")
            self.environment.install(say)

    def running(self) -> Server | None:
        """The server, if its process is running and responds."""
        pid = self._process()
        if pid is None:
            return None
        server = self._server(pid, int(processes.argument(pid, "--port") or self._last_port()))
        return server if answers(_health(server.url)) else None

    def down(self, say: Say = print) -> bool:
        """Stop the server, which saves its state, and keep its data.

        Returns:
            whether there was one.
        """
        with self._only_one(say):
            pid = self._process()
            if pid is None:
                return False
            end(pid, _STOP_S)
            if self._has_kept_its_state():
                self._in_use.unlink(missing_ok=True)
            return True

    def recovered(self) -> None:
        """Called once the losses of a crash are repaired."""
        self._crashed.unlink(missing_ok=True)

    def _server(self, pid: int, port: int) -> Server:
        return Server(f"http://{HOST}:{port}", pid, self.data, self.log, self._crashed.exists())

    def _process(self) -> int | None:
        return min(processes.find(self._mark), default=None)

    def _stop_if_stuck(self) -> None:
        pid = self._process()
        if pid is not None:
            processes.stop(pid, _STOP_S)

    def _has_kept_its_state(self) -> bool:
        """Whether the state was saved after the start; not if it was killed or the disk is full."""
        state = self.data / "state" / "dynamodb.json"
        return state.exists() and state.stat().st_mtime >= self._in_use.stat().st_mtime

    def _last_port(self) -> int:
        try:
            return int(json.loads(self._port_file.read_text())["port"])
        except (OSError, ValueError, TypeError, KeyError):
            return PREFERRED_PORT

    def _start(self, port: int) -> int:
        self.data.mkdir(parents=True, exist_ok=True)
        command = [str(self.environment.python), "-c", _PROGRAM, *self._mark, "--port", str(port)]
        variables = inherited_variables() | {
            "BIND_HOST": HOST,  # its default is every interface
            "GATEWAY_PORT": str(port),
            "MINISTACK_REGION": REGION,
            "PERSIST_STATE": "1",  # tables, queues, rules, secrets: saved when it ends
            "STATE_DIR": str(self.data / "state"),
            # objects: each is written before the response to its PUT, and not kept in memory
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self.data / "s3"),
            "LAMBDA_EXECUTOR": "local",
            # It accepts any key for requests, but only Label Studio's key for signed URLs.
            "AWS_ACCESS_KEY_ID": SIGNER,
            "AWS_SECRET_ACCESS_KEY": SIGNER,
            "AWS_SESSION_TOKEN": "",
            "LOG_LEVEL": "WARNING",
            "PYTHONUNBUFFERED": "1",
        }
        with start_detached(command, self.log, self.data, variables, _STOP_S) as (process, begin):
            wait_for_answer(
                process, _health(f"http://{HOST}:{port}"), "MiniStack", self.log, _START_S, begin=begin
            )
        return process.pid

    @contextmanager
    def _only_one(self, say: Say) -> Iterator[None]:
        with only_one(self.folder, "AWS on this machine", say):
            yield


def check_disk(folder: Path) -> None:
    """Refuse to start if objects could not be stored.

    Raises:
        LocalError: with the free space.
    """
    if not folder.exists():
        return
    free = shutil.disk_usage(folder).free
    if free < _FREE_BYTES:
        raise LocalError(
            f"the disk of {folder} has {free / 1e6:,.0f} MB left, and images are kept there: free "
            f"{_FREE_BYTES / 1e6:,.0f} MB, or put BOXDROP_HOME on another disk"
        )


def _health(url: str) -> str:
    return f"{url}/_ministack/health"
