"""What itertools lacks."""

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def chunked(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size`, as the items come."""
    stream = iter(items)
    while some := list(itertools.islice(stream, size)):
        yield some
