"""Teaching from a project: its detector, and its verified images as examples."""

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from boxdrop.assessment.outcomes import Change
from boxdrop.aws.s3 import Bucket
from boxdrop.datasets.items import LeftOut, Why
from boxdrop.detect.detector import Detector
from boxdrop.detect.sessions import Provider
from boxdrop.domain.curve import Curve
from boxdrop.domain.errors import ImageError, LessonError
from boxdrop.domain.images import DEFAULT_LIMITS, Limits, decode
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import Lesson
from boxdrop.review.gathering import find_project
from boxdrop.review.reviewed import Reviewed, read_reviewed
from boxdrop.sources import BucketImages
from boxdrop.store.bundles import describe, fetch
from boxdrop.store.labelsets import read_label_set
from boxdrop.teach.teaching import Example, examine, teach_with_curve

if TYPE_CHECKING:
    from boxdrop.ledger import Project
    from boxdrop.services import Services

_AT_ONCE: Final = 8  # images that are fetched and decoded ahead of the detector


def labels_in_force(services: "Services", project: str) -> "tuple[Project, LabelSet]":
    """A project and the labels that its images are detected with now.

    Raises:
        BoxdropError: there is no such project, or it has no labels yet.
    """
    row, digest = find_project(services, project)
    return row, read_label_set(services.data, digest)


def load_detector(services: "Services", row: "Project", provider: Provider = "cpu") -> Detector:
    """The detector of a project, from the data bucket or this machine's copy.

    Raises:
        BundleError: it is not in the bucket, or damaged.
        LessonError: there are two, which cannot be taught or searched together.
    """
    assert row.bundle_name is not None
    assert row.bundle_digest is not None
    cache = os.environ.get("BOXDROP_BUNDLE_CACHE") or Path(tempfile.gettempdir()) / "boxdrop-bundles"
    ref = describe(services.data, row.bundle_name, row.bundle_digest)
    if ref.parts:
        raise LessonError(
            f"{row.name} uses two detectors ({ref.name}), which cannot be taught or searched by example "
            "together: name one in its labels.yaml (`boxdrop find` also takes --detector)"
        )
    return Detector.load(fetch(services.data, ref, Path(cache)), provider)


def teach_project(
    services: "Services",
    project: str,
    provider: Provider = "cpu",
    *,
    on_image: Callable[[int], None] | None = None,
    on_left_out: Callable[[LeftOut], None] | None = None,
) -> tuple[Lesson, Curve | None]:
    """Fit a lesson to a project's verified images; nothing is stored.

    Args:
        services: needs `ledger`, `images` and `data`.
        project: its name.
        provider: see `Detector.load`.
        on_image: called with the number of images read so far.
        on_left_out: called with each image that teaches nothing.

    Returns:
        The lesson, and how it got better with the number of images.

    Raises:
        LessonError: its detector cannot be taught, or too few images are verified.
        BoxdropError: there is no such project, or a bucket or the ledger cannot be read.
    """
    row, label_set = labels_in_force(services, project)
    detector = load_detector(services, row, provider)
    words = replace(label_set, lesson=None)

    def usable() -> Iterator[Example]:
        for each in read_examples(services, project, label_set):
            if not isinstance(each, LeftOut):
                yield each
            elif on_left_out is not None:
                on_left_out(each)

    return teach_with_curve(
        detector,
        words,
        [*examine(detector, words, usable(), on_image)],
        project=project,
        made_at=services.clock(),
        previous=label_set.lesson,
    )


def read_examples(
    services: "Services", project: str, label_set: LabelSet, limits: Limits = DEFAULT_LIMITS
) -> Iterator[Example | LeftOut]:
    """Stream a project's verified images as examples, or with the reason why they teach nothing.

    Only work on the version that the bucket holds now counts. Some images are read ahead, no more.

    Args:
        services: needs `ledger`, `images` and `data`.
        label_set: what `Example.labels` counts in; boxes of labels that it no longer has are left out.

    Raises:
        BoxdropError: a bucket or the ledger cannot be read.
    """
    numbers = {name: number for number, name in enumerate(label_set.names)}
    buckets = {services.images.name: BucketImages(services.images)}

    def example(each: Reviewed | LeftOut) -> Example | LeftOut:
        if isinstance(each, LeftOut):
            return each
        row = each.row
        images = buckets.setdefault(row.bucket, BucketImages(Bucket(row.bucket)))
        try:
            source = images.image(row.key, each.annotation.version, row.image_id)
            image = decode(images.fetch(source, limits), limits)
        except ImageError as error:
            return LeftOut(row.image_id, row.key, Why.NO_IMAGE, str(error))
        if (image.width, image.height) != (each.annotation.width, each.annotation.height):
            return LeftOut(row.image_id, row.key, Why.OTHER_SIZE)
        drawn = [box for box in each.annotation.boxes if box.label in numbers and _has_area(box.xyxy)]
        offered = () if each.outcomes is None else each.outcomes.offered
        deleted = [box.xyxy for box in offered if box.change == Change.DELETED]
        return Example(
            row.image_id,
            each.annotation.version,
            image.pixels,
            np.array([box.xyxy for box in drawn], np.float32).reshape(-1, 4),
            np.array([numbers[box.label] for box in drawn], np.int64),
            np.array(deleted, np.float32).reshape(-1, 4),
        )

    reviewed = read_reviewed(services, project)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while page := list(islice(reviewed, _AT_ONCE)):
            yield from pool.map(example, page)


def _has_area(xyxy: tuple[float, float, float, float]) -> bool:
    left, top, right, bottom = xyxy
    return right > left and bottom > top
