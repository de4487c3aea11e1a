"""Collections of images on loopback, which speak as the real ones document it, and servers of images that
misbehave.

**Openverse** (`OpenverseServer`), after its own source, which its documentation is made from:

- requests and answers: https://api.openverse.org/v1/ and
  https://github.com/WordPress/openverse/blob/main/api/api/serializers/media_serializers.py (`page_size` above
  20 is 401 for who did not log in; ``license`` and ``license_type`` are checked; any field of a result may be
  null), an example in https://github.com/WordPress/openverse/blob/main/api/api/examples/image_responses.py
- pages: https://github.com/WordPress/openverse/blob/main/api/api/utils/pagination.py, and at most 20 of them:
  https://make.wordpress.org/openverse/2022/08/11/openverse-api-results-constrained-to-20-pages/
- rate limits: https://github.com/WordPress/openverse/blob/main/api/api/utils/throttle.py
(``X-RateLimit-Limit-SCOPE``,
  ``X-RateLimit-Available-SCOPE``), 429 with ``Retry-After`` as Django REST framework has it:
  https://www.django-rest-framework.org/api-guide/exceptions/#throttled
- log-in: https://docs.openverse.org/api/reference/authentication_and_throttling.html, form-encoded client
credentials

**Wikimedia Commons** (`CommonsServer`):

- https://www.mediawiki.org/wiki/API:Search (``generator=search``),
https://www.mediawiki.org/wiki/API:Imageinfo,
  https://www.mediawiki.org/wiki/API:Continue (``continue``, ``batchcomplete``; a batch may come in several
  answers), https://www.mediawiki.org/wiki/API:JSON_version_2
- ``extmetadata``: https://www.mediawiki.org/wiki/Extension:CommonsMetadata (values are HTML)
- https://www.mediawiki.org/wiki/Manual:Maxlag_parameter: status 200, ``error.code`` ``maxlag``,
``Retry-After``
- https://foundation.wikimedia.org/wiki/Policy:Wikimedia_Foundation_User-Agent_Policy: 403 for who does not
say who asks
"""

import json
import math
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, urlsplit

import numpy as np
from PIL import Image

LOOPBACK: Final = "127.0.0.0/8"


@dataclass(frozen=True)
class Request:
    """What a server was asked."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    at: float


@dataclass
class Reply:
    """What it answers: `body` whole, or `stream` until somebody hangs up."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    stream: Iterator[bytes] | None = None
    stated_length: int | None = None


Behaviour = Callable[[Request], Reply]


class Server:
    """An HTTP server on a free port of loopback; every request is remembered.

    Args:
        host: of 127.0.0.0/8, so that tests have several servers with the same port.
        clock: what the server takes for the time.
    """

    def __init__(self, host: str = "127.0.0.1", clock: Callable[[], float] = time.monotonic) -> None:
        self.requests: list[Request] = []
        self.clock = clock
        self.most_at_once = 0
        self._at_once = 0
        self._behaviours: dict[str, Behaviour] = {}
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are two writes

            def do_GET(self) -> None:
                outer._serve(self)

            do_POST = do_GET  # noqa: N815 — the name that the base class calls

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                """Clients hang up; that is what some tests are about."""

        self._server = Quiet((host, 0), Handler)
        self.url = f"http://{host}:{self._server.server_address[1]}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, path: str, behaviour: Behaviour | Reply) -> str:
        """Answer a path in this way; returns its address."""
        self._behaviours[path] = behaviour if callable(behaviour) else lambda _: behaviour
        return self.url + path

    def count(self) -> Counter[str]:
        """Requests by path."""
        with self._lock:
            return Counter(request.path for request in self.requests)

    def answer(self, request: Request) -> Reply:
        """What is answered to a request; collections do more."""
        behaviour = self._behaviours.get(request.path)
        return behaviour(request) if behaviour else Reply(b"not here", 404)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        request = Request(
            handler.command,
            parts.path,
            {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()},
            {key.lower(): value for key, value in handler.headers.items()},
            handler.rfile.read(length) if length else b"",
            self.clock(),
        )
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reply = self.answer(request)
            handler.send_response(reply.status)
            for name, value in reply.headers.items():
                handler.send_header(name, value)
            if reply.stream is None:
                handler.send_header("Content-Length", str(reply.stated_length or len(reply.body)))
                handler.end_headers()
                handler.wfile.write(reply.body)
                handler.close_connection = reply.stated_length is not None
            else:
                handler.send_header("Connection", "close")
                handler.end_headers()
                handler.close_connection = True
                for part in reply.stream:
                    handler.wfile.write(part)
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True
        finally:
            with self._lock:
                self._at_once -= 1
            if handler.close_connection:
                with suppress(OSError):
                    handler.connection.shutdown(socket.SHUT_WR)


