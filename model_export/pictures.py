"""Images for comparing models: drawn, identical on every machine, of different sizes and shapes."""

from typing import Final

import numpy as np
from PIL import Image, ImageDraw

SHAPES: Final = {"wide": (1000, 560), "tall": (450, 800), "square": (640, 640), "small": (150, 110)}
"""(width, height) in pixels; "small" is enlarged by every model."""


def draw(name: str) -> Image.Image:
    """Draw one of `SHAPES`: a dozen figures of different colours and sizes on a shaded background, with
    noise."""
    width, height = SHAPES[name]
    random = np.random.default_rng([ord(letter) for letter in name])
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    corners = random.uniform(0, 255, (3, 3))
    ground = (
        corners[0]
        + across[..., None] * (corners[1] - corners[0])
        + down[..., None] * (corners[2] - corners[0])
    )
    picture = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(12):
        side = random.uniform(0.05, 0.4) * min(width, height)
        left, top = random.uniform(-side / 2, width - side / 2), random.uniform(-side / 2, height - side / 2)
        frame = [left, top, left + side * random.uniform(0.5, 1.5), top + side]
        fill, outline = (tuple(int(level) for level in random.integers(0, 256, 3)) for _ in range(2))
        figure = random.integers(3)
        if figure == 0:
            pen.ellipse(frame, fill=fill, outline=outline, width=3)
        elif figure == 1:
            pen.rectangle(frame, fill=fill, outline=outline, width=3)
        else:
            for line in range(0, int(side), 6):
                pen.line([frame[0], frame[1] + line, frame[2], frame[3] - line], fill=fill, width=2)
    grain = random.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))
