"""Changed copies of training images: the boxes stay on their things."""

import numpy as np
import pytest

from model_export.training.augmentation import Example, augment, resize

SIDE = 128, 96


def squares(number: int) -> Example:
    """A grey image with a bright red and a bright green rectangle, labels 0 and 1."""
    rng = np.random.default_rng(number)
    pixels = np.full((150, 200, 3), 60, np.uint8)
    boxes = []
    for label, left in enumerate((10, 110)):
        width, height, top = (int(each) for each in rng.integers((40, 40, 5), (75, 75, 60)))
        pixels[top : top + height, left : left + width] = 0
        pixels[top : top + height, left : left + width, label] = 250
        boxes.append((left, top, left + width, top + height))
    return Example(pixels, np.array(boxes, np.float32), np.array([0, 1]))


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
@pytest.mark.parametrize("mirror", [False, True])
def test_every_box_encloses_its_thing_and_little_else(mosaic: float, mirror: bool) -> None:
    compared = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        found = augment(seed, 40, squares, SIDE, rng, mirror=mirror, mosaic=mosaic)
        assert found.pixels.shape == (SIDE[1], SIDE[0], 3)
        values = found.pixels.astype(np.int64)
        for label in (0, 1):
            coloured = values[:, :, label] > values[:, :, 1 - label] + 60
            for left, top, right, bottom in found.boxes[found.labels == label].round().astype(int):
                inside = coloured[top:bottom, left:right]
                assert inside.mean() > 0.8, (seed, label)
                compared += 1
            covered = np.zeros_like(coloured)
            for left, top, right, bottom in found.boxes[found.labels == label].round().astype(int):
                covered[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = True
            # What is left of cropped things has no box, and is at the edge of its image.
            assert (coloured & ~covered).mean() < 0.12
    assert compared > 40


def test_chance_is_all_in_the_generator() -> None:
    one, same, other = (
        augment(3, 40, squares, SIDE, np.random.default_rng(seed), mirror=True, mosaic=0.5)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.pixels, same.pixels)
    np.testing.assert_array_equal(one.boxes, same.boxes)
    assert one.pixels.shape == other.pixels.shape
    assert (one.pixels != other.pixels).any()


def test_an_image_without_boxes_stays_one() -> None:
    empty = Example(squares(0).pixels, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    for mosaic in (0.0, 1.0):
        found = augment(0, 1, lambda _: empty, SIDE, np.random.default_rng(0), mirror=True, mosaic=mosaic)
        assert found.boxes.shape == (0, 4)
        assert found.boxes.dtype == np.float32


def test_a_resized_box_covers_the_same_share() -> None:
    before = squares(5)
    after = resize(before, 50, 300)
    np.testing.assert_allclose(
        after.boxes / [50, 300, 50, 300], before.boxes / [200, 150, 200, 150], atol=1e-6
    )
