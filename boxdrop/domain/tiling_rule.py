"""Reading ``tiling:`` of labels.yaml: whether images are also processed in parts."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.label import UNTILED, Tiling
from boxdrop.domain.yaml_nodes import Node, shown

TILING_KEYS: Final = ("size", "overlap")

_LARGEST: Final = 100_000
_SMALLEST: Final = 64
_LARGEST_OVERLAP: Final = 0.5
_WHOLE: Final = re.compile(r"[0-9]{1,18}")

Refusal = Callable[[int | None, str], LabelSetError]
"""Makes the error for a line."""


def read_tiling_word(node: Node, error: Refusal) -> Tiling:
    """Read ``auto`` or ``off``.

    Raises:
        LabelSetError: it is another word.
    """
    if node.text == "off":
        return UNTILED
    if node.text == "auto":
        return Tiling("auto")
    raise error(node.line, f"`tiling` must be auto, off, or size and overlap, not '{shown(node.text or '')}'")


def read_tiling(
    entries: Mapping[str, Node], line: int, error: Refusal, number: Callable[[Node, str], float]
) -> Tiling:
    """Read ``size`` and ``overlap``.

    Args:
        entries: of the mapping, by key.
        line: where it begins.
        error: makes the error for a line.
        number: reads a number; its second argument says what is allowed.

    Raises:
        LabelSetError: the size is missing, or a value is not allowed.
    """
    if "size" not in entries:
        raise error(line, "`tiling` has no `size`; give the side of a tile in pixels, or auto")
    size = entries["size"].text or ""
    if not _WHOLE.fullmatch(size) or not _SMALLEST <= int(size) <= _LARGEST:
        raise error(
            entries["size"].line, f"`size` of `tiling` must be a whole number of pixels, {_SMALLEST} or more"
        )
    overlap = UNTILED.overlap
    if "overlap" in entries:
        node = entries["overlap"]
        allowed = f"`overlap` of `tiling` must be from 0 to {_LARGEST_OVERLAP}, a share of the tile"
        overlap = number(node, allowed)
        if not 0.0 <= overlap <= _LARGEST_OVERLAP:
            raise error(node.line, f"{allowed}, not '{shown(node.text or '')}'")
    return Tiling("fixed", int(size), overlap)
