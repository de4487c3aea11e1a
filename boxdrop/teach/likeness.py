"""Finding things like the one in a box: a lesson of a single example, for searching, not for verifying."""

from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.detector import Detector
from boxdrop.detect.features import Features
from boxdrop.detect.lessons import encode_heads
from boxdrop.domain.detections import iou_matrix
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.identity import lesson_id
from boxdrop.domain.labels import Label, LabelSet
from boxdrop.domain.lesson import Figures, Lesson, TaughtLabel
from boxdrop.lessons import write_lesson_text
from boxdrop.teach.patches import IGNORED_IOU

LABEL: Final = "like this"

_NEARLY_BEST: Final = 0.8
"""Patches whose overlap is at least this share of the best one's show the same thing."""

_SHOWN: Final = 0.2
"""Lowest score that is shown; a search is read from the top."""

_OWN_LOGIT: Final = 3.0
_NOTHING_LOGIT: Final = -3.0
"""Where scores begin that say no more than chance."""


def learn_likeness(detector: Detector, pixels: NDArray[np.uint8], box: NDArray[np.float32]) -> LabelSet:
    """Let a detector find things that look like what is in a box.

    Args:
        detector: of the families OWL-ViT or OWLv2.
        pixels: uint8 [height, width, 3], red green blue, upright.
        box: float32 [4], xyxy, upright pixels.

    Returns:
        A label set with the one label `LABEL`; scores rank what is found: the thing itself gets 0.95.

    Raises:
        LessonError: detectors of this family cannot be taught.
        BoxdropError: the detector draws no box near this one.
    """
    size = (pixels.shape[1], pixels.shape[0])
    [features] = detector.features([detector.preprocess(pixels)], [size])
    head = head_like(features, box)
    nothing = Figures(0, 0, 0, None)
    lesson = Lesson(
        project="",
        bundle=detector.bundle.name,
        bundle_digest=detector.bundle.digest,
        width=detector.width,
        made_at=datetime(1970, 1, 1, tzinfo=UTC),  # the same box is the same search
        labels=(TaughtLabel(LABEL, 1, (LABEL,), "lesson", 1, encode_heads(head[None])),),
        images=(),
        boxes=1,
        before=nothing,
        after=nothing,
        figures=(),
    )
    number = lesson_id(write_lesson_text(lesson))
    detector.learn(number, lesson)
    threshold = max(detector.bundle.defaults.floor, _SHOWN)
    return LabelSet((Label(LABEL, (LABEL,), threshold, 1, examples_only=True),), lesson=number)


def head_like(features: Features, box: NDArray[np.float32]) -> NDArray[np.float32]:
    """A head that scores what looks like the thing in a box, float32 [D + 2].

    Args:
        features: of the whole image.
        box: see `learn_likeness`.

    Raises:
        BoxdropError: the detector draws no box near this one.
    """
    overlaps = iou_matrix(features.boxes, box[None])[:, 0]
    best = float(overlaps.max())
    if best < IGNORED_IOU:
        said = ", ".join(f"{each:g}" for each in box)
        raise BoxdropError(
            f"the detector draws no box near {said} (left, top, right, bottom): "
            "give the box around one whole thing"
        )
    rows = np.flatnonzero(overlaps >= max(IGNORED_IOU, _NEARLY_BEST * best))
    embeddings = features.embeddings[rows].astype(np.float32)
    query = overlaps[rows] @ embeddings
    query /= np.linalg.norm(query)
    own = float((features.scales[rows] * (embeddings @ query + features.shifts[rows])).max())
    slope = (_OWN_LOGIT - _NOTHING_LOGIT) / max(own, 1.0)
    return np.asarray(np.r_[slope * query, slope, _NOTHING_LOGIT], np.float32)
