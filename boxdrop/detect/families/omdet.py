"""OmDet-Turbo (Zhao et al. 2024): a cosine per query and prompt, and a task text for the queries.

Like the authors, transformers truncates the task, "Detect cat, dog.", at 77 tokens: about 25 labels fit. It
is only a hint; labels after the cut are scored as well.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.families.arrays import corners, sigmoid, stacked
from boxdrop.detect.families.words import Words

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    from boxdrop.detect.bundle import Text

_PROMPTS_AT_ONCE = 64  # bounds the text encoder's memory


class OmDet:
    """See `boxdrop.detect.families.Family`."""

    outputs: tuple[str, ...] = ("logits", "boxes")

    def lengths(self, texts: list[str], tokenizer: "Tokenizer") -> list[int]:
        """CLIP's tokens, including begin and end."""
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]

    def encode(
        self, texts: list[str], tokenizer: "Tokenizer", settings: "Text", session: "InferenceSession"
    ) -> tuple[Words, ...]:
        """Every prompt on its own, and the task that names them all; one pass."""
        ids = np.full((len(texts), settings.max_length), settings.pad_id, np.int64)
        for row, encoding in enumerate(tokenizer.encode_batch(texts)):
            ids[row, : len(encoding.ids)] = encoding.ids
        task = tokenizer.encode(task_of(texts)).ids
        if len(task) > settings.max_length:
            task = [*task[: settings.max_length - 1], task[-1]]  # the end stays
        task_ids = np.full((1, settings.max_length), settings.pad_id, np.int64)
        task_ids[0, : len(task)] = task
        parts = [
            session.run(
                ["choosing", "scoring", "task"],
                {"input_ids": ids[start : start + _PROMPTS_AT_ONCE], "task_ids": task_ids},
            )
            for start in range(0, len(texts), _PROMPTS_AT_ONCE)
        ]
        choosing, scoring = (np.concatenate([part[i] for part in parts]) for i in range(2))
        shortened = np.ascontiguousarray(parts[0][2][: len(task)])
        inputs = {"choosing": choosing, "scoring": scoring, "task": shortened}
        return (Words(np.arange(len(texts)), inputs),)

    def images(self, pixels: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """All images have the model's size."""
        return {"pixel_values": stacked(pixels)}

    def decode(
        self, outputs: list[NDArray[np.float32]], sizes: NDArray[np.int64], words: Words
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits [B, N, P] and boxes [B, N, 4], cxcywh from 0 to 1 of the image, to scores and pixels."""
        logits, boxes = outputs
        return sigmoid(logits), (corners(boxes) * np.tile(sizes, 2)[:, None, :]).astype(np.float32)


def task_of(texts: list[str]) -> str:
    """The task text that transformers' processor makes from prompts."""
    return f"Detect {', '.join(texts)}."
