"""Starting, finding and stopping the server, with a stand-in that starts in a moment.

The real one is started by tests/integration/labelstudio/test_local.py.
"""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from boxdrop.cli.local import local
from boxdrop.domain.errors import LocalError
from boxdrop.local import label_studio
from boxdrop.local.label_studio import LabelStudio, Server, token_for
from boxdrop.servers import processes
from tests.ports import free_port

STAND_IN = f"""#!{sys.executable} -IS
import http.server, json, os, sys, time
data = sys.argv[sys.argv.index("--data-dir") + 1]
port = int(sys.argv[sys.argv.index("--port") + 1])
if os.path.exists(data + "/slow"):
    time.sleep(60)
if os.path.exists(data + "/broken"):
    sys.exit("no such table: projects")
with open(data + "/environment.json", "w") as file:
    json.dump(dict(os.environ), file)
open(data + "/label_studio.sqlite3", "a").close()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
try:
    server = http.server.HTTPServer(("127.0.0.1", port), Handler)
except OSError:
    sys.exit("Error: That port is already in use.")
print(f"Starting development server at http://127.0.0.1:{{port}}/", flush=True)
server.serve_forever()
"""


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LabelStudio]:
    """Installed, never started, on ports that nobody uses."""
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path))
    monkeypatch.setattr(label_studio, "PREFERRED_PORT", free_port())
    studio = LabelStudio()
    program = studio.environment.path / "bin" / "label-studio"
    program.parent.mkdir(parents=True)
    program.write_text(STAND_IN)
    program.chmod(0o755)
    studio.environment.python.symlink_to(sys.executable)
    (studio.environment.path / "boxdrop-complete").write_text(studio.environment.digest)
    yield studio
    for pid in processes.find(studio._mark):
        os.kill(pid, signal.SIGKILL)


def boxdrop_local(*arguments: str) -> Result:
    return CliRunner().invoke(local, arguments)


def listening(port: int) -> socket.socket:
    other = socket.socket()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    other.bind(("127.0.0.1", port))
    other.listen()
    return other


def test_a_second_up_finds_the_server_that_the_first_one_started(studio: LabelStudio) -> None:
    first = studio.up()
    began = time.monotonic()
    assert studio.up() == first
    assert time.monotonic() - began < 5
    assert studio.running() == first


def test_down_stops_it_and_keeps_data_and_log_in(studio: LabelStudio) -> None:
    first = studio.up()
    (studio.data / "work").write_text("verified")
    assert studio.down()
    assert not processes.is_alive(first.pid)
    assert studio.running() is None
    assert not studio.down()
    second = studio.up()
    assert (second.url, second.token, second.password) == (first.url, first.token, first.password)
    assert (studio.data / "work").read_text() == "verified"


def test_after_a_crash_up_starts_it_again(studio: LabelStudio) -> None:
    first = studio.up()
    os.kill(first.pid, signal.SIGKILL)
    second = studio.up()
    assert second.pid != first.pid
    assert second.url == first.url


def test_down_never_touches_a_process_that_is_not_the_server(studio: LabelStudio) -> None:
    lookalike = [sys.executable, "-c", "import time; time.sleep(60)", "--data-dir", str(studio.data) + "2"]
    with subprocess.Popen([*lookalike, "--enable-legacy-api-token"]) as other:
        assert not studio.down()
        assert other.poll() is None
        other.kill()


def test_the_log_in_is_for_its_owner_alone_and_on_no_command_line(studio: LabelStudio) -> None:
    server = studio.up()
    assert stat.S_IMODE((studio.folder / "server.json").stat().st_mode) == 0o600
    line = Path(f"/proc/{server.pid}/cmdline")
    if line.exists():
        assert server.password.encode() not in line.read_bytes()
        assert server.token.encode() not in line.read_bytes()


def test_a_lost_log_in_is_replaced_by_that_of_a_new_user(studio: LabelStudio) -> None:
    first = studio.up()
    studio.down()
    (studio.folder / "server.json").write_text("{not json")
    second = studio.up()
    assert second.email != first.email
    assert second.token != first.token


def test_a_lost_log_in_of_a_running_server_is_explained(studio: LabelStudio) -> None:
    studio.up()
    (studio.folder / "server.json").unlink()
    with pytest.raises(LocalError, match="boxdrop local down"):
        studio.up()
    assert studio.down()


