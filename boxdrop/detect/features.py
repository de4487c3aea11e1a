"""What an image looks like to a detector of the OWL families, before any words are asked for.

Such a detector makes one box per patch of the image, and scores patch p for a query q as

    logit(p, q) = scale(p) · (embedding(p) · q + shift(p)),    with embedding and q of unit length.

Embedding, shift and scale are recovered from the image graph as it is: a query of zeros gives scale · shift,
and the rows of the identity matrix give scale · (embedding + shift), one coordinate each.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Features:
    """The patches of one image.

    Attributes:
        embeddings: float16 [N, D], of unit length.
        shifts, scales: float32 [N].
        boxes: float32 [N, 4], xyxy, upright pixels, not clipped; the box that the detector draws for the
            patch.
        weights: float32 [N], how many patches of the image this one represents.
    """

    embeddings: NDArray[np.float16]
    shifts: NDArray[np.float32]
    scales: NDArray[np.float32]
    boxes: NDArray[np.float32]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.shifts)

    def logits(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score queries, float32 [Q, D], of any length or zeros, as the image graph does: float32 [N, Q]."""
        lengths = np.linalg.norm(queries, axis=1)
        unit = queries / np.where(lengths > 0, lengths, 1)[:, None]
        similar = self.embeddings.astype(np.float32) @ unit.T.astype(np.float32)
        return np.asarray(self.scales[:, None] * (similar + self.shifts[:, None]), np.float32)

    def take(self, rows: NDArray[np.int64], weights: NDArray[np.float32]) -> "Features":
        """The patches of these rows, with other weights."""
        return Features(
            self.embeddings[rows], self.shifts[rows], self.scales[rows], self.boxes[rows], weights
        )


def probes(width: int) -> NDArray[np.float32]:
    """The queries that recover features: the identity and a row of zeros, float32 [width + 1, width]."""
    return np.concatenate([np.eye(width, dtype=np.float32), np.zeros((1, width), np.float32)])


def features_of(logits: NDArray[np.float32], boxes: NDArray[np.float32]) -> Features:
    """Recover an image's features from the answer to `probes`.

    Args:
        logits: float32 [N, D + 1].
        boxes: float32 [N, 4], see `Features`.
    """
    zero = logits[:, -1]
    scaled = logits[:, :-1] - zero[:, None]
    scales = np.maximum(np.linalg.norm(scaled, axis=1), 1e-6)
    return Features(
        (scaled / scales[:, None]).astype(np.float16),
        zero / scales,
        scales,
        boxes,
        np.ones(len(boxes), np.float32),
    )
