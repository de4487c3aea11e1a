"""Servers are found by their command line, and only they are stopped."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxdrop.servers import processes

SLEEP = "import time; print('ready', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


def start(*arguments: str, code: str = SLEEP) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", code, *arguments]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


@pytest.fixture
def mark(tmp_path: Path) -> list[str]:
    return ["--data-dir", str(tmp_path / "a folder"), "--end"]


@pytest.fixture
def child(mark: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    child = start("--port", "123", *mark)
    yield child
    child.kill()
    child.wait()


def test_a_process_is_found_by_a_part_of_its_command_line(
    child: "subprocess.Popen[bytes]", mark: list[str]
) -> None:
    assert processes.find(mark) == [child.pid]
    assert processes.argument(child.pid, "--port") == "123"
    assert processes.is_alive(child.pid)


def test_a_process_that_only_looks_alike_is_another_one(
    child: "subprocess.Popen[bytes]", mark: list[str]
) -> None:
    assert processes.find([mark[0], mark[1] + "x", mark[2]]) == []
    assert processes.find([mark[0], mark[1].removesuffix(" folder"), mark[2]]) == []


def test_a_stopped_process_is_gone_even_without_a_wait(
    child: "subprocess.Popen[bytes]", mark: list[str]
) -> None:
    processes.stop(child.pid, 10)
    assert not processes.is_alive(child.pid)
    assert processes.find(mark) == []


def test_one_that_ignores_the_polite_signal_is_ended_by_force(mark: list[str]) -> None:
    child = start(*mark, code=STUBBORN)
    processes.stop(child.pid, 0.5)
    assert not processes.is_alive(child.pid)
    child.wait()


def test_stopping_an_ended_process_is_no_error(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    child.wait()
    processes.stop(child.pid, 1)
