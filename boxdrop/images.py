"""Images: bytes in, upright RGB pixels out, or an `ImageError` that says what is wrong with the file.

What a file is gets read from its content, never from its name. Limits on bytes and pixels are checked from
the header, before any pixel is decoded. The orientation that the file states is applied once, here, so that
everything after this module lives in upright pixels. Only formats that people annotate are opened; Pillow's
other plugins (PostScript, WMF, PSD, …) are never reached.

Everything here may run in many threads at once; Pillow's global settings are neither changed nor relied on.
"""

import logging
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final, cast

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    ImageCms,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from boxdrop.containers import classic_tiff, clean_jpeg, clean_png
from boxdrop.errors import ImageError

Pixels = NDArray[np.uint8]

_STRIP_BYTES = 1 << 19
"""Pixels are converted in strips of about this size: they stay in the cache, and peak memory stays low."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one image may ask for.

    Attributes:
        max_bytes: size of the file. The default takes the largest photos of today's cameras.
        max_pixels: width × height. Decoding costs about 7 bytes of memory a pixel, up to 13 for progressive
            JPEG. Above 178 megapixels Pillow refuses GIF, TIFF and ICO by itself, whatever is given here.
    """

    max_bytes: int = 100 * 2**20
    max_pixels: int = 100_000_000


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header says: upright size in pixels, and the format that was found in the content."""

    width: int
    height: int
    format: str


@dataclass(frozen=True, eq=False, slots=True)
class Image:
    """A decoded image.

    Attributes:
        pixels: uint8 [height, width, 3], RGB, upright, contiguous; smaller than the image by `reduction`.
        format: what the content was: ``jpeg``, ``png``, ``webp``, ``gif``, ``bmp``, ``tiff``, ``avif``,
            ``heic``, ``jpeg2000`` or ``ico``.
        width, height: of the image, upright, in pixels.
        reduction: 1, 2, 4 or 8: pixels of the image to one of `pixels`, in each direction.
    """

    pixels: Pixels
    format: str
    width: int
    height: int
    reduction: int = 1


def read_file(path: Path, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Read an image file, looking at its size first.

    Raises:
        ImageError: `unreadable` or `too_many_bytes`.
    """
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):  # a pipe or a device could be read for ever
            raise ImageError("unreadable", "this is not a regular file: give the image file itself")
        _check_bytes(status.st_size, limits)
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)  # it may grow while we look
    except OSError as error:
        cause = error.strerror or str(error)
        message = f"the file cannot be read ({cause}): check that it exists and that you may read it"
        raise ImageError("unreadable", message) from None
    _check_bytes(len(data), limits)
    return data


def probe(data: bytes, limits: Limits = DEFAULT_LIMITS) -> ImageHeader:
    """Read size and format from the header, without decoding pixels.

    Raises:
        ImageError: as `decode`, for what the header can tell.
    """
    _check_bytes(len(data), limits)
    found = sniff(data)
    with _as_image_errors(found), _quiet():
        width, height = _open(found, data, limits).upright_size
    return ImageHeader(width, height, found)


Reduction = Callable[[int, int], int]
"""By how much an image of this upright width and height may be reduced: 1, 2, 4 or 8."""


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS, reduction: Reduction | None = None) -> Image:
    """Decode an image into upright RGB pixels.

    - The first picture of an animation, a multi-page TIFF or an MPO; the largest of an icon.
    - Orientation once: EXIF in JPEG, PNG and WebP, the tag in TIFF, the container's own rotation in AVIF and
      HEIC. XMP is ignored, as browsers do: Label Studio shows the image the same way up.
    - Transparency is composited over white.
    - 16 bits are scaled to 8, never clipped. In TIFF, gray of 10, 12 or 14 bits in 16 (cameras, microscopes)
      is told by its brightest value. Floats and 32-bit integers have no agreed range, see `_stretcher`.
    - Colour profiles are not applied; CMYK is converted by formula, CIELAB by its definition.

    Args:
        data: the whole file.
        limits: see `Limits`.
        reduction: where a smaller picture will do. JPEGs alone can be decoded smaller (each block of 8×8
            pixels is read as 4×4, 2×2 or 1), in half of the time and a quarter of the memory or less.

    Raises:
        ImageError: with `reason` one of `empty`, `not_an_image`, `unsupported`, `too_many_bytes`,
            `too_many_pixels`, `truncated`, `corrupt`, `out_of_memory`. The message does not name the file.
    """
    _check_bytes(len(data), limits)
    found = sniff(data)
    with _as_image_errors(found) as size, _quiet():
        opened = _open(found, data, limits)
        width, height = opened.upright_size
        size.extend((width, height))
        scale = 1
        if reduction is not None and found == "jpeg":
            scale = opened.reduce(reduction(width, height))
        pixels = opened.load()
    return Image(pixels, found, width, height, scale)


