"""Attention as detectors of DETR's kind have it, in a form that traces into few nodes and freezes no size."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def linear(module: torch.nn.Linear, values: Tensor) -> Tensor:
    """A linear layer over all rows at once: becomes one node, bias and all, where three axes become two."""
    rows = functional.linear(values.reshape(-1, values.shape[-1]), module.weight, module.bias)
    return rows.reshape(*values.shape[:-1], module.out_features)


def attend(attention: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of several heads, projections and all; `mask` is added before the softmax."""
    heads, width = attention.num_attention_heads, attention.attention_head_size

    def split(projected: Tensor) -> Tensor:
        return projected.reshape(projected.shape[0], projected.shape[1], heads, width).transpose(1, 2)

    query, key = split(attention.query(queries)), split(attention.key(keys))
    weights = (query @ key.transpose(2, 3)) / math.sqrt(width)
    if mask is not None:
        weights = weights + mask
    attended = weights.softmax(dim=-1) @ split(attention.value(values))
    return attention.out_proj(attended.transpose(1, 2).flatten(2))


def sample(
    attention: Any,
    queries: Tensor,
    features: Tensor,
    references: Tensor,
    sizes: Sequence[tuple[Any, Any]],
    real: Tensor | None = None,
) -> Tensor:
    """Deformable attention: every query attends to a few points of each level.

    Args:
        attention: transformers' module.
        queries: [B, Q, D].
        features: [B, N, D], all levels one after the other.
        references: [B, Q, levels, 2] or [B, Q, levels, 4], 0 to 1 of the canvas.
        sizes: height and width of each level.
        real: [B, N, 1], 0 for masked positions.
    """
    heads, points, count = attention.n_heads, attention.n_points, attention.n_levels
    batch, width = queries.shape[0], attention.d_model // attention.n_heads
    values = linear(attention.value_proj, features)
    values = (values if real is None else values * real).transpose(1, 2)  # [B, D, N]
    offsets = linear(attention.sampling_offsets, queries)
    grids = _grids(offsets, references, sizes, (heads, count, points))
    weights = linear(attention.attention_weights, queries).reshape(batch, -1, heads, count * points)
    weights = weights.softmax(dim=-1).transpose(1, 2).reshape(batch * heads, 1, -1, count, points)
    mixed: Any = 0  # [B · heads, width, Q]; level by level, for all points at once are a third of a gigabyte
    start: Any = 0
    for number, (height, across) in enumerate(sizes):
        stop = start + height * across
        picture = values[:, :, start:stop].reshape(batch * heads, width, height, across)
        start = stop
        grid = grids[:, :, :, number].transpose(1, 2).flatten(0, 1)  # [B · heads, Q, points, 2]
        sampled = functional.grid_sample(picture, grid, align_corners=False)
        mixed = mixed + (sampled * weights[:, :, :, number]).sum(dim=-1)
    return linear(attention.output_proj, mixed.reshape(batch, heads * width, -1).transpose(1, 2))


def _grids(
    offsets: Tensor, references: Tensor, sizes: Sequence[tuple[Any, Any]], each: tuple[int, int, int]
) -> Tensor:
    """Where points are sampled, -1 to 1 of the canvas: [B, Q, heads, levels, points, 2].

    On rows of all points at once: ONNX Runtime is slow where what is broadcast ends with two numbers.

    Args:
        offsets: [B, Q, heads · levels · points · 2].
        references, sizes: see `sample`.
        each: heads, levels and points.
    """
    heads, count, points = each
    # Which of a reference's numbers, two a level, a point's two begin with.
    spread = torch.eye(2 * count).reshape(2 * count, 1, count, 1, 2)
    spread = spread.expand(2 * count, heads, count, points, 2).reshape(2 * count, -1)
    centres = (2 * references[..., :2] - 1).flatten(2) @ spread
    if references.shape[-1] == 2:
        pairs = [torch.stack([torch.as_tensor(across), torch.as_tensor(height)]) for height, across in sizes]
        scale = 2 / torch.stack(pairs).to(offsets.dtype)
        reach = scale.reshape(count, 1, 2).expand(heads, count, points, 2).reshape(1, 1, -1)
    else:
        reach = (references[..., 2:] / points).flatten(2) @ spread
    return (centres + offsets * reach).reshape(offsets.shape[0], -1, heads, count, points, 2)
