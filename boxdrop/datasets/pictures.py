"""The image files of a data set: exactly the verified version, rotated upright if needed."""

import hashlib
import io
import os
from enum import StrEnum
from pathlib import Path
from typing import Final

import PIL.Image

from boxdrop.aws.s3 import Bucket
from boxdrop.datasets.items import Item
from boxdrop.datasets.spool import ImageFile, ImageNames
from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import DEFAULT_LIMITS, decode, probe

_ORIENTATION: Final = 0x0112
_QUALITY: Final = 95
_ENDINGS: Final = {"jpeg": ".jpg", "tiff": ".tif", "jpeg2000": ".jp2"}
_LOSSY: Final = ("jpeg", "webp", "avif", "heic")
_READ_ANYWHERE: Final = ("jpeg", "png")


class Pixels(StrEnum):
    """How images are copied."""

    UPRIGHT = "upright"  # like the boxes: files that viewers would have to rotate are encoded again
    ORIGINAL = "original"  # byte for byte


def fetch(bucket: Bucket, item: Item, pixels: Pixels, folder: Path, names: ImageNames) -> ImageFile:
    """Copy the image of an item to the data set's folder. It appears under its name only when complete.

    Raises:
        ImageError: the version is gone, cannot be read, or does not have the size that was verified.
        UnavailableError: S3 does not respond.
        OSError: the file cannot be written.
    """
    data = bucket.read_version(item.key, item.version, DEFAULT_LIMITS.max_bytes)
    header = probe(data)
    if (header.width, header.height) != (item.width, item.height):
        raise ImageError("size", f"{header.width}×{header.height}, verified as {item.width}×{item.height}")
    original = hashlib.sha256(data).hexdigest()
    ending = _ENDINGS.get(header.format, f".{header.format}")
    if pixels == Pixels.UPRIGHT and not _is_upright(data, header.format):
        data, ending = _redraw(data)
    path = names(item, ending)
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    partial.write_bytes(data)
    os.replace(partial, target)
    return ImageFile(path, hashlib.sha256(data).hexdigest(), len(data), original)


def digest_of(path: Path) -> tuple[str, int]:
    """sha256 and bytes of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest(), file.tell()


def _is_upright(data: bytes, format: str) -> bool:
    """Whether every reader shows the image as it was verified."""
    if format not in _READ_ANYWHERE:
        return False
    with PIL.Image.open(io.BytesIO(data)) as image:
        return image.getexif().get(_ORIENTATION, 1) in (0, 1)


def _redraw(data: bytes) -> tuple[bytes, str]:
    """Encode an image again, upright: as PNG if it was lossless, else as JPEG."""
    image = decode(data)
    out = io.BytesIO()
    picture = PIL.Image.fromarray(image.pixels)
    if image.format in _LOSSY:
        picture.save(out, "JPEG", quality=_QUALITY, subsampling=0)
        return out.getvalue(), ".jpg"
    picture.save(out, "PNG")
    return out.getvalue(), ".png"
