"""A real ZenML server for tests, with log-in, a service account and its API key.

Its venv is that of the checkout and is installed once; a database that is set up is kept beside it as a
template, for making one takes longer than starting. Each host name that the server looks up is written down.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from boxdrop.servers.environment import Environment
from boxdrop.tracking.server import ZenMLServer
from boxdrop.tracking.store import Store
from tests.ports import free_port

REPOSITORY = Path(__file__).parents[1]
SHARED_HOME = Path(os.environ.get("BOXDROP_HOME") or REPOSITORY / ".boxdrop")
PASSWORD = "people-of-the-tests"
PATIENCE_S = 120

LOOKUPS = """
import os, socket
_look_up = socket.getaddrinfo
def getaddrinfo(host, *rest, **options):
    with open(os.environ["LOOKUPS"], "a") as log:
        log.write(f"{host if isinstance(host, str) else (host or b'').decode()}\\n")
    return _look_up(host, *rest, **options)
socket.getaddrinfo = getaddrinfo
with open(os.environ["LOOKUPS"], "a") as log:
    log.write("watching\\n")
"""
"""A sitecustomize.py: Python runs it as it starts. Addresses in numbers are not always looked up."""


def watch_lookups(folder: Path) -> tuple[dict[str, str], Path]:
    """Variables with which a Python process writes down what it looks up, and where it does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(LOOKUPS)
    log = folder / "lookups"
    log.touch()
    return {"PYTHONPATH": str(folder), "LOOKUPS": str(log)}, log


def with_shared_venv(folder: Path) -> ZenMLServer:
    """A server of its own in `folder`, without data, which needs no installation."""
    shared = ZenMLServer(SHARED_HOME / "zenml")
    shared.install(lambda _: None)
    folder.mkdir(parents=True)
    (folder / "venv").symlink_to(shared.environment.path.resolve())
    return ZenMLServer(folder)


def with_empty_database(folder: Path) -> ZenMLServer:
    """As `with_shared_venv`, with a database that is set up already."""
    server = with_shared_venv(folder)
    template = SHARED_HOME / f"zenml-template-{_digest(server.environment)}.db"
    if not template.exists():
        made = with_shared_venv(folder.with_name(f"{folder.name}-template"))
        with made.running(free_port(), lambda _: None, {"ZENML_DEFAULT_USER_PASSWORD": PASSWORD}):
            pass
        partial = template.with_suffix(f".{os.getpid()}")
        shutil.copy2(made.folder / "data" / "zenml.db", partial)
        partial.replace(template)
    (folder / "data").mkdir()
    shutil.copy2(template, folder / "data" / "zenml.db")
    return server


def _digest(environment: Environment) -> str:
    return environment.digest[:12]


@dataclass(frozen=True)
class RunningZenML:
    """A server that answers.

    Attributes:
        store: its URL, and the key of the service account.
        token: of the user who looks at the dashboard.
        lookups: file with the names that the server has looked up.
    """

    store: Store
    token: str
    lookups: Path

    @property
    def url(self) -> str:
        return self.store.url


@contextmanager
def running(
    server: ZenMLServer, variables: Mapping[str, str], port: int | None = None
) -> Iterator[RunningZenML]:
    """Run a server that wants a log-in, as one that a team shares does."""
    watching, lookups = watch_lookups(server.folder / "lookups")
    with server.running(
        port or free_port(),
        lambda _: None,
        {
            "ZENML_SERVER_AUTH_SCHEME": "OAUTH2_PASSWORD_BEARER",
            "UVICORN_LOOP": "asyncio",  # uvloop looks names up where nobody can watch
            **watching,
            **variables,
        },
    ) as url:
        token = _post(url, "login", data={"username": "default", "password": PASSWORD})["access_token"]
        yield RunningZenML(Store(url, make_key(url, token)), token, lookups)


def make_key(url: str, token: str) -> str:
    """An API key of the service account named boxdrop, which is made if it is not there."""
    found = requests.get(
        f"{url}/api/v1/service_accounts?name=boxdrop", headers=_bearer(token), timeout=PATIENCE_S
    ).json()
    account = (found["items"] or [None])[0] or _post(
        url, "service_accounts", token, json={"name": "boxdrop", "active": True}
    )
    name = f"key-{os.urandom(4).hex()}"
    key = _post(url, f"service_accounts/{account['id']}/api_keys", token, json={"name": name})
    return str(key["body"]["key"])


def _post(url: str, path: str, token: str | None = None, **content: Any) -> Any:
    answer = requests.post(
        f"{url}/api/v1/{path}", headers=_bearer(token) if token else {}, timeout=PATIENCE_S, **content
    )
    assert answer.ok, answer.text
    return answer.json()


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
