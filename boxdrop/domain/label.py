"""A label, and how images are cut into tiles: the parts of a label set."""

import colorsys
from dataclasses import dataclass
from typing import Final, Literal

MAX_NAME_LENGTH = 100
FIRST_ID = 1
"""Class ids that boxdrop gives begin here: importers of COCO take 0 for "no label" and drop such boxes.
Projects made before keep their ids."""
_GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Label:
    """A class of objects.

    Attributes:
        name: what people see, and what exports carry.
        prompts: the words given to the detector; the best of them is the label's score.
        threshold: lowest score of a box that is shown, 0 to 1; None leaves it to the detector.
        id: the class id, frozen: it never changes meaning in the life of a project.
        color: ``#rrggbb``, a function of the id unless the user chose one.
        examples_only: no words describe it: the detector finds it only once it was taught from verified
            boxes (``examples: only``). Its prompts are not asked.
    """

    name: str
    prompts: tuple[str, ...]
    threshold: float | None = None
    id: int = 0
    color: str = ""
    examples_only: bool = False

    def __post_init__(self) -> None:
        if not self.color:
            object.__setattr__(self, "color", color_of(self.id))


@dataclass(frozen=True, slots=True)
class Tiling:
    """Whether, and how, images are also looked at in parts, so that small objects are found.

    Attributes:
        mode: ``off``; ``auto``, which goes by the sizes of the image and of the model's input; or ``fixed``.
        size: side of a tile in upright pixels of the image, where fixed.
        overlap: share of a tile's side that its neighbour sees as well, at most one half. Objects up to
            that size are whole in some tile.
    """

    mode: Literal["off", "auto", "fixed"] = "off"
    size: int = 0
    overlap: float = 0.2


UNTILED: Final = Tiling()
"""The whole image only."""


def color_of(class_id: int) -> str:
    """Colour of a class id, ``#rrggbb``: hues a golden ratio apart, so that neighbours always differ."""
    hue = (0.02 + class_id * _GOLDEN_RATIO) % 1.0
    lightness = (0.46, 0.58, 0.38)[class_id // 8 % 3]
    red, green, blue = (round(255 * value) for value in colorsys.hls_to_rgb(hue, lightness, 0.78))
    return f"#{red:02x}{green:02x}{blue:02x}"
