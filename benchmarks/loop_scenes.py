"""Drawn scenes of things that the demo detector has no word for: kites, gears, arrows and rings."""

import colorsys
import math
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

NAMES: Final = ("kite", "gear", "arrow", "ring")
_HUES: Final = (0.0, 0.14, 0.42, 0.76)
"""Of each thing; there are blots and sticks of any hue."""
_SIZES: Final = ((320, 240), (240, 320), (288, 288))
_DRAWN: Final = 2  # times larger than shown, so that edges are smooth
_MOST_COVERED: Final = 0.15
_Point = tuple[float, float]


@dataclass(frozen=True, eq=False)
class LoopScene:
    """A scene.

    Attributes:
        pixels: uint8 [height, width, 3].
        boxes: float32 [N, 4], xyxy, pixels.
        labels: int64 [N], numbers in `NAMES`.
    """

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]

    def jpeg(self) -> bytes:
        """The scene as a file."""
        file = BytesIO()
        Image.fromarray(self.pixels).save(file, "JPEG", quality=90)
        return file.getvalue()


def draw_scene(seed: int) -> LoopScene:
    """Two to eight things on a mottled ground, with blots and sticks that have no name among them."""
    rng = np.random.default_rng(seed)
    width, height = _SIZES[int(rng.integers(len(_SIZES)))]
    image = _ground(rng, width, height)
    boxes: list[NDArray[np.float64]] = []
    labels: list[int] = []
    taken: list[NDArray[np.float64]] = []
    for _ in range(int(rng.integers(2, 9))):
        kind = int(rng.integers(0, len(NAMES) + 2))
        side = float(rng.uniform(0.18, 0.42)) * math.sqrt(width * height)
        layer, mask = _thing(rng, kind, side)
        bounds = mask.getbbox()
        if bounds is None:
            continue
        layer, mask = layer.crop(bounds), mask.crop(bounds)
        if mask.width >= width or mask.height >= height:
            continue
        left = int(rng.integers(0, width - mask.width))
        top = int(rng.integers(0, height - mask.height))
        box = np.array([left, top, left + mask.width, top + mask.height], np.float64)
        if any(_covered(box, other) > _MOST_COVERED for other in taken):
            continue
        image.paste(layer, (left, top), mask)
        taken.append(box)
        if kind < len(NAMES):
            boxes.append(box)
            labels.append(kind)
    pixels = np.asarray(image).astype(np.float32) + rng.normal(0, rng.uniform(0, 6), (height, width, 1))
    return LoopScene(
        pixels.clip(0, 255).astype(np.uint8),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
    )


def _ground(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    cells = int(rng.integers(2, 9))
    patches = rng.uniform(70, 215) + rng.uniform(-20, 20, 3) + rng.normal(0, 14, (cells, cells, 3))
    small = Image.fromarray(patches.clip(0, 255).astype(np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def _thing(rng: np.random.Generator, kind: int, side: float) -> tuple[Image.Image, Image.Image]:
    """Pixels and mask of one thing, in a square a little larger than `side`."""
    whole = round(1.1 * side) * _DRAWN
    centre, reach = whole / 2, side * _DRAWN / 2
    hue = _HUES[kind] + rng.uniform(-0.05, 0.05) if kind < len(NAMES) else rng.random()
    colour = _colour(rng, hue)
    layer = Image.new("RGB", (whole, whole), colour)
    mask = Image.new("L", (whole, whole), 0)
    pen, cut = ImageDraw.Draw(layer), ImageDraw.Draw(mask)
    turn = float(rng.uniform(0, 2 * math.pi))

    def points(shape: list[_Point]) -> list[_Point]:
        cos, sin = math.cos(turn), math.sin(turn)
        return [
            (centre + reach * (x * cos - y * sin), centre + reach * (x * sin + y * cos)) for x, y in shape
        ]

    if kind == 0:
        outline = points([(0, -1), (0.62, -0.25), (0, 1), (-0.62, -0.25)])
        cut.polygon(outline, fill=255)
        pen.polygon([outline[0], outline[1], outline[2]], fill=_dark(colour))
    elif kind == 1:
        teeth = int(rng.integers(7, 11))
        ring = []
        for step in range(4 * teeth):
            radius = 1.0 if step % 4 < 2 else 0.76
            angle = 2 * math.pi * step / (4 * teeth)
            ring.append((radius * math.cos(angle), radius * math.sin(angle)))
        cut.polygon(points(ring), fill=255)
        hole = 0.28 * reach
        cut.ellipse((centre - hole, centre - hole, centre + hole, centre + hole), fill=0)
    elif kind == 2:
        shape = [(-0.22, 1), (-0.22, -0.1), (-0.6, -0.1), (0, -1), (0.6, -0.1), (0.22, -0.1), (0.22, 1)]
        cut.polygon(points(shape), fill=255)
    elif kind == 3:
        flat = float(rng.uniform(0.75, 1))
        thick = float(rng.uniform(0.18, 0.3))
        for radius, fill in ((1.0, 255), (1 - thick, 0)):
            across, down = radius * reach, radius * reach * flat
            cut.ellipse((centre - across, centre - down, centre + across, centre + down), fill=fill)
    elif kind == len(NAMES):
        angles = np.arange(9) * 2 * math.pi / 9
        radii = rng.uniform(0.55, 1, 9)
        blot = [
            (r * math.cos(a), r * math.sin(a)) for r, a in zip(radii.tolist(), angles.tolist(), strict=True)
        ]
        cut.polygon(points(blot), fill=255)
    else:
        cut.polygon(points([(-0.12, -1), (0.12, -1), (0.12, 1), (-0.12, 1)]), fill=255)
    edge = max(1, round(0.04 * reach)) * 2 + 1
    inner = mask.filter(ImageFilter.MinFilter(min(edge, 5)))
    layer.paste(_dark(colour), (0, 0), Image.eval(inner, lambda value: 255 - value))
    size = (whole // _DRAWN, whole // _DRAWN)
    shown = mask.resize(size, Image.Resampling.BOX)
    return layer.resize(size, Image.Resampling.BOX), Image.eval(
        shown, lambda value: 0 if value < 96 else value
    )


def _dark(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = (each // 2 for each in colour)
    return red, green, blue


def _colour(rng: np.random.Generator, hue: float) -> tuple[int, int, int]:
    values = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.6, 1), rng.uniform(0.65, 1))
    red, green, blue = (int(255 * each) for each in values)
    return red, green, blue


def _covered(box: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The share of the smaller box that both cover."""
    sides = (np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])).clip(0)
    areas = [float((each[2:] - each[:2]).prod()) for each in (box, other)]
    return float(sides.prod()) / min(areas)
