from dataclasses import replace
from typing import Any

import pytest

from model_export.parity import TOLERANCE, Report, Row

ROW = Row(3, 6, 4, "wide", 1000, 560, floor=0.1, detections=40, unmatched=0, score=1e-6, box=1e-3)


def test_rows_within_the_tolerance_pass() -> None:
    report = Report((ROW, ROW), level=0.1)
    assert report.passed
    assert "outside" not in report.table()
    assert report.to_json()["passed"]
    assert report.to_json()["detections"] == 80


@pytest.mark.parametrize(
    "change", [{"unmatched": 1}, {"score": 2e-4}, {"box": 0.2}, {"detections": 0}, {"score": float("nan")}]
)
def test_one_row_outside_fails_the_whole(change: Any) -> None:
    report = Report((ROW, replace(ROW, **change)), level=0.1)
    assert not report.passed
    assert report.table().count("← outside") == 1


def test_a_choice_among_places_is_compared_too() -> None:
    chosen = replace(ROW, chosen=100, swapped=2, place=1e-5)
    report = Report((chosen,), level=0.1)
    assert report.passed
    assert "swapped 2%" in report.table()
    assert "swapped" not in Report((ROW,), level=0.1).table()
    for change in ({"swapped": 3}, {"place": 2e-3}, {"place": float("nan")}):
        assert not Report((replace(chosen, **change),), level=0.1).passed


def test_inputs_that_differ_fail_the_whole() -> None:
    assert not Report((ROW,), level=TOLERANCE.level * 1.01).passed
    assert not Report((ROW,), level=float("nan")).passed


def test_comparing_nothing_does_not_pass() -> None:
    assert not Report((), level=0.0).passed
