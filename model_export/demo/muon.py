"""Muon for many small matrices: those of one shape are orthogonalised together.

The rule is Keller Jordan's (https://kellerjordan.github.io/posts/muon/) as `torch.optim.Muon` has it with
`adjust_lr_fn="original"`: Nesterov momentum, five Newton-Schulz steps in bfloat16, decoupled weight decay.
torch's takes one matrix at a time: 700 products of 192 x 192 a step, a fifth of the step on two cores.
Stacked they are 30.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(stack: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of each matrix close to one: float32 [N, R, C] → bfloat16 [N, R, C]."""
    a, b, c = _NEWTON_SCHULZ
    work = stack.bfloat16()
    tall = work.shape[-2] > work.shape[-1]
    if tall:
        work = work.mT
    work = work / work.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for _ in range(steps):
        gram = work @ work.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        work = torch.baddbmm(work, polynomial, work, beta=a)
    return work.mT if tall else work


class StackedMuon(Optimizer):
    """Muon over two-dimensional parameters, one parameter group a shape."""

    def __init__(
        self, matrices: Iterable[torch.nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        shapes: dict[tuple[int, ...], list[torch.nn.Parameter]] = {}
        for matrix in matrices:
            if matrix.ndim != 2:
                raise ValueError(f"Muon is for matrices, not for a parameter of shape {tuple(matrix.shape)}")
            shapes.setdefault(tuple(matrix.shape), []).append(matrix)
        groups = [{"params": group} for group in shapes.values()]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """One update; every parameter must have a gradient."""
        assert closure is None
        for group in self.param_groups:
            matrices = group["params"]
            gradients = torch.stack([matrix.grad for matrix in matrices])
            state = self.state[matrices[0]]  # the whole stack's momentum, kept with its first matrix
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(gradients)
            state["momentum"].lerp_(gradients, 1 - group["momentum"])
            update = orthogonalise(gradients.lerp_(state["momentum"], group["momentum"])).float()
            rows, columns = update.shape[-2:]
            rate = group["lr"] * math.sqrt(max(1, rows / columns))
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(matrices, list(update.unbind()), alpha=-rate)
