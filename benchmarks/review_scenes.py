"""Drawn scenes with true boxes and what the demo detector found in them: the material of the review studies.

The scenes are those of `model_export.demo`: icons in styles that the detector was trained on ("known") or in
one that it never saw ("unseen"), other seeds, other backgrounds. What was found is kept in a folder, since
drawing and detecting 1,000 scenes takes a few minutes.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.calibration import logit, sigmoid
from boxdrop.assessment.evidence import Evidence
from boxdrop.demo import BUNDLE
from boxdrop.detect import Detector
from boxdrop.domain.detections import Boxes, Detections
from boxdrop.domain.labels import LabelSet
from boxdrop.home import home
from model_export.demo.art import TRAINED_STYLES, UNSEEN_STYLES
from model_export.demo.evaluate import draw_set, relabel
from model_export.demo.names import names
from model_export.demo.scenes import EVALUATION, EVALUATION_PHOTOS, FRUITS, load_art

FLOOR = 0.02
DEFAULT = 0.5
STYLES = ("known", "unseen")
LABEL_SETS = {"fruits": tuple(FRUITS), "all": tuple(range(len(names())))}

_LOW = 0.002
"""Candidates are kept this far down, so that a constant can be added to a label's logits afterwards."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What was found in one scene, and what is there.

    Attributes:
        found: candidates with scores from `_LOW`.
        boxes, labels: float32 [M, 4], xyxy pixels, and int64 [M].
        size: width and height.
    """

    found: Detections
    boxes: Boxes
    labels: NDArray[np.int64]
    size: tuple[int, int]

    def evidence(self, offsets: NDArray[np.floating] | None = None) -> Evidence:
        """As a verified image, with one constant per label added to the logits of the scores."""
        found = self.found
        added = np.zeros(1 + int(found.labels.max(initial=0))) if offsets is None else offsets
        scores = sigmoid(logit(found.scores) + added[found.labels]).astype(np.float32)
        kept = scores >= FLOOR
        shifted = Detections(found.boxes, scores, found.labels, found.prompts, found.queries).take(kept)
        return Evidence.of("", shifted, self.boxes, self.labels)


def scenes(style: str, label_set: str, seed: int, count: int) -> list[Scene]:
    """The scenes of a seed, from the folder ``review-studies`` where they were drawn before.

    Args:
        style: ``known`` or ``unseen``.
        label_set: ``fruits`` (16 labels) or ``all`` (120).
    """
    cache = home() / "review-studies" / f"{style}-{label_set}-{seed}-{count}.pickle"
    if cache.is_file():
        kept: list[Scene] = pickle.loads(cache.read_bytes())
        return kept
    ids = LABEL_SETS[label_set]
    asked = LabelSet.from_short_form(", ".join(names()[each].text for each in ids))
    detector = Detector.load(BUNDLE, threads=1)
    styles = TRAINED_STYLES if style == "known" else UNSEEN_STYLES
    art = load_art(_training_folder(), styles, EVALUATION_PHOTOS, 256)
    numbers = {each: place for place, each in enumerate(ids)}
    drawn = []
    for scene in draw_set(art, EVALUATION, seed, count):
        height, width = scene.image.shape[:2]
        pixels = detector.preprocess(scene.image)[None]
        found = detector.candidates(pixels, [(width, height)], asked, floor=_LOW)[0]
        (truth,) = relabel([scene], numbers)
        drawn.append(
            Scene(
                found,
                truth.boxes.astype(np.float32),
                truth.labels.astype(np.int64),
                (width, height),
            )
        )
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_bytes(pickle.dumps(drawn))
    return drawn


def _training_folder() -> Path:
    return home() / "demo-training"
