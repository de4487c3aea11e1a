"""Changed copies of training images: mirrored, moved, put together, recoloured.

All chance comes from (seed, epoch, image), so that a training that goes on from a checkpoint sees what it
would have seen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Boxes = NDArray[np.float32]

_LEAST_SEEN: Final = 0.4
"""A box of which less than this share of the area is left after cropping is no box any more."""
_SCALE: Final = (0.5, 1.5)
_STRETCH: Final = (0.8, 1.25)
_GREY: Final = 114


@dataclass(frozen=True, eq=False, slots=True)
class Example:
    """An image to learn from.

    Attributes:
        pixels: uint8 [height, width, 3].
        boxes: float32 [N, 4], xyxy, pixels.
        labels: int64 [N], numbers of classes.
    """

    pixels: Pixels
    boxes: Boxes
    labels: NDArray[np.int64]


def resize(example: Example, width: int, height: int) -> Example:
    """The whole image in another size, the aspect not kept, as detectors see it."""
    before = np.array([example.pixels.shape[1], example.pixels.shape[0]] * 2, np.float32)
    image = Image.fromarray(example.pixels).resize((width, height), Image.Resampling.BILINEAR)
    boxes = example.boxes / before * np.array([width, height] * 2, np.float32)
    return Example(np.asarray(image), boxes.astype(np.float32), example.labels)


def augment(
    number: int,
    count: int,
    read: Callable[[int], Example],
    side: tuple[int, int],
    rng: np.random.Generator,
    *,
    mirror: bool,
    mosaic: float,
) -> Example:
    """A changed copy of one image.

    Args:
        number: of the image, below `count`.
        read: gives an image by its number.
        side: width and height to make.
        mirror: whether left and right may be exchanged.
        mosaic: how often four images are put together, 0 to 1.
    """
    width, height = side
    if rng.random() < mosaic:
        example = _mosaic([number, *rng.integers(0, count, 3).tolist()], read, side, rng)
    else:
        example = _placed(read(number), width, height, rng)
    pixels, boxes = example.pixels, example.boxes
    if mirror and rng.random() < 0.5:
        pixels = pixels[:, ::-1]
        boxes = boxes[:, [2, 1, 0, 3]]
        boxes = np.stack([width - boxes[:, 0], boxes[:, 1], width - boxes[:, 2], boxes[:, 3]], axis=1)
    return Example(_recolour(pixels, rng), boxes.astype(np.float32), example.labels)


def _placed(example: Example, width: int, height: int, rng: np.random.Generator) -> Example:
    """The image larger or smaller, somewhere in the frame; what is not covered is grey."""
    scale = np.exp(rng.uniform(*np.log(_SCALE)))
    stretch = np.sqrt(np.exp(rng.uniform(*np.log(_STRETCH))))
    across, down = max(2, round(width * scale * stretch)), max(2, round(height * scale / stretch))
    sized = resize(example, across, down)
    left = round(rng.uniform(min(0, width - across), max(0, width - across)))
    top = round(rng.uniform(min(0, height - down), max(0, height - down)))
    frame = np.full((height, width, 3), _GREY, np.uint8)
    inside = sized.pixels[max(0, -top) : height - top, max(0, -left) : width - left]
    frame[max(0, top) : max(0, top) + inside.shape[0], max(0, left) : max(0, left) + inside.shape[1]] = inside
    return _seen(Example(frame, sized.boxes + np.array([left, top] * 2, np.float32), sized.labels))


def _mosaic(
    numbers: list[int],
    read: Callable[[int], Example],
    side: tuple[int, int],
    rng: np.random.Generator,
) -> Example:
    """Four images around a point near the middle."""
    width, height = side
    x, y = (round(rng.uniform(0.35, 0.65) * each) for each in side)
    frame = np.empty((height, width, 3), np.uint8)
    boxes, labels = [], []
    corners = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    for number, (left, top, right, bottom) in zip(numbers, corners, strict=True):
        part = _placed(read(number), right - left, bottom - top, rng)
        frame[top:bottom, left:right] = part.pixels
        boxes.append(part.boxes + np.array([left, top] * 2, np.float32))
        labels.append(part.labels)
    return Example(frame, np.concatenate(boxes), np.concatenate(labels))


def _seen(example: Example) -> Example:
    """Cut boxes at the frame, and leave out those of which little is left."""
    height, width = example.pixels.shape[:2]
    whole = example.boxes
    cut = whole.clip(0, np.array([width, height] * 2, np.float32))
    before = np.maximum((whole[:, 2] - whole[:, 0]) * (whole[:, 3] - whole[:, 1]), 1e-6)
    sides = cut[:, 2:] - cut[:, :2]
    kept = (sides.prod(axis=1) / before >= _LEAST_SEEN) & (sides.min(axis=1, initial=np.inf) >= 1)
    return Example(example.pixels, cut[kept], example.labels[kept])


def _recolour(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Brightness, contrast, saturation, and a little of each colour."""
    image = pixels.astype(np.float32)
    mean = image.mean(axis=(0, 1), keepdims=True)
    image = mean + (image - mean) * rng.uniform(0.7, 1.3)
    grey = image.mean(axis=2, keepdims=True)
    image = grey + (image - grey) * rng.uniform(0.6, 1.4)
    image = image * rng.uniform(0.75, 1.25) * rng.uniform(0.93, 1.07, 3)
    return image.clip(0, 255).astype(np.uint8)
