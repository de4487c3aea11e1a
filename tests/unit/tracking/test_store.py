"""Which ZenML, and whether it can be used: answers of real HTTP servers that are none, old, slow, or gone."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from boxdrop.aws.secrets import Secrets
from boxdrop.domain.errors import TrackingError
from boxdrop.tracking import store as module
from boxdrop.tracking.store import Store, check_server, configured_store, installed_version

KEY = "ZENKEY_that-nobody-sees"


@contextmanager
def answering(answer: Callable[[str], tuple[int, object]]) -> Iterator[str]:
    """A server that answers each path by what the function gives."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            status, content = answer(self.path)
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def zenml(version: str, login: int = 200) -> Callable[[str], tuple[int, object]]:
    return lambda path: (login, {}) if path.endswith("/login") else (200, {"version": version})


def test_a_server_of_our_minor_version_that_takes_the_key_is_good() -> None:
    with answering(zenml(f"{'.'.join(installed_version().split('.')[:2])}.9")) as url:
        check_server(Store(url, KEY))


def test_another_version_is_refused_and_both_are_named() -> None:
    with (
        answering(zenml("0.55.2")) as url,
        pytest.raises(TrackingError, match=rf"is version 0\.55\.2, and .* {installed_version()}.*track sync"),
    ):
        check_server(Store(url, KEY))


def test_a_refused_key_is_reported_without_its_value() -> None:
    with (
        answering(zenml(installed_version(), login=401)) as url,
        pytest.raises(TrackingError, match="refused the API key") as caught,
    ):
        check_server(Store(url, KEY))
    assert KEY not in str(caught.value)
    assert KEY not in repr(Store("http://here", KEY))


@pytest.mark.parametrize(("status", "content"), [(200, b"<html>"), (200, ["list"]), (404, {}), (500, {})])
def test_another_server_is_not_mistaken_for_zenml(status: int, content: object) -> None:
    with (
        answering(lambda _: (status, content)) as url,
        pytest.raises(TrackingError, match=r"(is not a ZenML server|sent an invalid response).*track sync"),
    ):
        check_server(Store(url, KEY))


def test_a_server_that_is_gone_or_slow_is_waited_for_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrackingError, match="cannot be reached: connection refused; runs wait"):
        check_server(Store("http://127.0.0.1:9", KEY))
    monkeypatch.setattr(module, "_ANSWER_S", 0.2)
    hold = threading.Event()
    with answering(lambda _: (200, {"held": hold.wait(30)})) as url:
        with pytest.raises(TrackingError, match="did not answer within"):
            check_server(Store(url, KEY))
        hold.set()


def test_without_a_url_runs_go_into_the_store_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path))
    monkeypatch.delenv("ZENML_STORE_URL", raising=False)
    store = configured_store()
    assert store == Store(f"sqlite:///{tmp_path}/zenml/data/zenml.db")
    assert not store.is_server


def test_a_server_has_its_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENML_STORE_URL", "https://zenml.example.com/")
    secrets = Secrets(environ={"ZENML_STORE_API_KEY": KEY})
    assert configured_store(secrets) == Store("https://zenml.example.com", KEY)
    assert configured_store(Secrets(environ={})).key is None
    monkeypatch.setenv("ZENML_STORE_URL", "zenml.example.com")
    with pytest.raises(TrackingError, match="must be a ZenML server's http"):
        configured_store(secrets)
