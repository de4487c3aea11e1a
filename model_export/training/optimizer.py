"""Muon for the matrices and AdamW for the rest, as one optimizer for the Trainer.

For a model that starts from nothing: after 400 steps of eight images, the small one had AP50 0.28 on scenes
like those of `benchmarks.loop`, and 0.12 with AdamW alone, in the same time.
"""

from collections.abc import Callable
from typing import Any, Final

import torch

_FASTER: Final = 20.0
"""Muon's rate in terms of AdamW's; its steps have another scale."""

_HEADS: Final = ("embed", "enc_score", "enc_bbox", "sampling_offsets", "attention_weights")
"""Parts of names of matrices that are no hidden layers: AdamW does better there (Jordan 2024, Muon)."""


_CLASSES: Final = ("class_embed", "enc_score")
"""Parts of names of what gives classes their scores."""


class MuonAndAdamW(torch.optim.Optimizer):
    """See the module.

    Args:
        model: all its parameters are optimised.
        rate: AdamW's learning rate.
        classes: times this for the scores of classes: where only they are new, they have the longest way to
            go. 1 makes no group of them, as in checkpoints of earlier versions.
    """

    def __init__(self, model: Any, rate: float, classes: float = 1.0) -> None:
        named = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
        hidden = [each for name, each in named if each.ndim == 2 and not any(part in name for part in _HEADS)]
        known = {id(each) for each in hidden}
        scores = [
            each
            for name, each in named
            if classes != 1.0 and any(part in name for part in _CLASSES) and "denoising" not in name
        ]
        known |= {id(each) for each in scores}
        rest = [each for _, each in named if id(each) not in known]
        groups: list[dict[str, Any]] = [{"params": rest}]
        if scores:
            groups.append({"params": scores, "lr": classes * rate})
        self._parts: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(hidden, lr=_FASTER * rate, momentum=0.95, weight_decay=0.01),
            torch.optim.AdamW(groups, lr=rate, weight_decay=1e-4),
        )
        super().__init__([*hidden, *rest, *scores], {"lr": rate})
        self._share_groups()

    def _share_groups(self) -> None:
        """The groups are those of the parts, so that a schedule reaches them."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One step of both."""
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of both."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the states of both."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
