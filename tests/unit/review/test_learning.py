"""The report's part about teaching."""

import json
from dataclasses import replace
from datetime import UTC, datetime

from boxdrop.documents import from_json, to_json
from boxdrop.domain.curve import ChoiceGain, Curve, CurvePoint, Forecast
from boxdrop.domain.lesson import Figures
from boxdrop.domain.teaching import Teaching
from boxdrop.review.figures import count
from boxdrop.review.learning import learning_fields, learning_lines
from boxdrop.review.page import render
from tests.unit.review.test_page import busy, tags

AT = datetime(2026, 11, 28, tzinfo=UTC)
CURVE = Curve(
    (CurvePoint(0, 0.1, 3.0), CurvePoint(10, 0.55, 1.9), CurvePoint(40, 0.74, 1.2)),
    Forecast(90, 0.78, (0.75, 0.81), 1.0, (0.8, 1.3)),
    ChoiceGain(10, 27, 0.6, 0.55),
)
TAUGHT = Teaching(
    AT, 40, 41, "0123456789abcdef", 2, Figures(0, 0, 0.1, 0.1), Figures(0, 0, 0.7, 0.74), curve=CURVE
)
IN_VAIN = Teaching(AT, 80, 80, None, 0, Figures(0, 0, 0.7, 0.7), Figures(0, 0, 0.7, 0.7), "no clear gain")


def test_what_came_of_it_the_curve_and_the_forecast_are_lines() -> None:
    assert [*learning_lines([TAUGHT, IN_VAIN])] == [
        "Teaching, 2026-11-28: learned from 80 verified images: F1 0.70 → 0.70 in cross-validation; "
        "not used: no clear gain",
        "   words alone: AP 0.10, 3.0 changes per image",
        "     10 images: AP 0.55, 1.9 changes per image",
        "     40 images: AP 0.74, 1.2 changes per image",
        "  50 more verified images would likely bring AP 0.74 → 0.78 (0.75 to 0.81), and changes per image "
        "1.2 → 1.0 (0.8 to 1.3)",
        "  in a trial, 10 images that `boxdrop teach --next` chose from 27 of these taught AP 0.60, "
        "10 random ones AP 0.55",
    ]
    assert [*learning_lines([])] == []


def test_programs_get_the_same() -> None:
    fields = learning_fields([TAUGHT, IN_VAIN])
    assert fields is not None
    assert (fields["images"], fields["attempts"], fields["at"]) == (80, 2, "2026-11-28T00:00:00+00:00")
    assert fields["curve"]["forecast"]["ap_range"] == (0.75, 0.81)
    assert learning_fields([]) is None
    assert from_json(Teaching, to_json(TAUGHT)) == TAUGHT


def test_an_attempt_that_was_noted_before_choices_were_tried_is_read() -> None:
    noted = json.loads(to_json(TAUGHT))
    del noted["curve"]["choice"]
    read = from_json(Teaching, json.dumps(noted))
    assert read == replace(TAUGHT, curve=replace(CURVE, choice=None))


def test_the_page_draws_the_curve_and_stays_whole() -> None:
    report = count(busy("banana"))
    for teachings, plots in (((TAUGHT,), 1), ((IN_VAIN,), 0), ((), 0)):
        page = render("fruit", report, trusted=0.8, at=AT, teachings=teachings)
        assert "svg" in tags(page)
        assert page.count("AP and changes per image by the number") == plots
        assert ("<h2>Teaching</h2>" in page) == bool(teachings)
