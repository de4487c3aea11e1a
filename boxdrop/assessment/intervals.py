"""95 % intervals of shares whose boxes come clustered in images.

Boxes of one image share its light, its scene and its annotator: ten right boxes in one image say less than
ten in ten images. So images are the unit, and the boxes' number is discounted by the design effect (Kish,
*Survey Sampling*, 1965): 1 + ρ·Σn(n−1)/Σn, with n the boxes of each image and ρ how much the boxes of one
image agree. The discounted number goes into Wilson's interval (Wilson 1927; Brown, Cai and DasGupta 2001),
with Student's quantile in place of the normal one, for one degree of freedom less than the images (Korn and
Graubard, *Survey Methodology*, 1998), which are counted by their weight: (Σn)²/Σn².

Where there are few mistakes, ρ cannot be estimated: with none at all, any ρ explains the data. It is
therefore drawn towards `PRIOR_RHO` with the weight of `PRIOR_IMAGES` images. Both were chosen by simulation:
`tests/unit/assessment/test_intervals.py` measures coverage, record 090 has the table.
"""

import math
from dataclasses import dataclass
from typing import Final

PRIOR_RHO: Final = 0.3
"""Agreement of the boxes of one image before there are data: on the careful side."""

PRIOR_IMAGES: Final = 5.0
"""Weight of the prior, in images that hold both boxes and mistakes."""

_Z: Final = 1.959964
_ONE_SIDED: Final = 1.644854
_STUDENT: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365)
"""97.5 % quantiles of Student's distribution for 1 to 7 degrees of freedom; the series below is exact to
three digits after that."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many of some boxes are right, with a 95 % interval.

    Attributes:
        right, of: boxes.
        images: that hold any of them.
        low, high: the interval's ends, 0 to 1; 0 and 1 where there are no boxes.
    """

    right: int
    of: int
    images: int
    low: float
    high: float

    @property
    def value(self) -> float | None:
        """The share, 0 to 1; None of no boxes."""
        return self.right / self.of if self.of else None


class Clusters:
    """Counts of boxes, image by image, as the sums that the interval needs: memory does not grow.

    >>> clusters = Clusters()
    >>> for right, boxes in [(3, 3), (2, 4), (5, 5), (1, 2)]:
    ...     clusters.add(right, boxes)
    >>> share = clusters.share()
    >>> share.right, share.of, share.images, round(share.low, 2), round(share.high, 2)
    (11, 14, 4, 0.28, 0.97)
    """

    __slots__ = ("_cross", "_images", "_of", "_of_squared", "_right", "_right_squared", "_several")

    def __init__(self) -> None:
        self._images = self._several = 0
        self._right = self._of = self._right_squared = self._of_squared = self._cross = 0

    def add(self, right: int, of: int) -> None:
        """Count an image: of its `of` boxes, `right` are. One without boxes says nothing."""
        if not of:
            return
        self._images += 1
        self._several += of > 1
        self._right += right
        self._of += of
        self._right_squared += right * right
        self._of_squared += of * of
        self._cross += right * of

    def share(self) -> Share:
        """The share of all, with its interval."""
        if not self._of:
            return Share(0, 0, 0, 0.0, 1.0)
        low, high = _wilson(self._right / self._of, self._of / self._design_effect(), self._quantile())
        return Share(self._right, self._of, self._images, low, high)

    def low(self) -> float:
        """The end of a one-sided interval: the true share is higher in 95 of 100 cases; 0 of no boxes."""
        if not self._of:
            return 0.0
        quantile = self._quantile() * _ONE_SIDED / _Z
        return _wilson(self._right / self._of, self._of / self._design_effect(), quantile)[0]

    def _quantile(self) -> float:
        return student(max(1, round(self._effective_images()) - 1)) if self._images > 1 else _Z

    def _effective_images(self) -> float:
        """Images of equal weight that would say as much (Kish 1965): a few with many boxes count for more."""
        return self._of * self._of / self._of_squared

    def _design_effect(self) -> float:
        pairs = self._of_squared - self._of
        if not pairs:
            return 1.0
        share = self._right / self._of
        smooth = (self._right + 1) / (self._of + 2)
        variance = smooth * (1 - smooth)
        rho, weight = 0.0, 0
        if self._images > 1:
            residuals = self._right_squared - 2 * share * self._cross + share * share * self._of_squared
            effective = self._effective_images()
            spread = residuals * effective / (effective - 1)
            rho = (spread - variance * self._of) / (variance * pairs)
            weight = min(self._several, self._right, self._of - self._right)
        rho = (PRIOR_IMAGES * PRIOR_RHO + weight * rho) / (PRIOR_IMAGES + weight)
        return 1.0 + min(max(rho, 0.0), 1.0) * pairs / self._of


def student(degrees: int) -> float:
    """The 97.5 % quantile of Student's distribution (Abramowitz and Stegun 26.7.5)."""
    if degrees <= len(_STUDENT):
        return _STUDENT[degrees - 1]
    z, n = _Z, degrees
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


def _wilson(share: float, number: float, quantile: float) -> tuple[float, float]:
    squared = quantile * quantile / number
    middle = (share + squared / 2) / (1 + squared)
    half = quantile / (1 + squared) * math.sqrt(share * (1 - share) / number + squared / (4 * number))
    return (max(0.0, middle - half) if share > 0 else 0.0), (min(1.0, middle + half) if share < 1 else 1.0)
