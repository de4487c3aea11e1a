"""The parts of a label set: labels and tiling."""

import colorsys
from dataclasses import dataclass
from typing import Final, Literal

from boxdrop.domain.identity import fraction_of

MAX_NAME_LENGTH = 100
FIRST_ID = 1
"""boxdrop assigns class ids from here on: COCO importers read 0 as "no label" and drop such boxes. Older
projects keep their ids."""
_GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Label:
    """A class of objects.

    Attributes:
        name: shown to people and used in exports.
        prompts: the detector's search words; the best score of any prompt is the label's score.
        threshold: lowest score of a box that is shown, 0 to 1; None: the detector's default.
        id: the class id, frozen: it never changes its meaning within a project.
        color: ``#rrggbb``, a function of the id unless the user chose one.
        examples_only: no words describe it: the detector finds it only once it was taught from verified
            boxes (``examples: only``). Its prompts are not asked.
        classes: names of the classes of a detector with fixed classes that are this label (``classes:``);
            empty: those of its prompts that are classes. Other detectors ignore them.
    """

    name: str
    prompts: tuple[str, ...]
    threshold: float | None = None
    id: int = 0
    color: str = ""
    examples_only: bool = False
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.color:
            object.__setattr__(self, "color", color_of(self.id))


@dataclass(frozen=True, slots=True)
class Tiling:
    """Whether and how images are also processed in tiles, to find small objects.

    Attributes:
        mode: ``off``; ``auto``, which depends on the sizes of the image and of the model's input; or
            ``fixed``.
        size: side of a tile in upright pixels of the image, if fixed.
        overlap: share of a tile's side that overlaps with its neighbour, at most one half. Objects up to that
            size are whole in at least one tile.
    """

    mode: Literal["off", "auto", "fixed"] = "off"
    size: int = 0
    overlap: float = 0.2


UNTILED: Final = Tiling()
"""Only the whole image."""


@dataclass(frozen=True, slots=True)
class ReviewRule:
    """How people's work is used: which annotation of an image counts, and which images need nobody.

    Attributes:
        counts: ``latest``, the one saved last; ``agreed``, the one saved last, and only where everybody
            agrees; ``reviewer``, the one that a reviewer saved last, and no other.
        reviewers: Label Studio's numbers of the reviewers.
        accept_above: the precision, 0 to 1, that accepted images must have; None: people verify all images.
        audit: share of the images to accept that people verify all the same.
        blind: share of the images whose boxes people do not see, to measure what the boxes do.
    """

    counts: Literal["latest", "agreed", "reviewer"] = "latest"
    reviewers: tuple[int, ...] = ()
    accept_above: float | None = None
    audit: float = 0.05
    blind: float = 0.0

    def is_blind(self, image_id: str) -> bool:
        """Whether people draw the boxes of an image themselves; a hash decides, so always the same way."""
        return fraction_of(f"blind/{image_id}") < self.blind


LATEST: Final = ReviewRule()
"""What holds unless labels.yaml says otherwise."""


def color_of(class_id: int) -> str:
    """Colour of a class id, ``#rrggbb``: hues a golden ratio apart, so that neighbours always differ."""
    hue = (0.02 + class_id * _GOLDEN_RATIO) % 1.0
    lightness = (0.46, 0.58, 0.38)[class_id // 8 % 3]
    red, green, blue = (round(255 * value) for value in colorsys.hls_to_rgb(hue, lightness, 0.78))
    return f"#{red:02x}{green:02x}{blue:02x}"
