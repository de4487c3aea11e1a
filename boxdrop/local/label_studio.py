"""The local Label Studio server: install, start, find and stop it.

It listens on 127.0.0.1 only. All its files are below ``label-studio/`` in boxdrop's home: ``venv``, ``data``
(never deleted here), ``server.json`` with the log-in, ``server.log``.
"""

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

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

VERSION: Final = "1.23.0"
PREFERRED_PORT: Final = 8080

_START_S = 900  # 28 s with migrations on two idle cores, 4 s later on; a busy machine took ten times as long
_DISK_BYTES = 1_500_000_000


@dataclass(frozen=True, slots=True)
class Login:
    """The content of ``server.json``: boxdrop's user in Label Studio, and how the server is reached.

    Attributes:
        port: the preferred one, on loopback.
        public_url: where a reverse proxy serves it to people on other machines; None if it serves nobody.
    """

    email: str
    password: str
    token: str
    port: int
    public_url: str | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A running Label Studio server.

    Attributes:
        url: for the browser and for `boxdrop.labelstudio.connection.connect`.
        email, password: to log in with.
        token: legacy access token of the same user.
        pid: of the process.
        data: the folder with its database and uploads.
        log: what the server prints.
        public_url: see `Login`.
    """

    url: str
    email: str
    password: str
    token: str
    pid: int
    data: Path
    log: Path
    public_url: str | None = None

    @property
    def page_url(self) -> str:
        """Where people open it."""
        return self.public_url or self.url


class LabelStudio:
    """The Label Studio of one boxdrop home.

    Args:
        folder: of all its files. Default: ``label-studio`` in `boxdrop.home.home`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or home() / "label-studio"
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self.environment = Environment(
            self.folder / "venv",
            Path(__file__).with_name("label-studio-requirements.txt"),
            f"Label Studio {VERSION}",
            _DISK_BYTES,
        )
        self._login_file = self.folder / "server.json"
        # The part of the command line that identifies the server.
        self._mark = ["--data-dir", str(self.data), "--enable-legacy-api-token"]

    def up(self, port: int | None = None, say: Say = print, public_url: str | None = None) -> Server:
        """Install and start the server, and wait for it, as needed; a running server is returned at once.

        Args:
            port: use exactly this one. Default: the last one used, initially 8080; the next free one if it is
                taken.
            say: called with a sentence before each step that takes time.
            public_url: where a reverse proxy serves it; empty: nowhere. Default: as before.

        Raises:
            LocalError: the installation or the start failed, or the port is taken; with the way out.
        """
        if public_url:
            public_url = check_public_url(public_url)
        with self._only_one(say):
            pid = self._process()
            if pid is not None and (server := self._join(pid, port, public_url)):
                return server
            self.install(say)
            first = not (self.data / "label_studio.sqlite3").exists()
            login = self._login(first)
            if public_url is not None:
                login = replace(login, public_url=public_url or None)
            takes = "; the first time, setting up its database takes up to a minute" if first else ""

            def start(free: int) -> Server:
                chosen = replace(login, port=free)
                self._save(chosen)
                say(f"Starting Label Studio on port {free}{takes} …")
                return self._server(self._start(chosen), chosen)

            return start_on_port(login.port, port, "--port", say, start)

    def install(self, say: Say = print) -> None:
        """Install the server's venv, unless it is complete."""
        if not self.environment.is_complete():
            say(f"Installing Label Studio {VERSION}: once, about a minute, 1 GB in {self.environment.path} …")
            self.environment.install(say)

    def running(self) -> Server | None:
        """The server, if its process is running and responds."""
        pid = self._process()
        login = self._read_login()
        if pid is None or login is None:
            return None
        server = self._server(pid, login)
        return server if answers(_health(server.url)) else None

    def down(self, say: Say = print) -> bool:
        """Stop the server and keep its data.

        Returns:
            whether there was one.
        """
        with self._only_one(say):
            pid = self._process()
            if pid is None:
                return False
            end(pid)
            return True

    def _process(self) -> int | None:
        found = processes.find(self._mark)
        return min(found, default=None)

    def _join(self, pid: int, port: int | None, public_url: str | None) -> Server | None:
        """Wait for a server that another process started; None if it ends in the meantime."""
        login = self._read_login()
        if login is None:
            raise LocalError(
                f"a server is running (process {pid}), but {self._login_file} is missing; "
                "run `boxdrop local down`, then `boxdrop local up`: it makes a new log-in"
            )
        server = self._server(pid, login)
        taken = urlsplit(server.url).port
        if port not in (None, taken):
            raise LocalError(
                f"Label Studio is already running on port {taken}; to move it, run `boxdrop local down` and "
                f"then `boxdrop local up --port {port}`"
            )
        if public_url is not None and (public_url or None) != login.public_url:
            raise LocalError(
                "Label Studio is already running with another public address; to change it, run `boxdrop "
                "local down` and then the same command again"
            )
        until = time.monotonic() + _START_S
        while not answers(_health(server.url)):
            if not processes.is_alive(pid):
                return None
            if time.monotonic() > until:
                raise LocalError(
                    f"Label Studio is running (process {pid}) but does not respond at {server.url}; "
                    f"see {self.log}, or run `boxdrop local down` and `boxdrop local up`"
                )
            time.sleep(0.2)
        return server

    def _server(self, pid: int, login: Login) -> Server:
        port = processes.argument(pid, "--port") or str(login.port)
        return Server(
            f"http://{HOST}:{port}",
            login.email,
            login.password,
            login.token,
            pid,
            self.data,
            self.log,
            login.public_url,
        )

    def _start(self, login: Login) -> int:
        """Start the server detached, and return its process id once it responds."""
        self.data.mkdir(parents=True, exist_ok=True)
        command = [
            str(self.environment.path / "bin" / "label-studio"),
            *("start", "--no-browser", "--internal-host", HOST, "--port", str(login.port)),
            "--debug",  # fail if the port is taken, instead of trying the next one
            *self._mark,
        ]
        with start_detached(command, self.log, self.data, _environment(login)) as (process, begin):
            url = f"http://{HOST}:{login.port}"
            wait_for_answer(
                process,
                _health(url),
                "Label Studio",
                self.log,
                _START_S,
                begin=begin,
                announcement=f"server at {url}/",
            )
        return process.pid

    def _login(self, first: bool) -> Login:
        """The stored log-in, or a new one."""
        login = self._read_login()
        if login is not None:
            return login
        # Label Studio sets password and token only when it creates a user. If the log-in of the existing user
        # was lost, a new user is made, who sees the same projects.
        name = "boxdrop" if first else f"boxdrop-{secrets.token_hex(3)}"
        return Login(f"{name}@example.com", secrets.token_urlsafe(12), secrets.token_hex(20), PREFERRED_PORT)

    def _read_login(self) -> Login | None:
        try:
            kept = json.loads(self._login_file.read_text())
            return Login(**{each.name: kept[each.name] for each in fields(Login) if each.name in kept})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _save(self, login: Login) -> None:
        """Write ``server.json`` atomically, readable only by this user from the first byte on."""
        partial = self._login_file.with_name("server.json.partial")
        partial.unlink(missing_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(login), file, indent=1)
        partial.replace(self._login_file)

    @contextmanager
    def _only_one(self, say: Say) -> Iterator[None]:
        """Let one process at a time start or stop this server."""
        with only_one(self.folder, "Label Studio", say):
            yield


