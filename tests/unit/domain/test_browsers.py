"""Which files a browser shows as the detector sees them; Chromium is asked in tests/e2e."""

from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
import pytest

from boxdrop.domain.browsers import display_copy
from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import decode
from tests.web_images import crop_avif, gif_frame, write_gif

ROWS, COLUMNS = np.mgrid[:32, :48]
PICTURE = np.stack([5 * COLUMNS, 8 * ROWS, 250 - 4 * COLUMNS - ROWS], axis=2).clip(0, 255).astype(np.uint8)
OPAQUE = np.full((32, 48), 255, np.uint8)
TURNED_BY_BROWSERS = ("JPEG", "AVIF")


def encoded(form: str, pixels: Any = PICTURE, orientation: int = 1, **options: Any) -> bytes:
    exif = PIL.Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    file = BytesIO()
    PIL.Image.fromarray(pixels).save(file, form, exif=exif, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_what_browsers_know_is_shown_as_it_is(form: str) -> None:
    assert decode(encoded(form)).shown_alike


@pytest.mark.parametrize("form", ["TIFF", "JPEG2000", "ICO"])
def test_what_browsers_do_not_show_needs_a_copy(form: str) -> None:
    assert not decode(encoded(form)).shown_alike


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_only_formats_that_every_browser_turns_are_left_turned(form: str, orientation: int) -> None:
    assert decode(encoded(form, orientation=orientation)).shown_alike == (form in TURNED_BY_BROWSERS)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF"])
def test_an_animation_needs_a_copy_of_its_first_frame(form: str) -> None:
    second = [PIL.Image.fromarray(255 - PICTURE)]
    assert not decode(encoded(form, save_all=True, append_images=second)).shown_alike


@pytest.mark.parametrize("form", ["PNG", "WEBP", "AVIF"])
def test_an_alpha_channel_needs_a_copy_only_where_something_is_transparent(form: str) -> None:
    clear = OPAQUE.copy()
    clear[10, 20] = 254
    assert decode(encoded(form, np.dstack([PICTURE, OPAQUE]), quality=100)).shown_alike
    assert not decode(encoded(form, np.dstack([PICTURE, clear * (clear == 255)]), quality=100)).shown_alike


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_transparent_colour_needs_a_copy(mode: str) -> None:
    picture = PIL.Image.fromarray(PICTURE).convert(mode)
    file = BytesIO()
    picture.save(file, "PNG", transparency=picture.getpixel((20, 20)))
    assert not decode(file.getvalue()).shown_alike


def test_a_gif_whose_frame_leaves_an_edge_free_needs_a_copy() -> None:
    levels = np.arange(256, dtype=np.uint8)
    palette = np.stack([levels, levels, levels], axis=1).tobytes()
    whole, part = gif_frame(PICTURE[..., 0]), gif_frame(PICTURE[:20, :30, 0], (3, 5))
    assert decode(write_gif((48, 32), [whole], palette)).shown_alike
    assert not decode(write_gif((48, 32), [part], palette)).shown_alike


def test_a_lossless_jpeg_needs_a_copy_of_full_size() -> None:
    imagecodecs = pytest.importorskip("imagecodecs", reason="imagecodecs is not installed")
    image = decode(imagecodecs.jpeg8_encode(PICTURE, lossless=True), reduction=lambda *_: 4)
    assert not image.shown_alike
    np.testing.assert_array_equal(image.pixels, PICTURE)


def test_an_avif_with_a_crop_needs_a_copy() -> None:
    assert not decode(crop_avif(encoded("AVIF"), 24, 16)).shown_alike


def test_a_copy_has_the_pixels_that_the_detector_saw() -> None:
    copy = decode(display_copy(decode(encoded("TIFF")).pixels))
    assert (copy.format, copy.shown_alike) == ("jpeg", True)
    assert np.abs(copy.pixels.astype(int) - PICTURE).max() <= 4


def test_what_is_too_long_for_a_copy_says_so() -> None:
    with pytest.raises(ImageError, match=r"at most 65,535 pixels a side: cut the image up") as raised:
        display_copy(np.zeros((1, 65_536, 3), np.uint8))
    assert (raised.value.reason, raised.value.width) == ("unsupported", 65_536)
