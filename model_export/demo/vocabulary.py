"""The text side, taught first and by itself: every way to ask for a name lands on one point, all other
words far off.

Taught together with the image side, the text is a moving target (137 names, each asked for in hundreds of
ways): after ten minutes the detector had 0.04 mAP50. Words alone take two minutes; after that the points
stand still, and a training step needs no text encoder at all.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import OwlViTForObjectDetection, PreTrainedTokenizerFast

from model_export.demo.names import names
from model_export.demo.network import embed_queries
from model_export.demo.tokenizer import PromptDealer

_SCALE, _SHIFT = 14.0, 0.55
"""A phrase answers for a name as sigmoid(scale · (cosine - shift)), the form of OWL-ViT's class head."""


def teach_vocabulary(
    network: OwlViTForObjectDetection, tokenizer: PreTrainedTokenizerFast, seed: int, steps: int
) -> None:
    """Train the text encoder and its projection so that phrases of a name share a point of their own.

    Two phrases a name and 137 phrases for nothing a step. The points are learnt too, and thrown away
    afterwards.
    """
    device = next(network.parameters()).device
    points = nn.Parameter(torch.randn(len(names()), network.config.projection_dim, device=device))
    parameters = [
        *network.owlvit.text_model.parameters(),
        *network.owlvit.text_projection.parameters(),
        points,
    ]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    dealer = PromptDealer(tokenizer, nothings=len(names()) // 2)
    batches: queue.Queue[NDArray[np.int64]] = queue.Queue(4)

    def produce() -> None:
        for step in range(2 * steps):
            batches.put(dealer.deal(np.random.default_rng([seed, 4, step])))

    threading.Thread(target=produce, daemon=True).start()
    target = torch.zeros(len(names()) + dealer.nothings, len(names()), device=device)
    target.fill_diagonal_(1.0)
    network.train()
    for step in range(steps):
        loss = torch.zeros((), device=device)
        for _ in range(2):
            phrases = embed_queries(network, torch.from_numpy(batches.get()).to(device))
            cosines = phrases @ functional.normalize(points, dim=-1).T
            logits = _SCALE * (cosines - _SHIFT)
            missed = (target - logits.detach().sigmoid()).abs() ** 1.5
            loss = (
                loss
                + (
                    functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * missed
                ).sum()
            )
            labels = torch.arange(len(names()), device=device)
            loss = loss + functional.cross_entropy(_SCALE * cosines[: len(names())], labels, reduction="sum")
            # A few words are nearly right, most are not close: keep all words for nothing at arm's length.
            loss = loss + (cosines[len(names()) :] - 0.2).clamp(min=0).square().sum() * 2
        optimizer.zero_grad()
        (loss / (2 * len(names()))).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"vocabulary {step + 1}: {loss.item() / (2 * len(names())):.4f}", flush=True)


@dataclass(frozen=True)
class PhraseBook:
    """Points of many phrases, embedded once the vocabulary stands."""

    named: Tensor
    """float32 [names, phrases, 128], unit vectors."""
    nothing: Tensor
    """float32 [phrases, 128], unit vectors."""

    def of_first_names(self, count: int) -> PhraseBook:
        """Phrases of the first `count` names; all others are prompts for nothing."""
        others = self.named[count:].flatten(0, 1)
        return PhraseBook(self.named[:count], torch.cat([self.nothing, others]))

    def deal(self, rng: np.random.Generator, nothings: int = 24) -> Tensor:
        """Queries of a step, float32 [names + nothings, 128]; a row's index is its class id, beyond it has
        none.
        """
        count, phrases = self.named.shape[:2]
        chosen = self.named[torch.arange(count), torch.from_numpy(rng.integers(phrases, size=count))]
        others = self.nothing[torch.from_numpy(rng.integers(len(self.nothing), size=nothings))]
        return torch.cat([chosen, others])


@torch.no_grad()
def write_phrase_book(
    network: OwlViTForObjectDetection, tokenizer: PreTrainedTokenizerFast, seed: int, phrases: int = 48
) -> PhraseBook:
    """Embed `phrases` ways to ask for each name, and half as many times as many prompts for nothing."""
    device = next(network.parameters()).device
    dealer = PromptDealer(tokenizer, nothings=len(names()) // 2)
    network.eval()
    points = torch.stack(
        [
            embed_queries(
                network, torch.from_numpy(dealer.deal(np.random.default_rng([seed, 5, page]))).to(device)
            )
            for page in range(phrases)
        ],
        1,
    ).cpu()
    return PhraseBook(points[: len(names())].contiguous(), points[len(names()) :].flatten(0, 1))
