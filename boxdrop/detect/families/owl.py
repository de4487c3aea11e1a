"""OWL-ViT (Minderer et al. 2022) and OWLv2 (2023): one box per patch, one sigmoid score per prompt.

At run time they differ in what boxes are relative to. OWL-ViT stretches the image, so its boxes are relative
to width and height. OWLv2 pads the image below or on the right to a square, so its boxes are relative to the
longer side, and may be in the padding.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.families.arrays import corners, sigmoid, stacked
from boxdrop.detect.families.words import Words

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    from boxdrop.detect.bundle import Text

QUERIES: Final = "query_embeds"
"""Input of the image graph and output of the text graph, float32 [P, D]; the image graph makes each row of
unit length."""

_PROMPTS_AT_ONCE = 64  # bounds the text encoder's memory


class Owl:
    """See `boxdrop.detect.families.Family`."""

    outputs: tuple[str, ...] = ("logits", "boxes")

    def __init__(self, padded_to_square: bool) -> None:
        self.padded_to_square = padded_to_square

    def lengths(self, texts: list[str], tokenizer: "Tokenizer") -> list[int]:
        """CLIP's tokens, including begin and end."""
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]

    def encode(
        self, texts: list[str], tokenizer: "Tokenizer", settings: "Text", session: "InferenceSession"
    ) -> tuple[Words, ...]:
        """CLIP's tokens, padded to a fixed length as transformers' OWL processors do; one pass for all."""
        ids = np.full((len(texts), settings.max_length), settings.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(tokenizer.encode_batch(texts)):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        parts = []
        for start in range(0, len(texts), _PROMPTS_AT_ONCE):
            part = slice(start, start + _PROMPTS_AT_ONCE)
            feed = {"input_ids": ids[part], "attention_mask": mask[part]}
            parts.append(session.run([QUERIES], feed)[0])
        return (Words(np.arange(len(texts)), {QUERIES: np.concatenate(parts)}),)

    def images(self, pixels: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """All images have the model's size."""
        return {"pixel_values": stacked(pixels)}

    def decode(
        self, outputs: list[NDArray[np.float32]], sizes: NDArray[np.int64], words: Words
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits [B, N, P] and boxes [B, N, 4], cxcywh from 0 to 1, to scores and pixels."""
        logits, boxes = outputs
        if words.heads is not None:
            logits = words.heads.apply(logits)
        spans = np.repeat(sizes.max(axis=1, keepdims=True), 2, axis=1) if self.padded_to_square else sizes
        return sigmoid(logits), (corners(boxes) * np.tile(spans, 2)[:, None, :]).astype(np.float32)
