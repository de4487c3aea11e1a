"""Pixels: converts Pillow's decoded images, in any mode, to upright 8-bit RGB, strip by strip."""

from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms, TiffImagePlugin

Pixels = NDArray[np.uint8]

_STRIP_BYTES = 1 << 19
"""Size of the strips in which pixels are converted: they fit in the cache, and peak memory stays low."""

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339

_Transpose = PIL.Image.Transpose

_TURNS: Final = {  # EXIF 2.32, 4.6.4, tag 0x0112
    2: _Transpose.FLIP_LEFT_RIGHT,
    3: _Transpose.ROTATE_180,
    4: _Transpose.FLIP_TOP_BOTTOM,
    5: _Transpose.TRANSPOSE,
    6: _Transpose.ROTATE_270,
    7: _Transpose.TRANSVERSE,
    8: _Transpose.ROTATE_90,
}


def upright_rgb(
    image: PIL.Image.Image,
    orientation: int,
    transparent: tuple[int, ...] | None = None,
    gamma: float | None = None,
) -> Pixels:
    """Convert a loaded image strip by strip into a new array, and rotate it.

    Args:
        orientation: of EXIF, 1 to 8.
        transparent: a gray value or colour that becomes white.
        gamma: of a PNG's gAMA, if its values are not sRGB's.

    Returns:
        uint8 [height, width, 3], upright.
    """
    width, height = image.size
    to_rgb = _converter(image) if gamma is None else _with_gamma(gamma, image)
    if transparent is not None:
        to_rgb = _with_transparent(transparent, to_rgb)
    on_its_side, from_the_end = orientation >= 5, orientation in (3, 4, 6, 7)
    upright = np.empty((width, height, 3) if on_its_side else (height, width, 3), np.uint8)
    for top, bottom, strip in _strips(image):
        turned = strip.transpose(_TURNS[orientation]) if orientation != 1 else strip
        place = slice(height - bottom, height - top) if from_the_end else slice(top, bottom)
        if on_its_side:
            upright[:, place] = to_rgb(turned)
        else:
            upright[place] = to_rgb(turned)
    return upright


def _strips(image: PIL.Image.Image) -> Iterator[tuple[int, int, PIL.Image.Image]]:
    """Cut an image into strips: first row, row after the last, and the strip."""
    rows = max(1, _STRIP_BYTES // (4 * image.width))
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        yield top, bottom, image.crop((0, top, image.width, bottom))


_Converter = Callable[[PIL.Image.Image], NDArray[np.uint8]]


def _converter(image: PIL.Image.Image) -> _Converter:
    """Choose the conversion of this image's strips to RGB, [rows, width, 3], or gray, [rows, width, 1]."""
    mode = image.mode
    if image.format == "TIFF" and mode in ("L", "I", "I;16", "I;16B", "F"):
        tags = cast(TiffImagePlugin.TiffImageFile, image).tag_v2
        bits, kind = max(tags.get(_BITS, (1,))), max(tags.get(_SAMPLE_FORMAT, (1,)))
        if mode == "L" and kind == 2:
            return _stretcher(image, np.int8)
        if mode != "L":
            stretch = _stretcher(image, np.uint32 if (bits, kind) == (32, 1) else None)
            return (lambda strip: 255 - stretch(strip)) if tags.get(_PHOTOMETRIC) == 0 else stretch
    if mode in ("I", "F") or (mode.startswith("I;16") and image.format == "TIFF"):
        return _stretcher(image)
    if mode.startswith("I;16"):
        return lambda strip: (np.asarray(strip) >> 8).astype(np.uint8)[..., None]
    if mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        return lambda strip: np.asarray(transform.apply(strip))
    if image.has_transparency_data:
        return _over_white
    if mode in ("1", "L"):
        return lambda strip: np.asarray(strip.convert("L"))[..., None]
    return lambda strip: np.asarray(strip.convert("RGB"))


def _with_gamma(gamma: float, image: PIL.Image.Image) -> _Converter:
    """Convert gamma-encoded values to sRGB's (PNG, 4.3; IEC 61966-2-1), before alpha."""
    light = np.linspace(0.0, 1.0, 256) ** (1 / gamma)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    table = np.rint(255 * srgb).astype(np.uint8)
    if not image.has_transparency_data:
        to_rgb = _converter(image)
        return lambda strip: table[to_rgb(strip)]
    levels = [*table.tolist()] * 3 + list(range(256))
    return lambda strip: _over_white(strip.convert("RGBA").point(levels))


def _with_transparent(colour: tuple[int, ...], to_rgb: _Converter) -> _Converter:
    """White where a pixel has the transparent colour."""

    def convert(strip: PIL.Image.Image) -> NDArray[np.uint8]:
        values = np.asarray(strip.convert("L") if strip.mode == "1" else strip)
        same = (values.reshape(*values.shape[:2], -1) == colour).all(axis=2)
        return np.where(same[..., None], np.uint8(255), to_rgb(strip))

    return convert


def is_see_through(image: PIL.Image.Image) -> bool:
    """Whether a loaded image has pixels that are not opaque: a browser shows its page's background there."""
    if not image.has_transparency_data:
        return False
    lowest = (strip.convert("RGBA").getchannel("A").getextrema()[0] for _, _, strip in _strips(image))
    return any(cast(int, alpha) < 255 for alpha in lowest)


def _over_white(strip: PIL.Image.Image) -> NDArray[np.uint8]:
    white = PIL.Image.new("RGBA", strip.size, "white")
    return np.asarray(PIL.Image.alpha_composite(white, strip.convert("RGBA")).convert("RGB"))


_USUAL_WHITES: Final = tuple(2.0**bits - 1 for bits in (8, 10, 12, 14, 16))


def _stretcher(image: PIL.Image.Image, stored: type[np.integer[Any]] | None = None) -> _Converter:
    """Scale gray values without an agreed range to 0–255.

    White is the largest value of the smallest usual depth (8, 10, 12, 14 or 16 bits; 1.0 for floats) that
    holds the brightest pixel; black is 0. Other ranges, and negative values, are stretched from the lowest to
    the highest value. Values that are not finite become black.

    Args:
        stored: type of the file's integers, if Pillow reads their bits as another type.
    """

    def values_of(strip: PIL.Image.Image) -> NDArray[Any]:
        values = np.asarray(strip)
        return values if stored is None else values.view(stored)

    low, high = np.inf, -np.inf
    for _, _, strip in _strips(image):
        values = values_of(strip)
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    usual = (1.0, *_USUAL_WHITES) if image.mode == "F" else _USUAL_WHITES
    if low >= 0:  # infinite if no value was finite
        low, high = next(((0.0, white) for white in usual if high <= white), (low, high))
    scale = 255.0 / (high - low) if high > low else 0.0

    def convert(strip: PIL.Image.Image) -> NDArray[np.uint8]:
        values = values_of(strip).astype(np.float64)
        scaled = np.where(np.isfinite(values), values - low, 0.0) * scale
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)[..., None]

    return convert
