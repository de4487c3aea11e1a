"""The names of one detector, or of two that work together: ``nanodet-coco+owlv2``.

``detectors: [nanodet-coco, owlv2]`` in labels.yaml is the same as ``detector: nanodet-coco+owlv2``, so every
place that takes a detector's name takes two.
"""

from collections.abc import Sequence
from typing import Final

from boxdrop.domain.errors import BundleError

PLUS: Final = "+"
"""Between the names; no bundle's name contains it. It also joins the digests of the two."""

_SHIFT: Final = "~"  # between the digests and what moves the second detector's scores

MOST: Final = 2

_DIGITS_SHOWN: Final = 16


def split_names(detector: str) -> tuple[str, ...]:
    """The names in a text, at least one.

    Raises:
        BundleError: a name is missing or occurs twice, or there are too many.
    """
    names = tuple(name.strip() for name in detector.split(PLUS))
    if not all(names):
        raise BundleError(
            f"detector {detector!r}: a name is missing; write one name, or two with a + between them"
        )
    if len(names) > MOST:
        raise BundleError(f"detector {detector!r}: {len(names)} detectors are too many; name {MOST} at most")
    if len(set(names)) < len(names):
        raise BundleError(f"detector {detector!r}: {names[0]} is named twice; name it once")
    return names


def joined(names: Sequence[str]) -> str:
    """The names as one text."""
    return PLUS.join(names)


def joined_digests(digests: Sequence[str], shift: float) -> str:
    """What determines the boxes of two detectors together.

    Args:
        digests: of the bundles, in the order of their names.
        shift: between their scores, see `boxdrop.detect.allotment.shift_between`: it depends on default
            thresholds, which a bundle's own digest leaves out.
    """
    return f"{PLUS.join(digests)}{_SHIFT}{shift:.4f}"


def split_digests(digest: str) -> tuple[str, ...]:
    """The digests of the detectors, in the order of their names."""
    return tuple(digest.partition(_SHIFT)[0].split(PLUS))


def shown_digest(digest: str) -> str:
    """The first 16 digits of a bundle's digest, of each where there are two."""
    return PLUS.join(each[:_DIGITS_SHOWN] for each in split_digests(digest))


def pinned_name(name: str, digest: str) -> str:
    """``NAME@DIGEST16``, of each detector where there are two; labels.yaml and ``bundle use`` take it."""
    digests = split_digests(digest)
    return PLUS.join(
        f"{each}@{its[:_DIGITS_SHOWN]}" for each, its in zip(name.split(PLUS), digests, strict=True)
    )
