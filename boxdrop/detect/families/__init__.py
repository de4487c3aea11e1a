"""The differences between families of detectors, behind one table.

A family defines how prompts become the graphs' inputs, how images of different sizes share a batch, and what
the image graph's outputs mean. Everything else (merging prompts, suppression, thresholds) is common to all,
and implemented elsewhere.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.contract import FIXED
from boxdrop.detect.families.fixed import FixedClasses
from boxdrop.detect.families.grounding import Grounding
from boxdrop.detect.families.omdet import OmDet
from boxdrop.detect.families.owl import Owl
from boxdrop.detect.families.words import Words
from boxdrop.domain.errors import BundleError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    from boxdrop.detect.bundle import Text

__all__ = ["FAMILIES", "Decoder", "Family", "FixedClasses", "Words", "family_of"]


class Decoder(Protocol):
    """How a family of detectors batches images and decodes boxes."""

    outputs: tuple[str, ...]
    """Names of the image graph's outputs that `decode` needs."""

    def images(self, pixels: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Make one batch of images: inputs of the image graph by name."""
        ...

    def decode(
        self, outputs: list[NDArray[np.float32]], sizes: NDArray[np.int64], words: Words
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Read the image graph's outputs.

        Args:
            outputs: in the order of `outputs`.
            sizes: [B, 2], upright width and height of each image in pixels.
            words: of the pass.

        Returns:
            (scores, float32 [B, N, P], 0 to 1; boxes, float32 [B, N, 4], xyxy, upright pixels, not clipped).
        """
        ...


class Family(Decoder, Protocol):
    """A family of detectors that read words: how it encodes them."""

    def lengths(self, texts: list[str], tokenizer: "Tokenizer") -> list[int]:
        """The number of tokens of each text, to compare with ``Text.max_length``."""
        ...

    def encode(
        self, texts: list[str], tokenizer: "Tokenizer", settings: "Text", session: "InferenceSession"
    ) -> tuple[Words, ...]:
        """Tokenise and run the text graph.

        Args:
            texts: none longer than `settings` allows.
            tokenizer: without padding or truncation.
            settings: the bundle's.
            session: the text graph's.

        Returns:
            The words for each pass of the image graph; every text is in exactly one pass.
        """
        ...


FAMILIES: Final[dict[str, Family]] = {
    "owlvit": Owl(padded_to_square=False),
    "owlv2": Owl(padded_to_square=True),
    "grounding-dino": Grounding(),
    "mm-grounding-dino": Grounding(),
    "omdet-turbo": OmDet(),
}


def family_of(name: str) -> Family:
    """The family of this name, among those that read words.

    Raises:
        BundleError: this boxdrop does not know it.
    """
    try:
        return FAMILIES[name]
    except KeyError:
        known = ", ".join((*FAMILIES, FIXED))
        raise BundleError(
            f"the bundle's family is {name!r}, but this boxdrop knows {known}; update boxdrop"
        ) from None
