"""A server's start: its answer is waited for, its end is explained, and signals lose no process."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from boxdrop.domain.errors import LocalError
from boxdrop.servers import processes
from boxdrop.servers.server import (
    PortTakenError,
    inherited_variables,
    is_free,
    start_detached,
    start_on_port,
    wait_for_answer,
)
from tests.ports import free_port

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
        assert program.wait(120) == (143 if ending == signal.SIGTERM else -signal.SIGINT)
    assert not processes.is_alive(server)
    assert is_free(port)


def test_a_server_that_ends_shows_only_its_own_last_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("address already in use, said an earlier server\n")
    with pytest.raises(LocalError, match=r"^the toaster ended while it started(.|\n)*no bread$"):
        start_and_wait(tmp_path, "import sys; sys.exit('no bread')")


def test_a_port_that_was_taken_meanwhile_is_the_reason_that_is_given(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="took the port in the meantime"):
        start_and_wait(tmp_path, "import sys; sys.exit('OSError: [Errno 98] Address already in use')")


def listen(port: int) -> socket.socket:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen()
    return server


def test_a_server_whose_port_another_program_takes_meanwhile_starts_on_the_next_free_one() -> None:
    preferred = free_port()
    others: list[socket.socket] = []
    tried: list[int] = []

    def start(port: int) -> int:
        tried.append(port)
        if len(tried) < 3:
            others.append(listen(port))
            raise PortTakenError("another program took the port in the meantime")
        return port

    try:
        port = start_on_port(preferred, None, "--port", lambda _: None, start)
    finally:
        for other in others:
            other.close()
    assert tried[0] == preferred
    assert port == tried[2]
    assert len(set(tried)) == 3


def test_a_requested_port_that_is_taken_meanwhile_is_not_exchanged_for_another() -> None:
    def start(port: int) -> int:
        raise PortTakenError("another program took the port in the meantime")

    with pytest.raises(PortTakenError):
        start_on_port(8080, free_port(), "--port", lambda _: None, start)


def test_systems_that_start_at_once_get_ports_of_their_own() -> None:
    """Each server begins to listen only after all have chosen: without a reservation all choose the same."""
    preferred = free_port()
    all_have_chosen = threading.Barrier(4, timeout=30)

    def start(port: int) -> socket.socket:
        all_have_chosen.wait()
        return listen(port)

    with ThreadPoolExecutor(4) as threads:
        futures = [
            threads.submit(start_on_port, preferred, None, "--port", lambda _: None, start) for _ in range(4)
        ]
        servers = [future.result() for future in futures]
    ports = {server.getsockname()[1] for server in servers}
    for server in servers:
        server.close()
    assert len(ports) == 4


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
