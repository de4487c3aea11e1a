"""The whole local system of one boxdrop home: AWS, Label Studio and the pump, started and stopped together.

What survives, and what a crash costs: docs/decisions/026-what-survives-on-this-machine.md.
"""

import json
import os
import secrets
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from boxdrop.domain.errors import BoxdropError, LocalError
from boxdrop.home import VARIABLE, home
from boxdrop.local import aws, label_studio
from boxdrop.local.aws import Aws, check_disk
from boxdrop.local.label_studio import LabelStudio
from boxdrop.servers import processes
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
from boxdrop.services import WebhookTarget
from boxdrop.system import System, read_description

PREFERRED_PORT: Final = 8090
"""Of webhooks."""

_START_S = 120
_STOP_S = 30.0  # busy functions have ten seconds
_UNTOLD: Final = "untold"  # in pump.json, while Label Studio may have earlier addresses


@dataclass(frozen=True, slots=True)
class Running:
    """The running system.

    Attributes:
        system: names and addresses.
        aws, label_studio: their servers.
        pump: id of its process.
        crashed: whether something was not stopped cleanly before, so its rows and messages are old.
        moved: whether an address has changed since Label Studio was told last.
    """

    system: System
    aws: aws.Server
    label_studio: label_studio.Server
    pump: int
    crashed: bool = False
    moved: bool = False


