"""Encoded prompts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Heads:
    """Columns of the scores that a lesson made; see `boxdrop.domain.lesson` for the formula.

    They come after those of words. The pass asks a query of zeros after all others, which has no column of
    its own.

    Attributes:
        first: the first of these columns.
        lengths, shifts, biases: float32 [T].
    """

    first: int
    lengths: NDArray[np.float32]
    shifts: NDArray[np.float32]
    biases: NDArray[np.float32]

    def apply(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn the answer [..., P + 1] into logits [..., P]; columns of words stay as they are."""
        asked, zero = logits[..., :-1].copy(), logits[..., -1:]
        taught = asked[..., self.first :]
        taught *= self.lengths
        taught += (self.shifts - self.lengths) * zero
        taught += self.biases
        return asked


@dataclass(frozen=True, eq=False, slots=True)
class Words:
    """What one pass of the image graph asks for: prompts, encoded, and what a lesson taught.

    Attributes:
        prompts: int64 [P], indices into the label set's prompts: the columns of the scores.
        inputs: inputs of the image graph by name, the same for every image.
        spans: int64 [P, 2], of each prompt the first of its tokens and the one after its last, for families
            that score tokens; None for those that score prompts.
        heads: of the prompts that a lesson taught; None without a lesson.
        columns: int64 [P], of each prompt its class, for detectors with fixed classes; None for the others.
    """

    prompts: NDArray[np.int64]
    inputs: dict[str, NDArray[Any]]
    spans: NDArray[np.int64] | None = None
    heads: Heads | None = None
    columns: NDArray[np.int64] | None = None