@pytest.mark.slow
def test_the_next_port_is_taken_where_the_preferred_one_is_not_free(studio: LabelStudio) -> None:
    said: list[str] = []
    with listening(label_studio.PREFERRED_PORT):
        server = studio.up(say=said.append)
    assert server.url != f"http://127.0.0.1:{label_studio.PREFERRED_PORT}"
    assert any("is taken by another program" in text for text in said)
    studio.down()
    assert studio.up().url == server.url  # remembered


@pytest.mark.slow
def test_a_port_that_was_asked_for_and_is_taken_is_an_error(studio: LabelStudio) -> None:
    with (
        listening(label_studio.PREFERRED_PORT),
        pytest.raises(LocalError, match="taken by another program; give another --port"),
    ):
        studio.up(label_studio.PREFERRED_PORT)


def test_a_running_server_is_not_moved_to_another_port(studio: LabelStudio) -> None:
    studio.up()
    with pytest.raises(LocalError, match=r"is already running on port "):
        studio.up(label_studio.PREFERRED_PORT + 1)


def test_a_server_that_ends_while_starting_shows_its_last_words(studio: LabelStudio) -> None:
    studio.data.mkdir()
    (studio.data / "broken").touch()
    with pytest.raises(LocalError, match=r"(.|\n)*no such table: projects"):
        studio.up()
    assert studio.running() is None


def test_of_two_ups_at_once_one_starts_it_and_both_get_it(studio: LabelStudio) -> None:
    servers: list[Server] = []
    threads = [threading.Thread(target=lambda: servers.append(LabelStudio().up())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert servers[0] == servers[1]
    assert processes.find(studio._mark) == [servers[0].pid]


def test_an_interrupted_start_leaves_nothing_running(studio: LabelStudio) -> None:
    studio.data.mkdir()
    (studio.data / "slow").touch()
    code = "from boxdrop.local.label_studio import LabelStudio; LabelStudio().up()"
    program = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    until = time.monotonic() + 60
    while not processes.find(studio._mark):
        assert time.monotonic() < until
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    assert program.wait(120) != 0
    assert processes.find(studio._mark) == []


def test_the_server_gets_what_it_needs_and_nothing_that_only_looks_like_its_settings(
    studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOST", "DEBUG", "DATABASE_NAME", "LABEL_STUDIO_BASE_DATA_DIR"):
        monkeypatch.setenv(name, "somebody else's")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:5000")
    server = studio.up()
    variables = json.loads((studio.data / "environment.json").read_text())
    assert not {"HOST", "DEBUG", "DATABASE_NAME", "LABEL_STUDIO_BASE_DATA_DIR"} & variables.keys()
    assert variables["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:5000"
    assert variables["LABEL_STUDIO_USER_TOKEN"] == server.token
    assert variables["COLLECT_ANALYTICS"] == "False"


def test_the_token_is_given_for_this_server_alone(studio: LabelStudio) -> None:
    server = studio.up()
    assert token_for(server.url) == server.token
    assert token_for(server.url.replace("127.0.0.1", "localhost") + "/projects/3") == server.token
    assert token_for("https://label.example.com") is None
    assert token_for(f"http://127.0.0.1:{label_studio.PREFERRED_PORT + 1}") is None
    studio.down()
    assert token_for(server.url) is None


def test_the_commands_for_it_alone_say_what_is(studio: LabelStudio) -> None:
    only = "--only", "label-studio"
    assert boxdrop_local("status", *only).exit_code == 3
    up = boxdrop_local("up", *only)
    assert up.exit_code == 0, up.output
    server = studio.running()
    assert server is not None
    assert server.url in up.output
    assert server.password in up.output
    said = boxdrop_local("status", *only).output
    assert said == f"Label Studio is running at {server.url} (process {server.pid})\n"
    assert "Starting development server" in boxdrop_local("logs", *only).output
    assert "its data stays in" in boxdrop_local("down", *only).output
    assert "was not running" in boxdrop_local("down", *only).output


def test_the_status_of_the_whole_system_names_what_is_missing(studio: LabelStudio) -> None:
    server = studio.up()
    status = boxdrop_local("status")
    assert status.exit_code == 3
    assert server.url in status.output
    assert status.output.count("is not running") == 3


def test_an_answer_through_a_proxy_does_not_count(
    studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert urllib.request.getproxies()["http"] == "http://127.0.0.1:9"
    assert studio.up().url