def token_for(url: str) -> str | None:
    """The token of the local Label Studio, if this is its URL."""
    server = LabelStudio().running()
    if server is None:
        return None
    try:
        asked, own = urlsplit(url if "://" in url else f"http://{url}"), urlsplit(server.url)
        same = asked.hostname in (HOST, "localhost") and asked.port == own.port
    except ValueError:
        return None
    return server.token if same else None


def check_public_url(url: str) -> str:
    """The address without a slash at its end.

    Raises:
        LocalError: it is not ``http://HOST`` or ``https://HOST``, with a port if there is one.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise LocalError(f"{url}: give the public address as https://HOST, without a path")
    return f"{parts.scheme}://{parts.netloc}"


def _public(login: Login) -> dict[str, str]:
    """Variables of a server behind a reverse proxy."""
    if not login.public_url:
        return {}
    return {
        "LABEL_STUDIO_HOST": login.public_url,
        "ALLOWED_HOSTS": f"{HOST},localhost,{urlsplit(login.public_url).hostname}",
        "CSRF_TRUSTED_ORIGINS": login.public_url,
        "SESSION_COOKIE_SECURE": "1" if login.public_url.startswith("https:") else "0",
    }


def _environment(login: Login) -> dict[str, str]:
    """Variables of the server."""
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return (
        inherited_variables()
        | aws
        | {
            # Not on the command line, where `ps` shows them to every user.
            "LABEL_STUDIO_USERNAME": login.email,
            "LABEL_STUDIO_PASSWORD": login.password,
            "LABEL_STUDIO_USER_TOKEN": login.token,
            # No telemetry, and no sign-up for others who reach the port.
            "COLLECT_ANALYTICS": "False",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "LATEST_VERSION_CHECK": "False",
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "True",
            "ALLOWED_HOSTS": f"{HOST},localhost",
            # Webhooks and S3 endpoints of the local system are on loopback, which this guard blocks. Only for
            # a server that itself listens only on loopback.
            "SSRF_PROTECTION_ENABLED": "False",
            "PYTHONUNBUFFERED": "1",
        }
        | _public(login)
    )


def _health(url: str) -> str:
    return f"{url}/health"
