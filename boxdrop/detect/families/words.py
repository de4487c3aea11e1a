"""What a family makes of prompts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Words:
    """What one pass of the image graph looks for: prompts, encoded.

    Attributes:
        prompts: int64 [P], which of the label set's prompts these are: the columns of the scores.
        inputs: inputs of the image graph by name, the same for every image.
        spans: int64 [P, 2], of each prompt the first of its tokens and the one after its last, for families
            that score tokens; None for those that score prompts.
    """

    prompts: NDArray[np.int64]
    inputs: dict[str, NDArray[Any]]
    spans: NDArray[np.int64] | None = None
