"""Which names a listing takes for images.

Apart from `boxdrop.domain.images`, because functions that only read names need no decoder.
"""

from typing import Final

SUFFIXES: Final = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".heic", ".heif", ".hif", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".ico"),
)
"""Endings, in lower case, of the names that `is_image_name` takes for images."""


def is_image_name(name: str) -> bool:
    """Whether a walk through a folder or bucket should pick up this name; content decides what it really is.

    Args:
        name: a file's name, or a path or key with ``/``; only the last part counts. Hidden files are not
            taken (macOS leaves a ``._photo.jpg`` beside each photo on foreign disks).
    """
    last = name.rpartition("/")[2]
    return not last.startswith(".") and last.lower().endswith(SUFFIXES)
