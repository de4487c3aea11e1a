"""An HTTP proxy that breaks what the test tells it to: before a call is done, after it, or long after.

It stands between boxdrop and one server, forwards everything as it is, and counts the calls. A fault happens
once, at the call that it is armed for.
"""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, NamedTuple
from urllib.parse import urlsplit

DELAY_S: Final = 6.0
"""How long `Fault.DELAY` holds an answer: longer than the clients of the tests wait."""

BEGINNING: Final = "/the-beginning"
"""A path that only the proxy knows, see `FaultProxy.arm`."""

_HOP_BY_HOP: Final = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "content-length",
}


class Fault(StrEnum):
    """What happens to a call."""

    REFUSE = "refuse"  # the connection breaks, and the server never hears of it
    LOSE_ANSWER = "lose answer"  # the server does it, and the connection breaks
    ERROR_BEFORE = "error before"  # 502, and the server never hears of it
    ERROR_AFTER = "error after"  # the server does it, and the answer is 502
    CUT = "cut"  # the answer breaks off in the middle
    DELAY = "delay"  # the answer comes when nobody waits for it any longer
    COMMIT_LATE = "commit late"  # the connection breaks; the server hears of it after the call was repeated
    KILL_BEFORE = "kill before"  # the client dies, and the server never hears of it
    KILL_AFTER = "kill after"  # the server does it, and the client dies


class Call(NamedTuple):
    """A call that came through."""

    method: str
    path: str
    target: str  # of DynamoDB's calls, which all have one path

    @property
    def what(self) -> str:
        """``POST /api/projects/N/import``, ``UpdateItem``."""
        words = ["N" if part.isdigit() else part for part in self.path.partition("?")[0].split("/")]
        return self.target.rpartition(".")[2] or f"{self.method} {'/'.join(words)}"


class _Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Request(NamedTuple):
    call: Call
    headers: list[tuple[str, str]]
    body: bytes


class FaultProxy:
    """A proxy on a free loopback port, for the time of a ``with`` block.

    Args:
        upstream: URL of the server.

    Attributes:
        url: where clients find it.
        calls: all that came, in order, since the last `arm`.
        kill: called by `Fault.KILL_BEFORE` and `Fault.KILL_AFTER`.
    """

    def __init__(self, upstream: str) -> None:
        self.calls: list[Call] = []
        self.kill: Callable[[], None] = lambda: None
        self._upstream = urlsplit(upstream)
        self._lock = threading.Lock()
        self._armed: tuple[int, Fault] | None = None
        self._counts = True
        self._late: list[_Request] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def serve(self) -> None:
                """Forward one call, or break it."""
                proxy._serve(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = serve  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FaultProxy":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def arm(
        self, number: int | None = None, fault: Fault = Fault.REFUSE, *, at_beginning: bool = False
    ) -> None:
        """Count anew, and break the call with this number, from 0 on; without one, none.

        Args:
            at_beginning: count from the next call of `BEGINNING` on, by which a client in another process
                says that it has logged in.
        """
        with self._lock:
            self.calls.clear()
            self._armed = None if number is None else (number, fault)
            self._counts = not at_beginning

    @property
    def has_struck(self) -> bool:
        """Whether the armed call has come."""
        return self._armed is None

    def release(self) -> int:
        """Let the server hear of late calls that nobody repeated; returns how many there were."""
        with self._lock:
            late, self._late = self._late, []
        for request in late:
            self._forward(request)
        return len(late)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if handler.path == BEGINNING:
            self._counts = True
            _answer(handler, _Answer(204, [], b""))
            return
        call = Call(handler.command, handler.path, handler.headers.get("X-Amz-Target") or "")
        request = _Request(call, list(handler.headers.items()), body)
        fault = self._count(call)
        if fault in (Fault.REFUSE, Fault.COMMIT_LATE, Fault.KILL_BEFORE):
            if fault == Fault.COMMIT_LATE:
                with self._lock:
                    self._late.append(request)
            elif fault == Fault.KILL_BEFORE:
                self.kill()
            _hang_up(handler)
            return
        if fault == Fault.ERROR_BEFORE:
            _answer(handler, _Answer(502, [], b"bad gateway"))
            return
        answer = self._forward(request)
        if fault is None:
            _answer(handler, answer)
            self._commit_late(call)
        elif fault == Fault.ERROR_AFTER:
            _answer(handler, _Answer(502, [], b"bad gateway"))
        elif fault == Fault.CUT:
            _answer(handler, answer, share=0.5)
        elif fault == Fault.DELAY:
            time.sleep(DELAY_S)
            _hang_up(handler)
        else:
            if fault == Fault.KILL_AFTER:
                self.kill()
            _hang_up(handler)

    def _count(self, call: Call) -> Fault | None:
        with self._lock:
            if not self._counts:
                return None
            self.calls.append(call)
            if self._armed is None or len(self.calls) - 1 != self._armed[0]:
                return None
            fault = self._armed[1]
            self._armed = None
            return fault

    def _commit_late(self, answered: Call) -> None:
        """The server hears of a late call once the like of it was repeated and answered."""
        with self._lock:
            due = [request for request in self._late if request.call.what == answered.what]
            self._late = [request for request in self._late if request not in due]
        for request in due:
            self._forward(request)

    def _forward(self, request: _Request) -> _Answer:
        connection = http.client.HTTPConnection(self._upstream.netloc, timeout=300)
        try:
            connection.putrequest(
                request.call.method, request.call.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers:
                if name.lower() not in _HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body)
            response = connection.getresponse()
            return _Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()


def _answer(handler: BaseHTTPRequestHandler, answer: _Answer, share: float = 1.0) -> None:
    """Send an answer, or the beginning of it."""
    try:
        handler.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in _HOP_BY_HOP:
                handler.send_header(name, value)
        if answer.status not in (204, 304):
            handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(answer.body[: int(len(answer.body) * share)])
        handler.wfile.flush()
    except OSError:  # the client is gone
        handler.close_connection = True
        return
    if share < 1.0:
        _hang_up(handler)


def _hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.connection.shutdown(socket.SHUT_RDWR)
