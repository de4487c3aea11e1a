"""Glimpses: single objects cut from scenes, which teach the image encoder what things look like, fast.

A scene of 196 patches holds four objects. A glimpse holds one, in a window of 4 × 4 patches of the same grid,
at the position embeddings of that window, so the network, its heads and its loss are those of scenes. A step
sees three times as many objects a second, each at a comfortable size, and the scenes that follow need to
teach only the rest: small objects, clutter, and where in the picture they are.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import OwlViTForObjectDetection

from model_export.demo.network import GRID, PATCH, predict_tokens
from model_export.demo.pools import Pool

WINDOW = 4
"""Patches a side."""

SIDE = WINDOW * PATCH
"""Pixels a side."""

_NOTHING = 0.12  # share of glimpses that show no labelled object
_OBJECT_SHARE = (0.5, 0.98)  # of the window's side that the object's longer side takes


def cut_glimpses(
    rng: np.random.Generator, pool: Pool, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """Cut objects and some background from random scenes.

    Returns:
        (uint8 [count, SIDE, SIDE, 3]; boxes float32 [count, 4], xyxy in pixels of the glimpse; class ids
        int64 [count], -1 for a glimpse of nothing).
    """
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    boxes = np.zeros((count, 4), np.float32)
    labels = np.full(count, -1, np.int64)
    made = 0
    while made < count:
        scene = int(rng.integers(len(pool)))
        present = np.flatnonzero(pool.labels[scene] >= 0)
        if rng.random() < _NOTHING:
            side = float(rng.uniform(30, 100))
            left, top = rng.uniform(0, GRID * PATCH - side, 2)
            inner = np.minimum(pool.boxes[scene][present, 2:], [left + side, top + side]) - np.maximum(
                pool.boxes[scene][present, :2], [left, top]
            )
            if len(present) and (np.clip(inner, 0, None).prod(axis=1) > 0.02 * side * side).any():
                continue
        elif len(present):
            chosen = int(rng.choice(present))
            box = pool.boxes[scene][chosen]
            longer = float((box[2:] - box[:2]).max())
            side = longer / float(rng.uniform(*_OBJECT_SHARE))
            slack = side - (box[2:] - box[:2])
            left, top = box[:2] - rng.uniform(0.1, 0.9, 2) * slack
            labels[made] = pool.labels[scene][chosen]
            boxes[made] = (box - [left, top, left, top]) * (SIDE / side)
        else:
            continue
        picture = Image.fromarray(pool.image(scene))
        scale = side / SIDE
        place = (scale, 0, left, 0, scale, top)  # what lies beyond the scene is black
        cut = picture.transform((SIDE, SIDE), Image.Transform.AFFINE, place, Image.Resampling.BILINEAR)
        images[made] = np.asarray(cut)
        made += 1
    return images, boxes, labels


def window_patches(row: int, column: int) -> Tensor:
    """Numbers of the patches of a window whose first one is at (row, column), int64 [WINDOW²]."""
    grid = torch.arange(GRID * GRID).view(GRID, GRID)
    return grid[row : row + WINDOW, column : column + WINDOW].reshape(-1)


def predict_window(
    network: OwlViTForObjectDetection, pixels: Tensor, queries: Tensor, patches: Tensor
) -> tuple[Tensor, Tensor]:
    """What `network.predict` answers, for pictures that are a window of the grid.

    Args:
        network: an OWL-ViT.
        pixels: float32 [B, 3, SIDE, SIDE], normalised.
        queries: float32 [Q, D].
        patches: of `window_patches`.

    Returns:
        (logits float32 [B, WINDOW², Q]; boxes float32 [B, WINDOW², 4], cxcywh, shares of the whole image).
    """
    tokens = network.owlvit.vision_model.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
    return predict_tokens(network, tokens, patches, queries)
