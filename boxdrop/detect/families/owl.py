"""OWL-ViT (Minderer et al. 2022) and OWLv2 (2023): one box a patch, a sigmoid score for each prompt.

They differ at run time in what a box is relative to: OWL-ViT stretches the image, so to its width and
height; OWLv2 pads it below or to the right to a square, so to its longer side, and boxes may lie in the
padding.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from boxdrop.detect.bundle import Text


class Owl:
    """See `boxdrop.detect.families.Family`."""

    outputs: tuple[str, ...] = ("logits", "boxes")

    def __init__(self, padded_to_square: bool) -> None:
        self.padded_to_square = padded_to_square

    def tokenize(
        self, texts: list[str], tokenizer: "Tokenizer", settings: "Text"
    ) -> tuple[dict[str, NDArray[np.int64]], list[int]]:
        """CLIP's tokens, padded to a fixed length as transformers' OWL processors do."""
        encoded = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        ids = np.full((len(texts), settings.max_length), settings.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(encoded):
            length = min(len(tokens), settings.max_length)
            ids[row, :length] = tokens[:length]
            mask[row, :length] = 1
        return {"input_ids": ids, "attention_mask": mask}, [len(tokens) for tokens in encoded]

    def decode(
        self, outputs: list[NDArray[np.float32]], sizes: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits [B, N, prompts] and boxes [B, N, 4], cxcywh from 0 to 1, to scores and pixels."""
        logits, boxes = outputs
        scores = np.empty_like(logits)
        # exp of a positive number could overflow: both signs use exp(-|x|).
        small = np.exp(-np.abs(logits))
        np.divide(np.where(logits >= 0, 1, small), 1 + small, out=scores)
        spans = np.repeat(sizes.max(axis=1, keepdims=True), 2, axis=1) if self.padded_to_square else sizes
        centres, halves = boxes[:, :, :2], boxes[:, :, 2:] * np.float32(0.5)
        corners = np.concatenate([centres - halves, centres + halves], axis=2)
        return scores, (corners * np.tile(spans, 2)[:, None, :]).astype(np.float32)
