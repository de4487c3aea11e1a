"""A connection to a Label Studio server that is reachable and accepts the token."""

import base64
import json
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from boxdrop.domain.errors import LabelStudioError, RefusedError

if TYPE_CHECKING:
    import requests

TOKEN_VARIABLE: Final = "LABEL_STUDIO_API_KEY"  # noqa: S105
"""The environment variable with the access token; label-studio-sdk reads the same one."""

OLDEST_VERSION: Final = (1, 20)
"""From this release on, imports return the ids of the tasks, and personal access tokens exist. Tested with
1.23."""

TIMEOUT_S: Final = 60.0
IMPORT_TIMEOUT_S: Final = 300.0
"""For calls whose work grows with their size: 500 tasks of 5 boxes take 0.7 s, longer on a busy server."""


class Connection:
    """The connection that every other module of this package uses.

    Attributes:
        url: of the server, without a trailing slash.
        version: the server's release, ``1.23.0``.
        sdk: `label_studio_sdk.LabelStudio`, for everything that it supports.
    """

    def __init__(self, url: str, token: str) -> None:
        try:
            import requests
            from label_studio_sdk import LabelStudio
            from requests.adapters import HTTPAdapter, Retry
        except ImportError:
            raise LabelStudioError(
                "talking to Label Studio needs one more package: pip install 'boxdrop[labelstudio]'"
            ) from None
        self.url = url
        self.version = ""
        with self.explaining("log in"):
            self.sdk: Any = LabelStudio(base_url=url, api_key=token, timeout=TIMEOUT_S)
        self._session = requests.Session()
        self._session.auth = _token_auth(url, token)
        patient = Retry(
            2, allowed_methods={"GET"}, status_forcelist=(502, 503, 504), backoff_factor=0.5,
            raise_on_status=False,
        )  # fmt: skip
        self._session.mount(url, HTTPAdapter(max_retries=patient))

    def request(self, doing: str, method: str, path: str, timeout: float = TIMEOUT_S, **options: Any) -> Any:
        """Call an endpoint for which the SDK has no method, or a slow one; return the decoded JSON.

        Reads are retried if the connection breaks, as in the SDK.

        Args:
            doing: completes the sentence "cannot …" of an error.
            path: below the server's URL, beginning with a slash.
            options: as `requests.request` takes them.

        Raises:
            LabelStudioError: the server is unreachable, or refused the call.
        """
        with self.explaining(doing):
            response = self._session.request(method, self.url + path, timeout=timeout, **options)
            if not response.ok:
                raise _refusal(doing, self.url, response.status_code, response.text)
            return response.json()

    @contextmanager
    def explaining(self, doing: str) -> Iterator[None]:
        """Turn exceptions of the SDK and HTTP libraries into a one-sentence `LabelStudioError`.

        A broken call, which the server may or may not have carried out, becomes an `InDoubtError`.
        """
        import httpx
        import requests
        from label_studio_sdk.core.api_error import ApiError

        try:
            yield
        except ApiError as error:
            raise _refusal(doing, self.url, error.status_code, error.body) from None
        except json.JSONDecodeError as error:
            raise LabelStudioError(
                f"cannot {doing}: {self.url} answered something that is not Label Studio's ({error})"
            ) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, requests.ConnectTimeout) as error:
            raise LabelStudioError(f"cannot {doing}: {_unreachable(self.url, error)}") from None
        except requests.ConnectionError as error:
            if "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error):
                raise LabelStudioError(f"cannot {doing}: {_unreachable(self.url, error)}") from None
            # The adapter retries reads; for the last time-out it reports only that the retries are exhausted.
            how = (
                "did not answer in time" if "ReadTimeoutError" in repr(error) else "broke off the connection"
            )
            raise InDoubtError(f"cannot {doing}: {self.url} {how}; run it again") from None
        except (httpx.TimeoutException, requests.Timeout):
            raise InDoubtError(f"cannot {doing}: {self.url} did not answer in time; run it again") from None
        except (httpx.TransportError, requests.RequestException) as error:
            raise InDoubtError(f"cannot {doing}: {self.url} broke off the connection ({error})") from None


ONCE: Final = {"max_retries": 0}
"""SDK options for calls that create something. The SDK would repeat them after a timeout or a 5xx response,
and the server may carry out both."""


class InDoubtError(LabelStudioError):
    """The connection broke after the call was sent: the server may have carried it out, or may still do
    so."""


