"""Laws of the pre-processing; that it equals transformers' is tested in tests/integration/test_parity.py."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from boxdrop.detect import preprocess
from boxdrop.detect.bundle import Preprocess
from boxdrop.detect.preprocess import prepare

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def settings(resize: str, side: int = 96) -> Preprocess:
    return Preprocess(side, side, resize, MEAN, STD)


def normalised(level: float) -> NDArray[np.float32]:
    return ((level / 255 - np.array(MEAN)) / np.array(STD)).astype(np.float32)


@pytest.mark.parametrize("resize", ["bicubic", "bilinear", "pad-square"])
@pytest.mark.parametrize("shape", [(50, 50), (400, 400), (96, 96), (1, 1)])
def test_an_even_image_stays_even(resize: str, shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 200, np.uint8)
    prepared = prepare(image, settings(resize))
    assert prepared.shape == (3, 96, 96)
    assert prepared.dtype == np.float32
    assert prepared.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(
        prepared, np.broadcast_to(normalised(200)[:, None, None], (3, 96, 96)), atol=2e-6
    )


@pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200), (30, 7)])
def test_padding_is_black_and_below_or_on_the_right(width: int, height: int) -> None:
    prepared = prepare(np.full((height, width, 3), 255, np.uint8), settings("pad-square"))
    side = max(width, height)
    rows, columns = round(96 * height / side), round(96 * width / side)
    black, white = normalised(0)[:, None, None], normalised(255)[:, None, None]
    reach = 4  # pixels over which the edge is smooth
    np.testing.assert_allclose(prepared[:, : rows - reach, : columns - reach] - white, 0, atol=3e-6)
    np.testing.assert_allclose(prepared[:, rows + reach :] - black, 0, atol=3e-6)
    np.testing.assert_allclose(prepared[:, :, columns + reach :] - black, 0, atol=3e-6)


def test_stretching_is_pillows_own() -> None:
    image = np.random.default_rng(1).integers(0, 256, (77, 130, 3), dtype=np.uint8)
    levels = np.asarray(Image.fromarray(image).resize((96, 96), Image.Resampling.BICUBIC))
    plain = Preprocess(96, 96, "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert np.array_equal(np.rint(prepare(image, plain) * 255).astype(np.uint8), levels.transpose(2, 0, 1))


def test_a_large_image_takes_little_more_memory_than_itself() -> None:
    """12 megapixels: as real numbers they would be 144 MB in 32 bits, and scipy makes several copies."""
    image = np.random.default_rng(2).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
    prepare(image, settings("pad-square", 960))  # the weights, which are kept
    for resize, side in (("pad-square", 960), ("bicubic", 768)):
        tracemalloc.start()
        prepare(image, settings(resize, side))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 60e6, resize  # Pillow's own 48 MB, 4 bytes a pixel, are not traced


def test_weights_of_many_sizes_are_not_kept_for_ever() -> None:
    for side in range(100, 140):
        prepare(np.zeros((side, side // 2, 3), np.uint8), settings("pad-square"))
    assert preprocess._sampling.cache_info().currsize <= 16
