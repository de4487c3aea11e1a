"""Which image format a file has, by its content and never by its name."""

from typing import Final

from boxdrop.domain.containers import PNG_SIGNATURE
from boxdrop.domain.errors import ImageError


def sniff(data: bytes) -> str:
    """Name the format that the first bytes show, see `Image.format`.

    Raises:
        ImageError: `empty`, `not_an_image` or `unsupported`, saying what it seems to be instead.
    """
    if not data:
        raise ImageError("empty", "the file is empty (0 bytes): copy or upload it again")
    if data[128:132] == b"DICM":  # its first 128 bytes may be those of a TIFF
        raise ImageError("unsupported", "this is a DICOM file, which boxdrop does not read: save it as PNG")
    if data[:4] in (b"II*\0", b"MM\0*") and data[8:10] == b"CR":  # Canon's CR2 begins as a TIFF
        raise ImageError(
            "unsupported", "this is a camera's raw file, which boxdrop does not read: save it as JPEG"
        )
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
