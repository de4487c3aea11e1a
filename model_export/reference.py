"""What transformers itself answers for one image: the truth that a bundle is compared with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Reference:
    """An answer of a processor, model and post-processing of transformers.

    Attributes:
        pixels: float32 [3, H, W], the processor's.
        scores: float32 [N, prompts], 0 to 1, every box of the model under every prompt.
        best_scores, best_prompts: float32 [N] and int64 [N], of the post-processing.
        boxes: float32 [N, 4], xyxy, pixels of the image, of the post-processing; not clipped.
        proposal_logits: float32 [places], of families that choose their N boxes among many places: the score
            of each place before the choice. None for the others.
        proposals: int64 [N], the places chosen, in order.
    """

    pixels: NDArray[np.float32]
    scores: NDArray[np.float32]
    best_scores: NDArray[np.float32]
    best_prompts: NDArray[np.int64]
    boxes: NDArray[np.float32]
    proposal_logits: NDArray[np.float32] | None = None
    proposals: NDArray[np.int64] | None = None
