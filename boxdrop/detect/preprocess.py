"""From an image to the model's input, identical to the processors of transformers 5.23, with only Pillow and
numpy.

Six ways to resize (`Preprocess.resize`):

``bicubic``, ``bilinear``
    Stretched to the size without regard to the aspect, by Pillow on 8-bit values: OWL-ViT. The result is
    bit for bit that of ``OwlViTImageProcessorPil``.
``pad-square``
    Black added below or right to make a square, Gaussian against aliasing, linear interpolation, on real
    numbers: OWLv2. It follows ``Owlv2ImageProcessorPil``, which calls scipy as scikit-image's ``resize``
    does, which is what OWLv2's authors use. transformers' other processor, on torchvision, differs from it
    by up to 0.24 normalised units where images are enlarged; it is what transformers takes by itself when
    torchvision is installed.
``short-edge``
    The aspect is kept: the shorter side becomes `Preprocess.height`, unless the longer one would be over
    `Preprocess.width`; by Pillow, linear, on 8-bit values: Grounding DINO. Bit for bit that of
    ``GroundingDinoImageProcessorPil``. The result's size differs from image to image.
``letterbox``, ``letterbox-corner``
    The aspect is kept: the image fits into the input, in its centre or its top left corner; by Pillow,
    linear, on 8-bit values. The rest has the level `Preprocess.fill`. YOLOX (corner, 114) and its relatives.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from boxdrop.detect.bundle import Preprocess

Picture = NDArray[np.uint8]
"""uint8 [height, width, 3], red green blue, upright."""

_SMALL_PRODUCT = 4 * 65536  # multiplications up to which OpenBLAS stays in the calling thread
_STRIP = 64  # columns of one product
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


_LETTERBOXES = ("letterbox", "letterbox-corner")

_LEAST_SIDE = 480
"""Least pixels of the longer side, for thumbnails, however small the model's input is."""

_SPARE = 1.5
"""Image pixels per model input pixel, in each direction, that a reduced image keeps."""


def reduction_for(width: int, height: int, settings: Preprocess) -> int:
    """The reduction, 1, 2, 4 or 8, at which an image may be decoded without changing the model's result.

    In each direction, at least 1.5 times the pixels of the model's input are left, so the last downscaling
    still uses the filter with which the model was trained (measured: docs/performance.md).

    Args:
        width, height: of the upright image.
        settings: the bundle's.
    """
    if settings.resize == "pad-square":
        ratio = max(width, height) / settings.height
    elif settings.resize in _LETTERBOXES:
        ratio = max(width / settings.width, height / settings.height)
    elif settings.resize == "short-edge":
        across, down = _short_edge_size(width, height, settings)
        ratio = min(width / across, height / down)
    else:
        ratio = min(width / settings.width, height / settings.height)
    # If a side is not a multiple, the last pixel would cover less than the others, and shift them all.
    whole = (scale for scale in (8, 4, 2) if width % scale == height % scale == 0)
    most = min(ratio / _SPARE, max(width, height) / _LEAST_SIDE)
    return next((scale for scale in whole if scale <= most), 1)


