"""Images: bytes in, upright RGB pixels out, or an `ImageError` that says what is wrong with the file.

A file's format is detected from its content, never from its name. Limits on bytes and pixels are checked in
the header, before any pixel is decoded. The orientation is applied once, here, so all other code works with
upright pixels. Only formats that people annotate are opened; Pillow's other plugins (PostScript, WMF, PSD, …)
are never called.

All functions are thread-safe; they neither change nor rely on Pillow's global settings.
"""

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Final, cast

import PIL.Image

from boxdrop.domain.errors import ImageError
from boxdrop.domain.image_formats import sniff
from boxdrop.domain.image_headers import RESAVE, TRUNCATED, open_image
from boxdrop.domain.image_limits import DEFAULT_LIMITS, Limits, check_bytes
from boxdrop.domain.pixels import Pixels

__all__ = [
    "DEFAULT_LIMITS",
    "Image",
    "ImageHeader",
    "Limits",
    "Pixels",
    "Reduction",
    "decode",
    "probe",
    "read_file",
    "sniff",
]


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The header's data.

    Attributes:
        width, height: upright size in pixels.
        format: detected from the content.
        orientation: EXIF orientation of the stored pixels, 1 to 8.
    """

    width: int
    height: int
    format: str
    orientation: int = 1


@dataclass(frozen=True, eq=False, slots=True)
class Image:
    """A decoded image.

    Attributes:
        pixels: uint8 [height, width, 3], RGB, upright, contiguous; smaller than the image by `reduction`.
        format: detected from the content: ``jpeg``, ``png``, ``webp``, ``gif``, ``bmp``, ``tiff``, ``avif``,
            ``heic``, ``jpeg2000`` or ``ico``.
        width, height: of the image, upright, in pixels.
        reduction: 1, 2, 4 or 8: pixels of the image to one of `pixels`, in each direction.
        shown_alike: whether a browser shows the file with these pixels, see `boxdrop.domain.browsers`. If
            not, `reduction` is 1.
        damaged: names of metadata that is damaged and was ignored: PNG chunks, JPEG segments, TIFF tags.
    """

    pixels: Pixels
    format: str
    width: int
    height: int
    reduction: int = 1
    shown_alike: bool = True
    damaged: tuple[str, ...] = ()


def read_file(path: Path, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Read an image file, after checking its size.

    Raises:
        ImageError: `unreadable` or `too_many_bytes`.
    """
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):  # reading a pipe or a device might never end
            raise ImageError("unreadable", "this is not a regular file: give the image file itself")
        check_bytes(status.st_size, limits)
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)  # it may grow in the meantime
    except OSError as error:
        cause = error.strerror or str(error)
        message = f"the file cannot be read ({cause}): check that it exists and that you may read it"
        raise ImageError("unreadable", message) from None
    check_bytes(len(data), limits)
    return data


def probe(data: bytes, limits: Limits = DEFAULT_LIMITS) -> ImageHeader:
    """Read size and format from the header, without decoding pixels.

    Raises:
        ImageError: as in `decode`, if the header shows it.
    """
    check_bytes(len(data), limits)
    found = sniff(data)
    with _as_image_errors(found), _quiet():
        opened = open_image(found, data, limits)
        width, height = opened.upright_size
    return ImageHeader(width, height, found, opened.orientation)


Reduction = Callable[[int, int], int]
"""The allowed reduction of an image of this upright width and height: 1, 2, 4 or 8."""


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS, reduction: Reduction | None = None) -> Image:
    """Decode an image into upright RGB pixels.

    - The first frame of an animation, a multi-page TIFF or an MPO; the largest image of an icon.
    - Orientation once: EXIF in JPEG, PNG and WebP, the tag in TIFF, the container's own rotation in AVIF and
      HEIC. XMP is ignored, as browsers do: Label Studio shows the image the same way up.
    - Transparency is composited over white.
    - 16 bits are scaled to 8, never clipped. In TIFF, gray of 10, 12 or 14 bits in 16 (cameras, microscopes)
      is recognised by its brightest value. Floats and 32-bit integers have no agreed range, see `_stretcher`.
    - Colour profiles are not applied; CMYK is converted by formula, CIELAB by its definition.

    Args:
        data: the whole file.
        limits: see `Limits`.
        reduction: if a smaller image is enough. Only JPEGs can be decoded smaller (each block of 8×8 pixels
            is read as 4×4, 2×2 or 1), in half of the time and a quarter of the memory or less.

    Raises:
        ImageError: with `reason` one of `empty`, `not_an_image`, `unsupported`, `too_many_bytes`,
            `too_many_pixels`, `truncated`, `corrupt`, `out_of_memory`. The message does not name the file.
    """
    check_bytes(len(data), limits)
    found = sniff(data)
    with _as_image_errors(found) as size, _quiet():
        opened = open_image(found, data, limits)
        width, height = opened.upright_size
        size.extend((width, height))
        scale = 1
        if reduction is not None and found == "jpeg" and opened.shown_alike:
            scale = opened.reduce(reduction(width, height))
        pixels, see_through = opened.load()
    return Image(pixels, found, width, height, scale, opened.shown_alike and not see_through, opened.damaged)


