"""transformers' own results for one image, with which a bundle is compared."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NOWHERE: Final = -1
"""Name of the positions at the edge, see `Reference`."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The results of transformers' processor, model and post-processing.

    Attributes:
        pixels: float32 [3, H, W], the processor's.
        scores: float32 [N, prompts], 0 to 1, every box of the model under every prompt.
        best_scores, best_prompts: float32 [N] and int64 [N], of the post-processing.
        boxes: float32 [N, 4], xyxy, pixels of the image, of the post-processing; not clipped.
        places: int64 [places], of families that choose their N boxes among many places: names of all places,
            the same whatever else is in a batch. None for the others.
        place_logits: float32 [places], their scores before the choice.
        chosen: int64 [N], names of the places chosen, in order; `NOWHERE` for those at the edge, where no
            box can
            start: they are all alike, and may be taken for one another.
    """

    pixels: NDArray[np.float32]
    scores: NDArray[np.float32]
    best_scores: NDArray[np.float32]
    best_prompts: NDArray[np.int64]
    boxes: NDArray[np.float32]
    places: NDArray[np.int64] | None = None
    place_logits: NDArray[np.float32] | None = None
    chosen: NDArray[np.int64] | None = None
