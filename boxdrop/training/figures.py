"""How good a bundle is on the images of a training, by label; as annotators will see it, through ONNX."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.evidence import Evidence, count, tally
from boxdrop.assessment.precision import IOUS, average_precisions
from boxdrop.assessment.thresholds import LEAST_IMAGES
from boxdrop.detect import Bundle, Detector
from boxdrop.domain.images import decode
from boxdrop.domain.label import Label
from boxdrop.domain.labels import LabelSet
from boxdrop.training.folder import TrainingFolder

_LEAST_THRESHOLD: Final = 0.1
_MOST_THRESHOLD: Final = 0.9
_NEAR: Final = 0.03


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """One label on one split.

    Attributes:
        boxes: verified ones.
        ap50, ap: COCO's; None where there is no box.
    """

    name: str
    boxes: int
    ap50: float | None
    ap: float | None


@dataclass(frozen=True, slots=True)
class SplitFigures:
    """A detector on one split.

    Attributes:
        images: of the split.
        ap50, ap: means over labels that have boxes; None where none has.
        precision, recall: of what is shown at the threshold.
    """

    split: str
    images: int
    labels: tuple[LabelFigures, ...]
    ap50: float | None
    ap: float | None
    precision: float
    recall: float

    @property
    def boxes(self) -> int:
        """Verified boxes."""
        return sum(each.boxes for each in self.labels)


def find_in(
    bundle: Bundle, folder: TrainingFolder, split: str, on_image: Callable[[int], object] = lambda _: None
) -> list[Evidence]:
    """What a detector finds in the images of a split, with what is verified there."""
    detector = Detector.load(bundle, threads=folder.plan().threads)
    label_set = labels_of(folder.plan().classes)
    evidence = []
    for number, image in enumerate(each for each in folder.read_images() if each.split == split):
        pixels = decode((folder.images / image.file).read_bytes()).pixels
        candidates = detector.candidates_of(pixels, label_set)
        boxes = np.array(image.boxes, np.float32).reshape(-1, 4)
        evidence.append(Evidence.of(image.file, candidates, boxes, np.array(image.labels, np.int64)))
        on_image(number + 1)
    return evidence


def labels_of(classes: Sequence[str]) -> LabelSet:
    """A label set in which each label is the class of its name."""
    return LabelSet(tuple(Label(name, (name,)) for name in classes))


def best_threshold(evidence: Sequence[Evidence], classes: int, default: float, floor: float) -> float:
    """The threshold for all labels that leaves the fewest boxes to delete and to add in the watched images.

    Neighbouring thresholds count, too (`_NEAR`), so that one lucky box does not decide. `tune` moves a
    project's thresholds a little from those in force; the default of a detector that was made a minute ago
    is no evidence, and the scores of short trainings are far from it.

    Args:
        evidence: of the watched images.
        default: for too few images to learn from.
        floor: the lowest score that the detector keeps.
    """
    if len(evidence) < LEAST_IMAGES or not any(len(each.labels) for each in evidence):
        return default
    tried = np.round(np.arange(_LEAST_THRESHOLD - _NEAR, _MOST_THRESHOLD + _NEAR + 0.005, 0.01), 2)
    work = []
    for threshold in tried:
        whole = tally(np.stack([count(each, np.full(classes, threshold), classes) for each in evidence]))
        work.append(whole.shown + whole.objects - 2 * whole.right)
    width = 2 * round(100 * _NEAR) + 1
    smooth = np.convolve(work, np.ones(width) / width, mode="valid")
    best = np.flatnonzero(smooth <= smooth.min() + 1e-9)
    middle = float(tried[round(100 * _NEAR) + int(best[len(best) // 2])])
    return round(max(floor, middle), 2)


def figures_of(
    split: str, evidence: Sequence[Evidence], classes: Sequence[str], threshold: float
) -> SplitFigures:
    """AP by label, and precision and recall at a threshold."""
    if not evidence:
        return SplitFigures(split, 0, (), None, None, 1.0, 1.0)
    labels = len(classes)
    precisions = np.array([average_precisions(evidence, labels, iou) for iou in IOUS])
    boxes = np.sum([np.bincount(each.labels, minlength=labels) for each in evidence], axis=0)
    whole = tally(np.stack([count(each, np.full(labels, threshold), labels) for each in evidence]))
    rows = tuple(
        LabelFigures(name, int(boxes[number]), *_both(precisions[:, number]))
        for number, name in enumerate(classes)
    )
    known = ~np.isnan(precisions[0])
    both = _both(precisions[:, known].mean(axis=1)) if known.any() else (None, None)
    return SplitFigures(split, len(evidence), rows, *both, whole.precision, whole.recall)


def _both(precisions: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """AP50 and AP; None where there is no box."""
    if np.isnan(precisions[0]):
        return None, None
    return round(float(precisions[0]), 4), round(float(precisions.mean()), 4)
