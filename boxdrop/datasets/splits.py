"""Splits of images for training, validation and test. A hash decides, so an image never changes its split."""

import re
from dataclasses import dataclass
from typing import Final

from boxdrop.datasets.identifiers import BITS, stable_number
from boxdrop.domain.errors import BoxdropError

ALL: Final = "train"
"""The only split of an unsplit data set; readers expect this name."""

_NAME = re.compile(r"[a-z][a-z0-9_-]*")


def place_of(group: str) -> int:
    """A group's own place among the splits, from 1 to 2**53: a hash."""
    return stable_number("split", group)


@dataclass(frozen=True, slots=True)
class Splits:
    """Names and shares of splits.

    Attributes:
        shares: each split's name and its share; the shares need not add up to 100.
    """

    shares: tuple[tuple[str, float], ...] = ((ALL, 1.0),)

    @classmethod
    def parse(cls, text: str) -> "Splits":
        """Read ``train=80,val=10,test=10``.

        Raises:
            BoxdropError: it cannot be read; names the part.
        """
        shares = []
        for part in text.split(","):
            name, equals, share = (each.strip() for each in part.partition("="))
            if not _NAME.fullmatch(name) or not equals:
                raise BoxdropError(f"--split: {part.strip()!r} is not NAME=SHARE, such as train=80")
            try:
                value = float(share)
            except ValueError:
                value = -1.0
            if not 0 < value < float("inf"):
                raise BoxdropError(f"--split: the share of {name} must be a number above 0, not {share!r}")
            shares.append((name, value))
        names = [name for name, _ in shares]
        if len(set(names)) != len(names):
            raise BoxdropError(f"--split: a name is given twice in {text!r}")
        return cls(tuple(shares))

    @property
    def names(self) -> tuple[str, ...]:
        """The splits' names, in order."""
        return tuple(name for name, _ in self.shares)

    def of(self, group: str) -> str:
        """The split of a group of images. It depends only on the group and the shares."""
        return self.at(place_of(group))

    def at(self, place: int) -> str:
        """The split at a place, from 1 to 2**53; see `place_of`."""
        total = sum(share for _, share in self.shares)
        end = 0.0
        for name, share in self.shares:
            end += share / total
            if place / 2**BITS < end:
                return name
        return self.shares[-1][0]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Groups of images: those whose keys match a pattern in the same way.

    Attributes:
        pattern: a regular expression that is searched for in keys; its capturing groups, or the whole match,
            identify the group. None: each image is a group of its own.
    """

    pattern: str | None = None

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise BoxdropError(f"--group-by: {self.pattern!r} is not a regular expression: {error}") from None

    def of(self, key: str, image_id: str) -> str:
        """The group of an image; a group of its own if the pattern does not match."""
        if self.pattern is None:
            return image_id
        found = re.search(self.pattern, key)
        if found is None:
            return image_id
        return "\0".join(each or "" for each in found.groups()) if found.groups() else found[0]
