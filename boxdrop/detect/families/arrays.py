"""Small array functions that families share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)), without overflow; minus infinity gives 0."""
    scores = np.empty_like(logits)
    # exp of a positive number could overflow: both signs use exp(-|x|).
    small = np.exp(-np.abs(logits))
    np.divide(np.where(logits >= 0, 1, small), 1 + small, out=scores)
    return scores


def corners(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Boxes [..., 4] from cxcywh to xyxy."""
    centres, halves = boxes[..., :2], boxes[..., 2:] * np.float32(0.5)
    return np.concatenate([centres - halves, centres + halves], axis=-1)


def stacked(pixels: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Images of one size [3, H, W] as [B, 3, H, W]; an array that is already stacked is not copied."""
    return pixels if isinstance(pixels, np.ndarray) else np.stack(pixels)
