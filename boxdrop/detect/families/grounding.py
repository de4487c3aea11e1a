"""Grounding DINO (Liu et al. 2023), MM-Grounding-DINO (Zhao et al. 2024) and LLMDet (Fu et al. 2025).

They read all prompts as one text, ``[CLS] cat . remote control . [SEP]``, and score every query against every
token of it. transformers finds the labels again by looking for full stops among the tokens and decoding what
scored; labels come out in pieces or merged, and one with a full stop in it ("St. Bernard") falls apart. Here
each prompt is tokenised by itself, and where its tokens lie is kept: a prompt's score is that of its best
    token.

A token attends only to the tokens of its own prompt and the full stop after it, and counts its position from
the prompt's beginning. The mask for this is computed here, not in the graph. Prompts that together need more
tokens than the model reads go into several passes of even length.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.families.arrays import corners, sigmoid
from boxdrop.detect.families.words import Words

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    from boxdrop.detect.bundle import Text

_BEGIN_STOP_END = 3  # tokens that a text of one prompt needs beside those of the prompt
_SMALLEST_AREA = 48_000
"""Pixels of the canvas: enough for as many tokens of the image as the decoder has queries, 900, whatever the
image's shape. The area outside the image is masked."""


class Grounding:
    """See `boxdrop.detect.families.Family`."""

    outputs: tuple[str, ...] = ("logits", "boxes")

    def lengths(self, texts: list[str], tokenizer: "Tokenizer") -> list[int]:
        """Tokens of a text that holds this prompt alone."""
        return [len(ids) + _BEGIN_STOP_END for ids in _tokens(texts, tokenizer)]

    def encode(
        self, texts: list[str], tokenizer: "Tokenizer", settings: "Text", session: "InferenceSession"
    ) -> tuple[Words, ...]:
        """Tokens, mask and positions of each pass, through the text encoder."""
        begin, end = tokenizer.encode("").ids
        (stop,) = tokenizer.encode(".", add_special_tokens=False).ids
        tokens = _tokens(texts, tokenizer)
        passes = []
        for prompts in split([len(ids) + 1 for ids in tokens], settings.max_length - 2):
            ids, spans = [begin], []
            for prompt in prompts:
                spans.append((len(ids), len(ids) + len(tokens[prompt])))
                ids += [*tokens[prompt], stop]
            ids.append(end)
            places = np.array(spans, np.int64)
            attention, positions = blocks(len(ids), places)
            feed = {"input_ids": np.array([ids], np.int64), "attention": attention, "positions": positions}
            names = ["text_features", "text_positions"]
            features, embedded = session.run(names, feed)
            inputs = {"text_features": features, "text_positions": embedded, "text_attention": attention}
            passes.append(Words(np.array(prompts, np.int64), inputs, places))
        return tuple(passes)

    def images(self, pixels: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Images of any size on one canvas, each in its top left corner, with where they end.

        The graph masks everything beyond, even inside the backbone's windows and normalisations, so an
        image's result does not depend on the canvas.
        """
        shapes = np.array([image.shape[1:] for image in pixels], np.int64)
        height, width = (int(side) for side in shapes.max(axis=0))
        height = max(height, -(-_SMALLEST_AREA // width))
        if isinstance(pixels, np.ndarray) and pixels.shape[2:] == (height, width):
            return {"pixel_values": pixels, "pixel_sizes": shapes}
        canvas = np.zeros((len(pixels), 3, height, width), np.float32)
        for number, image in enumerate(pixels):
            canvas[number, :, : image.shape[1], : image.shape[2]] = image
        return {"pixel_values": canvas, "pixel_sizes": shapes}

    def decode(
        self, outputs: list[NDArray[np.float32]], sizes: NDArray[np.int64], words: Words
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits [B, N, tokens] and boxes [B, N, 4], cxcywh from 0 to 1 of the image, to scores and
        pixels."""
        logits, boxes = outputs
        assert words.spans is not None
        # The maximum from each edge to the next; every second stretch is a full stop.
        best = np.maximum.reduceat(logits, words.spans.ravel(), axis=2)[:, :, ::2]
        return sigmoid(best), (corners(boxes) * np.tile(sizes, 2)[:, None, :]).astype(np.float32)


def split(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Share out prompts, in order, over as few passes as possible, and evenly: the model finds less in long
    texts.

    Args:
        lengths: tokens of each prompt.
        room: tokens of a pass.

    Returns:
        The numbers of the prompts of each pass.
    """
    fewest = len(_filled(lengths, room))
    low, high = max(lengths), room
    while low < high:
        middle = (low + high) // 2
        if len(_filled(lengths, middle)) <= fewest:
            high = middle
        else:
            low = middle + 1
    return _filled(lengths, low)


def _filled(lengths: Sequence[int], room: int) -> list[list[int]]:
    passes: list[list[int]] = [[]]
    used = 0
    for number, length in enumerate(lengths):
        if passes[-1] and used + length > room:
            passes.append([])
            used = 0
        passes[-1].append(number)
        used += length
    return passes


def blocks(length: int, spans: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The attention mask between tokens, and each token's position in its prompt.

    Args:
        length: of the text in tokens.
        spans: int64 [P, 2], the prompts' tokens; the one behind each is its full stop.

    Returns:
        (bool [length, length], int64 [length]): a prompt's tokens and its full stop see each other, begin
        and end only themselves.
    """
    attention = np.eye(length, dtype=bool)
    positions = np.zeros(length, np.int64)
    for first, stop in spans:
        attention[first : stop + 1, first : stop + 1] = True
        positions[first : stop + 1] = np.arange(stop + 1 - first)
    return attention, positions


def _tokens(texts: list[str], tokenizer: "Tokenizer") -> list[list[int]]:
    # transformers lower-cases labels, whatever the tokenizer does.
    lowered = [text.lower() for text in texts]
    return [encoding.ids for encoding in tokenizer.encode_batch(lowered, add_special_tokens=False)]
