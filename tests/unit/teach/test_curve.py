"""The learning curve, and what it foresees."""

import numpy as np
import pytest

from boxdrop.teach.curve import draw_curve, forecast
from boxdrop.teach.guard import judge
from boxdrop.teach.patches import stack
from tests.unit.teach.test_guard import LOOKS, WIDTH, images, words

ELSEWHERE = np.eye(WIDTH, dtype=np.float32)[20]


def test_a_taught_label_gets_better_with_the_images_and_costs_fewer_changes() -> None:
    verified = images(40, seed=8, noise=0.5)
    asked = words(np.stack([LOOKS[0], ELSEWHERE, LOOKS[2]]))
    patches = stack(verified, 3)
    verdict = judge(verified, patches, asked)
    curve = draw_curve(verified, patches, asked, verdict)
    assert curve is not None
    assert [point.images for point in curve.points] == [0, 10, 20, 40]
    assert curve.points[0].ap < curve.points[1].ap <= curve.points[-1].ap + 0.05
    assert curve.points[0].changes > curve.points[-1].changes
    then = curve.forecast
    assert then is not None
    assert then.images == 90
    assert then.ap_range[0] <= then.ap <= then.ap_range[1] <= 1
    assert 0 <= then.changes_range[0] <= then.changes <= then.changes_range[1]
    tried = curve.choice
    assert tried is not None
    assert (tried.images, tried.pool) == (10, 27)
    assert curve.points[0].ap < min(tried.chosen, tried.random)


def test_there_is_no_curve_where_the_words_stay_or_images_are_few() -> None:
    for count, asked in ((30, words(LOOKS)), (12, words(np.stack([LOOKS[0], ELSEWHERE, LOOKS[2]])))):
        verified = images(count, seed=9, noise=0.1)
        patches = stack(verified, 3)
        assert draw_curve(verified, patches, asked, judge(verified, patches, asked)) is None


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
def test_a_forecast_is_right_within_its_range_when_errors_shrink_as_it_assumes(noise: float) -> None:
    rng = np.random.default_rng(7)
    right = 0
    for _ in range(100):
        sizes = np.repeat([10, 20, 40], 4).astype(float)
        ap = 0.9 - 0.8 / np.sqrt(sizes) + rng.normal(0, noise, 12)
        changes = 0.5 + 4 / np.sqrt(sizes) + rng.normal(0, 3 * noise, 12)
        last = (80, 0.9 - 0.8 / np.sqrt(80) + rng.normal(0, noise / 2), 0.5 + 4 / np.sqrt(80))
        seen = forecast(np.column_stack([sizes, ap, changes]), last)
        assert seen is not None
        truth = 0.9 - 0.8 / np.sqrt(130)
        right += seen.ap_range[0] - 1e-4 <= truth <= seen.ap_range[1] + 1e-4
    assert right >= 90


def test_a_single_size_foresees_nothing() -> None:
    assert forecast(np.array([[10.0, 0.5, 2.0]]), (10, 0.5, 2.0)) is None
