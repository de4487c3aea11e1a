"""The judge's clock that jumps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.judge.clocks import Clock

_TELL = "import sys, time\nfor line in sys.stdin: print(time.time(), time.monotonic(), flush=True)"
_DAY_S = 86_400


@pytest.mark.parametrize("kept", ["all variables", "only PYTHONPATH"])
def test_a_running_process_sees_the_time_of_day_jump(tmp_path: Path, kept: str) -> None:
    pytest.importorskip("libfaketime")
    clock = Clock(tmp_path / "clock")
    variables = clock.variables({"PATH": os.environ["PATH"]})
    if kept == "only PYTHONPATH":  # as the pump starts its functions
        variables = {"PYTHONPATH": variables["PYTHONPATH"]}
    command = [sys.executable, "-c", _TELL]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def ask() -> list[float]:
            stdin.write("\n")
            stdin.flush()
            return [float(each) for each in stdout.readline().split()]

        before = ask()
        clock.jump_to(-_DAY_S)
        behind = ask()
        clock.jump_to(0)
        after = ask()
    assert before[0] - behind[0] == pytest.approx(_DAY_S, abs=_DAY_S / 10)
    assert before[0] <= after[0] < before[0] + _DAY_S / 10
    assert before[1] <= behind[1] <= after[1]
