"""Stable numbers: each is a hash of what it identifies, so it depends on nothing else in the data set."""

import hashlib
from typing import Final

BITS: Final = 53
"""pycocotools keeps ids in float64 arrays (``COCOeval.evaluateImg``): exact up to 2**53."""


def stable_number(*parts: str) -> int:
    """A number from 1 to 2**53 that depends only on these texts.

    Two of 100,000 images share a number with a probability of 6 in 10 million.
    """
    joined = "\0".join(parts).encode("utf-8", "surrogateescape")
    return (int.from_bytes(hashlib.sha256(joined).digest()[:8], "big") >> (64 - BITS)) or 1


def image_number(image_id: str, attempt: int = 0) -> int:
    """The number of an image; `attempt` counts the numbers that are already taken."""
    return stable_number("image", image_id, *([str(attempt)] if attempt else []))


def box_number(image_id: str, region: str, attempt: int = 0) -> int:
    """The number of a box, from its image and its region in Label Studio."""
    return stable_number("box", image_id, region, *([str(attempt)] if attempt else []))
