"""Which images need nobody, by a promise of precision that verified work proves, and the audit that watches.

An image is eligible if the calibration (`boxdrop.assessment.calibration`) gives each of its boxes the
promised probability of being right, by a margin of one standard error, and expects hardly an object below
the thresholds. A calibration is a model, so its word is not enough: verified images that would have been
accepted by calibrations that did not see them must show the promised precision, with the lower end of a
one-sided 95 % interval. If they do not, nothing is accepted.

People still verify a random part of what would be accepted. `watch` bets against the promise with each of
these images, and stops the rule once the bets have won too much (Shin, Ramdas and Rinaldo, *E-detectors*,
arXiv 2203.03532): images may arrive in any number, and boxes of one image may share their fate.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.calibration import Calibration, sigmoid
from boxdrop.assessment.evidence import Evidence, right_ones
from boxdrop.assessment.intervals import Clusters, Share
from boxdrop.assessment.priority import LEAST_BOXES, LEAST_IMAGES, contenders
from boxdrop.assessment.thresholds import fit
from boxdrop.domain.detections import Detections, select
from boxdrop.domain.identity import fraction_of

HIDDEN: Final = 0.1
"""An image in which more objects than this are expected below the thresholds is left to people."""

WORSE: Final = 4.0
"""The audit bets that this many times more boxes are wrong than was promised."""

FALSE_ALARM: Final = 1 / 200
"""One false alarm in at least 200 audited images, even where the detector only just keeps the promise."""

_FOLDS: Final = 5
_HIGHEST_BET: Final = 0.5


@dataclass(frozen=True, eq=False, slots=True)
class AcceptanceRule:
    """Decides which images are accepted.

    Attributes:
        calibration: from all verified images.
        thresholds: float [L], in force.
        promise: least P(right) of each box, and precision of all accepted boxes.
        proof: right boxes in verified images that would have been accepted.
        low: the end of its one-sided 95 % interval; at least `promise`, unless the rule is not `proven`.
    """

    calibration: Calibration
    thresholds: NDArray[np.floating]
    promise: float
    proof: Share
    low: float

    @property
    def proven(self) -> bool:
        """Whether verified work proves the promise; if not, nothing is accepted."""
        return self.low >= self.promise

    def accepts(self, candidates: Detections) -> bool:
        """Whether nobody has to check an image."""
        return self.proven and sureness(candidates, self.thresholds, self.calibration) >= self.promise


def sureness(candidates: Detections, thresholds: NDArray[np.floating], calibration: Calibration) -> float:
    """How sure the least sure box of an image is: P(right) less one standard error, 0 to 1.

    0 where no box is shown, since nothing confirms that the image is empty, and where objects are expected
    among the candidates that are not shown.
    """
    shown = select(candidates, thresholds.astype(np.float32))
    if not len(shown):
        return 0.0
    found = contenders(candidates, len(thresholds))
    hidden = found.scores < thresholds.astype(np.float32)[found.labels]
    if calibration.probabilities(found.scores[hidden], found.labels[hidden]).sum() > HIDDEN:
        return 0.0
    logits = calibration.logits(shown.scores, shown.labels)
    return float(sigmoid(logits - calibration.errors(shown.scores, shown.labels)).min())


def learn_acceptance(
    images: Sequence[Evidence], thresholds: NDArray[np.floating], promise: float
) -> AcceptanceRule | None:
    """The rule that follows from verified images; None where they are too few to calibrate.

    Args:
        images: verified, in an order that has nothing to do with what they show.
        thresholds: float [L], in force.
        promise: precision of the accepted boxes, 0 to 1.
    """
    if len(images) < LEAST_IMAGES or sum(len(each.labels) for each in images) < LEAST_BOXES:
        return None
    labels, clusters = len(thresholds), Clusters()
    for fold in range(_FOLDS):
        theirs = fit([each for number, each in enumerate(images) if number % _FOLDS != fold], labels)
        for image in images[fold::_FOLDS]:
            if sureness(image.candidates, thresholds, theirs) >= promise:
                clusters.add(*judge(image, thresholds))
    return AcceptanceRule(fit(images, labels), thresholds, promise, clusters.share(), clusters.low())


def judge(image: Evidence, thresholds: NDArray[np.floating]) -> tuple[int, int]:
    """How many of the boxes that thresholds show of a verified image are right, and how many there are."""
    shown = select(image.candidates, thresholds.astype(np.float32))
    return int(right_ones(shown, image.boxes, image.labels).sum()), len(shown)


def is_audited(image_id: str, share: float) -> bool:
    """Whether an image belongs to the part that people verify all the same; always the same answer."""
    return fraction_of(f"audit/{image_id}") < share


@dataclass(frozen=True, slots=True)
class Audit:
    """What audited images say about the promise.

    Attributes:
        share: right boxes among those that were to be accepted.
        evidence: what betting against the promise has won; the rule stops at 1 / `FALSE_ALARM`.
        broken_after: audited images after which it stopped; None if it holds.
    """

    share: Share
    evidence: float
    broken_after: int | None


def watch(audited: Iterable[tuple[int, int]], promise: float) -> Audit:
    """Judge the audit.

    Args:
        audited: right boxes, and all boxes, of each audited image, in the order in which people verified
            them.
        promise: the promised precision, 0 to 1.
    """
    wrong_share = 1 - promise
    bet = (min(WORSE * wrong_share, 1.0) - wrong_share) / (wrong_share * promise)
    clusters, evidence, broken = Clusters(), 1.0, None
    for number, (right, boxes) in enumerate(audited, 1):
        clusters.add(right, boxes)
        if broken is None and boxes:
            stake = min(bet, _HIGHEST_BET / (wrong_share * boxes))
            evidence = max(1.0, evidence) * (1 + stake * (boxes - right - wrong_share * boxes))
            if evidence >= 1 / FALSE_ALARM:
                broken = number
    return Audit(clusters.share(), evidence, broken)
