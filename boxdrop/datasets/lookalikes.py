"""Near-duplicates: images that look alike get one place among the splits, which each keeps for good.

What an image looks like is a perceptual hash: of its gray picture of 64 × 64 pixels, whether each of the 255
lowest frequencies of the cosine transform is above their median. Copies that were compressed, resized or
brightened differ in a few bits; unrelated photos in about half of them.
https://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html

Places are decided once and stored. Only so can an image join the split of its near-duplicate without ever
moving one that was there: docs/decisions/087-near-duplicates.md.
"""

import gzip
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from boxdrop.aws.s3 import Bucket, Put
from boxdrop.datasets.items import DatasetError
from boxdrop.store.layout import places_prefix

BITS: Final = 256
NEAR: Final = 20
"""Looks that differ in at most so many bits are near-duplicates. Measured: JPEG of quality 40, half the size
and noise of 8 levels change up to 6 bits, a brightness of 120 % up to 26; no two of 63 photos differ in fewer
than 102, no two of the demo's drawings in fewer than 92."""
_SIDE: Final = 64
_KEPT: Final = 16
_BANDS: Final = NEAR + 1
"""Looks that differ in at most `NEAR` bits are the same in at least one of `NEAR` + 1 parts."""

_ROW: Final = np.dtype(
    [("image", "<u8"), ("group", "<u8"), ("place", "<u8"), ("look", np.uint8, (BITS // 8,))]
)
"""A stored row: the first 16 digits of the image_id, the number of its group, its place and its look."""
UNKNOWN: Final = bytes(BITS // 8)
"""The look of an image that cannot be read, or has one colour; it is like no other."""


def look_of(pixels: NDArray[np.uint8]) -> bytes:
    """The look of an image.

    Args:
        pixels: uint8 [height, width, 3], RGB, upright.
    """
    small = PIL.Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), PIL.Image.Resampling.LANCZOS)
    gray = np.asarray(small, np.float64)
    if np.ptp(gray) < 2:
        return UNKNOWN
    low = (_COSINES @ gray @ _COSINES.T).ravel()[1:]
    return np.packbits(np.append(low > np.median(low), False)).tobytes()


_COSINES: Final = np.cos(np.pi * np.arange(_KEPT)[:, None] * (2 * np.arange(_SIDE) + 1) / (2 * _SIDE))


@dataclass(frozen=True, slots=True)
class Seen:
    """An image without a place.

    Attributes:
        group: number of its group, see `boxdrop.datasets.splits.Grouping`: its place if it is like no other.
        look: see `look_of`.
    """

    image_id: str
    group: int
    look: bytes


class Places:
    """The places of the images of a project that have one.

    Args:
        rows: of `_ROW`.
        parts: how many stored parts they are from.
    """

    def __init__(self, rows: NDArray[np.void] | None = None, parts: int = 0) -> None:
        rows = np.empty(0, _ROW) if rows is None else rows
        self._rows = rows[np.argsort(rows["image"], kind="stable")]
        self.parts = parts

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, image_id: str) -> int | None:
        """The place of an image, from 1 to 2**53; None if it has none yet."""
        wanted = np.uint64(_number_of(image_id))
        row = int(np.searchsorted(self._rows["image"], wanted))
        if row == len(self) or self._rows["image"][row] != wanted:
            return None
        return int(self._rows["place"][row])

    def find(self, images: Sequence[Seen]) -> list[int]:
        """Places for images that have none.

        Images of a group that has a place get that place. The others, with all groups that they are near to
        by a chain of near-duplicates, get one place: that of the nearest image that has one, else that of
        their first image.
        """
        known = dict(zip(self._rows["group"].tolist(), self._rows["place"].tolist(), strict=True))
        parents = {each.group: each.group for each in images if each.group not in known}

        def root(group: int) -> int:
            while parents[group] != group:
                parents[group] = parents[parents[group]]
                group = parents[group]
            return group

        nearest: dict[int, tuple[int, int]] = {}
        pairs = []
        for one, other, distance in self._near(images):
            first = images[one].group
            second = images[other].group if other >= 0 else int(self._rows["group"][~other])
            if first in known and second in known:
                continue
            if first in known or second in known:
                new, old = (second, first) if first in known else (first, second)
                pairs.append((new, distance, known[old]))
            else:
                parents[max(root(first), root(second))] = min(root(first), root(second))
        for new, distance, place in pairs:
            nearest[root(new)] = min(nearest.get(root(new), (BITS, place)), (distance, place))
        first_of: dict[int, int] = {}
        for each in sorted(images, key=lambda image: image.image_id):
            if each.group in parents:
                first_of.setdefault(root(each.group), each.group)
        found = []
        for each in images:
            if each.group in known:
                found.append(known[each.group])
            else:
                top = root(each.group)
                found.append(nearest[top][1] if top in nearest else first_of[top])
        return found

    def _near(self, images: Sequence[Seen]) -> Iterator[tuple[int, int, int]]:
        """Pairs of near-duplicates with their distances: rows of `images`, or ``~row`` of those with a place.

        Equal looks come as a chain, each with the next one.
        """
        new = np.frombuffer(b"".join(each.look for each in images), np.uint8).reshape(-1, BITS // 8)
        looks = np.concatenate([new, self._rows["look"]])
        rows = np.flatnonzero(looks.any(axis=1))
        if not len(rows):
            return
        unique, which = np.unique(looks[rows], axis=0, return_inverse=True)
        order = np.argsort(which, kind="stable")
        starts = np.flatnonzero(np.diff(which[order], prepend=-1))
        same = np.split(rows[order], starts[1:])

        def name(row: int) -> int:
            return row if row < len(new) else ~(row - len(new))

        for members in same:
            for one, other in itertools.pairwise(members.tolist()):
                if one < len(new):
                    yield one, name(other), 0
        is_new = np.array([members[0] < len(new) for members in same], bool)  # new ones come first
        words = unique.view(np.uint64)
        bits = np.unpackbits(unique, axis=1)
        weights = 1 << np.arange(-(-BITS // _BANDS), dtype=np.int64)
        for band in range(_BANDS):
            part = bits[:, band::_BANDS].astype(np.int64)
            values = part @ weights[: part.shape[1]]
            order = np.argsort(values, kind="stable")
            starts = np.flatnonzero(np.diff(values[order], prepend=-1))
            for members in np.split(order, starts[1:]):
                for one in members[is_new[members]].tolist():
                    others = members[(members > one) | ~is_new[members]]
                    distances = np.bitwise_count(words[others] ^ words[one]).sum(axis=1)
                    for at in np.flatnonzero(distances <= NEAR).tolist():
                        # of equal looks, the last is one with a place if there is any
                        yield int(same[one][0]), name(int(same[others[at]][-1])), int(distances[at])


def open_places(bucket: Bucket, project: str, pattern: str | None) -> Places:
    """The stored places of a project, for a way of grouping.

    Raises:
        DatasetError: they were altered.
        BoxdropError: the bucket cannot be read.
    """
    prefix = places_prefix(project, pattern)
    keys = sorted(each.key for each in bucket.list(prefix))
    parts = []
    for key in keys:
        stored = bucket.get(key)
        try:
            parts.append(np.frombuffer(gzip.decompress(stored.body if stored else b""), _ROW))
        except (OSError, EOFError, ValueError):
            raise DatasetError(f"s3://{bucket.name}/{key} was altered: restore it") from None
    return Places(np.concatenate(parts) if parts else None, len(parts))


def store_places(
    bucket: Bucket, project: str, pattern: str | None, before: Places, images: Sequence[Seen]
) -> bool:
    """Decide and store the places of images that have none.

    Args:
        before: the places that are stored.

    Returns:
        Whether it was done; False if another process stored some in the meantime: open the places again.

    Raises:
        BoxdropError: they may not be written.
    """
    rows = _rows_of(images, before.find(images))
    key = f"{places_prefix(project, pattern)}{before.parts:08}.gz"
    return bucket.create(key, gzip.compress(rows.tobytes(), mtime=0), "application/gzip") != Put.REFUSED


def _rows_of(images: Sequence[Seen], places: Sequence[int]) -> NDArray[np.void]:
    rows = np.empty(len(images), _ROW)
    rows["image"] = [_number_of(each.image_id) for each in images]
    rows["group"] = [each.group for each in images]
    rows["place"] = places
    rows["look"] = np.frombuffer(b"".join(each.look for each in images), np.uint8).reshape(-1, BITS // 8)
    return rows


def _number_of(image_id: str) -> int:
    return int(image_id[:16], 16)
