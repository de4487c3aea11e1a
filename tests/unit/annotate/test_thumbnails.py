"""Thumbnails keep the picture and lose the size."""

import io
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from boxdrop.annotate.thumbnails import make_thumbnail, thumbnail_path
from boxdrop.domain.images import Image


def thumbnail_of(pixels: NDArray[Any], longest_side: int = 480) -> PIL.Image.Image:
    image = Image(pixels.astype(np.uint8), "png", pixels.shape[1], pixels.shape[0])
    return PIL.Image.open(io.BytesIO(make_thumbnail(image, longest_side)))


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (427, 640, (480, 320)),
        (3024, 4032, (480, 360)),
        (400, 12000, (480, 16)),
        (9000, 3, (1, 480)),
        (100, 50, (50, 100)),
        (1, 1, (1, 1)),
        (480, 480, (480, 480)),
        (1999, 2001, (480, 480)),
    ],
)
def test_the_longest_side_is_held_and_the_shape_kept(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    assert thumbnail_of(np.zeros((height, width, 3))).size == expected


def test_colours_stay_in_their_place() -> None:
    pixels = np.full((2000, 3000, 3), 255)
    pixels[1000:, 1500:] = (200, 30, 30)
    small = np.asarray(thumbnail_of(pixels))
    assert small.shape == (320, 480, 3)
    assert np.abs(small[240, 360].astype(int) - (200, 30, 30)).max() < 8
    assert small[80, 360].min() > 247
    edge = np.abs(small[240, :, 1].astype(int) - 142).argmin()  # half between 255 and 30
    assert abs(int(edge) - 240) <= 1


def test_a_thumbnail_is_small() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (900, 1200, 3))
    assert len(make_thumbnail(Image(noise.astype(np.uint8), "png", 1200, 900))) < 150_000


def test_thumbnails_spread_over_folders() -> None:
    assert str(thumbnail_path("ab12cd")) == "thumbnails/ab/ab12cd.jpg"
