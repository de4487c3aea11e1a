"""Duplicates: the same file, or the same image in another size or quality."""

import threading
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from boxdrop.domain.errors import BoxdropError
from boxdrop.retrieve.provenance import Fingerprint

try:
    import imagehash
except ImportError:
    raise BoxdropError("finding near duplicates needs ImageHash: pip install 'boxdrop[retrieve]'") from None

NEAR: Final = 6
"""Perceptual hashes that differ in at most this many of 64 bits count as one image. See
docs/decisions/048."""


def perceptual_hash(pixels: NDArray[np.uint8]) -> int:
    """64 bits of an image's coarse structure (``imagehash.phash``): similar for copies in other sizes and
    qualities.

    Args:
        pixels: uint8 [height, width, 3].
    """
    bits = imagehash.phash(Image.fromarray(pixels)).hash
    return int.from_bytes(np.packbits(bits.flatten()).tobytes(), "big")


class Seen:
    """The images at a destination so far. Safe to use from several threads.

    It uses about 150 bytes per image; a lookup costs a microsecond per 1,000 images.

    Args:
        near: bits that may differ, see `NEAR`; None: exact duplicates only.
    """

    def __init__(self, near: int | None = NEAR) -> None:
        self.near = near
        self._files: dict[bytes, str] = {}
        self._hashes: NDArray[np.uint64] = np.zeros(1024, np.uint64)
        self._names: list[str] = []
        self._lock = threading.Lock()

    def claim(self, fingerprint: Fingerprint, name: str) -> tuple[str, bool] | None:
        """Add an image, unless it is a duplicate.

        Returns:
            None if it is new; else the name of the existing image, and whether the file is identical.
        """
        digest = bytes.fromhex(fingerprint.sha256)
        with self._lock:
            if digest in self._files:
                return self._files[digest], True
            if self.near is not None and fingerprint.phash is not None and self._names:
                differing = np.bitwise_count(self._hashes[: len(self._names)] ^ np.uint64(fingerprint.phash))
                closest = int(differing.argmin())
                if differing[closest] <= self.near:
                    return self._names[closest], False
            self._add(digest, fingerprint.phash, name)
        return None

    def add(self, fingerprint: Fingerprint, name: str) -> None:
        """Add an image that an earlier run stored."""
        with self._lock:
            self._add(bytes.fromhex(fingerprint.sha256), fingerprint.phash, name)

    def _add(self, digest: bytes, phash: int | None, name: str) -> None:
        self._files[digest] = name
        if phash is None:
            return
        if len(self._names) == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
        self._hashes[len(self._names)] = phash
        self._names.append(name)