def connect(url: str, token: str | None = None) -> Connection:
    """Connect, and check address, version and token.

    Args:
        url: as in the browser's address bar; the address of a project's page works too.
        token: legacy or personal access token. Default: ``LABEL_STUDIO_API_KEY``.

    Raises:
        LabelStudioError: what is wrong (address, version or token) and how to fix it, in one sentence.
    """
    url = _server_url(url)
    token = token or os.environ.get(TOKEN_VARIABLE, "").strip()
    version = _version(url)
    if _parsed(version) < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise LabelStudioError(f"{url} runs Label Studio {version}; boxdrop needs {oldest} or newer")
    if not token:
        raise LabelStudioError(
            f"no access token for {url}: copy yours from Account & Settings there, and put it into the "
            f"environment variable {TOKEN_VARIABLE}"
        )
    if not token.isascii() or any(character.isspace() for character in token):
        raise LabelStudioError(f"the access token for {url} is not valid: copy it again, without spaces")
    connection = Connection(url, token)
    with connection.explaining("log in"):
        connection.sdk.users.whoami()
    connection.version = version
    return connection


def _server_url(url: str) -> str:
    written = url.strip()
    address = written if "://" in written else f"http://{written}"
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LabelStudioError(f"{written!r} is not the address of a server; write http://127.0.0.1:8080")
    path = re.sub(r"/(projects|user|organization|tasks)(/.*)?$", "", parts.path.rstrip("/"))
    return f"{parts.scheme}://{parts.netloc}{path}"


def _version(url: str) -> str:
    """Ask for the server's release. This needs no token, so it distinguishes a wrong address from a wrong
    token."""
    import requests

    not_label_studio = f"{url} is not a Label Studio server; give the address that you open in the browser"
    try:
        response = requests.get(f"{url}/api/version", timeout=15)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.InvalidURL) as error:
        raise LabelStudioError(_unreachable(url, error)) from None
    except requests.RequestException:
        raise LabelStudioError(not_label_studio) from None
    if response.status_code >= 500:
        raise LabelStudioError(f"{url} answers with error {response.status_code}; is it still starting?")
    try:
        release = response.json()["release"]
    except (ValueError, KeyError, TypeError):
        raise LabelStudioError(not_label_studio) from None
    return str(release)


def _parsed(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _unreachable(url: str, error: Exception) -> str:
    local = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    fix = "start it with `boxdrop local up`" if local else "check the address and your network"
    secure = ", or its certificate is not trusted" if "certificate" in str(error).lower() else ""
    return f"no server answers at {url}{secure}: {fix}"


def _refusal(doing: str, url: str, status: int | None, body: Any) -> LabelStudioError:
    """One sentence about an HTTP error, with Label Studio's own message."""
    said = _said(body)
    if status == 401:
        if "legacy token" in said.lower():
            return LabelStudioError(
                f"{url} no longer accepts legacy tokens: make a personal access token in Account & Settings "
                f"and put it into {TOKEN_VARIABLE}"
            )
        return LabelStudioError(
            f"{url} does not accept the access token: copy it again from Account & Settings there, and put "
            f"it into the environment variable {TOKEN_VARIABLE}"
        )
    if status == 403:
        return LabelStudioError(f"cannot {doing}: the token's user may not do this at {url} ({said})")
    if status == 413:
        return LabelStudioError(
            f"cannot {doing}: {url} refuses an upload of this size; raise the limit of the proxy in "
            "front of it (nginx: client_max_body_size)"
        )
    if status is not None and status >= 500:  # includes a proxy's timeout: the server may have done it
        return InDoubtError(f"cannot {doing}: {url} answered {status}: {said}")
    kind = RefusedError if status == 400 else LabelStudioError
    return kind(f"cannot {doing}: {url} answered {status}: {said}")


def _said(body: Any) -> str:
    """The message of Label Studio's error response, shortened."""
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except ValueError:
            text = re.sub(r"<[^>]*>", " ", body)
            return " ".join(text.split())[:300] or "nothing more"
    if isinstance(body, dict):
        reasons = body.get("validation_errors") or body.get("detail") or body
        if isinstance(reasons, dict):
            texts = [", ".join(map(str, v)) if isinstance(v, list) else str(v) for v in reasons.values()]
            reasons = "; ".join(texts)
        return " ".join(str(reasons).split())[:500]
    return " ".join(str(body).split())[:300]


def _token_auth(url: str, token: str) -> "requests.auth.AuthBase":
    """Authorization of raw requests: the SDK does the same for its own calls, but does not expose it.

    A legacy token is sent unchanged. A personal access token is a JWT that is exchanged for an access token,
    which is valid for five minutes.
    """
    import requests

    class TokenAuth(requests.auth.AuthBase):
        access = ""
        expires = -math.inf  # by the monotonic clock, which begins at 0

        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = self.header()
            return request

        def header(self) -> str:
            if token.count(".") != 2:
                return f"Token {token}"
            if time.monotonic() > self.expires - 30:
                response = requests.post(
                    f"{url}/api/token/refresh/", json={"refresh": token}, timeout=TIMEOUT_S
                )
                if not response.ok:
                    raise _refusal("log in", url, response.status_code, response.text)
                self.access = response.json()["access"]
                payload = self.access.split(".")[1]
                claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
                # How long it lives, not until when: the server's clock may differ.
                self.expires = time.monotonic() + float(claims["exp"]) - float(claims["iat"])
            return f"Bearer {self.access}"

    return TokenAuth()
