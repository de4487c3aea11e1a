"""Shares of images that a hash chooses: always the same images, and independent for each purpose."""

import hashlib

_BITS = 53  # a float holds them exactly


def is_sampled(image_id: str, share: float, purpose: str) -> bool:
    """Whether an image belongs to a share of all images.

    Args:
        share: from 0 (none) to 1 (all). The images of a smaller share belong to each larger one.
        purpose: shares of different purposes are independent of each other.
    """
    digest = hashlib.sha256(f"{purpose}\0{image_id}".encode("utf-8", "surrogateescape")).digest()
    place = int.from_bytes(digest[:8], "big") >> (64 - _BITS)
    return bool(place < share * 2**_BITS)