def picture(seed: int, size: tuple[int, int] = (320, 320), format: str = "JPEG", quality: int = 85) -> bytes:
    """A picture that no other seed gives: soft spots of colour."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    buffer = BytesIO()
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    image.save(buffer, format, **({"quality": quality} if format in ("JPEG", "WEBP") else {}))
    return buffer.getvalue()


def image(data: bytes, content_type: str = "image/jpeg", **headers: str) -> Reply:
    """An image, as servers send it; headers with ``_`` for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(data, headers={"Content-Type": content_type, **named})


def redirect(location: str, status: int = 302) -> Reply:
    """Go elsewhere."""
    return Reply(b"", status, {"Location": location})


def endless(first: bytes = b"", part: bytes = b"\0" * 65536) -> Behaviour:
    """A body without an end."""

    def forever(_: Request) -> Reply:
        def parts() -> Iterator[bytes]:
            yield first
            while True:
                yield part

        return Reply(headers={"Content-Type": "image/jpeg"}, stream=parts())

    return forever


def first_then(first: list[Reply], then: Reply) -> Behaviour:
    """Some answers once each, in their order, then always the last."""
    waiting, lock = deque(first), threading.Lock()

    def behave(_: Request) -> Reply:
        with lock:
            return waiting.popleft() if waiting else then

    return behave


class OpenverseServer(Server):
    """Openverse's image search over the entries of `results`.

    Args:
        results: entries of ``results``; `entry` makes one.
        depth: pages that may be asked for.
        burst: requests a minute without log-in.
        daily: and a day.
        client: (client_id, client_secret) that is known.
        token_uses: requests that a token is good for.
    """

    LICENSES = frozenset(
        {"by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd", "cc0", "pdm", "sampling+", "nc-sampling+"}
    )

    def __init__(
        self,
        results: list[dict[str, Any]],
        *,
        depth: int = 20,
        burst: int = 1000,
        daily: int = 10000,
        client: tuple[str, str] = ("id", "secret"),
        token_uses: int = 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock=clock)
        self.results = results
        self._depth = depth
        self._scopes = {"anon_burst": (burst, "min", 60.0), "anon_sustained": (daily, "day", 86400.0)}
        self._history: deque[float] = deque()
        self._client = client
        self._token_uses = token_uses
        self._tokens: dict[str, int] = {}
        self._search = threading.Lock()

    def answer(self, request: Request) -> Reply:
        if request.path == "/v1/auth_tokens/token/":
            return self._token(request)
        if request.path != "/v1/images/":
            return super().answer(request)
        with self._search:
            return self._images(request)

    def _token(self, request: Request) -> Reply:
        form = dict(parse_qsl(request.body.decode()))
        if request.headers.get("content-type") != "application/x-www-form-urlencoded":
            return _json({"detail": "Unsupported media type"}, 415)
        if (form.get("client_id"), form.get("client_secret")) != self._client:
            return _json({"error": "invalid_client"}, 401)
        if form.get("grant_type") != "client_credentials":
            return _json({"error": "unsupported_grant_type"}, 400)
        token = f"token-{len(self._tokens)}"
        self._tokens[token] = self._token_uses
        return _json(
            {"access_token": token, "scope": "read write groups", "expires_in": 36000, "token_type": "Bearer"}
        )

    def _images(self, request: Request) -> Reply:
        authorization = request.headers.get("authorization", "")
        known = authorization.startswith("Bearer ")
        if known:
            token = authorization.removeprefix("Bearer ")
            if self._tokens.get(token, 0) <= 0:
                expired = 'Bearer realm="api",error="invalid_token",error_description="It has expired."'
                return _json(
                    {"detail": "Authentication credentials were not provided."},
                    401,
                    {"WWW-Authenticate": expired},
                )
            self._tokens[token] -= 1
        limits = {} if known else self._throttle()
        if "Retry-After" in limits:
            said = f"Request was throttled. Expected available in {limits['Retry-After']} seconds."
            return _json({"detail": said}, 429, limits)
        query = request.query
        size, page = int(query.get("page_size", 20)), int(query.get("page", 1))
        if size > (500 if known else 20):
            said = "Ensure this value is less than or equal to 20."
            return _json({"detail": said}, 400 if known else 401, limits)
        if page > self._depth:
            return _json(
                {"detail": {"page": [f"Ensure this value is less than or equal to {self._depth}."]}},
                400,
                limits,
            )
        wanted = query.get("license", "").split(",") if query.get("license") else []
        for code in wanted:
            if code not in self.LICENSES:
                return _json({"detail": {"license": [f"License '{code}' does not exist."]}}, 400, limits)
        if len(query.get("q", "")) > 200:
            return _json({"detail": {"q": ["too long"]}}, 400, limits)
        found = [
            result
            for result in self.results
            if (not wanted or str(result.get("license", "")).lower() in wanted or "license" not in result)
            and (not query.get("source") or result.get("source") in query["source"].split(","))
            and (not query.get("extension") or result.get("filetype") in query["extension"].split(","))
        ]
        pages = math.ceil(len(found) / size)
        content = {
            "result_count": len(found),
            "page_count": min(self._depth, pages),
            "page_size": size,
            "page": page,
            "results": found[(page - 1) * size : page * size],
        }
        return _json(content, 200, limits)

    def _throttle(self) -> dict[str, str]:
        """Sliding windows, as Django REST framework has them: headers, and ``Retry-After`` where there is
        none left."""
        now = self.clock()
        headers, wait = {}, 0.0
        for scope, (number, period, seconds) in self._scopes.items():
            within = [at for at in self._history if at > now - seconds]
            headers[f"X-RateLimit-Limit-{scope}"] = f"{number}/{period}"
            headers[f"X-RateLimit-Available-{scope}"] = str(max(0, number - len(within) - 1))
            if len(within) >= number:
                wait = max(wait, within[-number] + seconds - now)
        if wait > 0:
            return headers | {"Retry-After": str(math.ceil(wait))}
        self._history.append(now)
        return headers


