"""What comes next: images with more to correct come first, and how many need a change, with an interval."""

import numpy as np

from boxdrop.assessment.evidence import Evidence, count
from boxdrop.assessment.priority import LEAST_IMAGES, Ranking, learn_ranking, outlook
from boxdrop.domain.detections import Detections

from .test_thresholds import draw

THRESHOLDS = np.full(3, 0.5)


def mistakes(image: Evidence) -> int:
    right, shown, objects = count(image, THRESHOLDS, 3).sum(axis=0).tolist()
    return int(shown + objects - 2 * right)


def share_in_first_fifth(ranking: Ranking, images: list[Evidence]) -> float:
    found = np.array([mistakes(each) for each in images])
    order = np.argsort([-ranking.doubt(each.candidates) for each in images], kind="stable")
    return float(found[order[: len(images) // 5]].sum() / found.sum())


def candidates(*scores: float) -> Detections:
    number = np.arange(len(scores))
    boxes = np.stack([number * 50, 0 * number, number * 50 + 40, 0 * number + 40], 1).astype(np.float32)
    return Detections(boxes, np.array(scores, np.float32), number % 3, number % 3, number)


def test_without_verified_work_candidates_near_their_threshold_come_first() -> None:
    ranking = learn_ranking([], THRESHOLDS)
    assert ranking.calibration is None
    sure, unsure, crowded = candidates(0.99, 0.02), candidates(0.55, 0.02), candidates(0.55, 0.45, 0.6)
    doubts = [ranking.doubt(each) for each in (sure, unsure, crowded)]
    assert doubts == sorted(doubts)
    assert ranking.doubt(Detections.empty()) == 0


def test_verified_work_finds_labels_that_are_wrong_more_often() -> None:
    rng = np.random.default_rng(0)
    offsets = [3.0, 0.0, -3.0]
    verified, others = draw(rng, 60, offsets), draw(rng, 400, offsets)
    ranking = learn_ranking(verified, THRESHOLDS)
    learned = share_in_first_fifth(ranking, others)
    assert learned > share_in_first_fifth(Ranking(THRESHOLDS), others) + 0.03
    assert learned > 0.33


def test_the_expected_mistakes_add_up() -> None:
    rng = np.random.default_rng(1)
    offsets = [1.0, 0.0, -1.0]
    ranking = learn_ranking(draw(rng, 100, offsets), THRESHOLDS)
    others = draw(rng, 400, offsets)
    expected = sum(ranking.doubt(each.candidates) for each in others)
    assert abs(expected / sum(map(mistakes, others)) - 1) < 0.1


def test_the_interval_of_images_that_need_a_change_holds_in_nine_of_ten_projects() -> None:
    held = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        offsets = rng.normal(0, 1, 3).tolist()
        ranking = learn_ranking(draw(rng, 40, offsets), THRESHOLDS)
        others = draw(rng, 100, offsets)
        seen = outlook(ranking, [ranking.chance(each.candidates) for each in others])
        held += seen.low <= sum(mistakes(each) > 0 for each in others) <= seen.high
        assert 0 <= seen.low <= seen.expected <= seen.high <= seen.images == 100
    assert held >= 9


def test_too_little_verified_work_teaches_nothing() -> None:
    rng = np.random.default_rng(2)
    assert learn_ranking(draw(rng, LEAST_IMAGES - 1, [0.0, 0.0, 0.0]), THRESHOLDS).calibration is None
    nothing = Evidence.of("x", Detections.empty(), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert learn_ranking([nothing] * 50, THRESHOLDS).calibration is None
