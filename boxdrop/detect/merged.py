"""Two detectors that work together on one label set, see `boxdrop.detect.allotment`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.allotment import allot, merged_defaults, shift_between, shifted
from boxdrop.detect.bundle import Bundle
from boxdrop.detect.detector import Detector, Share
from boxdrop.detect.settings import Defaults, thresholds_of
from boxdrop.domain.detections import MAX_PER_LABEL, RIVAL_IOU, Detections, concatenate, select
from boxdrop.domain.detector_names import joined, joined_digests
from boxdrop.domain.errors import LessonError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import Lesson

_QUERIES_OF_A_DETECTOR: Final = 10**12  # query numbers reserved per detector, so they are unique


@dataclass(frozen=True, slots=True)
class MergedBundle:
    """The bundles of two detectors, as far as they are one.

    Attributes:
        parts: the bundles, the preferred one first.
    """

    parts: tuple[Bundle, ...]

    @property
    def name(self) -> str:
        """Both names: ``nanodet-coco+owlv2``."""
        return joined([each.name for each in self.parts])

    @property
    def digest(self) -> str:
        """What determines the boxes, see `boxdrop.domain.detector_names.joined_digests`."""
        first, second = (each.defaults.threshold for each in self.parts)
        return joined_digests([each.digest for each in self.parts], shift_between(first, second))

    @property
    def family(self) -> str:
        """Both families."""
        return joined([each.family for each in self.parts])

    @property
    def precision(self) -> str:
        """Both precisions; one if they are equal."""
        return joined([*dict.fromkeys(each.precision for each in self.parts)])

    @property
    def defaults(self) -> Defaults:
        """On the scale of the first detector's scores."""
        return merged_defaults([each.defaults for each in self.parts])


class MergedDetector:
    """Two detectors that look for the labels of one label set: each label is looked for by the first one that
    knows it.

    Scores of the second are moved to the scale of the first one's. So one default threshold serves both, and
    where both claim an object (`boxdrop.domain.detections.select`), the one that is surer by its own measure
    keeps it.

    Args:
        detectors: two, the preferred one first.

    Attributes:
        bundle: theirs.
        provider: ``cpu`` or ``cuda``.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.parts = tuple(detectors)
        self.bundle = MergedBundle(tuple(each.bundle for each in detectors))
        self.provider = detectors[0].provider
        threshold = detectors[0].bundle.defaults.threshold
        self._shifts = [shift_between(threshold, each.bundle.defaults.threshold) for each in detectors]

    def model_version(self, label_set: LabelSet) -> str:
        """See `Detector.model_version`."""
        return f"{self.bundle.name}@{label_set.digest(self.bundle.digest)[:8]}"

    def thresholds(self, label_set: LabelSet) -> list[float]:
        """See `Detector.thresholds`; on the scale of the first detector's scores."""
        return thresholds_of(label_set, self.bundle.defaults, self.bundle.name)

    def learn(self, number: str, lesson: Lesson) -> None:
        """Refuse a lesson.

        Raises:
            LessonError: always.
        """
        raise LessonError(
            f"lesson {number} belongs to detector {lesson.bundle}, but two detectors are named "
            f"({self.bundle.name}): name only the one that was taught, or remove `lesson`"
        )

    def shares(self, label_set: LabelSet) -> tuple[Share, ...]:
        """What each of the detectors looks for.

        Raises:
            LabelSetError: see `boxdrop.detect.allotment.allot`.
        """
        named = [(each.bundle.name, each.bundle.classes) for each in self.parts]
        return tuple(
            Share(self.parts[each.detector], each.label_set, each) for each in allot(label_set, named)
        )

    def embed(self, label_set: LabelSet) -> None:
        """Check that each label can be looked for, and prepare it.

        Raises:
            LabelSetError: a prompt is too long, or no detector knows a label.
        """
        for share in self.shares(label_set):
            share.detector.embed(share.label_set)

    def combine(self, shares: Sequence[Share], found: Sequence[Detections]) -> Detections:
        """The candidates of all detectors in one image, in terms of the whole label set, best first.

        Args:
            shares: of `shares`.
            found: what each of them gave.
        """
        floor = self.bundle.defaults.floor
        parts = []
        for share, candidates in zip(shares, found, strict=True):
            part = share.allotment
            assert part is not None
            scores = shifted(candidates.scores, self._shifts[part.detector])
            translated = Detections(
                candidates.boxes,
                scores,
                part.labels[candidates.labels],
                part.prompts[candidates.prompts],
                candidates.queries + part.detector * _QUERIES_OF_A_DETECTOR,
            )
            parts.append(translated.take(scores >= floor))
        if not parts:
            return Detections.empty()
        everything = concatenate(parts)
        return everything.take(np.lexsort((everything.labels, everything.queries, -everything.scores)))

    def candidates_of(self, image: NDArray[np.uint8], label_set: LabelSet) -> Detections:
        """See `Detector.candidates_of`."""
        shares = self.shares(label_set)
        return self.combine(shares, [each.detector.candidates_of(image, each.label_set) for each in shares])

    def detect(
        self,
        images: Sequence[NDArray[np.uint8]],
        label_set: LabelSet,
        rival_iou: float | None = RIVAL_IOU,
        nms_iou: float | None = None,
        limit: int = MAX_PER_LABEL,
    ) -> list[Detections]:
        """See `Detector.detect`."""
        thresholds = self.thresholds(label_set)
        shares = self.shares(label_set)
        found = [
            [each.detector.candidates_of(image, each.label_set, nms_iou, limit) for each in shares]
            for image in images
        ]
        return [select(self.combine(shares, each), thresholds, rival_iou) for each in found]


AnyDetector = Detector | MergedDetector
"""One detector, or two that work together."""


def merge(detectors: Sequence[Detector]) -> AnyDetector:
    """One detector as it is, or two together."""
    return detectors[0] if len(detectors) == 1 else MergedDetector(detectors)
