"""Limits on an image's bytes and pixels."""

from dataclasses import dataclass
from typing import Final

from boxdrop.domain.errors import ImageError


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits for one image.

    Attributes:
        max_bytes: size of the file. The default allows the largest photos of today's cameras.
        max_pixels: width × height. Decoding needs about 7 bytes of memory per pixel, up to 13 for progressive
            JPEG. Pillow itself refuses GIF, TIFF and ICO above 178 megapixels, whatever is set here.
    """

    max_bytes: int = 100 * 2**20
    max_pixels: int = 100_000_000


DEFAULT_LIMITS: Final = Limits()


def check_bytes(size: int, limits: Limits) -> None:
    if size > limits.max_bytes:
        raise ImageError(
            "too_many_bytes",
            f"the file has {size:,} bytes, more than the limit of {limits.max_bytes:,}:"
            " compress it or raise the limit",
        )


def check_pixels(width: int, height: int, limits: Limits) -> None:
    if max(width, height) >= 2**31:  # a negative number in a BMP
        raise ImageError("corrupt", "the header states an impossible size: save the image again")
    if width * height > limits.max_pixels:
        raise ImageError(
            "too_many_pixels",
            f"the image has {width:,} × {height:,} pixels ({width * height / 1e6:,.0f} megapixels), more than"
            f" the limit of {limits.max_pixels / 1e6:,g} megapixels: make it smaller, cut it up or raise the"
            " limit",
            width=width,
            height=height,
        )