_SAYS_TRUNCATED = ("truncated", "end of file", "end of data", "not large enough", "not enough image data")
_SAYS_UNSUPPORTED = (
    "unknown pixel mode",
    "unknown raw mode",
    "string index out of range",  # Pillow, if a TIFF has more planes than it supports
    "cannot handle",
    "unsupported",
    "not supported",
    "not yet",
)


@contextmanager
def _as_image_errors(found: str) -> Iterator[list[int]]:
    """Turn a decoder's exceptions into an `ImageError`.

    Exceptions of every type count: decoders raise SyntaxError, ValueError, SystemError and more for bad
    bytes, and one bad file must never stop a run. A failed image is discarded: loading Pillow's half-read
    object again can succeed, with wrong pixels.

    Yields:
        a list for the upright width and height, once known.
    """
    size: list[int] = []
    try:
        yield size
    except ImageError:
        raise
    except Exception as error:
        width, height = size or (None, None)
        reason, message = _explain(error, found)
        raise ImageError(reason, message, width=width, height=height) from error


def _explain(error: Exception, found: str) -> tuple[str, str]:
    """Choose reason and message for a decoder's exception."""
    said = " ".join(str(error).split())[:200]
    lower = said.lower()
    name = {"webp": "WebP", "jpeg2000": "JPEG 2000"}.get(found, found.upper())
    if isinstance(error, PIL.Image.DecompressionBombError):
        return (
            "too_many_pixels",
            "the image claims more pixels than Pillow allows: make it smaller or cut it up",
        )
    if isinstance(error, MemoryError):
        return "out_of_memory", "decoding needs more memory than there is: make the image smaller"
    if isinstance(error, EOFError) or any(words in lower for words in _SAYS_TRUNCATED):
        return "truncated", TRUNCATED
    cause = error.args[0] if isinstance(error, SyntaxError) and error.args else error  # Pillow wraps some
    if found == "tiff" and isinstance(cause, KeyError) and cause.args and isinstance(cause.args[0], int):
        message = f"this TIFF is compressed by a method that boxdrop does not read (number {cause.args[0]})"
        return "unsupported", f"{message}: {RESAVE}"
    if isinstance(error, NotImplementedError) or any(words in lower for words in _SAYS_UNSUPPORTED):
        return "unsupported", f"boxdrop cannot read this kind of {name} ({said}): save it as JPEG or PNG"
    detail = f" ({said})" if said else ""
    return "corrupt", f"the {name} data is damaged{detail}: copy it again from its source or save it again"


class _WhileDecoding:
    """Acts as a message pattern in Python's warning filters; matches while this thread decodes.

    `warnings.catch_warnings` replaces the filters of all threads, which loses warnings of some threads and
    shows those of others. This filter silences only decoders' warnings about files (Pillow warns of doubtful
    TIFF tags and APNG chunks), and does not affect a user's own filters or use of Pillow.
    """

    def __init__(self) -> None:
        self.thread = threading.local()

    def match(self, _text: str) -> bool:
        return getattr(self.thread, "decoding", False)


# If the user has set no handler, Python would print Pillow's log messages about broken TIFFs to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_while_decoding = _WhileDecoding()
_FILTER: Final = ("ignore", _while_decoding, Warning, None, 0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings in this thread. If other filters were added before it, the filter moves to the front
    again."""
    filters = cast(list[object], warnings.filters)
    if not filters or filters[0] is not _FILTER:
        filters.insert(0, _FILTER)
    _while_decoding.thread.decoding = True
    try:
        yield
    finally:
        _while_decoding.thread.decoding = False