def entry(url: Any, number: int = 0, **changed: Any) -> dict[str, Any]:
    """A result of Openverse's, as its documentation's example has it; None takes a field away."""
    identifier = f"4bc43a04-ef46-4544-a0c1-{number:012d}"
    result = {
        "id": identifier,
        "title": f"Fruit basket {number}",
        "indexed_on": "2022-08-27T17:39:48Z",
        "foreign_landing_url": f"https://stocksnap.example/photo/{number}",
        "url": url,
        "creator": "Tim Sullivan",
        "creator_url": "https://www.secretagencygroup.example",
        "license": "by",
        "license_version": "2.0",
        "license_url": "https://creativecommons.org/licenses/by/2.0/",
        "provider": "stocksnap",
        "source": "stocksnap",
        "category": "photograph",
        "filesize": 896128,
        "filetype": "jpg",
        "tags": [{"accuracy": None, "name": "fruit", "unstable__provider": "stocksnap"}],
        "attribution": f'"Fruit basket {number}" by Tim Sullivan is licensed under CC BY 2.0.',
        "fields_matched": ["title"],
        "mature": False,
        "height": 4016,
        "width": 6016,
        "thumbnail": f"https://api.openverse.org/v1/images/{identifier}/thumb/",
        "detail_url": f"https://api.openverse.org/v1/images/{identifier}/",
        "related_url": f"https://api.openverse.org/v1/images/{identifier}/related/",
        "unstable__sensitivity": [],
    }
    return {key: value for key, value in (result | changed).items() if value is not _MISSING}


_MISSING: Final = object()
MISSING: Any = _MISSING
"""A field that is not there at all."""


