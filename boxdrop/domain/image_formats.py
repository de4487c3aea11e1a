"""Detects the format of an image file by its content, never by its name."""

from dataclasses import dataclass
from typing import Final

from boxdrop.domain.containers import PNG_SIGNATURE
from boxdrop.domain.errors import ImageError
from boxdrop.domain.image_names import kind_of_extension
from boxdrop.domain.left_out import LeftOut


@dataclass(frozen=True, slots=True)
class NoImage:
    """What content is that boxdrop does not decode.

    Attributes:
        kind: for lists of what is left out.
        reason, message: of the `ImageError` for a file that is named like an image.
    """

    kind: LeftOut
    reason: str
    message: str


def sniff(data: bytes) -> str:
    """Detect the format from the first bytes, see `Image.format`.

    Raises:
        ImageError: `empty`, `not_an_image` or `unsupported`; the message says what it seems to be.
    """
    found = identify(data)
    if isinstance(found, NoImage):
        raise ImageError(found.reason, found.message)
    return found


def identify(data: bytes) -> str | NoImage:
    """Name the format that the first bytes show, or say what they are instead."""
    if not data:
        return NoImage(LeftOut.EMPTY, "empty", "the file is empty (0 bytes): copy or upload it again")
    if data[128:132] == b"DICM":  # its first 128 bytes may look like a TIFF
        return _unsupported("a DICOM file", LeftOut.UNSUPPORTED, "PNG")
    if data[:4] in (b"II*\0", b"MM\0*") and data[8:10] == b"CR":  # Canon's CR2 begins as a TIFF
        return _unsupported("a camera's raw file", LeftOut.RAW, "JPEG")
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return _identify_isobmff(data)
    for signature, what, kind in _UNSUPPORTED:
        if data.startswith(signature):
            return _unsupported(what, kind)
    what, kind = _describe(data)
    return NoImage(kind, "not_an_image", f"this is {what}: {_MEND}")


def reason_of_content(start: bytes, name: str) -> LeftOut | None:
    """Why a file that is not named like an image is left out; None if its content is an image.

    Args:
        start: the file's first `SNIFFED` bytes.
        name: the file's. Raw files of cameras are TIFFs, and office documents are ZIP archives, by content.
    """
    found = identify(start)
    named = kind_of_extension(name)
    if isinstance(found, NoImage):
        kind = found.kind
    elif found == "tiff" and named == LeftOut.RAW:
        return LeftOut.RAW
    elif found not in ("bmp", "ico") or _has_plausible_header(start):
        return None
    else:
        kind = _describe(start)[1]
    if kind == LeftOut.TEXT:
        return named if named in (LeftOut.DOCUMENT, LeftOut.DRAWING) else LeftOut.TEXT
    if kind in (LeftOut.OTHER, LeftOut.EMPTY, LeftOut.ARCHIVE, LeftOut.PDF, LeftOut.DOCUMENT):
        return named or kind
    return kind


SNIFFED: Final = 4096
"""Bytes that format detection needs."""

_SUFFIXES: Final = {"jpeg": "jpg", "tiff": "tif", "jpeg2000": "jp2"}


def suffix_of(format: str) -> str:
    """The extension of a format's files, without a dot."""
    return _SUFFIXES.get(format, format)


def _has_plausible_header(start: bytes) -> bool:
    """Whether a BMP or an icon is one: their signatures are so short that texts and fonts begin like it."""
    if start.startswith(b"BM"):
        return int.from_bytes(start[14:18], "little") in (12, 16, 40, 52, 56, 64, 108, 124)
    pictures = int.from_bytes(start[4:6], "little")
    return 1 <= pictures <= 256 and start[9:10] == b"\0" and int.from_bytes(start[14:18], "little") > 0


def _unsupported(what: str, kind: LeftOut, instead: str = "JPEG or PNG") -> NoImage:
    return NoImage(kind, "unsupported", f"this is {what}, which boxdrop does not read: save it as {instead}")


_MEND = "give a JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC or JPEG 2000 file"

_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "jpeg"),
    (PNG_SIGNATURE, "png"),
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

_RAW: Final = (*(b"FUJIFILM", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"II\x1a\0\0\0HEAP", b"\0MRM", b"FOVb"),)

