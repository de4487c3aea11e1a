from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from model_export.parity import TOLERANCE, Report, Row, _Choice, _compare_choices
from model_export.reference import Reference

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


def test_places_of_equal_scores_have_no_order() -> None:
    logits = np.array([3.0, -4.6, -4.6, 1.0], np.float32)
    places = np.arange(4)
    none = np.zeros((3, 1), np.float32)
    reference = Reference(
        none, none, none[:, 0], places[:3], np.zeros((3, 4), np.float32), places, logits, np.array([0, 3, 1])
    )

    def swaps(*chosen: int) -> int:
        return _compare_choices([reference], _Choice([logits], [places], np.array(chosen)))[1]

    assert swaps(0, 3, 1) == 0
    assert swaps(0, 3, 2) == 0  # as good as the place that transformers chose
    assert swaps(3, 0, 1) == 2
