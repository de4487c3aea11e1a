"""HTTP requests: guarded, bounded and polite.

Each connection goes to an address that `AddressGuard` checked; each redirect is a new request and is checked
again. Responses are read as a stream, up to a number of bytes and of seconds. Nothing is decompressed: images
are already compressed, and a small response cannot become large.

Proxies of the environment are not used: a proxy resolves names itself, so the guard could not check them.
"""

import email.utils
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

from boxdrop import __version__
from boxdrop.domain.errors import BoxdropError, ImageError
from boxdrop.domain.images import DEFAULT_LIMITS, Limits, sniff
from boxdrop.retrieve.addresses import AddressGuard, ForbiddenAddressError
from boxdrop.retrieve.candidates import Fetched

try:
    import httpcore
    import httpx
except ImportError:
    raise BoxdropError("retrieving images needs httpx: pip install 'boxdrop[retrieve]'") from None

AGENT: Final = "boxdrop"
"""boxdrop's robot name in ``X-Robots-Tag``."""

MAX_REDIRECTS: Final = 5
_TIMEOUT: Final = httpx.Timeout(15.0, pool=120.0)
_SECONDS_A_FILE: Final = 120.0
_JSON_BYTES: Final = 32 * 2**20
_SNIFFED: Final = 64
_TRIES: Final = 4
_REFUSALS: Final = ("noai", "noimageai")


class FetchError(BoxdropError):
    """A file that cannot be fetched. Only this file fails.

    Attributes:
        reason: a short stable word for tables.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Busy(BoxdropError):  # noqa: N818 — not an error: it says when to retry
    """The server cannot respond now.

    Attributes:
        wait_s: seconds until the next request is allowed; None if unknown.
    """

    def __init__(self, reason: str, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.wait_s = wait_s


class Stopped(BoxdropError):  # noqa: N818
    """The run was stopped while it waited."""


class Pauses:
    """Waits when a server asks for it; ends at once when the run is stopped.

    Args:
        longest_s: the longest wait; a server that asks for more causes an error that says when to retry.
        on_wait: called with a sentence before each wait of a second or more.
    """

    def __init__(self, longest_s: float = 900.0, on_wait: Callable[[str], None] = lambda _: None) -> None:
        self.longest_s = longest_s
        self._on_wait = on_wait
        self._stopped = threading.Event()

    def wait(self, seconds: float, why: str) -> None:
        """Wait.

        Raises:
            BoxdropError: too long.
            Stopped: by `stop`.
        """
        if seconds > self.longest_s:
            raise BoxdropError(
                f"{why}: the server asks to wait {_span(seconds)}; run the same command again after that"
            )
        if seconds >= 1:
            self._on_wait(f"{why}: waiting {_span(seconds)}")
        self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(max(0.0, seconds)):
            raise Stopped("stopped")

    def stop(self) -> None:
        """End all waits and downloads, and refuse new ones."""
        self._stopped.set()

    def check(self) -> None:
        """Check whether to continue.

        Raises:
            Stopped: by `stop`.
        """
        if self._stopped.is_set():
            raise Stopped("stopped")


class _GuardedBackend(httpcore.NetworkBackend):
    """Connects only to addresses that the guard checked, never to a name."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            addresses = self._guard.addresses(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host}: the name cannot be resolved ({error})") from None
        for number, address in enumerate(addresses, 1):
            try:
                return self._sockets.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(addresses):
                    raise
        raise httpcore.ConnectError(f"{host}: the name has no address")

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class _Stream(httpx.SyncByteStream):
    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)

    def close(self) -> None:
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()


class _GuardedTransport(httpx.BaseTransport):
    """The transport for httpx. TLS certificates are verified against the name, as usual."""

    def __init__(self, guard: AddressGuard, connections: int) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=15.0,
            network_backend=_GuardedBackend(guard),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        assert isinstance(answer.stream, Iterable)
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Stream(answer.stream), extensions=answer.extensions
        )

    def close(self) -> None:
        self._pool.close()