def prepare(image: Picture, settings: Preprocess, reduction: int = 1) -> NDArray[np.float32]:
    """Make the model's input of one image. Safe to call from several threads.

    Args:
        image: uint8 [height, width, 3], red green blue, upright.
        settings: the bundle's.
        reduction: of the decoded image in each direction, see `reduction_for`.

    Returns:
        float32 [3, settings.height, settings.width], normalised; for ``short-edge`` of the image's own size.

    Raises:
        ValueError: the array is not such an image.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"an image must be uint8 [height, width, 3], not {image.dtype} {list(image.shape)}")
    if settings.resize == "pad-square":
        return _pad_square(image, settings, reduction)
    if settings.resize == "short-edge":
        size = _short_edge_size(image.shape[1], image.shape[0], settings)
        return _stretch(image, size, Image.Resampling.BILINEAR, settings)
    if settings.resize in _LETTERBOXES:
        return _letterbox(image, settings)
    return _stretch(image, (settings.width, settings.height), _FILTERS[settings.resize], settings)


def fitted(width: int, height: int, short: int, long: int) -> tuple[int, int]:
    """Size (width, height) of an image whose shorter side becomes `short`, or whose longer one becomes
    `long`.

    As in transformers: the shorter side is rounded, the longer one truncated. Never 0.
    """
    smaller, larger = min(width, height), max(width, height)
    exact = float(short)
    if larger / smaller * short > long:
        exact = long * smaller / larger
    short = max(1, round(exact))
    if smaller == short:
        return width, height
    other = max(1, int(exact * larger / smaller))
    return (short, other) if width < height else (other, short)


def _short_edge_size(width: int, height: int, settings: Preprocess) -> tuple[int, int]:
    """Size (width, height) of the model's input for ``short-edge``."""
    across, down = fitted(width, height, settings.height, settings.width)
    least = settings.multiple
    return max(least, across - across % least), max(least, down - down % least)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image is in the model's input.

    Attributes:
        left, top, width, height: of the image, in pixels of the input.
        input_width, input_height: of the whole input, in pixels.
    """

    left: int
    top: int
    width: float
    height: float
    input_width: int
    input_height: int


def placement_of(width: int, height: int, settings: Preprocess) -> Placement:
    """Where `prepare` places an image of this upright width and height."""
    if settings.resize == "short-edge":
        across, down = _short_edge_size(width, height, settings)
        return Placement(0, 0, across, down, across, down)
    if settings.resize == "pad-square":
        scale = settings.height / max(width, height)
        return Placement(0, 0, width * scale, height * scale, settings.width, settings.height)
    if settings.resize in _LETTERBOXES:
        scale = min(settings.width / width, settings.height / height)
        across, down = max(1, round(width * scale)), max(1, round(height * scale))
        centred = settings.resize == "letterbox"
        left, top = ((settings.width - across) // 2, (settings.height - down) // 2) if centred else (0, 0)
        return Placement(left, top, across, down, settings.width, settings.height)
    return Placement(0, 0, settings.width, settings.height, settings.width, settings.height)


def _letterbox(image: Picture, settings: Preprocess) -> NDArray[np.float32]:
    place = placement_of(image.shape[1], image.shape[0], settings)
    whole = np.full((settings.height, settings.width, 3), settings.fill, np.uint8)
    size = int(place.width), int(place.height)
    inside = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    whole[place.top : place.top + size[1], place.left : place.left + size[0]] = np.asarray(inside)
    return _normalised(whole, settings)


def _stretch(
    image: Picture, size: tuple[int, int], resample: Image.Resampling, settings: Preprocess
) -> NDArray[np.float32]:
    resized = (
        image if size == (image.shape[1], image.shape[0]) else Image.fromarray(image).resize(size, resample)
    )
    return _normalised(np.asarray(resized), settings)


def _normalised(pixels: Picture, settings: Preprocess) -> NDArray[np.float32]:
    """uint8 [H, W, 3], red green blue, to float32 [3, H, W] in the model's order of channels."""
    tables = _normalised_levels(settings.mean, settings.std)
    prepared = np.empty((3, *pixels.shape[:2]), np.float32)
    for channel in range(3):
        target = 2 - channel if settings.channels == "bgr" else channel
        np.take(tables[channel], pixels[:, :, channel], out=prepared[target], mode="clip")
    return prepared


