"""Which end of a job is which exit code: Batch's retry strategy goes by them."""

import json
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from boxdrop.domain.errors import BoxdropError, BundleError, UnavailableError
from boxdrop.job.stop import Stop, StoppedError
from functions.job.__main__ import AGAIN, BROKEN, fail, main
from functions.job.log import LineLog


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoppedError("asked to stop"), AGAIN),
        (UnavailableError("S3 does not answer"), AGAIN),
        (BundleError("is not there"), BROKEN),
        (BoxdropError("CUDA was requested"), BROKEN),
        (RuntimeError("out of memory on the device"), BROKEN),
    ],
)
def test_an_end_has_a_reason_and_a_code(error: Exception, code: int, capsys: Any) -> None:
    assert fail(LineLog(), error) == code
    line = json.loads(capsys.readouterr().out)
    assert str(error) in line["reason"]
    assert line["exit_code"] == code


@pytest.mark.parametrize("arguments", [[], ["--run", "x", "serve"], ["sell"], ["--shard", "x"]])
def test_a_wrong_call_ends_with_2(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_a_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delenv("BOXDROP_DATA_BUCKET", raising=False)
    assert main(["--run", "20261124T215700Z-0123abcd"]) == BROKEN
    assert "BOXDROP_DATA_BUCKET is not set" in capsys.readouterr().out


def test_a_stop_is_due_when_it_is_asked_for_or_its_time_is_over() -> None:
    stop = Stop()
    assert not stop.is_due
    assert stop.within(0).is_due
    later = stop.within(3600)
    assert not later.is_due
    stop.ask()
    assert stop.is_due
    assert later.is_due
    with pytest.raises(StoppedError):
        later.check()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("moment", range(20))
def test_a_job_may_be_asked_at_any_moment_of_waiting(moment: int) -> None:
    """By a signal's handler, which runs in the thread that waits, where a call begins or has returned."""
    stop, passed = Stop(), 0

    def arrive(_frame: FrameType, event: str, _function: object) -> None:
        nonlocal passed
        passed += event in ("call", "c_return")
        if passed == moment:
            stop.ask()

    later = threading.Timer(0.02, stop.ask)  # where the moment would come after the wait
    later.start()
    sys.setprofile(arrive)
    stop.wait()
    sys.setprofile(None)
    later.join()
    assert stop.is_due
