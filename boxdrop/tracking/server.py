"""ZenML's own server on this machine, with its dashboard: in a venv of its own, on 127.0.0.1 alone.

`boxdrop track dashboard` runs it over the store of this machine for as long as somebody looks. It shares the
store's SQLite file with `boxdrop track sync`, which may run at the same time.
"""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from boxdrop.errors import LocalError
from boxdrop.local import processes
from boxdrop.local.environment import Environment, last_lines
from boxdrop.tracking.store import zenml_home

VERSION: Final = "0.98.0"
HOST: Final = "127.0.0.1"
PREFERRED_PORT: Final = 8237  # ZenML's own choice for a local server

_REQUIREMENTS: Final = Path(__file__).parents[1] / "local" / "zenml-requirements.txt"
_DISK_BYTES = 600_000_000
_START_S = 600  # 8 s on two idle cores with an empty database; a busy machine took four times as long
_STOP_S = 10.0
_ANSWER_S = 10.0
_PORTS_TRIED = 100
_LINES_SHOWN = 12
_KEPT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "SSL_CERT_FILE")

Say = Callable[[str], None]


class ZenMLServer:
    """The ZenML server of one folder.

    Args:
        folder: everything of it; by default that of this machine's store.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or zenml_home()
        self.log = self.folder / "server.log"
        self.environment = Environment(
            self.folder / "venv", _REQUIREMENTS, f"ZenML's server {VERSION}", _DISK_BYTES
        )

    def install(self, say: Say = print) -> None:
        """Install the server's venv, unless it is complete."""
        if not self.environment.is_complete():
            say(f"Installing ZenML's server {VERSION}: once, half a minute, 170 MB …")
            self.environment.install(say)

    @contextmanager
    def running(
        self, port: int | None = None, say: Say = print, variables: Mapping[str, str] | None = None
    ) -> Iterator[str]:
        """Run the server until the block ends.

        Args:
            port: insist on this one; by default 8237, or the next free one.
            say: told what takes time, in sentences.
            variables: of the server's environment, over those that it has anyway.

        Yields:
            Its URL, once it answers.

        Raises:
            LocalError: the installation or the start failed, or the port is taken; with the way out.
        """
        self.install(say)
        chosen = _free_port(port)
        url = f"http://{HOST}:{chosen}"
        say(f"Starting ZenML's server on port {chosen} …")
        process = self._start(chosen, variables or {})
        try:
            self._wait(process, url)
            yield url
        finally:
            if process.poll() is None:
                processes.stop(process.pid, _STOP_S)

    def _start(self, port: int, variables: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        command = [
            *(str(self.environment.python), "-m", "uvicorn", "zenml.zen_server.zen_server_api:app"),
            *("--host", HOST, "--port", str(port), "--no-server-header", "--log-level", "warning"),
        ]
        with self.log.open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._variables(port) | dict(variables),
                cwd=self.folder,
                start_new_session=True,
            )

    def _variables(self, port: int) -> dict[str, str]:
        """Few are inherited; AWS's are, for artifacts in S3."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name in _KEPT_VARIABLES or name.startswith(("LC_", "AWS_"))
        }
        return inherited | {
            "ZENML_SERVER": "true",
            "ZENML_CONFIG_PATH": str(self.folder / "server"),
            "ZENML_LOCAL_STORES_PATH": str(self.folder / "data"),
            "ZENML_STORE_URL": f"sqlite:///{self.folder / 'data' / 'zenml.db'}",
            "ZENML_SERVER_DEPLOYMENT_TYPE": "local",
            # Nobody but this machine reaches it, and no page of another origin may read what it answers.
            "ZENML_SERVER_AUTH_SCHEME": "NO_AUTH",
            "ZENML_SERVER_CORS_ALLOW_ORIGINS": f"http://{HOST}:{port}",
            "ZENML_SERVER_AUTO_ACTIVATE": "true",
            # Artifacts of runs that were registered on this machine are files of this machine.
            "ZENML_SERVER_ALLOW_LOCAL_FILE_ACCESS": "true",
            # What is on this machine stays on it.
            "ZENML_ANALYTICS_OPT_IN": "false",
            "ZENML_SERVER_DISPLAY_ANNOUNCEMENTS": "false",
            "ZENML_SERVER_DISPLAY_UPDATES": "false",
        }

    def _wait(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        until = time.monotonic() + _START_S
        while not _answers(f"{url}/health"):
            if process.poll() is not None:
                raise LocalError(
                    f"ZenML's server ended while it started. The last lines of {self.log}:\n"
                    f"{last_lines(self.log, _LINES_SHOWN)}"
                )
            if time.monotonic() > until:
                raise LocalError(f"ZenML's server did not start within {_START_S} s; see {self.log}")
            time.sleep(0.2)


def skip_survey(url: str, token: str | None = None) -> None:
    """Answer the survey that stands before the dashboard: no, and no mail.

    Args:
        url: of the server.
        token: access token of the user who looks; None for a server without log-in.
    """
    import requests

    requests.put(
        f"{url}/api/v1/current-user",
        json={"user_metadata": {"finished_onboarding_survey": True}, "email_opted_in": False},
        headers={"Authorization": f"Bearer {token}"} if token else {},
        timeout=_ANSWER_S,
    ).raise_for_status()


def _free_port(asked: int | None) -> int:
    first = asked or PREFERRED_PORT
    for port in range(first, min(first + (1 if asked else _PORTS_TRIED), 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise LocalError(f"port {first} is taken by another program; give another --port")


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy
    try:
        with opener.open(url, timeout=_ANSWER_S) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
