"""The pump's side of a function: one process, one event at a time, killed at its timeout."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Lock
from typing import IO, Any

from boxdrop.domain.errors import LocalError

_STOP_S = 10.0
_START_S = 120.0

RUNTIME: tuple[str, ...] = (sys.executable, "-m", "boxdrop.local.runtime")


class FunctionError(LocalError):
    """An invocation failed: the handler raised, its process ended, or it timed out."""


class Function:
    """A function, run like a Lambda function with a concurrency of one. Threads may share it; their calls
    queue.

    Args:
        name: in logs and metrics.
        module: has the handler.
        environment: all variables of its process.
        timeout_s: for one event.
        runtime: the command that serves a module; tests replace it with one that crashes.
    """

    def __init__(
        self,
        name: str,
        module: str,
        environment: Mapping[str, str],
        timeout_s: float,
        runtime: Sequence[str] = RUNTIME,
    ) -> None:
        self.name = name
        self.module = module
        self.timeout_s = timeout_s
        self._environment = dict(environment) | {"AWS_LAMBDA_FUNCTION_NAME": name}
        self._runtime = list(runtime)
        self._lock = Lock()
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while there is a process."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def warm(self) -> None:
        """Start its process, if there is none, so it is ready for the next event.

        Raises:
            FunctionError: the handler cannot be imported.
        """
        with self._lock:
            self._start()

    def invoke(self, event: Mapping[str, Any]) -> Any:
        """Run the handler on an event.

        Returns:
            What it returned.

        Raises:
            FunctionError: it raised, its process ended, or it timed out.
        """
        request = {"name": self.name, "timeout_s": self.timeout_s, "event": event}
        with self._lock:
            self._start()
            assert self._process is not None
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            except OSError:
                raise self._ended("before it got the event") from None
            answer = self._answer(self.timeout_s)
        if "error" in answer:
            raise FunctionError(f"{self.name}: {answer['error']}")
        return answer.get("result")

    def ask_to_stop(self) -> None:
        """Ask its process to end; `stop` waits for it. No new one is started."""
        self._stopped = True
        process = self._process
        if process is not None:
            process.terminate()

    def stop(self) -> None:
        """End its process: a busy function gets SIGTERM and some seconds."""
        self.ask_to_stop()
        process = self._process
        if process is None:
            return
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._close()
        if self._stopped:
            raise FunctionError(f"{self.name}: it was stopped")
        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*self._runtime, self.module, str(writing)],
                env=self._environment,
                stdin=subprocess.PIPE,
                pass_fds=(writing,),
            )
        finally:
            os.close(writing)
        if self._stopped:  # it started in the meantime, and `stop` may have missed it
            self._process.kill()
        self._answers = os.fdopen(reading, "rb", buffering=0)
        self._answer(_START_S)  # its ready line

    def _answer(self, patience_s: float) -> dict[str, Any]:
        """One line from the process; on a timeout the process is killed, as in Lambda."""
        assert self._answers is not None
        assert self._process is not None
        until = time.monotonic() + patience_s
        line = bytearray()
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._answers], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                self._process.kill()
                raise self._ended(f"by the pump, after its timeout of {patience_s:g} s")
            some = self._answers.read(1 << 16)
            if not some:
                raise self._ended("in the middle of it")
            line += some
        content: dict[str, Any] = json.loads(line)
        return content

    def _ended(self, how: str) -> FunctionError:
        assert self._process is not None
        self._process.wait()
        code = self._process.returncode
        self._close()
        return FunctionError(f"{self.name}: its process ended {how} (exit code {code})")

    def _close(self) -> None:
        for stream in (self._answers, self._process.stdin if self._process else None):
            if stream is not None:
                with suppress(OSError):  # the rest cannot be written to a dead process
                    stream.close()
        self._process = self._answers = None
