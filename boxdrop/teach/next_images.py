"""Choosing which images of a project to verify next, see `boxdrop.teach.choice`."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.calibration import logit
from boxdrop.aws.s3 import Bucket
from boxdrop.detect.detector import Detector
from boxdrop.detect.families.owl import QUERIES
from boxdrop.detect.features import Features
from boxdrop.detect.sessions import Provider
from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import DEFAULT_LIMITS, decode
from boxdrop.domain.images import Image as Decoded
from boxdrop.domain.labels import LabelSet
from boxdrop.ledger import Image, State
from boxdrop.sources import BucketImages
from boxdrop.store.lessons import read_lesson
from boxdrop.teach.choice import Things, choose, things_of
from boxdrop.teach.guard import UNASKED
from boxdrop.teach.project import labels_in_force, load_detector

if TYPE_CHECKING:
    from boxdrop.services import Services

AMONG: Final = 300
"""Images to choose from, unless the caller wants more: a fair sample of larger projects."""

_LISTED: Final = 10_000
"""Rows read from the ledger for that sample."""

_AT_ONCE: Final = 8  # images that are fetched and decoded ahead of the detector


@dataclass(frozen=True, slots=True)
class NextImages:
    """What to verify next.

    Attributes:
        chosen: the images, the most useful first.
        pool: how many unverified images were looked at.
        verified: how many verified images were looked at, so as not to choose more of the same.
    """

    chosen: tuple[Image, ...]
    pool: int
    verified: int


def choose_next(
    services: "Services",
    project: str,
    count: int,
    provider: Provider = "cpu",
    *,
    among: int = AMONG,
    on_image: Callable[[int], None] | None = None,
) -> NextImages:
    """Choose images that wait for a person, so that a lesson learns most from them. Changes nothing.

    Args:
        services: needs `ledger`, `images` and `data`.
        project: its name.
        count: how many to choose.
        provider: see `Detector.load`.
        among: unverified images to choose from, and at most as many verified ones.
        on_image: called with the number of images read so far.

    Raises:
        LessonError: its detector cannot be taught.
        BoxdropError: there is no such project, or a bucket or the ledger cannot be read.
    """
    row, label_set = labels_in_force(services, project)
    detector = load_detector(services, row, provider)
    if label_set.lesson is not None:
        detector.learn(label_set.lesson, read_lesson(services.data, label_set.lesson))
    done = 0

    def look_at(state: State) -> list[tuple[Image, Things]]:
        nonlocal done
        found = []
        for each in _look(services, detector, label_set, _sample(services, project, state, among)):
            found.append(each)
            done += 1
            if on_image is not None:
                on_image(done)
        return found

    verified, pool = look_at(State.VERIFIED), look_at(State.TASKED)
    places = choose([things for _, things in pool], count, [things for _, things in verified])
    return NextImages(tuple(pool[place][0] for place in places), len(pool), len(verified))


def _sample(services: "Services", project: str, state: State, count: int) -> list[Image]:
    """Images in a state, by chance that is the same every time: an image_id is a hash."""
    rows: list[Image] = []
    cursor: str | None = None
    while len(rows) < _LISTED:
        page = services.ledger.list_images(project, state, cursor=cursor)
        rows += page.rows
        cursor = page.cursor
        if cursor is None:
            break
    return sorted(rows, key=lambda row: row.image_id)[:count]


def _look(
    services: "Services", detector: Detector, label_set: LabelSet, rows: Sequence[Image]
) -> Iterator[tuple[Image, Things]]:
    """Run the detector over images; those that cannot be read are left out."""
    buckets = {services.images.name: BucketImages(services.images)}

    def fetch(row: Image) -> Decoded | None:
        images = buckets.setdefault(row.bucket, BucketImages(Bucket(row.bucket)))
        try:
            source = images.image(row.key, row.version or "", row.image_id)
            return decode(images.fetch(source, DEFAULT_LIMITS), DEFAULT_LIMITS)
        except ImageError:
            return None

    waiting = iter(rows)
    with ThreadPoolExecutor(_AT_ONCE) as workers:
        while some := list(islice(waiting, _AT_ONCE)):
            for row, image in zip(some, workers.map(fetch, some), strict=True):
                if image is not None:
                    size = (image.width, image.height)
                    [features] = detector.features([detector.preprocess(image.pixels)], [size])
                    yield row, things_of(features, margins(detector, label_set, features))


def margins(detector: Detector, label_set: LabelSet, features: Features) -> NDArray[np.float32]:
    """By how many logits the best label of each patch is above its threshold: float32 [N].

    Far below where no label has words or a lesson.
    """
    thresholds = logit(np.array(detector.thresholds(label_set)))[np.array(label_set.prompt_labels)]
    best = np.full(len(features), UNASKED, np.float32)
    for words in detector.embed(label_set):
        logits = features.logits(words.inputs[QUERIES])
        if words.heads is not None:
            logits = words.heads.apply(logits)
        best = np.maximum(best, (logits - thresholds[words.prompts]).max(axis=1))
    return np.asarray(best, np.float32)
