"""95 % intervals: they cover the truth, whether or not the boxes of an image share their fate."""

import doctest

import numpy as np
import pytest

from boxdrop.assessment import intervals
from boxdrop.assessment.intervals import Clusters, student
from boxdrop.review.figures import count
from tests.unit.review.simulated import Rates, simulate

PROJECTS = 200


def test_the_docstring_tells_the_truth() -> None:
    assert doctest.testmod(intervals).failed == 0


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.706), (3, 3.182), (7, 2.365), (8, 2.306), (12, 2.179), (40, 2.021)]
)
def test_the_quantile_is_that_of_the_tables(degrees: int, quantile: float) -> None:
    assert student(degrees) == pytest.approx(quantile, abs=1e-3)


@pytest.mark.parametrize("share", [0.6, 0.8, 0.95])
@pytest.mark.parametrize("alike", [0.0, 0.2, 0.4, 0.5])
@pytest.mark.parametrize(("images", "boxes"), [(5, 4), (12, 2), (30, 8), (100, 5)])
def test_intervals_of_200_simulated_projects_cover_the_truth(
    images: int, boxes: float, alike: float, share: float
) -> None:
    """Boxes are clustered in images of very different numbers of boxes; what is asked for is 90 %."""
    covered = 0
    for seed in range(PROJECTS):
        rng = np.random.default_rng([seed, images, int(100 * alike)])
        found = draw(rng, images, boxes, share, alike).share()
        covered += found.low <= share <= found.high
    assert covered >= 0.9 * PROJECTS


def draw(rng: np.random.Generator, images: int, boxes: float, share: float, alike: float) -> Clusters:
    """Images whose boxes share their fate: beta-binomial, the number of boxes geometric."""
    numbers = rng.geometric(1 / boxes, images)
    rest = 1 / alike - 1 if alike else 0.0
    clusters = Clusters()
    for of in numbers.tolist():
        own = rng.beta(share * rest, (1 - share) * rest) if alike else share
        clusters.add(int(rng.binomial(of, own)), of)
    return clusters


def test_the_reports_precision_and_recall_of_200_projects_cover_the_truth() -> None:
    """The same through the whole of the report's counting."""
    rates = Rates(right=0.85, missed=0.15, boxes=2, alike=0.3)
    truth = {"precision": rates.right, "recall": 1 - _lost(rates)}
    covered = dict.fromkeys(truth, 0)
    for seed in range(PROJECTS):
        whole = count(simulate(np.random.default_rng([seed, 1]), 10, rates)).whole
        for name, share in (("precision", whole.precision), ("recall", whole.recall)):
            covered[name] += share.low <= truth[name] <= share.high
    assert min(covered.values()) >= 0.9 * PROJECTS, covered


def _lost(rates: Rates) -> float:
    """Of the objects that are left, those that nothing was offered for: what is deleted is no object."""
    found = (1 - rates.missed) * rates.right
    return rates.missed / (rates.missed + found)


def test_counting_boxes_as_if_each_stood_alone_would_not_cover() -> None:
    """Why images are the unit: Wilson's plain interval fails on clustered boxes."""
    covered = 0
    for seed in range(PROJECTS):
        share = draw(np.random.default_rng(seed), 30, 8, 0.7, 0.5).share()
        alone = Clusters()
        for number in range(share.of):
            alone.add(int(number < share.right), 1)
        covered += alone.share().low <= 0.7 <= alone.share().high
    assert covered < 0.8 * PROJECTS


def test_all_right_boxes_of_few_images_promise_little() -> None:
    few, many = Clusters(), Clusters()
    for _ in range(3):
        few.add(20, 20)
    for _ in range(60):
        many.add(1, 1)
    assert few.share().low < 0.6 < 0.9 < many.share().low
    assert few.share().high == many.share().high == 1.0


def test_a_share_of_nothing_says_nothing() -> None:
    share = Clusters().share()
    assert (share.value, share.low, share.high) == (None, 0.0, 1.0)