class CommonsServer(Server):
    """Wikimedia Commons' search over the pages of `pages`, which `file_page` makes.

    Args:
        pages: in the order in which the search ranks them.
        split: pages an answer whose ``imageinfo`` is left for the next one, as where an answer would be too
            large.
        lags: (seconds behind, ``Retry-After``) of the answers to come, before the database has caught up.
    """

    def __init__(
        self, pages: list[dict[str, Any]], *, split: int = 0, lags: list[tuple[int, int]] | None = None
    ) -> None:
        super().__init__()
        self.pages = pages
        self._split = split
        self._lags = deque(lags or [])
        self.errors: deque[dict[str, Any]] = deque()

    def answer(self, request: Request) -> Reply:
        if request.path != "/w/api.php":
            return super().answer(request)
        query = request.query
        if "@" not in request.headers.get("user-agent", ""):
            return Reply(b"Please set a user-agent and respect our robot policy", 403)
        expected = {
            "action": "query",
            "generator": "search",
            "gsrnamespace": "6",
            "format": "json",
            "formatversion": "2",
            "prop": "imageinfo",
        }
        for name, value in expected.items():
            if query.get(name) != value:
                said = f'Unrecognized value for parameter "{name}": {query.get(name)}.'
                return _json({"error": {"code": "badvalue", "info": said}})
        if self._lags and "maxlag" in query and self._lags[0][0] > int(query["maxlag"]):
            lag, wait = self._lags.popleft()
            error = {"code": "maxlag", "info": f"Waiting for 10.64.32.12: {lag} seconds lagged.", "lag": lag}
            return _json({"error": error}, 200, {"Retry-After": str(wait), "X-Database-Lag": str(lag)})
        if self.errors:
            return _json({"error": self.errors.popleft()}, 200)
        offset, limit = int(query.get("gsroffset", 0)), int(query["gsrlimit"])
        batch = [
            {**page, "index": number}
            for number, page in enumerate(self.pages[offset : offset + limit], offset + 1)
        ]
        late = {page["pageid"] for page in batch[-self._split :]} if self._split else set()
        continued = "iistart" in query
        shown = []
        for page in batch:
            there = (page["pageid"] in late) == continued
            shown.append(page if there else {key: page[key] for key in page if key != "imageinfo"})
        content: dict[str, Any] = {"query": {"pages": sorted(shown, key=lambda page: page["pageid"])}}
        if late and not continued:
            content["continue"] = {
                "iistart": "2022-01-01T00:00:00Z",
                "gsroffset": str(offset),
                "continue": "||",
            }
        else:
            content["batchcomplete"] = True
            if offset + limit < len(self.pages):
                content["continue"] = {"gsroffset": offset + limit, "continue": "gsroffset||"}
        return _json(content)


def file_page(url: str, number: int, *, thumb: str | None = None, **fields: Any) -> dict[str, Any]:
    """A page of Commons' answer, with `fields` of its ``extmetadata``; None takes one away."""
    values = {
        "ObjectName": f"Fruit basket {number}",
        "License": "cc-by-sa-3.0",
        "LicenseShortName": "CC BY-SA 3.0",
        "LicenseUrl": "https://creativecommons.org/licenses/by-sa/3.0",
        "UsageTerms": "Creative Commons Attribution-Share Alike 3.0",
        "Artist": '<a href="//commons.wikimedia.org/wiki/User:Jane" title="User:Jane">Jane &amp; friends</a>',
        "Credit": '<span class="int-own-work" lang="en">Own work</span>',
        "Restrictions": "",
    } | fields
    source = {"source": "commons-desc-page"}
    info: dict[str, Any] = {
        "size": 1_600_000,
        "width": 4000,
        "height": 3000,
        "url": url,
        "descriptionurl": f"https://commons.wikimedia.org/wiki/File:Fruit_basket_{number}.jpg",
        "descriptionshorturl": f"https://commons.wikimedia.org/w/index.php?curid={number}",
        "mime": "image/jpeg",
        "extmetadata": {
            name: {"value": value, **source} for name, value in values.items() if value is not None
        },
    }
    if thumb is not None:
        info |= {"thumburl": thumb, "thumbwidth": 1920, "thumbheight": 1440}
    # Page ids have nothing to do with the rank.
    return {
        "pageid": 90_000 - number * 7,
        "ns": 6,
        "title": f"File:Fruit basket {number}.jpg",
        "imagerepository": "local",
        "imageinfo": [info],
    }


def _json(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(
        json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})}
    )


@contextmanager
def served(*servers: Server) -> Iterator[None]:
    """Stop servers at the end of a block."""
    try:
        yield
    finally:
        for server in servers:
            server.__exit__()