class Web:
    """Sends HTTP requests. Safe to use from several threads.

    Args:
        guard: decides which addresses may be contacted.
        contact: how operators of servers can reach the user; part of the User-Agent.
        limits: of an image.
        robots: honour ``X-Robots-Tag: noai`` and ``noimageai``.
        connections: maximum concurrent connections.
        pauses: performs the waits.
        seconds_a_file: maximum duration of one download.
    """

    def __init__(
        self,
        guard: AddressGuard | None = None,
        *,
        contact: str = "",
        limits: Limits = DEFAULT_LIMITS,
        robots: bool = True,
        connections: int = 16,
        pauses: Pauses | None = None,
        seconds_a_file: float = _SECONDS_A_FILE,
    ) -> None:
        self.pauses = pauses or Pauses()
        self.limits = limits
        self._robots = robots
        self._seconds = seconds_a_file
        about = "+https://github.com/boxdrop/boxdrop"
        agent = f"{AGENT}/{__version__} ({about}{'; ' if contact else ''}{contact})"
        try:
            headers = {"User-Agent": agent.encode("ascii").decode(), "Accept-Encoding": "identity"}
        except UnicodeEncodeError:
            raise BoxdropError(f"--contact {contact}: use ASCII only, as in email addresses") from None
        self._client = httpx.Client(
            transport=_GuardedTransport(guard or AddressGuard(), connections),
            headers=headers,
            timeout=_TIMEOUT,
            trust_env=False,
            # No cookies are kept: no tracking, and constant memory.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def download(self, url: str) -> Fetched:
        """Get an image: follow redirects, check its first bytes, and read it up to the limit.

        Raises:
            FetchError: it is not to be had: a reason of `forbidden_address`, `robots`, `too_many_bytes`,
                `too_slow`, `redirects`, `bad_address`, or `http_404` and the like.
            ImageError: its first bytes are not an image's.
            Busy: the server failed or asks to be left alone for a while.
        """
        for _ in range(MAX_REDIRECTS + 1):
            with self._asking("GET", url) as answer:
                if self._robots and refuses(answer.headers.get_list("x-robots-tag")):
                    raise FetchError(
                        "robots", "its server says (X-Robots-Tag) that it is not for machine learning"
                    )
                if answer.has_redirect_location:
                    url = _redirected(url, answer.headers["location"])
                    continue
                _check_status(answer)
                return Fetched(self._read(answer), url)
        raise FetchError("redirects", f"more than {MAX_REDIRECTS} redirects")

    def _read(self, answer: httpx.Response) -> bytes:
        most, until = self.limits.max_bytes, time.monotonic() + self._seconds
        stated = answer.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > most:
            raise FetchError("too_many_bytes", f"{int(stated):,} bytes, over the limit of {most:,}")
        data, sniffed = bytearray(), False
        for part in answer.iter_raw():
            self.pauses.check()
            data += part
            if len(data) > most:
                raise FetchError("too_many_bytes", f"more than {most:,} bytes, the limit")
            if not sniffed and len(data) >= _SNIFFED:
                sniff(bytes(data[:4096]))  # a page of HTML or a film ends here
                sniffed = True
            if time.monotonic() > until:
                raise FetchError("too_slow", f"not there after {self._seconds:.0f} s")
        if not data:
            raise ImageError("empty", "the answer is empty (0 bytes)")
        return bytes(data)

    def ask(
        self,
        who: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "Answer":
        """Ask an interface for JSON, one question at a time, as often as it takes; waits where the server
        says so.

        Args:
            who: the collection's name, for messages.
            url: the interface's.
            params: go into the address.
            form: is posted; without it the question is a GET.
            headers: beside the usual ones.

        Returns:
            Any answer below 500 but 429, whatever its status says.

        Raises:
            BoxdropError: it cannot be reached, or its response is not JSON.
        """
        for attempt in range(_TRIES):
            try:
                with self._asking(
                    "POST" if form is not None else "GET", url, params=params, data=form, headers=headers
                ) as answer:
                    return self._answer(who, answer)
            except Busy as busy:
                if attempt == _TRIES - 1:
                    raise BoxdropError(
                        f"{who} does not answer: {busy}; run the same command again later"
                    ) from None
                self.pauses.wait(busy.wait_s if busy.wait_s is not None else 2.0**attempt, f"{who}: {busy}")
            except FetchError as error:
                raise BoxdropError(f"{who}: {error}") from None
        raise AssertionError("unreachable")

    def _answer(self, who: str, answer: httpx.Response) -> "Answer":
        if answer.status_code == 429 or answer.status_code >= 500:
            _check_status(answer)
        body = bytearray()
        for part in answer.iter_raw():
            body += part
            if len(body) > _JSON_BYTES:
                raise BoxdropError(
                    f"{who}: its answer has more than {_JSON_BYTES:,} bytes, far more than documented"
                )
        try:
            content = json.loads(body)
        except ValueError:
            raise BoxdropError(
                f"{who} answered {answer.status_code} with something that is not JSON: "
                f"{bytes(body[:80])!r}; is the URL right?"
            ) from None
        return Answer(answer.status_code, content, answer.headers)

    @contextmanager
    def _asking(self, method: str, url: str, **request: Any) -> Iterator[httpx.Response]:
        """A response whose body is not read yet; turns every failure into one of boxdrop's errors."""
        address = _address(url)
        try:
            with self._client.stream(method, address, follow_redirects=False, **request) as answer:
                yield answer
        except ForbiddenAddressError as error:
            raise FetchError("forbidden_address", str(error)) from None
        except (httpx.TimeoutException, httpcore.TimeoutException):
            raise Busy("timeout", f"{address.host} was silent for too long") from None
        except (httpx.UnsupportedProtocol, httpcore.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise FetchError("bad_address", str(error)) from None
        except (httpx.HTTPError, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise Busy("connection", f"the connection to {address.host} failed ({error})") from None


class Answer:
    """An API's response: status, JSON and headers."""

    def __init__(self, status: int, content: Any, headers: Mapping[str, str]) -> None:
        self.status = status
        self.content = content
        self.headers = headers

    @property
    def retry_after_s(self) -> float | None:
        """Seconds that it asks to wait; None if it does not."""
        return _retry_after(self.headers.get("retry-after", ""))


def refuses(headers: Iterable[str]) -> bool:
    """Whether ``X-Robots-Tag`` headers opt an image out of machine learning.

    A rule may be meant for one robot: ``X-Robots-Tag: otherbot: noai``. See
    https://developer.mozilla.org/en-US/docs/Web/HTTP/Headers/X-Robots-Tag; `noai` and `noimageai` are
    DeviantArt's, and became a custom:
    https://www.deviantart.com/team/journal/A-New-Directive-for-Opting-Out-of-AI-Datasets-934500371
    """
    for header in headers:
        robot = ""
        for rule in header.lower().split(","):
            name, colon, rest = rule.partition(":")
            if colon and name.strip() not in _RULES_WITH_VALUES:
                robot, rule = name.strip(), rest
            if rule.strip() in _REFUSALS and robot in ("", "*", AGENT):
                return True
    return False


_RULES_WITH_VALUES: Final = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        raise FetchError("bad_address", f"not an address: {error}") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise FetchError("bad_address", f"{str(address)[:200]!r} is not an http(s) URL")
    if address.userinfo:
        raise FetchError("bad_address", "the URL contains a log-in, which must not be used")
    return address


def _redirected(url: str, location: str) -> str:
    try:
        return str(httpx.URL(url).join(location).copy_with(fragment=None))
    except (httpx.InvalidURL, ValueError):
        raise FetchError("bad_address", f"it redirects to {location[:200]!r}, which is not a URL") from None


def _check_status(answer: httpx.Response) -> None:
    status = answer.status_code
    if status == 429 or status >= 500:
        wait = _retry_after(answer.headers.get("retry-after", ""))
        said = "too many requests" if status == 429 else f"the server failed ({status})"
        raise Busy(f"http_{status}", said, wait)
    if status != 200:
        raise FetchError(f"http_{status}", f"the server answered {status} {answer.reason_phrase}".rstrip())


def _retry_after(text: str) -> float | None:
    """Seconds of a ``Retry-After``: a number, or a date (RFC 9110, 10.2.3)."""
    text = text.strip()
    if text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