@lru_cache(maxsize=8)
def _normalised_levels(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """float32 [3, 256]: each of the 256 levels, normalised with the same rounding as in transformers."""
    levels = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
    means, deviations = np.array(mean, np.float32), np.array(std, np.float32)
    return (levels - means[:, None]) / deviations[:, None]


def _pad_square(image: Picture, settings: Preprocess, reduction: int) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    side = max(height, width)
    down, across = _sampling(side, settings.height, reduction), _sampling(side, settings.width, reduction)
    means, deviations = np.array(settings.mean, np.float32), np.array(settings.std, np.float32)
    scales = (1 / (255 * deviations)).astype(np.float32)
    shifts = (means / deviations).astype(np.float32)
    prepared = np.empty((3, settings.height, settings.width), np.float32)
    prepared[:] = -shifts[:, None, None]  # black, which most of the padding stays
    values = image.reshape(height, 3 * width)
    for top, weights, first in down.blocks(height):
        rows, taps = weights.shape
        band = np.zeros((taps, -(-3 * width // _STRIP) * _STRIP), np.float32)
        band[:, : 3 * width] = values[first : first + taps]
        strips = band.reshape(taps, -1, _STRIP).transpose(1, 0, 2)
        mixed = np.matmul(weights, strips).transpose(1, 0, 2).reshape(rows, -1)[:, : 3 * width]
        mixed = mixed.reshape(rows, width, 3).transpose(2, 0, 1).reshape(3 * rows, width)
        for left, column_weights, start in across.blocks(width):
            columns = len(column_weights)
            window = mixed[:, start : start + column_weights.shape[1]]
            block = (window @ column_weights.T).reshape(3, rows, columns)
            block *= scales[:, None, None]
            block -= shifts[:, None, None]
            prepared[:, top : top + rows, left : left + columns] = block
    return prepared if settings.channels == "rgb" else prepared[::-1].copy()


class _Sampling:
    """Weights from a line's pixels to those of the resized line: Gaussian, then linear.

    Both are linear and separable, so their product is one matrix with a narrow band of weights that are not
    zero. It is stored as dense blocks of a few results by the pixels that they need: small matrix products
    are the fastest way to apply it (20 times scipy's speed on 12 megapixels), and only the rows of one block
    are ever held as floats. Blocks are small enough that OpenBLAS does not split them among threads: decoding
    workers run in parallel, and waiting for each other took 350 ms for 15 ms of work.
    """

    def __init__(self, length: int, target: int, reduction: int) -> None:
        factor = length / target
        sigma = max(0.0, (factor * reduction - 1) / 2)
        if reduction > 1:  # the reduction has already averaged pixels: the rest of the Gaussian's variance
            sigma = max(0.0, sigma**2 - (reduction**2 - 1) / 12) ** 0.5 / reduction
        radius = int(4 * sigma + 0.5)
        offsets = np.arange(-radius, radius + 1)
        bell = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma > 0 and radius > 0 else np.ones(1)
        bell /= bell.sum()
        places = (np.arange(target) + 0.5) * factor - 0.5
        below = np.floor(places).astype(np.int64)
        fraction = places - below
        # Beyond the ends, lines are mirrored about the centre of their last pixel: by the interpolation
        # and, once more, by the Gaussian.
        neighbours = _mirror(np.stack([below, below + 1], axis=1), length)  # [target, 2]
        sources = _mirror(neighbours[:, :, None] + offsets, length).reshape(target, -1)
        shares = np.stack([1 - fraction, fraction], axis=1)
        weights = (shares[:, :, None] * bell).reshape(target, -1)
        taps = 2 * radius + 2
        height = next(
            (rows for rows in (32, 24, 16, 8, 4) if rows * (rows * factor + taps) * _STRIP <= _SMALL_PRODUCT),
            2,
        )
        self._blocks = [
            (top, *_dense(weights[top : top + height], sources[top : top + height]))
            for top in range(0, target, height)
        ]

    def blocks(self, present: int) -> Iterator[tuple[int, NDArray[np.float32], int]]:
        """Blocks of the matrix for a line of which only the first `present` pixels are not padding.

        Yields:
            (first result, float32 [results, pixels], first pixel); results that depend only on padding are
            left out.
        """
        for top, weights, first in self._blocks:
            if first < present:
                yield top, weights[:, : present - first], first


def _dense(weights: NDArray[np.float64], sources: NDArray[np.int64]) -> tuple[NDArray[np.float32], int]:
    """From weights and their pixels, both [results, taps], to (float32 [results, pixels], first pixel)."""
    first = int(sources.min())
    matrix = np.zeros((len(sources), int(sources.max()) - first + 1), np.float64)
    np.add.at(matrix, (np.arange(len(sources))[:, None], sources - first), weights)
    return matrix.astype(np.float32), first


@lru_cache(maxsize=16)
def _sampling(length: int, target: int, reduction: int) -> _Sampling:
    return _Sampling(length, target, reduction)


def _mirror(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Fold indices into a line, mirrored about the centres of its end pixels (scipy's ``mirror``)."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    folded = np.mod(index, period)
    return np.minimum(folded, period - folded)