class Stack:
    """The system of one boxdrop home.

    Args:
        folder: of all its files. Default: `boxdrop.home.home`.
        pump_module: the module that `python -m` runs as the pump; tests use one whose functions crash.
    """

    def __init__(self, folder: Path | None = None, pump_module: str = "boxdrop.local.pump") -> None:
        self.folder = folder or home()
        self.aws = Aws(self.folder / "aws")
        self.label_studio = LabelStudio(self.folder / "label-studio")
        self.pump_log = self.folder / "pump.log"
        self.description = self.folder / "system.json"
        self._memory = self.folder / "pump.json"
        self._pump_module = pump_module
        self._mark = ["--home", str(self.folder), processes.PUMP_MARK]

    def logs(self) -> dict[str, Path]:
        """The log file of each component."""
        return {"pump": self.pump_log, "label-studio": self.label_studio.log, "aws": self.aws.log}

    def up(
        self,
        port: int | None = None,
        aws_port: int | None = None,
        say: Say = print,
        public_url: str | None = None,
    ) -> Running:
        """Install and start components, and wait for them, as needed; running ones are left alone.

        Args:
            port: of Label Studio.
            aws_port: of AWS.
            say: called with a sentence before each step that takes time.
            public_url: see `boxdrop.local.label_studio.LabelStudio.up`.

        Raises:
            LocalError: something cannot be started (what this call had started is stopped again), or another
                system is running and the user did not ask for a second one.
        """
        self._refuse_a_second_system()
        with only_one(self.folder, "the system", say), self._undone_if_it_fails():
            check_disk(self.folder)
            aws_server = self.aws.up(aws_port, say)
            studio = self.label_studio.up(port, say, public_url)
            before = self._remembered()
            secret = before.get("secret") or secrets.token_urlsafe(24)
            system = self._describe(aws_server, studio, secret)
            push_demo_detector(system)
            pump = min(processes.find(self._mark), default=None)
            if pump is not None and not self._serves(pump, system):
                processes.stop(pump, _STOP_S)
                pump = None
            self._write(self.description, system.to_json())
            if pump is None:
                last = urlsplit(before.get("webhook", "")).port
                pump = self._start_pump(last or PREFERRED_PORT, say)
            now = {
                "webhook": f"{self._pump_url(pump)}/reviews",
                "secret": secret,
                "endpoint": system.endpoint_url,
                "label_studio": system.label_studio_url,
                "public_url": system.public_url or "",
            }
            addresses = ("webhook", "endpoint", "public_url")
            changed = bool(before) and any(before.get(name, "") != now[name] for name in addresses)
            moved = changed or _UNTOLD in before  # an earlier start was killed before it told Label Studio
            self._write(self._memory, json.dumps(now | ({_UNTOLD: "yes"} if moved else {}), indent=1))
            return Running(system, aws_server, studio, pump, aws_server.crashed, moved)

    def _refuse_a_second_system(self) -> None:
        """A home that was not named explicitly and never ran a system is probably a mistake while another
        system is running."""
        if os.environ.get(VARIABLE) or self._memory.exists():
            return
        others = processes.other_homes(self.folder)
        if others:
            raise LocalError(
                f"a system is already running from {others[0]}. Use it with "
                f"`export {VARIABLE}={shlex.quote(others[0])}`, or start a second one with "
                f"`export {VARIABLE}={shlex.quote(str(self.folder))}`"
            )

    def running(self) -> Running | None:
        """The system, if all components are running and respond."""
        aws_server, studio = self.aws.running(), self.label_studio.running()
        pump = self.pump()
        if aws_server is None or studio is None or pump is None or not self.description.exists():
            return None
        system = read_description(self.description)
        return Running(system, aws_server, studio, pump, aws_server.crashed)

    def pump(self) -> int | None:
        """The pump's process, if it is running and responds."""
        pid = min(processes.find(self._mark), default=None)
        return pid if pid is not None and answers(f"{self._pump_url(pid)}/health") else None

    def down(self, say: Say = print) -> list[str]:
        """Stop all components; all data stays.

        Returns:
            The names of the stopped components.
        """
        with only_one(self.folder, "the system", say):
            stopped = ["the pump"] if self._stop_pump() else []
            if self.label_studio.down(say):
                stopped.append("Label Studio")
            if self.aws.down(say):
                stopped.append("AWS")
            self.description.unlink(missing_ok=True)
            return stopped

    def webhook(self) -> WebhookTarget:
        """The address and secret of Label Studio's webhook."""
        kept = self._remembered()
        return WebhookTarget(kept["webhook"], kept["secret"])

    def told(self) -> None:
        """Label Studio has been told the addresses."""
        kept = self._remembered()
        if kept.pop(_UNTOLD, None) is not None:
            self._write(self._memory, json.dumps(kept, indent=1))

    def worker(self) -> int | None:
        """The process that runs jobs, with the detector loaded."""
        jobs = processes.find(["functions.job.worker"])
        pump = min(processes.find(self._mark), default=None)
        return next((pid for pid in jobs if pump is not None and processes.parent(pid) == pump), None)

    def _describe(self, aws_server: aws.Server, studio: label_studio.Server, secret: str) -> System:
        from boxdrop.local.resources import create

        ours = urlsplit(studio.url).port
        return create(
            aws_server.url,
            aws.REGION,
            label_studio_url=studio.url,
            label_studio_token=studio.token,
            public_url=studio.public_url,
            webhook_secret=secret,
            browser_origins=(studio.url, f"http://localhost:{ours}"),
        )

    def _serves(self, pump: int, system: System) -> bool:
        """Whether a running pump belongs to this system, that is, was started with the same description."""
        try:
            known = read_description(self.description)
        except (OSError, BoxdropError):
            return False
        return known == system and answers(f"{self._pump_url(pump)}/health")

    def _start_pump(self, preferred: int, say: Say) -> int:
        return start_on_port(preferred, None, "--webhook-port", say, self._start_pump_on)

    def _start_pump_on(self, port: int) -> int:
        command = [sys.executable, "-m", self._pump_module, *self._mark, "--port", str(port)]
        kept = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("BOXDROP_", "POWERTOOLS_")) or name in ("PYTHONPATH", "VIRTUAL_ENV")
        }
        variables = inherited_variables() | kept | {"PYTHONUNBUFFERED": "1", "BOXDROP_HOME": str(self.folder)}
        with start_detached(command, self.pump_log, _source_folder(), variables, _STOP_S) as (process, begin):
            url = f"http://{HOST}:{port}/health"
            wait_for_answer(process, url, "the pump", self.pump_log, _START_S, begin=begin)
        return process.pid

    def _pump_url(self, pid: int) -> str:
        return f"http://{HOST}:{processes.argument(pid, '--port')}"

    def _stop_pump(self) -> bool:
        found = processes.find(self._mark)
        for pid in found:
            end(pid, _STOP_S)
        return bool(found)

    def _remembered(self) -> dict[str, str]:
        try:
            kept = json.loads(self._memory.read_bytes())
            _ = urlsplit(kept["webhook"]).port
            return kept if all(isinstance(each, str) for each in kept.values()) else {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):  # torn, or never written
            return {}

    @staticmethod
    def _write(path: Path, text: str) -> None:
        """Write a file atomically, readable only by this user from the first byte on."""
        partial = path.with_name(f"{path.name}.partial")
        partial.unlink(missing_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        partial.replace(path)

    @contextmanager
    def _undone_if_it_fails(self) -> Iterator[None]:
        """If a block fails or is interrupted, stop what it started; what was running before continues."""
        before = {
            "pump": bool(processes.find(self._mark)),
            "label-studio": self.label_studio.running() is not None,
            "aws": self.aws.running() is not None,
        }
        try:
            yield
        except BaseException:
            if not before["pump"]:
                self._stop_pump()
            if not before["label-studio"]:
                self.label_studio.down(lambda _: None)
            if not before["aws"]:
                self.aws.down(lambda _: None)
            raise


def push_demo_detector(system: System) -> None:
    """Upload the detector that ships with boxdrop; a default that the user chose stays."""
    from boxdrop.aws.s3 import Bucket
    from boxdrop.demo import BUNDLE
    from boxdrop.detect.bundle import Bundle
    from boxdrop.domain.errors import BundleError
    from boxdrop.local.resources import client
    from boxdrop.store.bundles import describe, push

    assert system.endpoint_url is not None
    bucket = Bucket(system.data_bucket, client=client("s3", system.endpoint_url, system.region))
    bundle = Bundle.load(BUNDLE)
    try:
        describe(bucket, bundle.name, bundle.digest)
    except BundleError:
        push(bucket, BUNDLE)


def _source_folder() -> Path:
    """The folder that contains `functions`: the checkout, or a folder of the wheel.

    Raises:
        LocalError: boxdrop was installed without its functions.
    """
    package = Path(__file__).parents[1]
    for folder in (package.parent, package / "deployables"):
        if (folder / "functions" / "dispatch" / "handler.py").is_file():
            return folder
    raise LocalError(
        "boxdrop was installed without its functions: install the wheel or a checkout again; "
        "`boxdrop local up --only label-studio` runs without them"
    )
