"""AWS on loopback that a test can hold up: moto behind a gate that stops, refuses and remembers calls."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from werkzeug.serving import make_server

from tests.moto_server import empty_moto

WSGI = Callable[..., Iterable[bytes]]


@dataclass(frozen=True)
class Call:
    """A call that came: its method, its path without escapes, and the status that it was answered with."""

    method: str
    path: str
    status: int


@dataclass
class _Rule:
    method: str
    part: str  # of the path
    status: int
    code: str
    times: int


@dataclass
class GatedAws:
    """moto's server. One call at a time gets through: its conditional writes are not atomic between threads.

    Attributes:
        calls: those that were answered, in order.
    """

    calls: list[Call] = field(default_factory=list)
    _held: dict[str, threading.Event] = field(default_factory=dict)
    _arrived: threading.Condition = field(default_factory=threading.Condition)
    _waiting: list[str] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)
    _cuts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._moto: WSGI = empty_moto()
        self._one_at_a_time = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Let everybody go, and end."""
        for event in self._held.values():
            event.set()
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def holding(self, part: str) -> Iterator[Callable[[], None]]:
        """Hold calls whose path has this part, until the function that this gives is called, or the end."""
        event = self._held[part] = threading.Event()
        try:
            yield event.set
        finally:
            event.set()
            del self._held[part]

    def wait_for(self, part: str, timeout: float = 60) -> None:
        """Until a call whose path has this part is held."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: any(part in path for path in self._waiting), timeout), (
                f"nobody asked for {part}: {self.calls[-5:]}"
            )

    def refuse(self, method: str, part: str, status: int, code: str, times: int = 1_000_000) -> None:
        """Answer the next calls of this method whose path has this part with an error of S3's."""
        self._rules.append(_Rule(method, part, status, code, times))

    def cut(self, part: str, times: int) -> None:
        """Break the answers to the next calls whose path has this part off in the middle of their body."""
        self._cuts[part] = times

    def forget(self) -> None:
        """No more refusals and cuts, and no calls remembered."""
        self._rules.clear()
        self._cuts.clear()
        self.calls.clear()

    def paths(self, method: str, part: str, status: int | None = None) -> list[str]:
        """Paths of the calls of this method that have this part."""
        return [
            call.path
            for call in list(self.calls)
            if call.method == method and part in call.path and status in (None, call.status)
        ]

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        path = unquote(environ.get("RAW_URI", environ["PATH_INFO"]).partition("?")[0])
        for part, event in list(self._held.items()):
            if part in path:
                with self._arrived:
                    self._waiting.append(path)
                    self._arrived.notify_all()
                event.wait()
                with self._arrived:
                    self._waiting.remove(path)
        for rule in self._rules:
            if rule.method == method and rule.part in path and rule.times > 0:
                rule.times -= 1
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                body = f"<Error><Code>{rule.code}</Code><Message>as the test wants</Message></Error>".encode()
                self.calls.append(Call(method, path, rule.status))
                start_response(f"{rule.status} Refused", [("Content-Length", str(len(body)))])
                return [body]
        statuses: list[int] = []

        def remember(status: str, headers: Any, *rest: Any) -> Any:
            statuses.append(int(status.split()[0]))
            return start_response(status, headers, *rest)

        with self._one_at_a_time:
            answer = list(self._moto(environ, remember))
        self.calls.append(Call(method, path, statuses[-1]))
        for part, times in self._cuts.items():
            if part in path and times > 0:
                self._cuts[part] -= 1
                whole = b"".join(answer)
                return [whole[: len(whole) // 2]]
        return answer
