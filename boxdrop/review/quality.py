"""How good the pixels of an image are: sharpness and brightness, measured on a small grey copy."""

import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import DEFAULT_LIMITS, decode
from boxdrop.review.reviewed import LeftOut, Reviewed, read_reviewed

if TYPE_CHECKING:
    from boxdrop.services import Services

_AT_ONCE: Final = 8

_SIDE: Final = 512
"""Longest side of the copy in pixels: a photo of 12 megapixels and its thumbnail then get like numbers."""

_THIRDS: Final = ("lowest third", "middle third", "highest third")
WORDS: Final = tuple(f"{measure}: {third}" for measure in ("sharpness", "brightness") for third in _THIRDS)
"""What `words` gives, in order."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Measures of one image.

    Attributes:
        sharpness: variance of the Laplacian of the grey copy (Pech-Pacheco et al., ICPR 2000): low where the
            image is out of focus or shaken, and where it shows little. 0 is a plain surface.
        brightness: mean grey value, 0 to 1.
    """

    sharpness: float
    brightness: float


def measure(pixels: NDArray[np.uint8]) -> Quality:
    """Measure an image.

    Args:
        pixels: uint8 [height, width, 3], RGB.
    """
    height, width = pixels.shape[:2]
    step = max(1, max(height, width) // (2 * _SIDE))  # rows are left out first: a large image costs little
    picture = PIL.Image.fromarray(np.ascontiguousarray(pixels[::step, ::step])).convert("L")
    scale = _SIDE / max(picture.size)
    if scale < 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, PIL.Image.Resampling.BOX)
    grey = np.pad(np.asarray(picture, np.float64), 1, mode="edge")
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    laplacian = around - 4 * grey[1:-1, 1:-1]
    return Quality(float(laplacian.var()), float(grey[1:-1, 1:-1].mean() / 255))


def words(measured: Mapping[str, Quality]) -> dict[str, tuple[str, str]]:
    """Words for the quality of images, each compared with the others: ``sharpness: lowest third``.

    What is sharp enough differs by subject, so images are compared within their project and not with a
    fixed number.

    Args:
        measured: by image_id.
    """
    found = {}
    sharpness = np.array([each.sharpness for each in measured.values()])
    brightness = np.array([each.brightness for each in measured.values()])
    for place, image_id in enumerate(measured):
        found[image_id] = (
            f"sharpness: {_third(sharpness, place)}",
            f"brightness: {_third(brightness, place)}",
        )
    return found


def _third(values: NDArray[np.float64], place: int) -> str:
    below = int((values < values[place]).sum())
    return _THIRDS[min(3 * below // len(values), 2)]


def measure_images(services: "Services", project: str, most: int) -> dict[str, Quality]:
    """Measure verified images of a project, at most so many; those that cannot be read are left out.

    They come in the order of their ids, which are hashes: the first ones are a random sample.

    Args:
        services: needs `ledger`, `data` and `images`.

    Returns:
        by image_id.

    Raises:
        BoxdropError: a bucket or the ledger cannot be read.
    """

    def look(reviewed: Reviewed) -> Quality | None:
        version = reviewed.annotation.version
        try:
            data = services.images.read_version(reviewed.row.key, version, DEFAULT_LIMITS.max_bytes)
            return measure(decode(data).pixels)
        except ImageError:
            return None

    found = (each for each in read_reviewed(services, project) if not isinstance(each, LeftOut))
    measured = {}
    sample = itertools.islice(found, most)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while page := list(itertools.islice(sample, 4 * _AT_ONCE)):
            for each, quality in zip(page, pool.map(look, page), strict=True):
                if quality is not None:
                    measured[each.row.image_id] = quality
    return measured
