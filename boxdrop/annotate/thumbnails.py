"""Upright JPEGs for the page: a thumbnail of each image, and where copies for browsers are kept."""

from io import BytesIO
from pathlib import PurePosixPath
from typing import Final

import numpy as np
import PIL.Image

from boxdrop.domain.images import Image

COPIES: Final = "display"


def thumbnail_path(image_id: str) -> PurePosixPath:
    """Where the page looks for the thumbnail of an image, below the output folder.

    Spread over 256 folders: file systems and file managers are slow with 100,000 files in one.
    """
    return PurePosixPath("thumbnails", image_id[:2], f"{image_id}.jpg")


def copy_path(image_id: str) -> PurePosixPath:
    """Where the display copy of an image is, below the output folder; see `boxdrop.domain.browsers`."""
    return PurePosixPath(COPIES, image_id[:2], f"{image_id}.jpg")


def make_thumbnail(image: Image, longest_side: int = 480) -> bytes:
    """Make a JPEG with no side longer than `longest_side` pixels; small images keep their size."""
    pixels = image.pixels
    longest = max(image.width, image.height)
    # Down to 4 × the size, rows and columns can be skipped: averaging hides it, and it saves memory and time.
    step = max(1, max(pixels.shape) // (4 * longest_side))
    picture = PIL.Image.fromarray(np.ascontiguousarray(pixels[::step, ::step]))
    scale = min(1.0, longest_side / longest)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if size != picture.size:
        picture = picture.resize(size, PIL.Image.Resampling.BICUBIC, reducing_gap=2.0)
    out = BytesIO()
    picture.save(out, "JPEG", quality=82, optimize=True)
    return out.getvalue()
