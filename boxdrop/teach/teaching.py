"""Teaching: verified images in, a lesson out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.detector import Detector
from boxdrop.detect.features import Features
from boxdrop.detect.lessons import encode_heads
from boxdrop.domain.curve import Curve
from boxdrop.domain.errors import LessonError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import LabelFigures, Lesson, TaughtImage, TaughtLabel
from boxdrop.teach.curve import draw_curve
from boxdrop.teach.guard import Verdict, Words, judge
from boxdrop.teach.patches import PATCHES_OF_A_VIEW, VerifiedImage, keep_informative, stack

FEWEST_IMAGES: Final = 5
"""Verified images that teaching needs: cross-validation on fewer says nothing."""

_FRAME: Final = 6
"""Of an image's width and height, the part by which each side of its frame is wide."""


@dataclass(frozen=True, eq=False, slots=True)
class Example:
    """A verified image with its pixels.

    Attributes:
        image_id, version: see `boxdrop.domain.identity`.
        pixels: uint8 [height, width, 3], red green blue, upright.
        boxes: float32 [M, 4], xyxy, upright pixels: what people verified, which may be nothing.
        labels: int64 [M], index of each box's label in the label set.
        deleted: float32 [K, 4], suggestions that people deleted.
    """

    image_id: str
    version: str
    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    deleted: NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class Examined:
    """An example as the fit keeps it: its informative patches instead of its pixels."""

    image: TaughtImage
    verified: VerifiedImage


def examine(
    detector: Detector,
    label_set: LabelSet,
    examples: Iterable[Example],
    on_image: Callable[[int], None] | None = None,
) -> Iterator[Examined]:
    """Run the detector over examples, one after the other, and keep what can teach something.

    Args:
        detector: of the families OWL-ViT or OWLv2.
        label_set: what `Example.labels` counts in.
        examples: may be a stream; one image is in memory at a time.
        on_image: called with the number of images so far.

    Raises:
        LessonError: detectors of this family cannot be taught.
    """
    queries = detector.queries(label_set)
    for count, example in enumerate(examples, 1):
        size = (example.pixels.shape[1], example.pixels.shape[0])
        [whole] = detector.features([detector.preprocess(example.pixels)], [size])
        near = np.concatenate([example.boxes, example.deleted])
        features: Features = keep_informative(whole, near, queries)
        smaller = keep_informative(look_smaller(detector, example.pixels), near, queries, PATCHES_OF_A_VIEW)
        yield Examined(
            TaughtImage(example.image_id, example.version),
            VerifiedImage(features, example.boxes, example.labels, size, (smaller,)),
        )
        if on_image is not None:
            on_image(count)


def look_smaller(detector: Detector, pixels: NDArray[np.uint8]) -> Features:
    """The patches of an image as if everything in it were a quarter smaller.

    The image is framed in its mean colour, a sixth of its size on each side. A second look at what people
    verified costs nobody any work, and the lesson learns that size does not matter.

    Args:
        detector: see `examine`.
        pixels: see `Example`.

    Returns:
        Features whose boxes are in the pixels of the image itself.
    """
    height, width = pixels.shape[:2]
    right, down = width // _FRAME, height // _FRAME
    framed = np.empty((height + 2 * down, width + 2 * right, 3), np.uint8)
    framed[:] = pixels.reshape(-1, 3).mean(axis=0).astype(np.uint8)
    framed[down : down + height, right : right + width] = pixels
    size = (framed.shape[1], framed.shape[0])
    [features] = detector.features([detector.preprocess(framed)], [size])
    return replace(features, boxes=features.boxes - np.array([right, down, right, down], np.float32))


def teach(
    detector: Detector,
    label_set: LabelSet,
    seen: Iterable[Examined],
    *,
    project: str,
    made_at: datetime,
    previous: str | None = None,
) -> Lesson:
    """Fit, guard and calibrate a lesson.

    The same images give the same lesson, to the last bit, on the same machine.

    Args:
        detector, label_set: what is taught, and for which labels.
        seen: what `examine` made of verified images.
        project, made_at, previous: see `Lesson`.

    Raises:
        LessonError: there are too few images.
    """
    taught = teach_with_curve(
        detector, label_set, seen, project=project, made_at=made_at, previous=previous, curve=False
    )
    return taught[0]


def teach_with_curve(
    detector: Detector,
    label_set: LabelSet,
    seen: Iterable[Examined],
    *,
    project: str,
    made_at: datetime,
    previous: str | None = None,
    curve: bool = True,
) -> tuple[Lesson, Curve | None]:
    """As `teach`, with how the lesson got better with the number of images, where there are enough."""
    examples = sorted(seen, key=lambda each: each.image.image_id)
    if len(examples) < FEWEST_IMAGES:
        raise LessonError(
            f"{len(examples)} verified images are too few to teach; verify {FEWEST_IMAGES} or more, "
            "with boxes of every label"
        )
    verified = [each.verified for each in examples]
    words = words_of(detector, label_set)
    patches = stack(verified, len(label_set))
    verdict = judge(verified, patches, words)
    every = np.ones(len(label_set), bool)
    lesson = Lesson(
        project=project,
        bundle=detector.bundle.name,
        bundle_digest=detector.bundle.digest,
        width=detector.width,
        made_at=made_at,
        labels=tuple(_taught(label_set, words, verdict)),
        images=tuple(each.image for each in examples),
        boxes=int(verdict.before.objects.sum()),
        before=verdict.before.figures(words.thresholds, every),
        after=verdict.after.figures(words.thresholds, every),
        figures=tuple(_figures(label_set, words, verdict)),
        previous=previous,
    )
    return lesson, draw_curve(verified, patches, words, verdict) if curve else None


def words_of(detector: Detector, label_set: LabelSet) -> Words:
    """What a detector knows of a label set without a lesson."""
    owners = np.asarray(label_set.prompt_labels)
    asked = ~np.array([label.examples_only for label in label_set])[owners]
    return Words(
        detector.queries(label_set)[asked],
        owners[asked],
        np.array(detector.thresholds(label_set), np.float32),
        detector.bundle.defaults.floor,
    )


def _taught(label_set: LabelSet, words: Words, verdict: Verdict) -> Iterator[TaughtLabel]:
    boxes = verdict.before.objects.sum(axis=0)
    for number, (label, choice) in enumerate(zip(label_set, verdict.choices, strict=True)):
        if choice == "words":
            continue
        fitted = np.r_[
            verdict.heads.queries[number], verdict.heads.shifts[number], verdict.heads.biases[number]
        ]
        if choice == "mixed":
            prompts = words.queries[words.owners == number]
            asked = np.hstack([prompts, np.ones((len(prompts), 1)), np.zeros((len(prompts), 1))])
            heads = asked + verdict.shares[number] * (fitted - asked)
        else:
            heads = fitted[None].copy()
        heads[:, -1] += verdict.biases[number]
        yield TaughtLabel(
            label.name,
            label.id,
            label.prompts,
            choice,
            int(boxes[number]),
            encode_heads(heads.astype(np.float32)),
        )


def _figures(label_set: LabelSet, words: Words, verdict: Verdict) -> Iterator[LabelFigures]:
    boxes = verdict.before.objects.sum(axis=0)
    for number, (label, choice) in enumerate(zip(label_set, verdict.choices, strict=True)):
        only = np.arange(len(label_set)) == number
        yield LabelFigures(
            label.name,
            choice,
            int(boxes[number]),
            verdict.before.figures(words.thresholds, only),
            verdict.after.figures(words.thresholds, only),
        )
