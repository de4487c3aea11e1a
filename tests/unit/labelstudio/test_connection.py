"""Connecting: each thing that can be wrong is one sentence with the way out."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from boxdrop.domain.errors import LabelStudioError
from boxdrop.labelstudio.connection import TOKEN_VARIABLE, InDoubtError, connect

Answer = tuple[int, object]


@contextmanager
def answering(answer: Callable[[str], Answer]) -> Iterator[str]:
    """A server that is not Label Studio, at the address that is yielded."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = answer(self.path)
            body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def like_label_studio(path: str, version: str = "1.23.0", token_status: int = 200) -> Answer:
    if path == "/api/version":
        return 200, {"release": version}
    return token_status, {"id": 1, "detail": "Invalid token."}


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


def test_no_server_answers() -> None:
    with pytest.raises(
        LabelStudioError, match=r"no server answers at http://127\.0\.0\.1:9: .*boxdrop local up"
    ):
        connect("http://127.0.0.1:9", "secret")


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://a:b:c", "C:\\x"])
def test_an_invalid_address(url: str) -> None:
    with pytest.raises(LabelStudioError, match=r"not the address of a server|no server answers"):
        connect(url, "secret")


@pytest.mark.parametrize("answer", [(200, "<html>"), (404, "nothing"), (200, {"version": 1}), (200, [1])])
def test_another_server_answers(answer: Answer) -> None:
    with (
        answering(lambda _: answer) as url,
        pytest.raises(LabelStudioError, match="is not a Label Studio server"),
    ):
        connect(url, "secret")


def test_the_server_is_too_old() -> None:
    with (
        answering(lambda path: like_label_studio(path, "1.7.3")) as url,
        pytest.raises(LabelStudioError, match=r"runs Label Studio 1\.7\.3; boxdrop needs 1\.20 or newer"),
    ):
        connect(url, "secret")


def test_there_is_no_token() -> None:
    with (
        answering(like_label_studio) as url,
        pytest.raises(LabelStudioError, match=f"no access token .*{TOKEN_VARIABLE}"),
    ):
        connect(url)


def test_a_token_with_a_line_end_in_it() -> None:
    with answering(like_label_studio) as url, pytest.raises(LabelStudioError, match="is not valid"):
        connect(url, "sec\nret")


def test_the_token_is_refused() -> None:
    with (
        answering(lambda path: like_label_studio(path, token_status=401)) as url,
        pytest.raises(LabelStudioError, match="does not accept the access token"),
    ):
        connect(url, "secret")


def test_the_token_comes_from_the_environment_and_a_projects_page_is_address_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, " secret\n")
    with answering(like_label_studio) as url:
        connection = connect(f"{url}/projects/7/data?tab=3")
        assert (connection.url, connection.version) == (url, "1.23.0")


def test_a_proxy_that_takes_no_large_uploads_is_named() -> None:
    with (
        answering(lambda path: like_label_studio(path) if "import" not in path else (413, "")) as url,
        pytest.raises(LabelStudioError, match=r"cannot upload: .*client_max_body_size"),
    ):
        connect(url, "secret").request("upload", "POST", "/api/import", data=b"x")


def test_label_studios_message_is_passed_on() -> None:
    refusal = {"detail": "Validation error", "validation_errors": {"title": ["too long"]}}
    with (
        answering(lambda path: like_label_studio(path) if "x" not in path else (400, refusal)) as url,
        pytest.raises(LabelStudioError, match="answered 400: too long"),
    ):
        connect(url, "secret").request("do it", "POST", "/x", json={})


def test_a_call_that_is_not_answered_in_time_is_in_doubt() -> None:
    release = threading.Event()

    def slow(path: str) -> Answer:
        if path == "/slow":
            release.wait(10)
        return like_label_studio(path)

    with answering(slow) as url:
        connection = connect(url, "secret")
        with pytest.raises(InDoubtError, match="did not answer in time"):
            connection.request("wait", "GET", "/slow", timeout=0.2)
        release.set()
