"""Which images to verify next: what is common and not verified yet."""

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.features import Features
from boxdrop.teach.choice import THINGS_PER_IMAGE, Things, choose, things_of

WIDTH = 16
LOOKS = np.eye(WIDTH, dtype=np.float32)


def showing(*looks: int, objectness: float = 2.0, doubt: float = 0.5) -> Things:
    """An image with a thing of each of these looks, and one faint patch of ground."""
    ground = np.eye(WIDTH, dtype=np.float32)[-1]
    return Things(
        np.stack([*(LOOKS[look] for look in looks), ground]),
        np.array([*(objectness for _ in looks), -4.0], np.float32),
        np.array([*(doubt for _ in looks), 0], np.float32),
    )


def test_the_first_image_shows_most_of_what_is_common_and_the_next_what_it_lacks() -> None:
    pool = [showing(0), showing(0, 1), showing(2), showing(0), showing(1), showing(2), showing(3)]
    assert choose(pool, 3) == [1, 2, 6]


def test_what_is_verified_is_not_chosen_again() -> None:
    pool = [showing(0), showing(0), showing(0), showing(1)]
    assert choose(pool, 1) == [0]
    assert choose(pool, 1, seen=[showing(0)]) == [3]


def test_what_hardly_looks_like_an_object_counts_less() -> None:
    pool = [showing(0, objectness=-8), showing(0, objectness=-8), showing(1), showing(2)]
    assert choose(pool, 1) == [2]


def test_what_the_detector_is_sure_of_counts_less() -> None:
    pool = [showing(0, doubt=0.01), showing(0, doubt=0.01), showing(1), showing(2)]
    assert choose(pool, 1) == [2]


def test_each_image_is_chosen_once_even_if_nothing_is_new() -> None:
    assert sorted(choose([showing(0)] * 3, 5)) == [0, 1, 2]
    assert choose([], 5) == []


def test_things_are_the_most_object_like_patches_of_different_places() -> None:
    count = 40
    left = np.repeat(np.arange(count // 2, dtype=np.float32) * 10, 2)  # two patches for each place
    boxes = np.stack([left, 0 * left, left + 9, 0 * left + 9], axis=1)
    shifts = (-np.arange(count) / 10).astype(np.float32)
    scales, weights = np.full(count, 2, np.float32), np.ones(count, np.float32)
    features = Features(random(count), shifts, scales, boxes, weights)
    margins = np.zeros(count, np.float32)
    margins[2] = 5
    things = things_of(features, margins)
    assert len(things) == THINGS_PER_IMAGE
    np.testing.assert_array_equal(things.embeddings, features.embeddings[: 2 * THINGS_PER_IMAGE : 2])
    np.testing.assert_allclose(things.objectness, 2 * shifts[: 2 * THINGS_PER_IMAGE : 2])
    assert things.doubts[0] == 1
    assert things.doubts[1] < 0.05


def random(count: int) -> NDArray[np.float16]:
    rows = np.random.default_rng(1).normal(size=(count, WIDTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
