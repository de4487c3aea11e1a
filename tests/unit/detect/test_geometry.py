"""Laws of boxes, checked on generated ones."""

from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from boxdrop.detect.families.owl import Owl
from boxdrop.detect.families.words import Words
from boxdrop.detect.postprocess import candidates_of
from boxdrop.domain.detections import select, suppress

sizes = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
unit = st.floats(0, 1, width=32)


@st.composite
def scored_boxes(
    draw: st.DrawFn, prompts: int = 4
) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[int, int]]:
    """(scores [N, prompts], boxes [N, 4] that may reach beyond the image, (width, height))."""
    size = draw(sizes)
    count = draw(st.integers(0, 12))
    reach = 2 * max(size)
    numbers = draw(st.lists(st.floats(-reach, reach, width=32), min_size=4 * count, max_size=4 * count))
    boxes = np.array(numbers, np.float32).reshape(count, 2, 2)
    boxes = np.concatenate([boxes.min(axis=1), boxes.max(axis=1)], axis=1)
    scores = draw(st.lists(unit, min_size=count * prompts, max_size=count * prompts))
    return np.array(scores, np.float32).reshape(count, prompts), boxes, size


@settings(deadline=None)  # a busy machine is no reason to fail
@given(scored_boxes())
def test_boxes_lie_inside_the_image_and_have_an_area(case: Any) -> None:
    scores, boxes, (width, height) = case
    found = candidates_of(scores, boxes, (0, 1, 2, 3), 0.1, (width, height))
    assert np.isfinite(found.boxes).all()
    left, top, right, bottom = found.boxes.T
    assert ((left >= 0) & (top >= 0) & (right <= width) & (bottom <= height)).all()
    assert ((right > left) & (bottom > top)).all()
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.labels.dtype == found.prompts.dtype == found.queries.dtype == np.int64


@settings(deadline=None)  # a busy machine is no reason to fail
@given(scored_boxes())
def test_clipping_twice_is_clipping_once(case: Any) -> None:
    scores, boxes, size = case
    once = candidates_of(scores, boxes, (0, 1, 2, 3), 0.1, size)
    clipped = boxes.copy()
    clipped[once.queries] = once.boxes
    twice = candidates_of(scores, clipped, (0, 1, 2, 3), 0.1, size)
    assert np.array_equal(once.boxes, twice.boxes)


@settings(deadline=None)  # a busy machine is no reason to fail
@given(scored_boxes())
def test_every_score_from_the_floor_on_is_there_once(case: Any) -> None:
    scores, boxes, size = case
    found = candidates_of(scores, boxes, (0, 1, 2, 3), 0.1, size)
    pairs = set(zip(found.queries.tolist(), found.labels.tolist(), strict=True))
    assert len(pairs) == len(found)
    clipped = np.clip(boxes, 0, np.tile(np.array(size, np.float32), 2))
    has_area = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    rows, labels = np.nonzero((scores >= np.float32(0.1)) & has_area[:, None])
    assert pairs == set(zip(rows.tolist(), labels.tolist(), strict=True))


@settings(deadline=None)  # a busy machine is no reason to fail
@given(scored_boxes())
def test_prompts_of_a_label_merge_to_their_maximum(case: Any) -> None:
    scores, boxes, size = case
    owners = (0, 0, 1, 0)
    found = candidates_of(scores, boxes, owners, 0.1, size)
    for score, label, prompt, query in zip(
        found.scores, found.labels, found.prompts, found.queries, strict=True
    ):
        of_label = [scores[query, i] for i in range(4) if owners[i] == label]
        assert score == max(of_label)
        assert owners[prompt] == label
        assert scores[query, prompt] == score


@settings(deadline=None)  # a busy machine is no reason to fail
@given(scored_boxes(), st.permutations(range(4)), st.sampled_from([None, 0.5, 0.7]))
def test_the_order_of_labels_changes_nothing(case: Any, order: list[int], rival_iou: float | None) -> None:
    scores, boxes, size = case
    # Where scores are equal, the label written first wins: that is for ties only.
    assume(len(np.unique(scores)) == scores.size)

    def answer(columns: list[int]) -> list[tuple[object, ...]]:
        found = suppress(candidates_of(scores[:, columns], boxes, (0, 1, 2, 3), 0.1, size))
        chosen = select(found, [0.2] * 4, rival_iou)
        return [
            (
                tuple(box.tolist()),
                float(score),
                columns[label],
                int(query),
                sorted((columns[rival], value) for rival, value in rivals),
            )
            for box, score, label, query, rivals in zip(
                chosen.boxes, chosen.scores, chosen.labels, chosen.queries, chosen.rivals, strict=True
            )
        ]

    assert answer(list(order)) == answer([0, 1, 2, 3])


@settings(deadline=None)  # a busy machine is no reason to fail
@given(sizes, st.lists(st.tuples(unit, unit, unit, unit), min_size=1, max_size=8), st.booleans())
def test_boxes_come_back_from_the_model_to_the_image(size: tuple[int, int], parts: Any, padded: bool) -> None:
    """A box of the image, said as the model says it, decodes to itself: pixels × (1 / what the model saw)."""
    width, height = size
    seen = np.array([max(size)] * 2 if padded else [width, height], np.float64)
    corners = np.array([sorted(p[:2]) + sorted(p[2:]) for p in parts])[:, [0, 2, 1, 3]] * np.tile(
        [width, height], 2
    )
    said = np.concatenate(
        [(corners[:, :2] + corners[:, 2:]) / 2 / seen, (corners[:, 2:] - corners[:, :2]) / seen], axis=1
    )
    logits = np.zeros((1, len(parts), 1), np.float32)
    _, boxes = Owl(padded_to_square=padded).decode(
        [logits, said[None].astype(np.float32)], np.array([size], np.int64), Words(np.zeros(1, np.int64), {})
    )
    np.testing.assert_allclose(boxes[0], corners, atol=1e-6 * max(size) + 1e-4)


@settings(deadline=None)  # a busy machine is no reason to fail
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20))
def test_scores_are_the_logistic_function_at_any_size(logits: list[float]) -> None:
    array = np.array(logits, np.float32).reshape(1, -1, 1)
    with np.errstate(all="raise", under="ignore"):
        scores, _ = Owl(padded_to_square=False).decode(
            [array, np.zeros((1, len(logits), 4), np.float32)],
            np.array([[1, 1]]),
            Words(np.zeros(1, np.int64), {}),
        )
    exact = 1 / (1 + np.exp(-np.clip(array.astype(np.float64), -500, 500)))
    np.testing.assert_allclose(scores, exact, atol=1e-7)
    assert ((scores >= 0) & (scores <= 1)).all()
