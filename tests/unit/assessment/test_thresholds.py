"""Thresholds from verified work: they follow the evidence, and little evidence moves little."""

import numpy as np
import pytest
from numpy.typing import NDArray

from boxdrop.assessment.calibration import calibrate, logit, sigmoid
from boxdrop.assessment.evidence import Evidence, count, tally
from boxdrop.assessment.thresholds import REVIEW, TRAINING, Goal, TuningError, crowding, fit, suggest
from boxdrop.domain.detections import Detections

DEFAULT = 0.5
SIDE = 40.0


def draw(
    rng: np.random.Generator,
    images: int,
    offsets: list[float],
    shares: list[float] | None = None,
    honest: tuple[float, float] = (0.0, 3.0),
) -> list[Evidence]:
    """Verified images whose scores say P(right), but for one constant per label in their logits.

    `honest`: mean and standard deviation of the logits of P(right).
    """
    labels = len(offsets)
    drawn = []
    for number in range(images):
        size = int(rng.integers(3, 8))
        label = rng.choice(labels, size, p=shares)
        places = rng.permutation(25)[:size]
        corners = np.stack([places % 5, places // 5], 1) * 50.0
        boxes = np.concatenate([corners, corners + SIDE], 1).astype(np.float32)
        true = rng.normal(*honest, size)
        right = rng.random(size) < sigmoid(true)
        scores = sigmoid(true + np.array(offsets)[label]).astype(np.float32)
        kept = scores >= 0.02
        found = Detections(boxes[kept], scores[kept], label[kept], label[kept], np.flatnonzero(kept))
        drawn.append(Evidence.of(f"{number}.jpg", found, boxes[right], label[right].astype(np.int64)))
    return drawn


def f1(images: list[Evidence], thresholds: NDArray[np.floating]) -> float:
    return tally(np.stack([count(each, thresholds, len(thresholds)) for each in images])).f_score()


def test_calibration_finds_the_constants_that_were_added_to_labels() -> None:
    offsets = [-2.0, 0.0, 2.0]
    images = draw(np.random.default_rng(0), 400, offsets)
    fitted = calibrate(
        np.concatenate([each.candidates.scores for each in images]),
        np.concatenate([each.candidates.labels for each in images]),
        np.concatenate([each.right for each in images]),
        3,
    )
    cuts = fitted.cuts(0.5)
    assert np.allclose(cuts, offsets, atol=0.35)
    assert np.all(np.abs(cuts - offsets) < 4 * fitted.cut_errors(cuts))


def test_the_intervals_hold_the_true_cut_in_nine_of_ten_projects() -> None:
    hits = total = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        offsets = rng.normal(0, 1, 6)
        images = draw(rng, 60, offsets.tolist())
        fitted = calibrate(
            np.concatenate([each.candidates.scores for each in images]),
            np.concatenate([each.candidates.labels for each in images]),
            np.concatenate([each.right for each in images]),
            6,
        )
        cuts = fitted.cuts(0.5)
        hits += int((np.abs(cuts - offsets) < 1.96 * fitted.cut_errors(cuts)).sum())
        total += 6
    assert hits / total > 0.9


def test_how_many_candidates_a_label_has_says_where_to_cut_it_before_many_are_verified() -> None:
    offsets = np.tile([-2.0, 2.0], 6)
    errors, hits = np.zeros(2), 0
    for seed in range(6):
        images = draw(np.random.default_rng(seed), 25, offsets.tolist(), honest=(-2.5, 2.0))
        levels = crowding(images, len(offsets))
        for place, known in enumerate((None, levels)):
            fitted = fit(images, len(offsets), known)
            cuts = fitted.cuts(0.5)
            errors[place] += np.abs(cuts - offsets - (cuts - offsets).mean()).mean()
        hits += int((np.abs(cuts - offsets) < 1.96 * fitted.cut_errors(cuts)).sum())
    assert errors[1] < 0.85 * errors[0]
    assert hits >= 0.9 * 6 * len(offsets)


def test_labels_that_differ_get_thresholds_that_gain_most_of_what_can_be_gained() -> None:
    rng = np.random.default_rng(1)
    offsets = [-3.0, 3.0, -3.0, 3.0]
    verified, others = draw(rng, 60, offsets), draw(rng, 300, offsets)
    current = np.full(4, DEFAULT)
    suggestion = suggest(verified, current)
    ideal = sigmoid(logit(np.full(4, 0.45)) + np.array(offsets))
    gained = f1(others, suggestion.thresholds) - f1(others, current)
    assert suggestion.is_better
    assert gained > 0.8 * (f1(others, ideal) - f1(others, current))


def test_thresholds_that_are_right_already_hardly_move() -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        verified, others = draw(rng, 25, [0.0] * 5), draw(rng, 150, [0.0] * 5)
        current = np.full(5, 0.4)
        assert f1(others, suggest(verified, current).thresholds) > f1(others, current) - 0.005


def test_a_label_with_three_boxes_does_not_swing() -> None:
    rng = np.random.default_rng(2)
    images = draw(rng, 80, [1.0, 1.0, 1.0], [0.5, 0.495, 0.005])
    assert sum(int((each.labels == 2).sum()) for each in images) <= 3
    first, second, third = suggest(images, np.full(3, DEFAULT)).labels
    assert abs(third.after - (first.after + second.after) / 2) < 0.12
    assert third.high - third.low > 1.5 * (first.high - first.low)


def test_training_shows_more_than_review() -> None:
    images = draw(np.random.default_rng(3), 100, [1.5, -1.5])
    current = np.full(2, DEFAULT)
    review, training = suggest(images, current, REVIEW), suggest(images, current, TRAINING)
    assert (training.thresholds < review.thresholds).all()
    assert training.after.recall > review.after.recall


@pytest.mark.parametrize("goal", [Goal(precision=0.95), Goal(recall=0.9)])
def test_a_stated_precision_or_recall_is_reached_in_other_images(goal: Goal) -> None:
    rng = np.random.default_rng(4)
    offsets = [-1.0, 0.0, 1.0]
    verified, others = draw(rng, 200, offsets), draw(rng, 500, offsets)
    suggestion = suggest(verified, np.full(3, DEFAULT), goal)
    shown = tally(np.stack([count(each, suggestion.thresholds, 3) for each in others]))
    if goal.precision is not None:
        assert shown.precision > goal.precision - 0.02
        assert shown.recall > 0.3  # not reached by showing hardly anything
    else:
        assert goal.recall is not None
        assert shown.recall > goal.recall - 0.02


def test_no_threshold_is_below_the_floor_of_the_detector() -> None:
    images = draw(np.random.default_rng(5), 60, [-4.0, -4.0])
    assert (suggest(images, np.full(2, DEFAULT), TRAINING, floor=0.1).thresholds >= 0.1).all()


def test_too_little_verified_work_is_named_with_the_way_out() -> None:
    rng = np.random.default_rng(6)
    with pytest.raises(TuningError, match=r"9 verified images are too few.* at least 10"):
        suggest(draw(rng, 9, [0.0]), np.full(1, DEFAULT))
    with pytest.raises(TuningError, match=r"no thresholds reach a recall of 0\.999"):
        suggest(draw(rng, 50, [-3.0]), np.full(1, DEFAULT), Goal(recall=0.999))
    empty = Evidence.of("x", Detections.empty(), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    with pytest.raises(TuningError, match="0 boxes of these labels, too few"):
        suggest([empty] * 12, np.full(1, DEFAULT))


def test_a_label_that_nobody_verified_yet_keeps_a_finite_threshold() -> None:
    images = draw(np.random.default_rng(7), 40, [2.0, 2.0, 0.0], [0.5, 0.5, 0.0])
    unknown = suggest(images, np.full(3, DEFAULT)).labels[2]
    assert 0 < unknown.after < 1
    assert unknown.objects == unknown.shown.shown == 0
