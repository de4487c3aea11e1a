"""Large JPEGs are decoded smaller: what the model sees hardly changes, and boxes are in full pixels."""

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from boxdrop.detect import Detector
from boxdrop.detect.bundle import Preprocess
from boxdrop.detect.preprocess import prepare, reduction_for
from boxdrop.detect.stream import Found, Stream
from boxdrop.domain.images import decode
from boxdrop.domain.labels import LabelSet

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
OWLVIT = Preprocess(768, 768, "bicubic", MEAN, STD)
OWLV2 = Preprocess(960, 960, "pad-square", MEAN, STD)
GROUNDING = Preprocess(800, 1333, "short-edge", MEAN, STD)


def scene(width: int, height: int) -> NDArray[np.uint8]:
    """Edges and shades at every scale with a camera's noise on top."""
    random = np.random.default_rng(3)
    picture = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((5, 100), (40, 70), (160, 45)):
        coarse = random.integers(0, 256, (cells, cells, 3), np.uint8)
        resample = Pillow.Resampling.NEAREST if cells == 40 else Pillow.Resampling.BICUBIC
        enlarged = Pillow.fromarray(coarse).resize((width, height), resample)
        picture += np.asarray(enlarged, np.float32) * (weight / 255)
    picture += random.normal(0, 8, picture.shape).astype(np.float32)
    return np.clip(picture, 0, 255).astype(np.uint8)


def jpeg(pixels: NDArray[np.uint8], orientation: int = 1) -> bytes:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    out = BytesIO()
    Pillow.fromarray(pixels).save(out, "JPEG", quality=92, exif=exif)
    return out.getvalue()


@pytest.mark.parametrize(
    ("settings", "width", "height", "scale"),
    [
        (OWLVIT, 2304, 2304, 2),
        (OWLVIT, 4000, 3000, 2),
        (OWLVIT, 2300, 2304, 1),  # less than half as much again would be left
        (OWLVIT, 6000, 4800, 4),
        (OWLVIT, 4001, 3000, 1),  # no multiple
        (OWLV2, 2880, 40, 2),
        (OWLV2, 12000, 9000, 8),
        (GROUNDING, 4000, 3000, 2),
        (GROUNDING, 640, 480, 1),
        (Preprocess(8, 8, "bilinear", MEAN, STD), 1920, 1440, 4),  # for a thumbnail
    ],
)
def test_images_are_reduced_only_as_far_as_the_model_does_not_care(
    settings: Preprocess, width: int, height: int, scale: int
) -> None:
    assert reduction_for(width, height, settings) == scale


@pytest.mark.parametrize(
    ("settings", "width", "height"),
    [(OWLVIT, 2400, 2304), (OWLV2, 2880, 1600), (GROUNDING, 3208, 2400), (OWLVIT, 4800, 4608)],
)
@pytest.mark.slow
def test_the_models_input_differs_by_a_few_levels(settings: Preprocess, width: int, height: int) -> None:
    """The bound that docs/performance.md states: on average one level of 255, four for 99 in 100 values."""
    data = jpeg(scene(width, height))
    scale = reduction_for(width, height, settings)
    assert scale > 1
    small = decode(data, reduction=lambda *_: scale)
    assert (small.width, small.height, small.reduction) == (width, height, scale)
    assert small.pixels.shape == (height // scale, width // scale, 3)
    exact = prepare(decode(data).pixels, settings)
    reduced = prepare(small.pixels, settings, scale)
    assert reduced.shape == exact.shape
    levels = np.abs(reduced - exact) * np.array(STD, np.float32)[:, None, None] * 255
    assert levels.mean() <= 1
    assert np.quantile(levels, 0.99) <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_photo_is_upright_and_knows_its_size(orientation: int) -> None:
    pixels = np.zeros((80, 160, 3), np.uint8)
    pixels[:40, :80] = (255, 0, 0)  # the corner in which the sensor began
    data = jpeg(pixels, orientation)
    whole, small = decode(data), decode(data, reduction=lambda *_: 4)
    assert (small.width, small.height) == (whole.width, whole.height)
    assert small.reduction == 4
    assert np.abs(small.pixels.astype(int) - whole.pixels[2::4, 2::4]).max() <= 40


def test_other_formats_than_jpeg_are_decoded_in_full_size() -> None:
    out = BytesIO()
    Pillow.new("RGB", (64, 64)).save(out, "PNG")
    image = decode(out.getvalue(), reduction=lambda *_: 8)
    assert (image.reduction, image.pixels.shape) == (1, (64, 64, 3))


def test_boxes_of_a_reduced_photo_are_in_its_full_pixels(toy_detector: Detector) -> None:
    pixels = np.zeros((2880, 3840, 3), np.uint8)
    pixels[:1440, 1920:] = (255, 0, 0)
    labels = LabelSet.from_short_form("red")
    seen = []

    def fetch(orientation: int) -> bytes:
        return jpeg(pixels, orientation)

    stream = Stream(toy_detector, labels, fetch, on_image=lambda _, image: seen.append(image.reduction))
    upright, turned = stream.outcomes([1, 6])
    assert seen == [8, 8]
    assert isinstance(upright, Found)
    assert isinstance(turned, Found)
    assert (upright.width, upright.height, turned.width, turned.height) == (3840, 2880, 2880, 3840)
    np.testing.assert_allclose(upright.candidates.boxes, [[1920, 0, 3840, 1440]], atol=1e-3)
    np.testing.assert_allclose(turned.candidates.boxes, [[1440, 1920, 2880, 3840]], atol=1e-3)
