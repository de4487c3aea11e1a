"""The ZenML store: a server, or the store on this machine. It is checked before zenml itself is imported.

ZenML's client tries a server that is down for half a minute and explains a wrong key by its own commands. So
boxdrop first checks the server's version and the key, which takes seconds.
"""

import importlib.metadata
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from boxdrop.aws.secrets import ZENML_KEY, ZENML_SECRET_ID, ZENML_STORE_URL, Secrets
from boxdrop.domain.errors import TrackingError
from boxdrop.home import home

WAITING: Final = "runs wait in the data bucket; `boxdrop track sync` registers them later"
_CONNECT_S = 5.0
_ANSWER_S = 20.0
_HTTP_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Store:
    """Where runs are registered.

    Attributes:
        url: of a server, or ``sqlite:///…`` for the store on this machine.
        key: API key of a service account; None for the store on this machine, and for servers without log-in.
    """

    url: str
    key: str | None = field(default=None, repr=False)

    @property
    def is_server(self) -> bool:
        """Whether it is reached over HTTP."""
        return self.url.startswith(("http://", "https://"))


def zenml_home() -> Path:
    """ZenML's folder on this machine: its store, its artifacts, the server's venv."""
    return home() / "zenml"


def local_store() -> Store:
    """The store on this machine, which `boxdrop track dashboard` shows."""
    return Store(f"sqlite:///{zenml_home() / 'data' / 'zenml.db'}")


def configured_store(secrets: Secrets | None = None) -> Store:
    """The server of ``ZENML_STORE_URL``, with its key; without it, the store on this machine.

    Raises:
        SecretError: the key cannot be read.
        TrackingError: the URL is invalid.
    """
    url = os.environ.get(ZENML_STORE_URL, "").strip().rstrip("/")
    if not url:
        return local_store()
    if not re.match(r"https?://[^/]", url):
        raise TrackingError(
            f"{ZENML_STORE_URL} is {url}; it must be a ZenML server's http:// or https:// URL"
        )
    return Store(url, (secrets or Secrets()).zenml_key())


def check_server(store: Store) -> None:
    """Check that a server is reachable, has a compatible version, and accepts the key.

    Raises:
        TrackingError: one of these fails; with the way out.
    """
    import requests

    name = f"ZenML at {store.url}"
    try:
        answer = requests.get(f"{store.url}/api/v1/info", timeout=(_CONNECT_S, _ANSWER_S))
        info = answer.json() if answer.ok else None
        version = info.get("version") if isinstance(info, dict) else None
        if not isinstance(version, str):
            raise TrackingError(
                f"{store.url} is not a ZenML server: it answered {answer.status_code}; {WAITING}"
            )
        _check_version(name, version)
        if store.key is not None:
            _log_in(name, store)
        elif requests.get(
            f"{store.url}/api/v1/current-user", timeout=(_CONNECT_S, _ANSWER_S)
        ).status_code in (401, 403):
            raise TrackingError(
                f"{name} needs an API key and none is set: create a service account "
                f"(`zenml service-account create boxdrop`) and put its key into {ZENML_KEY}, or name a "
                f"secret in Secrets Manager that holds it with {ZENML_SECRET_ID}; {WAITING}"
            )
    except requests.Timeout:
        raise TrackingError(f"{name} did not answer within {_ANSWER_S:.0f} s; {WAITING}") from None
    except requests.ConnectionError as error:
        raise TrackingError(f"{name} cannot be reached: {_cause(error)}; {WAITING}") from None
    except (requests.RequestException, ValueError) as error:
        raise TrackingError(f"{name} sent an invalid response: {error}; {WAITING}") from None


def installed_version() -> str:
    """Version of the zenml that is installed here.

    Raises:
        TrackingError: zenml is not installed.
    """
    try:
        return importlib.metadata.version("zenml")
    except importlib.metadata.PackageNotFoundError:
        raise TrackingError("tracking needs ZenML: pip install 'boxdrop[tracking]'") from None


def client_variables(store: Store) -> dict[str, str]:
    """Environment variables with which the program `zenml` and its client reach a store, without the API key.

    ZenML's settings are in boxdrop's home, so a user's own ZenML projects are not affected.
    """
    folder = zenml_home()
    return {
        "ZENML_CONFIG_PATH": str(folder / "client"),
        "ZENML_LOCAL_STORES_PATH": str(folder / "data"),
        "ZENML_STORE_URL": store.url,
        "ZENML_ANALYTICS_OPT_IN": "false",
    }


def prepare_environment(store: Store) -> None:
    """Configure zenml before it is imported: which store, no output, no calls to other hosts."""
    folder = zenml_home()
    settings = client_variables(store) | {
        "ZENML_STORE_HTTP_TIMEOUT": str(_HTTP_TIMEOUT_S),
        "ZENML_LOGGING_VERBOSITY": "NOTSET",  # else it takes over logging, stdout and stderr
        "ZENML_ENABLE_REPO_INIT_WARNINGS": "false",
        "ZENML_DISABLE_CLIENT_SERVER_MISMATCH_WARNING": "true",
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
    }
    if store.key is not None:
        settings["ZENML_STORE_API_KEY"] = store.key
    if not store.is_server:
        settings.pop("ZENML_STORE_HTTP_TIMEOUT")
        for name in ("ZENML_STORE_API_KEY", "ZENML_STORE_HTTP_TIMEOUT"):  # zenml refuses them beside SQLite
            os.environ.pop(name, None)
        (folder / "data").mkdir(parents=True, exist_ok=True)
    os.environ.update(settings)


def _check_version(name: str, version: str) -> None:
    ours = installed_version()
    if _minor(version) != _minor(ours):
        raise TrackingError(
            f"{name} is version {version}, and the zenml installed here is {ours}; they must have the same "
            f"minor version. Install zenml {_minor(version)} here, or move the "
            f"server to {_minor(ours)}; {WAITING}"
        )


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _log_in(name: str, store: Store) -> None:
    import requests

    answer: Any = requests.post(
        f"{store.url}/api/v1/login",
        data={"grant_type": "zenml-api-key", "password": store.key},
        timeout=(_CONNECT_S, _ANSWER_S),
    )
    if answer.status_code in (401, 403):
        raise TrackingError(
            f"{name} refused the API key: create one for a service account "
            f"(`zenml service-account create boxdrop`) and store it where boxdrop reads it; {WAITING}"
        )
    if not answer.ok:
        raise TrackingError(f"{name} did not let us log in: it answered {answer.status_code}; {WAITING}")


def _cause(error: Exception) -> str:
    """The innermost reason, without urllib3's nesting."""
    text = str(error)
    for known in (
        "Connection refused",
        "Name or service not known",
        "Connection reset",
        "Network is unreachable",
    ):
        if known in text:
            return known.lower()
    return type(error).__name__
