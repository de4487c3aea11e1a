"""Image headers: size, orientation and kind of pixels, checked before any pixel is decoded.

Each format uses exactly one Pillow plugin; others (PostScript, WMF, PSD, …) are never called. Files that a
plugin would decode to wrong pixels are refused here as `unsupported`.
"""

import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, Final, cast

import PIL.Image
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from boxdrop.domain.browsers import shows_alike
from boxdrop.domain.containers import (
    PNG_SIGNATURE,
    CleanFile,
    classic_tiff,
    clean_isobmff,
    clean_jpeg,
    clean_png,
    clean_tiff,
    skips_pixels,
)
from boxdrop.domain.errors import ImageError
from boxdrop.domain.image_limits import Limits, check_pixels
from boxdrop.domain.pixels import Pixels, is_see_through, upright_rgb

TRUNCATED: Final = "the file ends before the image does: copy or upload it again"


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """An image whose header was read and is within the limits.

    Attributes:
        image: Pillow's image, not loaded; its size is already upright if `orientation` is 1.
        orientation: EXIF orientation, 1 to 8, still to be applied.
        transparent: the gray value, or the RGB colour, that a PNG declares transparent.
        gamma: of a PNG whose values are not sRGB's, see `boxdrop.domain.containers.CleanFile`.
        shown_alike: see `boxdrop.domain.browsers.shows_alike`.
    """

    image: PIL.Image.Image
    orientation: int = 1
    transparent: tuple[int, ...] | None = None
    gamma: float | None = None
    shown_alike: bool = False
    damaged: tuple[str, ...] = ()

    @property
    def upright_size(self) -> tuple[int, int]:
        width, height = self.image.size
        return (height, width) if self.orientation >= 5 else (width, height)

    def reduce(self, scale: int) -> int:
        """Request a JPEG reduced by 1, 2, 4 or 8; returns the reduction that will be used."""
        width, height = self.image.size
        wanted = (max(1, width // scale), max(1, height // scale))
        drafted = self.image.draft(None, wanted) if scale > 1 else None
        return 1 if drafted is None else round(width / drafted[1][2])

    def load(self) -> tuple[Pixels, bool]:
        """Decode the pixels, and look whether some of them are transparent."""
        image = self.image
        if isinstance(image, BmpImagePlugin.BmpImageFile) and image.format == "BMP":
            _check_bmp(cast(BytesIO, image.fp).getvalue())
        announced = self.image.size
        tiles = self.image.tile if isinstance(self.image, GifImagePlugin.GifImageFile) else []
        drawn = tiles[0].extents if tiles else None
        if self.image.info.get("default_image") and getattr(self.image, "n_frames", 1) > 1:
            self.image.seek(1)  # an APNG's default image is for programs that do not show animations
        self.image.load()
        if self.image.size != announced:  # the limits were checked for the announced size
            raise ImageError("corrupt", "header and pixels differ in size: save the image again")
        pixels = upright_rgb(self.image, self.orientation, self.transparent, self.gamma)
        see_through = self.transparent is not None or is_see_through(self.image)
        if drawn is not None:  # areas that the first frame of a GIF does not cover are transparent
            left, top, right, bottom = drawn
            pixels[:top], pixels[bottom:], pixels[:, :left], pixels[:, right:] = 255, 255, 255, 255
            see_through = see_through or drawn != (0, 0, *announced)
        return pixels, see_through


def open_image(found: str, data: bytes, limits: Limits) -> OpenedImage:
    """Read the header with the plugin for the detected format, and check the limits.

    The plugin's class is used instead of `PIL.Image.open`: that compares with a global limit and warns.
    """
    clean = CleanFile(data)
    if found == "png":
        clean = clean_png(data)
    elif found == "jpeg":
        clean = clean_jpeg(data)
    elif found == "tiff":
        clean = clean_tiff(classic_tiff(data))
    elif found in ("avif", "heic"):
        _check_isobmff(data, limits)
        clean = clean_isobmff(data)
    data = clean.data
    file = BytesIO(data)
    if found == "ico":
        return _open_ico(file, limits)
    if found == "webp":  # its plugin allocates two canvases when it opens a file
        _check_webp(data, limits)
    image = _PLUGINS[found](file)
    # Pillow rotates TIFFs itself when it loads them, and already reports the upright size
    if found == "tiff":
        image.info.pop("xmp", None)  # else it would rotate by XMP if the tag is missing
        _check_tiff(image)
        opened = OpenedImage(image)
    elif found == "heic":  # rotated by its decoder
        opened = OpenedImage(image)
    else:  # for AVIF, Pillow puts the container's rotation in place of EXIF's
        key = _transparent_colour(data, clean.transparent) if clean.transparent else None
        orientation = _exif_orientation(image.info.get("exif"))
        alike = shows_alike(found, image, orientation, data)
        opened = OpenedImage(image, orientation, key, clean.gamma, alike)
    check_pixels(*opened.upright_size, limits)
    return replace(opened, damaged=clean.damaged)


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
    """The transparent colour of a PNG's tRNS chunk, in the units of the decoded pixels."""
    bits, values = png[24], struct.unpack(f">{len(transparent) // 2}H", transparent)
    if len(values) == 3 and bits == 16:  # Pillow keeps the upper halves, and two colours may share one
        message = "this is a PNG of 16-bit colours with a transparent one, which boxdrop does not read"
        raise ImageError("unsupported", f"{message}: save it with an alpha channel or 8 bits")
    scale = 255 // ((1 << bits) - 1) if bits < 8 else 1
    return tuple((value & ((1 << bits) - 1)) * scale for value in values)


def _check_isobmff(data: bytes, limits: Limits) -> None:
    """Check limits from the image size properties (``ispe``, ISO/IEC 23008-12, 6.5.3).

    libavif itself refuses more than 268 megapixels, and reports a damaged file.
    """
    at = data.find(b"ispe", 0, 1 << 16)
    while 0 <= at <= len(data) - 16:
        width, height = struct.unpack_from(">II", data, at + 8)
        check_pixels(width, height, limits)
        at = data.find(b"ispe", at + 16, 1 << 16)


def _check_bmp(data: bytes) -> None:
    if skips_pixels(data):
        message = "this is a BMP whose compression leaves pixels out, which boxdrop does not read"
        raise ImageError("unsupported", f"{message}: save it as PNG")


def _check_tiff(image: PIL.Image.Image) -> None:
    """Refuse files that Pillow would decode to wrong pixels, or cannot decode and reports as damaged."""
    tiff = cast(TiffImagePlugin.TiffImageFile, image)
    tags = tiff.tag_v2
    bits, planes = max(tags.get(_BITS, (1,))), tags.get(_SAMPLES, 1)
    compression, photometric = tags.get(_COMPRESSION, 1), tags.get(_PHOTOMETRIC, 0)
    separate, extra = tags.get(_PLANAR, 1) == 2 and planes > 1, tags.get(_EXTRA_SAMPLES)
    what = None
    if separate and bits > 8:
        what = f"{bits} bits and separate planes"
    elif separate and photometric == _YCBCR:
        what = "YCbCr colours in separate planes"
    elif separate and extra and (len(extra) > 1 or photometric < 2 or (compression == 1 and extra != (2,))):
        what = "separate planes, one of which is no colour"
    elif photometric == _YCBCR and compression == 1 and _is_subsampled(tags):
        what = "subsampled YCbCr colours without compression"
    elif compression == 50001:
        what = "WebP compression"
    elif compression == 32773 and tags.get(_PREDICTOR, 1) != 1:  # libtiff ignores the predictor
        what = "PackBits compression with a predictor"
    elif tags.get(_SUBFILE_TYPE, 0) & 1 and (tags.next or _SUB_DIRECTORIES in tags):
        what = "a preview before the image itself (a camera's raw file?)"
    if what is not None:
        raise ImageError("unsupported", f"this is a TIFF of {what}, which boxdrop does not read: {RESAVE}")
    # libtiff gives samples in the processor's byte order, where Pillow expects the file's.
    tiff.tile = [
        tile._replace(args=(_NATIVE.get(tile.args[0], tile.args[0]), *tile.args[1:]))
        if tile.codec_name == "libtiff" and isinstance(tile.args, tuple)
        else tile
        for tile in tiff.tile
    ]


def _is_subsampled(tags: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
    """Whether chroma is subsampled. Many writers omit the field, so the number of bytes decides."""
    samples = 3 * int(tags[256]) * int(tags[257])
    return tags.get(_SUBSAMPLING) != (1, 1) and sum(tags.get(_STRIP_BYTES, (samples,))) < samples


_NATIVE: Final[dict[Any, str]] = (
    {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"}
    if sys.byteorder == "little"
    else {"I;16S": "I;16BS", "I;32S": "I;32BS", "F;32F": "F;32BF"}
)


_SUBFILE_TYPE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _STRIP_BYTES = 254, 258, 259, 262, 277, 279
_PLANAR, _PREDICTOR, _SUB_DIRECTORIES, _EXTRA_SAMPLES, _SUBSAMPLING = 284, 317, 330, 338, 530
_YCBCR: Final = 6
RESAVE: Final = "save it as PNG, or as a TIFF of interleaved RGB without compression"


def _check_webp(data: bytes, limits: Limits) -> None:
    """Check limits from the first chunk (https://developers.google.com/speed/webp/docs/riff_container)."""
    if int.from_bytes(data[4:8], "little") + 8 > len(data) or len(data) < 30:
        raise ImageError("truncated", TRUNCATED)
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
    check_pixels(width, height, limits)


def _open_ico(file: BytesIO, limits: Limits) -> OpenedImage:
    """Open the largest image of an icon. Pillow's own class would decode it before its size is known."""
    icon = IcoImagePlugin.IcoFile(file)
    if not icon.entry:
        raise ImageError("corrupt", "the icon holds no picture: save it again")
    start = icon.entry[0].offset
    file.seek(start)
    is_png = file.read(8) == PNG_SIGNATURE
    file.seek(start)
    if is_png:
        width, height = PngImagePlugin.PngImageFile(file).size
    else:
        width, height = BmpImagePlugin.DibImageFile(file).size
        height //= 2  # the lower half is the mask
    check_pixels(width, height, limits)
    return OpenedImage(icon.frame(0))


def _exif_orientation(exif: bytes | None) -> int:
    """Find the orientation, 1 to 8, in a block of EXIF; 1 where it is missing, invalid or unreadable.

    Reads only tag 0x0112 of the first directory (EXIF 2.32, 4.6.4), so a hostile block costs nothing, and
    damaged maker notes do not matter.
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
            if tag == 0x0112:  # one SHORT; browsers accept no other type as an orientation
                return int(value) if (kind, values) == (3, 1) and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
