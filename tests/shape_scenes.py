"""Drawn scenes of shapes that no detector has a name for: stars among discs and bars."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

STAR, DISC, BAR = 0, 1, 2
_WIDTH, _HEIGHT = 320, 240
_Corners = tuple[int, int, int, int]


@dataclass(frozen=True)
class ShapeScene:
    """Pixels, uint8 [240, 320, 3]; boxes, float32 [N, 4], xyxy; kinds, int64 [N]."""

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    kinds: NDArray[np.int64]

    @property
    def stars(self) -> NDArray[np.float32]:
        """Boxes of the stars."""
        return self.boxes[self.kinds == STAR]

    def jpeg(self) -> bytes:
        """The scene as a file."""
        file = BytesIO()
        Image.fromarray(self.pixels).save(file, "JPEG", quality=92)
        return file.getvalue()


def draw_shapes(seed: int) -> ShapeScene:
    """One to three shapes that do not touch, on a plain ground with a few strokes."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(120, 235, 3)
    image = Image.new("RGB", (_WIDTH, _HEIGHT), _colour(ground))
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = int(rng.integers(0, _WIDTH)), int(rng.integers(0, _HEIGHT))
        end = x + int(rng.integers(-80, 80)), y + int(rng.integers(-80, 80))
        pen.line((x, y, *end), fill=_colour(np.clip(ground + rng.integers(-30, 30, 3), 0, 255)), width=4)
    boxes: list[_Corners] = []
    kinds: list[int] = []
    for _ in range(int(rng.integers(1, 4))):
        side = int(rng.integers(60, 110))
        left, top = int(rng.integers(0, _WIDTH - side)), int(rng.integers(0, _HEIGHT - side))
        box = (left, top, left + side, top + side)
        if any(_touch(box, other) for other in boxes):
            continue
        kind = int(rng.integers(0, 3))
        if kind == STAR:
            _star(pen, box, (225, int(rng.integers(150, 200)), 30))
        elif kind == DISC:
            pen.ellipse(box, fill=(60, 90, int(rng.integers(150, 220))), outline=(20, 20, 60))
        else:
            box = (left, top + side // 6, left + side, top + side - side // 6)
            pen.rectangle(box, fill=(int(rng.integers(140, 200)), 60, 60), outline=(50, 0, 0))
        boxes.append(box)
        kinds.append(kind)
    return ShapeScene(
        np.asarray(image), np.array(boxes, np.float32).reshape(-1, 4), np.array(kinds, np.int64)
    )


def _star(pen: ImageDraw.ImageDraw, box: _Corners, colour: tuple[int, int, int]) -> None:
    left, top, right, bottom = box
    radius = (right - left) / 2
    angles = -np.pi / 2 + np.arange(10) * np.pi / 5
    reach = np.where(np.arange(10) % 2 == 0, radius, radius * 0.45)
    x, y = (left + right) / 2 + reach * np.cos(angles), (top + bottom) / 2 + reach * np.sin(angles)
    pen.polygon([*zip(x.tolist(), y.tolist(), strict=True)], fill=colour, outline=(40, 40, 40))


def _touch(first: _Corners, second: _Corners) -> bool:
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    return wide > -4 and high > -4


def _colour(values: NDArray[np.int64]) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in values)
    return red, green, blue
