"""Which images a browser shows with the pixels that the detector saw, and copies of those that it does not.

Boxes lie in the pixels of `boxdrop.domain.images.decode`. A browser reads the same file with decoders of its
own: it shows no TIFF, ignores the orientation of a WebP, plays an animation and lets its page shine through
transparent pixels. Where the two may differ, people get an upright JPEG of what the detector saw.

The rule is measured with Chromium in ``tests/e2e/test_browser_display.py``; docs/images.md lists it.
"""

from io import BytesIO
from typing import Final

import PIL.Image
from PIL.GifImagePlugin import GifImageFile

from boxdrop.domain.errors import ImageError
from boxdrop.domain.pixels import Pixels

_SHOWN: Final = ("jpeg", "png", "webp", "gif", "bmp", "avif")
"""Formats that browsers show. Not TIFF, HEIC and JPEG 2000, which Safari alone reads. Not ICO: browsers and
Pillow choose and mask its pictures differently."""

_TURNED: Final = ("jpeg", "avif")
"""Formats that every browser turns as their files say. Chromium turns PNG, too, others do not yet; nobody
turns WebP."""

_BASELINE_TO_PROGRESSIVE: Final = (0xC0, 0xC1, 0xC2)
_STARTS_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LONGEST_SIDE: Final = 65_535  # of a JPEG (ITU-T T.81, B.2.2)
_QUALITY: Final = 95


def shows_alike(found: str, image: PIL.Image.Image, orientation: int, data: bytes) -> bool:
    """Whether a browser shows a file as the detector sees it, as far as its header tells.

    Transparent pixels are a matter of the pixels, see `boxdrop.domain.images.Image.shown_alike`.

    Args:
        found: the format.
        image: Pillow's, opened and not loaded.
        orientation: EXIF orientation, 1 to 8, still to be applied.
        data: the file.
    """
    if found not in _SHOWN or (orientation != 1 and found not in _TURNED):
        return False
    if found == "jpeg":
        return _process(data) in _BASELINE_TO_PROGRESSIVE
    if found == "gif":
        return not _is_animated_gif(data)
    if found == "avif" and b"clap" in data[: 1 << 16]:  # cropped by browsers, not by Pillow
        return False
    return not getattr(image, "is_animated", False)  # it would play, and the boxes are on its first frame


def _process(jpeg: bytes) -> int | None:
    """Which start of frame a JPEG has (ITU-T T.81, B.1.1.3): browsers read no lossless or arithmetic ones."""
    at = 2
    while at + 4 <= len(jpeg):
        marker = jpeg[at + 1]
        if jpeg[at] != 0xFF or marker in (0x00, 0xFF):
            at += 1
        elif marker in _STARTS_OF_FRAME:
            return marker
        else:
            bare = marker == 0x01 or 0xD0 <= marker <= 0xD9
            at += 2 if bare else 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return None


def _is_animated_gif(gif: bytes) -> bool:
    """Whether there is a second frame; opens the file again, for Pillow moves on to that frame."""
    try:
        return bool(GifImageFile(BytesIO(gif)).is_animated)
    except Exception:  # whatever is damaged behind the first frame
        return True


def display_copy(pixels: Pixels) -> bytes:
    """Write an upright JPEG for browsers: quality 95, colours in full resolution.

    Args:
        pixels: uint8 [height, width, 3], RGB, upright, of full size.

    Raises:
        ImageError: `unsupported`: longer than a JPEG may be.
    """
    height, width = pixels.shape[:2]
    if max(width, height) > _LONGEST_SIDE:
        message = (
            f"no browser shows this file, and a copy for browsers has at most {_LONGEST_SIDE:,} pixels a side"
        )
        raise ImageError("unsupported", f"{message}: cut the image up", width=width, height=height)
    file = BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY, subsampling="4:4:4")
    return file.getvalue()
