"""A server's start: its answer is waited for, its end is explained, and signals lose no process."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from boxdrop.domain.errors import LocalError
from boxdrop.servers import processes
from boxdrop.servers.server import inherited_variables, is_free, start_detached, wait_for_answer

REPOSITORY = Path(__file__).parents[3]

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

STARTS_AND_WAITS = """
import sys, time
from pathlib import Path
from boxdrop.servers.server import start_detached, terminated_in_order, wait_for_answer
folder, port = Path(sys.argv[1]), sys.argv[2]
command = [sys.executable, "-c", open(folder / "server.py").read(), port]
with terminated_in_order(), start_detached(command, folder / "log", folder, {}) as (process, _):
    wait_for_answer(process, f"http://127.0.0.1:{port}/", "it", folder / "log", 60)
    print(process.pid, flush=True)
    time.sleep(60)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_and_wait(folder: Path, program: str) -> None:
    command = [sys.executable, "-c", program]
    with start_detached(command, folder / "log", folder, inherited_variables()) as (process, begin):
        wait_for_answer(process, "http://127.0.0.1:9/", "the toaster", folder / "log", 30, begin=begin)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_that_was_started(tmp_path: Path, ending: signal.Signals) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    port = free_port()
    program = subprocess.Popen(
        [sys.executable, "-c", STARTS_AND_WAITS, str(tmp_path), str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        text=True,
    )
    with program:
        assert program.stdout is not None
        server = int(program.stdout.readline())
        assert processes.is_alive(server)
        program.send_signal(ending)
        assert program.wait(30) == (143 if ending == signal.SIGTERM else -signal.SIGINT)
    assert not processes.is_alive(server)
    assert is_free(port)


def test_a_server_that_ends_shows_only_its_own_last_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("address already in use, said an earlier server\n")
    with pytest.raises(LocalError, match=r"^the toaster ended while it started(.|\n)*no bread$"):
        start_and_wait(tmp_path, "import sys; sys.exit('no bread')")


def test_a_port_that_was_taken_meanwhile_is_the_reason_that_is_given(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="took the port in the meantime"):
        start_and_wait(tmp_path, "import sys; sys.exit('OSError: [Errno 98] Address already in use')")


def test_a_server_that_does_not_respond_is_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    started = time.monotonic()
    with (
        pytest.raises(LocalError, match=r"did not start within 0\.3 s"),
        start_detached(command, tmp_path / "log", tmp_path, {}) as (process, _),
    ):
        wait_for_answer(process, "http://127.0.0.1:9/", "the toaster", tmp_path / "log", 0.3)
    assert time.monotonic() - started < 20
    assert not processes.is_alive(process.pid)


def test_tracking_and_the_room_for_servers_know_nothing_of_the_local_system() -> None:
    for folder in ("tracking", "servers"):
        for file in (REPOSITORY / "boxdrop" / folder).glob("*.py"):
            assert "boxdrop.local" not in file.read_text().replace("`boxdrop.local`", ""), file
