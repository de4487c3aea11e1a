"""The system starts and stops as one: real MiniStack and pump, a stand-in for Label Studio."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxdrop.domain.errors import LocalError
from boxdrop.local import aws, label_studio
from boxdrop.local.stack import Stack
from boxdrop.servers import processes
from tests.aws_server import aws_with_shared_venv
from tests.label_studio_server import quiet
from tests.ports import free_port
from tests.unit.local.test_label_studio import STAND_IN, listening


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """Installed, never started, on ports that nobody uses."""
    monkeypatch.setattr(label_studio, "PREFERRED_PORT", free_port())
    monkeypatch.setattr(aws, "PREFERRED_PORT", free_port())
    aws_with_shared_venv(tmp_path / "aws")
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path))
    made = Stack(tmp_path)
    program = made.label_studio.environment.path / "bin" / "label-studio"
    program.parent.mkdir(parents=True)
    program.write_text(STAND_IN)
    program.chmod(0o755)
    made.label_studio.environment.python.symlink_to(sys.executable)
    complete = made.label_studio.environment.path / "boxdrop-complete"
    complete.write_text(made.label_studio.environment.digest)
    yield made
    made.down(quiet)


def running(stack: Stack) -> list[int]:
    """Processes of this home, whatever they are."""
    marks = (stack.aws._mark, stack.label_studio._mark, stack._mark)
    return [pid for mark in marks for pid in processes.find(mark)]


def test_a_second_up_finds_everything_as_the_first_one_left_it(stack: Stack) -> None:
    first = stack.up(say=quiet)
    assert stack.up(say=quiet) == first
    assert stack.running() == first
    assert len(running(stack)) == 3
    assert stack.down(quiet) == ["the pump", "Label Studio", "AWS"]
    assert running(stack) == []
    assert stack.running() is None
    assert stack.down(quiet) == []


def test_what_died_is_started_again_and_the_rest_left_alone(stack: Stack) -> None:
    first = stack.up(say=quiet)
    os.kill(first.pump, signal.SIGKILL)
    second = stack.up(say=quiet)
    assert second.pump != first.pump
    assert (second.aws.pid, second.label_studio.pid) == (first.aws.pid, first.label_studio.pid)
    assert not second.moved


def test_a_crash_of_aws_is_noticed_until_it_is_made_good(stack: Stack) -> None:
    first = stack.up(say=quiet)
    assert not first.crashed
    stack.down(quiet)
    assert not stack.up(say=quiet).crashed
    server = stack.aws.running()
    assert server is not None
    os.kill(server.pid, signal.SIGKILL)
    assert stack.up(say=quiet).crashed
    stack.down(quiet)
    assert stack.up(say=quiet).crashed, "it was stopped in order, but nobody has looked"
    stack.aws.recovered()
    assert not stack.up(say=quiet).crashed


def test_another_port_is_reported_until_label_studio_has_been_told(stack: Stack) -> None:
    first = stack.up(say=quiet)
    stack.down(quiet)
    port = int(first.aws.url.rpartition(":")[2])
    with listening(port):
        assert stack.up(say=quiet).moved
        assert stack.up(say=quiet).moved, "the start before may have been killed"
        stack.told()
        assert not stack.up(say=quiet).moved


def test_a_port_that_was_asked_for_and_is_taken_is_an_error_and_nothing_is_left(stack: Stack) -> None:
    port = free_port()
    with listening(port), pytest.raises(LocalError, match=r"is taken by another program.*--aws-port"):
        stack.up(aws_port=port, say=quiet)
    assert running(stack) == []


def test_a_full_disk_is_noticed_before_anything_starts(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "_FREE_BYTES", 10**18)
    with pytest.raises(LocalError, match="put BOXDROP_HOME on another disk"):
        stack.up(say=quiet)
    assert running(stack) == []


def test_a_pump_that_ends_shows_its_last_words_and_nothing_is_left(stack: Stack) -> None:
    broken = Stack(stack.folder, "tests.integration.local.broken_pump")
    with pytest.raises(LocalError, match=r"(.|\n)*the pump is out of order"):
        broken.up(say=quiet)
    assert running(stack) == []


def test_ctrl_c_while_it_starts_leaves_nothing_running(stack: Stack) -> None:
    stack.label_studio.data.mkdir(parents=True)
    (stack.label_studio.data / "slow").touch()
    code = "from boxdrop.local.stack import Stack; Stack().up()"
    program = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not processes.find(stack.label_studio._mark):
        assert time.monotonic() < until
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    assert program.wait(120) != 0
    assert running(stack) == []


def test_what_the_system_knows_is_for_its_owner_alone(stack: Stack) -> None:
    stack.up(say=quiet)
    for name in ("system.json", "pump.json"):
        assert (stack.folder / name).stat().st_mode & 0o077 == 0
