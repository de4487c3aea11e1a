"""The proxy of the fault tests does what it says; else they would prove nothing."""

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests import fault_proxy
from tests.fault_proxy import BEGINNING, Fault, FaultProxy

BODY = b"x" * 100_000


class Upstream(BaseHTTPRequestHandler):
    """Answers with what it was sent, and remembers it."""

    protocol_version = "HTTP/1.1"
    heard: list[bytes]

    def do_POST(self) -> None:
        """Keep the body, and send it back."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append(body)
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def heard() -> list[bytes]:
    return []


@pytest.fixture
def proxy(heard: list[bytes]) -> Iterator[FaultProxy]:
    handler = type("Handler", (Upstream,), {"heard": heard})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    with FaultProxy(f"http://127.0.0.1:{server.server_port}") as running:
        yield running
    server.shutdown()
    server.server_close()


def post(proxy: FaultProxy, body: bytes = BODY, timeout: float = 10) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=timeout)
    try:
        connection.request("POST", "/api/projects/12/import?x=1", body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_without_a_fault_everything_passes(proxy: FaultProxy, heard: list[bytes]) -> None:
    assert post(proxy) == (201, BODY)
    assert heard == [BODY]
    assert [call.what for call in proxy.calls] == ["POST /api/projects/N/import"]


@pytest.mark.parametrize(
    ("fault", "is_heard"),
    [(Fault.REFUSE, False), (Fault.LOSE_ANSWER, True), (Fault.CUT, True)],
)
def test_a_broken_connection(proxy: FaultProxy, heard: list[bytes], fault: Fault, is_heard: bool) -> None:
    proxy.arm(1, fault)
    assert post(proxy)[0] == 201
    assert not proxy.has_struck
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        post(proxy)
    assert proxy.has_struck
    assert len(heard) == 1 + is_heard
    assert post(proxy)[0] == 201


@pytest.mark.parametrize(("fault", "is_heard"), [(Fault.ERROR_BEFORE, False), (Fault.ERROR_AFTER, True)])
def test_an_error(proxy: FaultProxy, heard: list[bytes], fault: Fault, is_heard: bool) -> None:
    proxy.arm(0, fault)
    assert post(proxy)[0] == 502
    assert bool(heard) == is_heard


def test_a_response_without_a_waiting_client(
    proxy: FaultProxy, heard: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fault_proxy, "DELAY_S", 0.6)
    proxy.arm(0, Fault.DELAY)
    with pytest.raises(TimeoutError):
        post(proxy, timeout=0.3)
    assert heard == [BODY]


def test_a_late_commit_comes_after_the_repetition(proxy: FaultProxy, heard: list[bytes]) -> None:
    proxy.arm(0, Fault.COMMIT_LATE)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        post(proxy, b"first")
    assert heard == []
    assert post(proxy, b"again")[0] == 201
    for _ in range(100):
        if len(heard) == 2:
            break
        threading.Event().wait(0.02)
    assert heard == [b"again", b"first"]
    assert proxy.release() == 0


def test_a_late_commit_that_was_not_repeated_is_released(proxy: FaultProxy, heard: list[bytes]) -> None:
    proxy.arm(0, Fault.COMMIT_LATE)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        post(proxy, b"first")
    assert proxy.release() == 1
    assert heard == [b"first"]


@pytest.mark.parametrize(("fault", "is_heard"), [(Fault.KILL_BEFORE, False), (Fault.KILL_AFTER, True)])
def test_a_kill(proxy: FaultProxy, heard: list[bytes], fault: Fault, is_heard: bool) -> None:
    killed: list[bool] = []
    proxy.kill = lambda: killed.append(bool(heard))
    proxy.arm(0, fault)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        post(proxy)
    assert killed == [is_heard]


def test_calls_before_the_beginning_do_not_count(proxy: FaultProxy) -> None:
    proxy.arm(0, Fault.ERROR_BEFORE, at_beginning=True)
    assert post(proxy)[0] == 201
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=10)
    connection.request("GET", BEGINNING)
    assert connection.getresponse().status == 204
    connection.close()
    assert post(proxy)[0] == 502
    assert len(proxy.calls) == 1
