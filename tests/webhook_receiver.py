"""A small HTTP server on loopback that keeps the webhooks it is sent."""

import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """A webhook, as it came."""

    headers: dict[str, str]
    body: bytes


class Receiver:
    """Runs as long as its `with` block.

    Attributes:
        calls: what came, in order; only calls that have the header `marked`.
    """

    def __init__(self, marked: str) -> None:
        self.calls: list[Call] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if marked in self.headers:
                    receiver.calls.append(Call(dict(self.headers.items()), body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/reviews"

    def __enter__(self) -> "Receiver":
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, count: int, seconds: float = 20) -> list[Call]:
        """The calls, once there are this many."""
        until = time.monotonic() + seconds
        while len(self.calls) < count and time.monotonic() < until:
            time.sleep(0.02)
        assert len(self.calls) >= count, f"{len(self.calls)} webhooks came, not {count}"
        return list(self.calls)