_UNSUPPORTED: Final = (
    (b"8BPS", "a Photoshop document", LeftOut.UNSUPPORTED),
    (b"\xff\x0a", "a JPEG XL image", LeftOut.UNSUPPORTED),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image", LeftOut.UNSUPPORTED),
    (b"II\xbc\1", "a JPEG XR image", LeftOut.UNSUPPORTED),
    (b"gimp xcf", "a GIMP image", LeftOut.UNSUPPORTED),
    (b"%!PS", "a PostScript document", LeftOut.DRAWING),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document", LeftOut.DRAWING),
    (b"qoif", "a QOI image", LeftOut.UNSUPPORTED),
    (b"DDS ", "a DDS texture", LeftOut.UNSUPPORTED),
    (b"v/1\1", "an OpenEXR image", LeftOut.UNSUPPORTED),
    *(
        (b"P%d%c" % (kind, space), "a Netpbm image", LeftOut.UNSUPPORTED)
        for kind in range(1, 8)
        for space in b"\n\r\t"
    ),
    *((signature, "a camera's raw file", LeftOut.RAW) for signature in _RAW),
    (b"SIMPLE  =", "a FITS image", LeftOut.UNSUPPORTED),
    (b"\x89HDF", "an HDF5 file", LeftOut.UNSUPPORTED),
)

_OTHER: Final = (
    (b"%PDF", "a PDF document", LeftOut.PDF),
    (b"PK\3\4", "a ZIP archive or office document", LeftOut.ARCHIVE),
    (b"\xd0\xcf\x11\xe0", "an office document", LeftOut.DOCUMENT),
    (b"{\\rtf", "a document", LeftOut.DOCUMENT),
    (b"\x1f\x8b", "a gzip archive", LeftOut.ARCHIVE),
    (b"7z\xbc\xaf", "a 7z archive", LeftOut.ARCHIVE),
    (b"Rar!", "a RAR archive", LeftOut.ARCHIVE),
    (b"BZh", "a bzip2 archive", LeftOut.ARCHIVE),
    (b"\xfd7zXZ", "an xz archive", LeftOut.ARCHIVE),
    (b"\x1aE\xdf\xa3", "a video", LeftOut.VIDEO),
    (b"\0\0\1\xba", "a video", LeftOut.VIDEO),
    (b"\0\0\1\xb3", "a video", LeftOut.VIDEO),
    (b"FLV\1", "a video", LeftOut.VIDEO),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a video or sound file", LeftOut.VIDEO),
    (b"ID3", "a sound file", LeftOut.SOUND),
    (b"fLaC", "a sound file", LeftOut.SOUND),
    (b"OggS", "a video or sound file", LeftOut.SOUND),
    (b"version https://git-lfs", "a Git LFS pointer (`git lfs pull` gets the image)", LeftOut.TEXT),
    (b"\x00\x05\x16\x07", "a macOS metadata file", LeftOut.OTHER),
)


def _identify_isobmff(data: bytes) -> str | NoImage:
    """Distinguish AVIF from HEIC by the brands in the file type box (ISO/IEC 23008-12)."""
    length = min(int.from_bytes(data[:4], "big"), len(data), 4096)
    brands = {data[8:12], *(data[i : i + 4] for i in range(16, length - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return "avif"
    if brands & {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}:
        return "heic"
    if data[8:12] == b"crx ":  # Canon's CR3
        return _unsupported("a camera's raw file", LeftOut.RAW, "JPEG")
    kind = LeftOut.SOUND if data[8:12] in (b"M4A ", b"M4B ") else LeftOut.VIDEO
    return NoImage(kind, "not_an_image", f"this is a video or sound file: {_MEND}")


def _describe(data: bytes) -> tuple[str, LeftOut]:
    """Describe what a file without an image's signature seems to be."""
    for signature, what, kind in _OTHER:
        if data.startswith(signature):
            return what, kind
    if data.startswith(b"RIFF"):
        return ("a sound file", LeftOut.SOUND) if data[8:12] == b"WAVE" else ("a video", LeftOut.VIDEO)
    start = data[:SNIFFED]
    if not start.strip(b"\0"):
        return "nothing but zero bytes (was a copy interrupted?)", LeftOut.OTHER
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page (an error page saved under an image's name?)", LeftOut.DOCUMENT
    if text.startswith(b"<") and b"<svg" in text:
        return "an SVG drawing", LeftOut.DRAWING
    if text.startswith(b"<?xml"):
        return "an XML document (an error message saved under an image's name?)", LeftOut.TEXT
    if all(byte >= 32 or byte in b"\t\n\f\r" for byte in start):
        return "text", LeftOut.TEXT
    return "of no image format that boxdrop knows", LeftOut.OTHER
