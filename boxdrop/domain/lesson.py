"""A lesson: what verified images taught a frozen detector, as an immutable document.

A taught label has one or more *heads*. For a patch that the detector scores z for a query of unit length and
z0 for a query of zeros, a head with query w, shift a and bias b scores

    ‖w‖ · (z(w / ‖w‖) − z0)  +  a · z0  +  b

and the label's score is that of its best head. Labels that the lesson did not teach keep their words.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from boxdrop.domain.errors import LessonError

Kind = Literal["lesson", "mixed"]
"""``lesson``: fitted weights alone. ``mixed``: the words' logits and the fitted ones, mixed."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How well boxes agree with what people verified, at IoU 0.5 and the thresholds in force, 0 to 1."""

    precision: float
    recall: float
    f1: float
    ap: float | None


@dataclass(frozen=True, slots=True)
class TaughtLabel:
    """A label that the lesson changes.

    Attributes:
        name, id: of the label when it was taught.
        prompts: its prompts then. The lesson counts for a label of exactly these prompts.
        kind: how the heads were made.
        boxes: verified boxes that it was taught from.
        heads: base64 of float32 [heads, width + 2], little-endian: w, a and b of each. See
            `boxdrop.detect.lessons`.
    """

    name: str
    id: int
    prompts: tuple[str, ...]
    kind: Kind
    boxes: int
    heads: str


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """Cross-validated figures of one label: of images that the weights compared had not seen.

    Attributes:
        taught: what the lesson uses for it; ``words`` where they were not clearly worse.
        boxes: verified boxes.
        before, after: with the words, and with what the lesson uses.
    """

    name: str
    taught: Literal["words", "lesson", "mixed"]
    boxes: int
    before: Figures
    after: Figures


@dataclass(frozen=True, slots=True)
class TaughtImage:
    """A verified image that the lesson was fitted to; see `boxdrop.domain.identity`."""

    image_id: str
    version: str


@dataclass(frozen=True, slots=True)
class Lesson:
    """What verified images taught a detector.

    Attributes:
        project: whose images they are.
        bundle: name of the detector.
        bundle_digest: its digest, 64 hexadecimal digits: the lesson fits no other detector.
        width: numbers in a query.
        made_at: when it was taught.
        labels: the taught ones; may be none.
        images: what it was fitted to.
        boxes: verified boxes in them.
        before, after: cross-validated figures over all labels, with the words and with the lesson.
        figures: the same by label.
        previous: the lesson that was in force then, to which ``boxdrop teach --back`` returns.
    """

    project: str
    bundle: str
    bundle_digest: str
    width: int
    made_at: datetime
    labels: tuple[TaughtLabel, ...]
    images: tuple[TaughtImage, ...]
    boxes: int
    before: Figures
    after: Figures
    figures: tuple[LabelFigures, ...]
    previous: str | None = None

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError("width must be 1 or more")


def check_fits(lesson: Lesson, lesson_name: str, bundle: str, bundle_digest: str) -> None:
    """Check that a lesson was taught on a detector.

    Args:
        lesson_name: what the message calls the lesson: its id, or its file.

    Raises:
        LessonError: it was taught on another one.
    """
    if lesson.bundle_digest != bundle_digest:
        raise LessonError(
            f"lesson {lesson_name} was taught on detector {lesson.bundle}@{lesson.bundle_digest[:16]}, not "
            f"on {bundle}@{bundle_digest[:16]}: teach again with this detector, or remove `lesson` from "
            "labels.yaml"
        )
