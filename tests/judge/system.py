"""The system under attack: started, killed process by process, and started again.

Only this module of the judge knows how boxdrop is started; it judges nothing.
"""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import requests

from boxdrop.local.stack import Stack
from boxdrop.servers import processes
from tests.judge.clocks import Clock
from tests.judge.evidence import Addresses
from tests.judge.hands import wait_for
from tests.label_studio_server import quiet
from tests.local_system import fresh_stack
from tests.ports import free_port

FUNCTIONS = ("dispatch", "launch", "publish", "collect", "reconcile", "webhook")
_LOGS = {"pump": "pump", "label studio": "label-studio"}
_STOP_S, _START_S = 20.0, 120.0


class System:
    """A local system of its own.

    Args:
        home: its folder, which is made.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.stack: Stack = fresh_stack(home)
        self._ports = free_port(), free_port()

    def start(self) -> Addresses:
        """Start it, or what is missing of it, as `boxdrop local up` does."""
        port, aws_port = self._ports
        done = self.call("local", "up", "--port", str(port), "--aws-port", str(aws_port), timeout_s=400)
        assert done.returncode == 0, done.stdout + done.stderr
        return Addresses.find(self.home)

    def stop(self) -> None:
        """Stop it; the data stays."""
        self.stack.down(quiet)

    def environment(self) -> dict[str, str]:
        """The environment of a person who works with this system."""
        left_out = (
            "BOXDROP_SYSTEM",
            "BOXDROP_TABLE",
            "BOXDROP_DATA_BUCKET",
            "AWS_PROFILE",
            "LABEL_STUDIO_URL",
        )
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        return {**kept, "BOXDROP_HOME": str(self.home), "COLUMNS": "160"}

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a boxdrop command, as in another terminal."""
        command = [sys.executable, "-m", "boxdrop", *arguments]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=self.environment(),
        )

    def call(self, *arguments: str, timeout_s: float = 200) -> "subprocess.CompletedProcess[str]":
        """Run a boxdrop command."""
        begun = self.begin(*arguments)
        try:
            output, _ = begun.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            begun.kill()
            output, _ = begun.communicate()
            return subprocess.CompletedProcess(arguments, 124, output, "it took too long")
        return subprocess.CompletedProcess(arguments, begun.returncode, output, "")

    def processes(self) -> dict[str, int]:
        """The ids of its processes by name: the servers, the pump, and those that the pump started."""
        found: dict[str, int | None] = {
            "label studio": self.stack.label_studio._process(),
            "aws": self.stack.aws._process(),
        }
        pump = min(processes.find(["--home", str(self.home), processes.PUMP_MARK]), default=None)
        found["pump"] = pump
        for name in FUNCTIONS:
            pids = processes.find([f"functions.{name}.handler"])
            found[name] = next((pid for pid in pids if pump and processes.parent(pid) == pump), None)
        found["job"] = self.stack.worker()
        return {name: pid for name, pid in found.items() if pid is not None}

    def kill(self, *names: str) -> list[str]:
        """Kill processes by force, at once; returns the names of those that were there."""
        there = self.processes()
        killed = [name for name in names if name in there]
        for name in killed:
            with suppress(ProcessLookupError):
                os.kill(there[name], signal.SIGKILL)
        return killed

    def kill_all(self) -> list[str]:
        """Kill everything at once, as a power cut does."""
        return self.kill(*self.processes())

    def freeze(self, name: str) -> int:
        """Stop a process without ending it; returns its id for `thaw`."""
        pid = self.processes()[name]
        os.kill(pid, signal.SIGSTOP)
        return pid

    def thaw(self, pid: int) -> None:
        """Let a process go on."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def give_a_clock(self, *names: str) -> Clock:
        """Start processes again so that they go by a clock of their own, which the caller may let jump.

        It stays theirs until they end. Functions and jobs share the pump's.
        """
        clock = Clock(self.home / "clock")
        there = self.processes()
        for name in names:
            process = Path(f"/proc/{there[name]}")
            command = process.joinpath("cmdline").read_text().split("\0")[:-1]
            pairs = process.joinpath("environ").read_text().split("\0")[:-1]
            before = dict(pair.split("=", 1) for pair in pairs)
            folder = process.joinpath("cwd").readlink()
            processes.stop(there[name], _STOP_S)
            log = self.stack.logs()[_LOGS[name]]
            with log.open("ab") as output:
                subprocess.Popen(
                    command,
                    cwd=folder,
                    env=clock.variables(before),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        at = Addresses.find(self.home)
        for url in (at.label_studio, at.webhook.rpartition("/")[0]):
            wait_for(lambda url=url: _answers(f"{url}/health"), _START_S, f"an answer of {url}")  # type: ignore[misc]
        return clock

    def keep_logs(self, folder: Path) -> None:
        """Copy the logs into a folder."""
        for name, path in self.stack.logs().items():
            if path.exists():
                shutil.copyfile(path, folder / f"{name}.log")


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=10).ok
    except requests.RequestException:
        return False


def memory_of(pid: int) -> int:
    """The largest resident memory that a process has had, in bytes (Linux)."""
    text = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