def sniff(data: bytes) -> str:
    """Name the format that the first bytes show, see `Image.format`.

    Raises:
        ImageError: `empty`, `not_an_image` or `unsupported`, saying what it seems to be instead.
    """
    if not data:
        raise ImageError("empty", "the file is empty (0 bytes): copy or upload it again")
    if data[128:132] == b"DICM":  # its first 128 bytes may be those of a TIFF
        raise ImageError("unsupported", "this is a DICOM file, which boxdrop does not read: save it as PNG")
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return _sniff_isobmff(data)
    for signature, what in _UNSUPPORTED:
        if data.startswith(signature):
            message = f"this is {what}, which boxdrop does not read: save it as JPEG or PNG"
            raise ImageError("unsupported", message)
    raise ImageError("not_an_image", f"this is {_describe(data)}: {_MEND}")


_MEND = "give a JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC or JPEG 2000 file"

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "jpeg"),
    (_PNG_SIGNATURE, "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF
    (b"MM\0+", "tiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"\0\0\1\0", "ico"),
)

_UNSUPPORTED: Final = (
    (b"8BPS", "a Photoshop document"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (b"qoif", "a QOI image"),
    (b"DDS ", "a DDS texture"),
    (b"P5", "a Netpbm image"),
    (b"P6", "a Netpbm image"),
    (b"FUJIFILM", "a camera's raw file"),
    (b"SIMPLE  =", "a FITS image"),
    (b"\x89HDF", "an HDF5 file"),
)

_OTHER: Final = (
    (b"%PDF", "a PDF document"),
    (b"PK\3\4", "a ZIP archive or office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"RIFF", "sound or video"),
    (b"version https://git-lfs", "a Git LFS pointer (`git lfs pull` gets the image)"),
    (b"\x00\x05\x16\x07", "a macOS metadata file"),
)


def _sniff_isobmff(data: bytes) -> str:
    """Tell AVIF from HEIC by the brands in the file type box (ISO/IEC 23008-12)."""
    length = min(int.from_bytes(data[:4], "big"), len(data), 4096)
    brands = {data[8:12], *(data[i : i + 4] for i in range(16, length - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return "avif"
    if brands & {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}:
        return "heic"
    raise ImageError("not_an_image", f"this is a video or sound file: {_MEND}")


def _describe(data: bytes) -> str:
    """Say in words what a file without an image's signature seems to be."""
    for signature, what in _OTHER:
        if data.startswith(signature):
            return what
    start = data[:4096]
    if not start.strip(b"\0"):
        return "nothing but zero bytes (was a copy interrupted?)"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page (an error page saved under an image's name?)"
    if text.startswith(b"<") and b"<svg" in text:
        return "an SVG drawing"
    if text.startswith(b"<?xml"):
        return "an XML document (an error message saved under an image's name?)"
    if all(byte >= 32 or byte in b"\t\n\f\r" for byte in start):
        return "text"
    return "of no image format that boxdrop knows"


def _check_bytes(size: int, limits: Limits) -> None:
    if size > limits.max_bytes:
        raise ImageError(
            "too_many_bytes",
            f"the file has {size:,} bytes, more than the limit of {limits.max_bytes:,}:"
            " compress it or raise the limit",
        )


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if max(width, height) >= 2**31:  # a negative number in BMP reads like this
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


@dataclass(frozen=True, slots=True)
class _Opened:
    """An image whose header is read and found within the limits.

    Attributes:
        image: Pillow's image, not loaded; its size is upright already where `orientation` is 1.
        orientation: EXIF orientation, 1 to 8, still to be applied.
        transparent: the gray value, or the RGB colour, that a PNG declares transparent.
    """

    image: PIL.Image.Image
    orientation: int = 1
    transparent: tuple[int, ...] | None = None

    @property
    def upright_size(self) -> tuple[int, int]:
        width, height = self.image.size
        return (height, width) if self.orientation >= 5 else (width, height)

    def reduce(self, scale: int) -> int:
        """Have a JPEG decoded smaller by 1, 2, 4 or 8; returns by how much it will be."""
        width, height = self.image.size
        wanted = (max(1, width // scale), max(1, height // scale))
        drafted = self.image.draft(None, wanted) if scale > 1 else None
        return 1 if drafted is None else round(width / drafted[1][2])

    def load(self) -> Pixels:
        announced = self.image.size
        tiles = self.image.tile if isinstance(self.image, GifImagePlugin.GifImageFile) else []
        drawn = tiles[0].extents if tiles else None
        if self.image.info.get("default_image") and getattr(self.image, "n_frames", 1) > 1:
            self.image.seek(1)  # an APNG's default image is for programs that show no animation
        self.image.load()
        if self.image.size != announced:  # the limits were checked for the announced size
            raise ImageError("corrupt", "header and pixels differ in size: save the image again")
        pixels = _upright_rgb(self.image, self.orientation, self.transparent)
        if drawn is not None:  # what the first picture of a GIF leaves free is transparent
            left, top, right, bottom = drawn
            pixels[:top], pixels[bottom:], pixels[:, :left], pixels[:, right:] = 255, 255, 255, 255
        return pixels


def _open(found: str, data: bytes, limits: Limits) -> _Opened:
    """Read the header with the one plugin that the content calls for, and check the limits.

    The plugin's class is used instead of `PIL.Image.open`: that compares with a global limit and warns.
    """
    transparent: bytes | None = None
    if found == "png":
        data, transparent = clean_png(data)
    elif found == "jpeg":
        data = clean_jpeg(data)
    elif found == "tiff":
        data = classic_tiff(data)
    elif found in ("avif", "heic"):
        _check_isobmff(data, limits)
    file = BytesIO(data)
    if found == "ico":
        return _open_ico(file, limits)
    if found == "webp":  # its plugin allocates two canvases as it opens
        _check_webp(data, limits)
    image = _PLUGINS[found](file)
    if found == "tiff":  # Pillow turns TIFFs itself as it loads them, and already states the upright size
        image.info.pop("xmp", None)  # else it would turn by XMP where the tag is missing
        _check_tiff(image)
        opened = _Opened(image)
    elif found == "heic":  # turned by its decoder
        opened = _Opened(image)
    else:  # for AVIF, Pillow puts the container's rotation in place of EXIF's
        key = _transparent_colour(data, transparent) if transparent else None
        opened = _Opened(image, _exif_orientation(image.info.get("exif")), key)
    _check_pixels(*opened.upright_size, limits)
    return opened


def _open_heic(file: BytesIO) -> PIL.Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(
            "unsupported", "this is a HEIC photo, which needs one more package: pip install 'boxdrop[heic]'"
        ) from None
    return cast(PIL.Image.Image, HeifImageFile(file))


# JpegImageFile itself instead of Pillow's factory: the first picture of an MPO is a plain JPEG, and so broken
# MPO tables do not matter.
_PLUGINS: Final[dict[str, Callable[[BytesIO], PIL.Image.Image]]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "jpeg2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
    "heic": _open_heic,
}


def _transparent_colour(png: bytes, transparent: bytes) -> tuple[int, ...]:
    """What a PNG's tRNS chunk says, in the units of the decoded pixels."""
    bits, values = png[24], struct.unpack(f">{len(transparent) // 2}H", transparent)
    if len(values) == 3 and bits == 16:  # Pillow keeps the upper halves, and two colours may share one
        message = "this is a PNG of 16-bit colours with a transparent one, which boxdrop does not read"
        raise ImageError("unsupported", f"{message}: save it with an alpha channel or 8 bits")
    scale = 255 // ((1 << bits) - 1) if bits < 8 else 1
    return tuple((value & ((1 << bits) - 1)) * scale for value in values)


def _check_isobmff(data: bytes, limits: Limits) -> None:
    """Check limits from the image size properties (``ispe``, ISO/IEC 23008-12, 6.5.3).

    libavif refuses more than 268 megapixels by itself, as if the file were damaged.
    """
    at = data.find(b"ispe", 0, 1 << 16)
    while 0 <= at <= len(data) - 16:
        width, height = struct.unpack_from(">II", data, at + 8)
        _check_pixels(width, height, limits)
        at = data.find(b"ispe", at + 16, 1 << 16)


def _check_tiff(image: PIL.Image.Image) -> None:
    """Refuse what Pillow would decode to wrong pixels, or cannot decode and calls damaged."""
    tiff = cast(TiffImagePlugin.TiffImageFile, image)
    tags = tiff.tag_v2
    bits, planes = max(tags.get(_BITS, (1,))), tags.get(_SAMPLES, 1)
    what = None
    if tags.get(_PLANAR, 1) == 2 and planes > 1 and bits > 8:
        what = f"{bits} bits and separate planes"
    elif tags.get(_PLANAR, 1) == 2 and tags.get(_PHOTOMETRIC) == 6:
        what = "YCbCr colours in separate planes"
    elif tags.get(_COMPRESSION, 1) == 50001:
        what = "WebP compression"
    if what is not None:
        raise ImageError("unsupported", f"this is a TIFF of {what}, which boxdrop does not read: {_RESAVE}")
    # libtiff gives samples in the processor's byte order, where Pillow expects the file's.
    tiff.tile = [
        tile._replace(args=(_NATIVE.get(tile.args[0], tile.args[0]), *tile.args[1:]))
        if tile.codec_name == "libtiff" and isinstance(tile.args, tuple)
        else tile
        for tile in tiff.tile
    ]


_NATIVE: Final[dict[Any, str]] = (
    {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"}
    if sys.byteorder == "little"
    else {"I;16S": "I;16BS", "I;32S": "I;32BS", "F;32F": "F;32BF"}
)


_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _SAMPLE_FORMAT = 258, 259, 262, 277, 284, 339
_RESAVE: Final = "save it as PNG, or as a TIFF of interleaved RGB without compression"


def _check_webp(data: bytes, limits: Limits) -> None:
    """Check limits from the first chunk (https://developers.google.com/speed/webp/docs/riff_container)."""
    if int.from_bytes(data[4:8], "little") + 8 > len(data) or len(data) < 30:
        raise ImageError("truncated", _TRUNCATED)
    chunk = data[12:16]
    if chunk == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
    elif chunk == b"VP8L":
        packed = int.from_bytes(data[21:25], "little")
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        width = int.from_bytes(data[26:28], "little") & 0x3FFF
        height = int.from_bytes(data[28:30], "little") & 0x3FFF
    _check_pixels(width, height, limits)


def _open_ico(file: BytesIO, limits: Limits) -> _Opened:
    """Open the largest picture of an icon. Pillow's own class would decode it before we know its size."""
    icon = IcoImagePlugin.IcoFile(file)
    if not icon.entry:
        raise ImageError("corrupt", "the icon holds no picture: save it again")
    start = icon.entry[0].offset
    file.seek(start)
    is_png = file.read(8) == _PNG_SIGNATURE
    file.seek(start)
    if is_png:
        width, height = PngImagePlugin.PngImageFile(file).size
    else:
        width, height = BmpImagePlugin.DibImageFile(file).size
        height //= 2  # the lower half is the mask
    _check_pixels(width, height, limits)
    return _Opened(icon.frame(0))


def _exif_orientation(exif: bytes | None) -> int:
    """Find the orientation, 1 to 8, in a block of EXIF; 1 where it is missing, invalid or unreadable.

    Reads tag 0x0112 of the first directory (EXIF 2.32, 4.6.4) and nothing else, so that a hostile block costs
    nothing, and damaged notes of a camera's maker do not matter.
    """
    if not exif:
        return 1
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for i in range(count):
            tag, kind, values, value = struct.unpack_from(f"{order}HHIH", block, start + 2 + 12 * i)
            if tag == 0x0112:  # one SHORT; browsers take nothing else for an orientation
                return int(value) if (kind, values) == (3, 1) and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


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


def _upright_rgb(
    image: PIL.Image.Image, orientation: int, transparent: tuple[int, ...] | None = None
) -> Pixels:
    """Convert a loaded image strip by strip into a new array, turning it on the way.

    Returns:
        uint8 [height, width, 3], upright.
    """
    width, height = image.size
    to_rgb = _converter(image)
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
    """Choose how strips of this image become RGB, [rows, width, 3], or gray, [rows, width, 1]."""
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


def _with_transparent(colour: tuple[int, ...], to_rgb: _Converter) -> _Converter:
    """White where a pixel has the transparent colour."""

    def convert(strip: PIL.Image.Image) -> NDArray[np.uint8]:
        values = np.asarray(strip.convert("L") if strip.mode == "1" else strip)
        same = (values.reshape(*values.shape[:2], -1) == colour).all(axis=2)
        return np.where(same[..., None], np.uint8(255), to_rgb(strip))

    return convert


def _over_white(strip: PIL.Image.Image) -> NDArray[np.uint8]:
    white = PIL.Image.new("RGBA", strip.size, "white")
    return np.asarray(PIL.Image.alpha_composite(white, strip.convert("RGBA")).convert("RGB"))


_USUAL_WHITES: Final = tuple(2.0**bits - 1 for bits in (8, 10, 12, 14, 16))


def _stretcher(image: PIL.Image.Image, stored: type[np.integer[Any]] | None = None) -> _Converter:
    """Scale gray values without an agreed range to 0–255.

    White is the largest value of the smallest usual depth (8, 10, 12, 14 or 16 bits; 1.0 for floats) that
    holds the brightest pixel; black is 0. What fits none, or is negative, is stretched from its lowest to its
    highest value. Values that are not finite become black.

    Args:
        stored: what the file's integers are, where Pillow takes their bits for another type.
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
    if low >= 0:  # infinite where nothing was finite
        low, high = next(((0.0, white) for white in usual if high <= white), (low, high))
    scale = 255.0 / (high - low) if high > low else 0.0

    def convert(strip: PIL.Image.Image) -> NDArray[np.uint8]:
        values = values_of(strip).astype(np.float64)
        scaled = np.where(np.isfinite(values), values - low, 0.0) * scale
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)[..., None]

    return convert


_TRUNCATED = "the file ends before the image does: copy or upload it again"

_SAYS_TRUNCATED = ("truncated", "end of file", "end of data", "not large enough", "not enough image data")
_SAYS_UNSUPPORTED = ("unknown pixel mode", "cannot handle", "unsupported", "not supported", "not yet")


@contextmanager
def _as_image_errors(found: str) -> Iterator[list[int]]:
    """Turn whatever a decoder raises into an `ImageError`.

    Every exception counts, of whatever type: decoders raise SyntaxError, ValueError, SystemError and more for
    bad bytes, and one bad file must never stop a run. A failed image is dropped whole: loading Pillow's
    half-read object again can succeed, with wrong pixels.

    Yields:
        a list to put upright width and height in, once known.
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
    """Choose reason and message for what a decoder raised."""
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
        return "truncated", _TRUNCATED
    if found == "tiff" and isinstance(error, KeyError) and error.args and isinstance(error.args[0], int):
        message = f"this TIFF is compressed by a method that boxdrop does not read (number {error.args[0]})"
        return "unsupported", f"{message}: {_RESAVE}"
    if isinstance(error, NotImplementedError) or any(words in lower for words in _SAYS_UNSUPPORTED):
        return "unsupported", f"boxdrop cannot read this kind of {name} ({said}): save it as JPEG or PNG"
    detail = f" ({said})" if said else ""
    return "corrupt", f"the {name} data is damaged{detail}: copy it again from its source or save it again"


class _WhileDecoding:
    """Stands for a message pattern in Python's list of warning filters: matches while this thread decodes.

    `warnings.catch_warnings` swaps the filters of all threads, which loses warnings of some and lets through
    those of others. This filter silences just what decoders say about files (Pillow warns of doubtful TIFF
    tags and APNG chunks) and leaves a user's own filters, and their own use of Pillow, alone.
    """

    def __init__(self) -> None:
        self.thread = threading.local()

    def match(self, _text: str) -> bool:
        return getattr(self.thread, "decoding", False)


# Without a handler of the user's, Python would print what Pillow logs about broken TIFFs to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_while_decoding = _WhileDecoding()
_FILTER: Final = ("ignore", _while_decoding, Warning, None, 0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings in this thread. The filter goes back to the front where others were put before it."""
    filters = cast(list[object], warnings.filters)
    if not filters or filters[0] is not _FILTER:
        filters.insert(0, _FILTER)
    _while_decoding.thread.decoding = True
    try:
        yield
    finally:
        _while_decoding.thread.decoding = False
