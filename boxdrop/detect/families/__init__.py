"""What differs between families of detectors, behind one table.

A family knows how prompts become the text graph's inputs, and what the image graph's outputs mean. All else
(pre-processing, merging of prompts, suppression, thresholds) is the same for all and lies elsewhere.
"""

from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.families.owl import Owl
from boxdrop.errors import BundleError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from boxdrop.detect.bundle import Text


class Family(Protocol):
    """How one family of detectors reads prompts and writes boxes."""

    outputs: tuple[str, ...]
    """Names of the image graph's outputs that `decode` takes."""

    def tokenize(
        self, texts: list[str], tokenizer: "Tokenizer", settings: "Text"
    ) -> tuple[dict[str, NDArray[np.int64]], list[int]]:
        """Make the text graph's inputs.

        Returns:
            (inputs by name, tokens that each text has); a text over `settings.max_length` is cut off in the
            inputs, and the caller refuses it.
        """
        ...

    def decode(
        self, outputs: list[NDArray[np.float32]], sizes: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Read the image graph's outputs.

        Args:
            outputs: in the order of `outputs`.
            sizes: [B, 2], upright width and height of each image in pixels.

        Returns:
            (scores, float32 [B, N, prompts], 0 to 1; boxes, float32 [B, N, 4], xyxy, upright pixels, not
            clipped).
        """
        ...


FAMILIES: Final[dict[str, Family]] = {
    "owlvit": Owl(padded_to_square=False),
    "owlv2": Owl(padded_to_square=True),
}


def family_of(name: str) -> Family:
    """The family that a bundle names.

    Raises:
        BundleError: this boxdrop does not know it.
    """
    try:
        return FAMILIES[name]
    except KeyError:
        known = ", ".join(FAMILIES)
        raise BundleError(
            f"the bundle's family is {name!r}, this boxdrop knows {known}; update boxdrop"
        ) from None
