"""Tiles cover the image, and an object is found once, wherever the borders lie."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from boxdrop.detect.bundle import Preprocess
from boxdrop.detect.tiles import MOST_TILES, View, merge, plan
from boxdrop.domain.detections import Detections, iou
from boxdrop.domain.labels import Tiling

MODEL = Preprocess(768, 768, "bicubic", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
AUTO = Tiling("auto")

tilings = st.one_of(
    st.just(AUTO),
    st.builds(Tiling, st.just("fixed"), st.integers(300, 900), st.sampled_from([0.1, 0.2, 0.35, 0.5])),
)


def detections(rows: Sequence[tuple[Sequence[float], float, int]]) -> Detections:
    return Detections(
        boxes=np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row[1] for row in rows], np.float32),
        labels=np.array([row[2] for row in rows], np.int64),
        prompts=np.array([row[2] for row in rows], np.int64),
        queries=np.arange(len(rows)),
    )


@given(st.integers(1, 9000), st.integers(1, 9000), tilings)
def test_tiles_cover_the_image_and_overlap_as_asked(width: int, height: int, tiling: Tiling) -> None:
    whole, *tiles = plan(width, height, tiling, MODEL)
    assert whole == View(0, 0, width, height)
    assert len(set(tiles)) == len(tiles)
    if tiling == AUTO:
        assert len(tiles) <= MOST_TILES
        assert bool(tiles) == (max(width, height) >= 1.5 * 768)
    for low, high, length in (("left", "right", width), ("top", "bottom", height)):
        spans = sorted({(getattr(tile, low), getattr(tile, high)) for tile in tiles})
        if spans:
            assert (spans[0][0], spans[-1][1]) == (0, length)
        for (_, end), (start, further) in pairwise(spans):
            assert end - start >= round(tiling.overlap * (further - start)) - 2


def test_small_images_and_off_use_only_the_whole_image() -> None:
    assert len(plan(4000, 3000, Tiling(), MODEL)) == 1
    assert len(plan(1100, 700, AUTO, MODEL)) == 1
    assert len(plan(500, 500, Tiling("fixed", 640, 0.2), MODEL)) == 1


def test_auto_takes_tiles_of_the_models_size_until_they_are_too_many() -> None:
    assert plan(1380, 760, AUTO, MODEL)[1:] == (View(0, 0, 768, 760), View(612, 0, 1380, 760))
    large = plan(4000, 3000, AUTO, MODEL)[1:]
    assert len(large) == MOST_TILES
    assert large[0].size[0] > 768


def seen(
    objects: Sequence[tuple[float, float, float, float, int]], view: View, random: np.random.Generator
) -> Detections:
    """What a good detector finds in a view: what is large enough there, cut off at its border, off by 1 %."""
    scale = 768 / max(view.size)
    rows = []
    for left, top, right, bottom, label in objects:
        box = np.clip(
            [left - view.left, top - view.top, right - view.left, bottom - view.top],
            0,
            [*view.size, *view.size],
        )
        sides = box[2:] - box[:2]
        share = sides.prod() / ((right - left) * (bottom - top))
        if sides.min() * scale < 8 or (share < 0.2 and sides.min() < 24):
            continue
        jitter = random.uniform(-0.01, 0.01, 4) * np.tile(sides, 2)
        rows.append((np.clip(box + jitter, 0, [*view.size, *view.size]), random.uniform(0.1, 0.9), label))
    return detections(rows)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[int, int, list[tuple[float, float, float, float, int]]]:
    """An image and objects of all sizes that do not lie on one another."""
    width, height = draw(st.integers(700, 4000)), draw(st.integers(700, 4000))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    objects: list[tuple[float, float, float, float, int]] = []
    for _ in range(draw(st.integers(0, 40))):
        w, h = np.exp(random.uniform(np.log(20), np.log(700), 2))
        if max(w, h) > 4 * min(w, h) or w > width or h > height:
            continue
        left, top = random.uniform(0, width - w), random.uniform(0, height - h)
        if all(left > o[2] or left + w < o[0] or top > o[3] or top + h < o[1] for o in objects):
            objects.append((left, top, left + w, top + h, int(random.integers(0, 2))))
    return width, height, objects


@settings(max_examples=150, deadline=None)
@given(scenes(), tilings, st.integers(0, 2**32))
def test_no_object_has_two_boxes_and_none_that_was_seen_has_none(
    scene: tuple[int, int, list[tuple[float, float, float, float, int]]], tiling: Tiling, seed: int
) -> None:
    width, height, objects = scene
    random = np.random.default_rng(seed)
    views = plan(width, height, tiling, MODEL)
    found = [seen(objects, view, random) for view in views]
    merged = merge(found, views)
    truth = np.array([each[:4] for each in objects], np.float32).reshape(-1, 4)
    claimed = [int(iou(box, truth).argmax()) for box in merged.boxes]
    assert len(set(claimed)) == len(claimed), "two boxes for one object"
    for box, label, claim in zip(merged.boxes, merged.labels, claimed, strict=True):
        assert iou(box, truth)[claim] > 0.5
        assert objects[claim][4] == label
    # What is large enough in a view that shows all of it was seen there.
    for number, (left, top, right, bottom, _) in enumerate(objects):
        shown = [
            view
            for view in views
            if view.left <= left and view.top <= top and view.right >= right and view.bottom >= bottom
        ]
        if any(min(right - left, bottom - top) * 768 / max(view.size) >= 9 for view in shown):
            assert number in claimed


TILES = (View(0, 0, 1000, 600), View(0, 0, 600, 600), View(400, 0, 1000, 600))


def merged(*found: Sequence[tuple[Sequence[float], float, int]]) -> list[tuple[list[float], float]]:
    result = merge([detections(rows) for rows in found], TILES)
    return [
        ([round(float(side)) for side in box], round(float(score), 2))
        for box, score in zip(result.boxes, result.scores, strict=True)
    ]


def test_the_pieces_of_a_cut_box_are_joined_with_the_best_score() -> None:
    pieces = merged([], [((300, 100, 600, 200), 0.5, 0)], [((0, 101, 300, 199), 0.8, 0)])
    assert pieces == [([300, 100, 700, 200], 0.8)]


def test_a_piece_gives_way_to_the_whole_object() -> None:
    assert merged([((300, 100, 900, 200), 0.3, 0)], [((300, 100, 600, 200), 0.9, 0)], []) == [
        ([300, 100, 900, 200], 0.3)
    ]


def test_a_joined_object_gives_its_score_to_the_complete_box() -> None:
    whole, left, right = (
        ((300, 100, 700, 200), 0.2, 0),
        ((300, 100, 600, 200), 0.5, 0),
        ((0, 100, 300, 200), 0.7, 0),
    )
    assert merged([whole], [left], [right]) == [([300, 100, 700, 200], 0.7)]


def test_pieces_of_two_objects_are_not_joined() -> None:
    upper, lower = ((300, 100, 600, 200), 0.5, 0), ((0, 250, 300, 350), 0.8, 0)
    assert len(merged([], [upper], [lower])) == 2
    other_label = ((0, 100, 300, 200), 0.8, 1)
    assert len(merged([], [upper], [other_label])) == 2


def test_a_complete_object_inside_another_of_its_label_stays() -> None:
    bunch, banana = ((100, 100, 500, 500), 0.5, 0), ((150, 150, 250, 200), 0.8, 0)
    assert len(merged([bunch], [banana], [])) == 2


def test_one_view_is_left_as_it_is() -> None:
    found = detections([((0, 0, 10, 10), 0.5, 0)])
    assert merge([found], (View(0, 0, 10, 10),)) is found


def test_queries_stay_apart() -> None:
    """Boxes of different views have the same numbers at first; afterwards a number is one box."""
    rows = [((10, 10, 60, 60), 0.5, 0), ((200, 10, 260, 60), 0.4, 1)]
    result = merge([detections(rows[:1]), detections(rows[1:]), detections([])], TILES)
    assert len(set(result.queries.tolist())) == 2


def test_no_view_found_anything() -> None:
    assert len(merge([detections([])] * 3, TILES)) == 0


@pytest.mark.parametrize("side", [0, 1, 2, 3])
def test_a_box_at_the_border_of_the_image_is_complete(side: int) -> None:
    box: NDArray[np.float32] = np.array(
        [[0, 0, 100, 100], [0, 500, 100, 600], [900, 0, 1000, 100], [300, 0, 350, 90]]
    )[side]
    assert merged([(box.tolist(), 0.5, 0)], [], []) == [(box.tolist(), 0.5)]
