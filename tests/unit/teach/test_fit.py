"""The fit: convex, near its start with little evidence, and the same for a label whatever the others are."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from boxdrop.detect.features import Features
from boxdrop.teach.fit import Heads, fit, fit_several, prototypes
from boxdrop.teach.lbfgs import History, minimise
from boxdrop.teach.patches import Patches, VerifiedImage, keep_informative, stack, stack_views

WIDTH = 8


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def image(rng: np.random.Generator, things: int, count: int = 40) -> VerifiedImage:
    """Patches side by side; the first `things` show label 0 and look like its direction."""
    embeddings = rng.normal(size=(count, WIDTH))
    embeddings[:things] = 3 * np.eye(WIDTH)[0] + 0.3 * rng.normal(size=(things, WIDTH))
    left = np.arange(count, dtype=np.float32) * 10
    boxes = np.stack([left, left * 0, left + 8, left * 0 + 8], axis=1)
    features = Features(
        unit(embeddings).astype(np.float16),
        np.full(count, -0.5, np.float32),
        np.full(count, 8, np.float32),
        boxes,
        np.ones(count, np.float32),
    )
    return VerifiedImage(features, boxes[:things], np.zeros(things, np.int64), (count * 10, 8))


@pytest.fixture
def patches() -> Patches:
    rng = np.random.default_rng(5)
    return stack([image(rng, things=2) for _ in range(12)], labels=2)


def test_the_minimum_of_a_quadratic_is_found() -> None:
    rng = np.random.default_rng(1)
    roots = rng.normal(size=(6, 6))
    matrix, target = roots @ roots.T + np.eye(6), rng.normal(size=6)
    found = minimise(
        lambda x: (float(0.5 * x @ matrix @ x - target @ x), matrix @ x - target), np.zeros(6), 60, 1e-8
    )
    np.testing.assert_allclose(found, np.linalg.solve(matrix, target), atol=1e-6)


def test_a_search_that_knows_the_curvature_of_a_similar_function_takes_fewer_steps() -> None:
    rng = np.random.default_rng(2)
    roots = rng.normal(size=(6, 6))
    matrix: NDArray[np.float64] = roots @ roots.T + np.eye(6)
    target = rng.normal(size=6)
    calls: list[int] = []

    def search(target: NDArray[np.float64], start: NDArray[np.float64], history: History) -> None:
        def objective(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            calls[-1] += 1
            return float(0.5 * x @ matrix @ x - target @ x), matrix @ x - target

        calls.append(0)
        found = minimise(objective, start, 60, 1e-6, history)
        np.testing.assert_allclose(found, np.linalg.solve(matrix, target), atol=1e-5)

    history = History()
    search(target, np.zeros(6), history)
    search(target + 0.1, np.asarray(np.linalg.solve(matrix, target), np.float64), history)
    search(target + 0.1, np.zeros(6), History())
    assert calls[1] < calls[2]


def test_what_people_drew_gets_higher_scores_than_all_else(patches: Patches) -> None:
    start, _ = prototypes(patches, np.ones(len(patches), bool), 2)
    heads = fit(patches, np.ones(len(patches), bool), start)
    scores = heads.logits(patches)[:, 0]
    drawn = patches.targets[:, 0] > 0
    assert scores[drawn].min() > scores[~drawn].max()
    assert scores[drawn].min() > 0


def test_the_fit_is_at_a_minimum_of_its_convex_loss(patches: Patches) -> None:
    start, _ = prototypes(patches, np.ones(len(patches), bool), 2)
    every = np.ones(len(patches), bool)
    few, many = fit(patches, every, start), fit(patches, every, start, steps=200)
    np.testing.assert_allclose(few.queries[0], many.queries[0], atol=5e-3)


def test_without_a_box_a_label_only_learns_where_it_is_not(patches: Patches) -> None:
    start = np.stack([np.eye(WIDTH)[1], np.eye(WIDTH)[0]]).astype(np.float32)
    heads = fit(patches, np.ones(len(patches), bool), start)
    before = Heads(start, np.ones(2, np.float32), np.zeros(2, np.float32)).logits(patches)[:, 1]
    assert heads.logits(patches)[:, 1].max() < before.max()  # label 1 began on the things of label 0


def test_no_patch_leaves_the_start(patches: Patches) -> None:
    start = np.eye(WIDTH)[:2].astype(np.float32)
    heads = fit(patches, np.zeros(len(patches), bool), start)
    np.testing.assert_array_equal(heads.queries, start)
    np.testing.assert_array_equal(heads.shifts, 1)


def test_a_label_learns_the_same_whatever_the_other_labels_are(patches: Patches) -> None:
    start = unit(np.random.default_rng(2).normal(size=(2, WIDTH)))
    every = np.ones(len(patches), bool)
    both, alone = fit(patches, every, start), fit(patches.of_labels(np.array([0])), every, start[:1])
    np.testing.assert_array_equal(both.queries[0], alone.queries[0])


def test_folds_fitted_together_are_those_fitted_alone(patches: Patches) -> None:
    """To a hundredth of a logit: both searches end where the loss is nearly flat."""
    selections = [np.ones(len(patches), bool), *(patches.images % 3 != fold for fold in range(3))]
    starts = [prototypes(patches, rows, 2)[0] for rows in selections]
    together = fit_several(patches, selections, starts)
    for rows, start, heads in zip(selections, starts, together, strict=True):
        alone = fit(patches, rows, start)
        np.testing.assert_allclose(heads.logits(patches), alone.logits(patches), atol=0.02)
    assert np.abs(together[0].logits(patches) - together[1].logits(patches)).max() > 0.1


def test_a_fold_without_patches_stays_at_its_start(patches: Patches) -> None:
    every, start = np.ones(len(patches), bool), np.eye(WIDTH)[:2].astype(np.float32)
    _, nothing, again = fit_several(patches, [every, ~every, every], [start] * 3)
    np.testing.assert_array_equal(nothing.queries, start)
    np.testing.assert_array_equal(nothing.shifts, 1)
    assert np.abs(again.queries - start).max() > 0.1


def test_a_patch_near_a_box_is_no_counterexample() -> None:
    rng = np.random.default_rng(3)
    seen = image(rng, things=1)
    moved = VerifiedImage(
        seen.features, seen.boxes + np.array([3, 0, 3, 0], np.float32), seen.labels, seen.size
    )
    stacked = stack([moved], labels=1)  # IoU 5 / 11: between 0.3 and 0.5
    assert not stacked.counted[0, 0]
    assert stacked.targets.max() == 0
    assert stacked.counted[2:].all()


def test_a_patch_of_two_boxes_is_an_example_of_the_nearer_one() -> None:
    seen = image(np.random.default_rng(4), things=1)
    two = np.concatenate([seen.boxes, seen.boxes + np.array([1, 0, 1, 0], np.float32)])
    stacked = stack([VerifiedImage(seen.features, two, np.array([0, 1]), seen.size)], labels=2)
    assert stacked.targets[0].tolist() == [1, 0]
    assert not stacked.counted[0, 1]


def test_views_add_examples_under_the_number_of_their_image() -> None:
    rng = np.random.default_rng(8)
    seen, other = image(rng, things=1), image(rng, things=2)
    verified = [seen, replace(other, views=(other.features.take(np.arange(5), np.ones(5, np.float32)),))]
    alone = stack(verified, labels=1)
    both = stack_views(verified, alone, labels=1)
    count = len(alone)
    assert len(both) == count + 5
    assert both.images[count:].tolist() == [1] * 5
    assert both.targets[count:, 0].tolist() == [1, 1, 0, 0, 0]
    assert both.best.tolist() == [*alone.best.tolist(), [count, 0], [count + 1, 0]]
    assert stack_views([seen], stack([seen], 1), 1).images.tolist() == [0] * len(seen.features)


def test_an_image_that_people_verified_as_empty_holds_counterexamples_only() -> None:
    seen = image(np.random.default_rng(6), things=2)
    empty = VerifiedImage(seen.features, seen.boxes[:0], seen.labels[:0], seen.size)
    stacked = stack([empty], labels=1)
    assert stacked.targets.max() == 0
    assert stacked.counted.all()


def test_kept_patches_are_those_near_boxes_and_the_hardest_and_stand_for_all() -> None:
    seen = image(np.random.default_rng(7), things=3, count=400)
    query = np.eye(WIDTH)[5:6].astype(np.float32)
    kept = keep_informative(seen.features, seen.boxes, query, limit=80)
    assert len(kept) <= 80
    lefts = kept.boxes[:, 0].tolist()
    assert {0.0, 10.0, 20.0} <= set(lefts)
    hardest = int((seen.features.embeddings.astype(np.float32) @ query.T)[:, 0].argmax())
    assert hardest * 10 in lefts
    assert kept.weights.sum() == pytest.approx(400)
