"""Programs that boxdrop starts for PyTorch, and the environment in which they run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from boxdrop.detectors import export_environment
from boxdrop.detectors.export_environment import python_with_torch, run_program
from boxdrop.domain.errors import BoxdropError
from boxdrop.folders import exclusive

CHILD = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
PARENT = (
    "import sys\nfrom boxdrop.detectors.export_environment import run_program\n"
    "run_program([sys.executable, '-c', sys.argv[1]], 'failed', lambda line: print(line, flush=True))"
)


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a program outlives a killed boxdrop")
def test_a_program_ends_with_the_boxdrop_that_started_it_even_by_a_kill() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    try:
        waited = time.monotonic() + 60
        while is_running(child) and time.monotonic() < waited:
            time.sleep(0.02)
        assert not is_running(child)
    finally:
        parent.stdout.close()
        if is_running(child):
            os.kill(child, signal.SIGKILL)


def test_a_programs_lines_and_its_failure_are_passed_on() -> None:
    said: list[str] = []
    code = "import sys; print('one'); print('Error: no such model'); sys.exit(3)"
    with pytest.raises(BoxdropError, match=r"^it failed: no such model$"):
        run_program([sys.executable, "-c", code], "it failed", said.append)
    assert said == ["one"]  # the exception says the rest


def test_one_process_at_a_time_makes_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path))
    monkeypatch.setitem(export_environment._NEEDED, "export", ("a_module_that_is_not_there",))
    with (
        exclusive(tmp_path / ".export-environment.lock", "taken"),
        pytest.raises(BoxdropError, match="another process installs PyTorch here; wait for it"),
    ):
        python_with_torch(lambda _: None)
    assert not (tmp_path / "export-environment").exists()
