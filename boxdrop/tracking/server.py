"""ZenML's own server on this machine, with its dashboard: in a venv of its own, on 127.0.0.1 alone.

`boxdrop track dashboard` runs it over the store on this machine until Ctrl-C or SIGTERM. It shares the
store's SQLite file with `boxdrop track sync`, which may run at the same time.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from boxdrop.servers import processes
from boxdrop.servers.environment import Environment
from boxdrop.servers.server import (
    HOST,
    STOP_S,
    Say,
    inherited_variables,
    start_detached,
    start_on_port,
    wait_for_answer,
)
from boxdrop.tracking.store import zenml_home

VERSION: Final = "0.98.0"
PREFERRED_PORT: Final = 8237  # ZenML's own choice for a local server

_REQUIREMENTS: Final = Path(__file__).with_name("zenml-requirements.txt")
_DISK_BYTES = 600_000_000
_START_S = 600  # 8 s on two idle cores with an empty database; a busy machine took four times as long
_ANSWER_S = 10.0


class ZenMLServer:
    """The ZenML server of one folder.

    Args:
        folder: of all its files. Default: that of the store on this machine.
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
            port: use exactly this one. Default: 8237, or the next free one.
            say: called with a sentence before each step that takes time.
            variables: additional or changed environment variables of the server.

        Yields:
            Its URL, once it answers.

        Raises:
            LocalError: the installation or the start failed, or the port is taken; with the way out.
        """
        self.install(say)
        process, url = start_on_port(
            PREFERRED_PORT, port, "--port", say, lambda free: self._start(free, say, variables or {})
        )
        try:
            yield url
        finally:
            if process.poll() is None:
                processes.stop(process.pid, STOP_S)

    def _start(
        self, port: int, say: Say, variables: Mapping[str, str]
    ) -> tuple["subprocess.Popen[bytes]", str]:
        url = f"http://{HOST}:{port}"
        say(f"Starting ZenML's server on port {port} …")
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        command = [
            *(str(self.environment.python), "-m", "uvicorn", "zenml.zen_server.zen_server_api:app"),
            *("--host", HOST, "--port", str(port), "--no-server-header", "--log-level", "warning"),
        ]
        all_variables = self._variables(port) | dict(variables)
        with start_detached(command, self.log, self.folder, all_variables) as (process, begin):
            wait_for_answer(process, f"{url}/health", "ZenML's server", self.log, _START_S, begin=begin)
        return process, url

    def _variables(self, port: int) -> dict[str, str]:
        """Of ours, AWS's are inherited, for artifacts in S3."""
        aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        return (
            inherited_variables()
            | aws
            | {
                "ZENML_SERVER": "true",
                "ZENML_CONFIG_PATH": str(self.folder / "server"),
                "ZENML_LOCAL_STORES_PATH": str(self.folder / "data"),
                "ZENML_STORE_URL": f"sqlite:///{self.folder / 'data' / 'zenml.db'}",
                "ZENML_SERVER_DEPLOYMENT_TYPE": "local",
                # Only this machine can reach it, and pages of other origins cannot read its responses.
                "ZENML_SERVER_AUTH_SCHEME": "NO_AUTH",
                "ZENML_SERVER_CORS_ALLOW_ORIGINS": f"http://{HOST}:{port}",
                "ZENML_SERVER_AUTO_ACTIVATE": "true",
                # Artifacts of runs that were registered on this machine are files of this machine.
                "ZENML_SERVER_ALLOW_LOCAL_FILE_ACCESS": "true",
                # No telemetry.
                "ZENML_ANALYTICS_OPT_IN": "false",
                "ZENML_SERVER_DISPLAY_ANNOUNCEMENTS": "false",
                "ZENML_SERVER_DISPLAY_UPDATES": "false",
            }
        )


def skip_survey(url: str, token: str | None = None) -> None:
    """Answer the survey before the dashboard: no, and no mail.

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
