"""From images to records: the one path that `annotate`, the job and the ZenML pipeline share.

    records = RecordStream(detector, label_set, fetch, identify)
    for outcome in records.outcomes(items):
        record = records.record(outcome)       # a Prediction, or a Failure with its reason

`boxdrop.sources` lists and fetches the items; this module knows neither S3 nor files.
"""

from collections.abc import Callable, Generator, Iterable
from typing import Generic, Protocol, TypeVar

from boxdrop.detect.merged import AnyDetector
from boxdrop.detect.stream import Outcome, StageClock, Stream, Unusable
from boxdrop.domain.images import DEFAULT_LIMITS, Image, Limits
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Failure, Prediction, Record, candidates_of, select_boxes

T = TypeVar("T")


class ImageVersion(Protocol):
    """The fields of an image in a record, as in `boxdrop.sources.SourceImage`."""

    @property
    def name(self) -> str:
        """Path below the source folder, or ``s3://bucket/key``."""

    @property
    def image_id(self) -> str:
        """See `boxdrop.domain.identity.image_id`."""

    @property
    def version(self) -> str:
        """Identifies the image's content."""


class RecordStream(Generic[T]):
    """A `Stream` whose outcomes become records.

    Args:
        detector, label_set: the detector, and the labels to detect.
        fetch: reads one item within the limits it is given, see `Stream`.
        identify: the image that an item is about.
        limits: bytes and pixels that an image may have.
        batch_size, workers, fetchers, on_image: see `Stream`. `on_image` is where the copies of images are
            made that browsers show differently (`Image.shown_alike`).

    Attributes:
        model_version: of the records.
        threshold: for labels that set none, the detector's default.

    Raises:
        LabelSetError: no detector knows a label, a threshold is below the detector's floor, or the tiling is
            not possible.
    """

    def __init__(
        self,
        detector: AnyDetector,
        label_set: LabelSet,
        fetch: Callable[[T, Limits], bytes],
        identify: Callable[[T], ImageVersion],
        *,
        limits: Limits = DEFAULT_LIMITS,
        batch_size: int | None = None,
        workers: int | None = None,
        fetchers: int | None = None,
        on_image: Callable[[T, Image], str | None] | None = None,
    ) -> None:
        detector.thresholds(label_set)  # an error now rather than after hours of work
        self.label_set = label_set
        self.model_version = detector.model_version(label_set)
        self.threshold = detector.bundle.defaults.threshold
        self._identify = identify
        self._stream = Stream(
            detector,
            label_set,
            lambda item: fetch(item, limits),
            limits=limits,
            batch_size=batch_size,
            workers=workers,
            fetchers=fetchers,
            on_image=on_image,
        )

    @property
    def clock(self) -> StageClock:
        """Seconds of work by stage so far; add your own stages to it."""
        return self._stream.clock

    def outcomes(self, items: Iterable[T]) -> Generator[Outcome[T], None, None]:
        """Yield one outcome per item, in order; see `Stream.outcomes`."""
        return self._stream.outcomes(items)

    def record(self, outcome: Outcome[T]) -> Record:
        """Turn an outcome into the record of its image. Safe to call from several threads."""
        if isinstance(outcome, Unusable):
            return self.failure(
                self._identify(outcome.item), outcome.reason, outcome.message, outcome.width, outcome.height
            )
        image = self._identify(outcome.item)
        candidates = candidates_of(outcome.candidates, self.label_set)
        return Prediction(
            image=image.name,
            image_id=image.image_id,
            version=image.version,
            model_version=self.model_version,
            width=outcome.width,
            height=outcome.height,
            boxes=select_boxes(candidates, self.label_set, self.threshold),
            candidates=candidates,
            display=outcome.display,
            damaged=outcome.damaged,
        )

    def failure(
        self,
        image: ImageVersion,
        reason: str,
        message: str,
        width: int | None = None,
        height: int | None = None,
    ) -> Failure:
        """Make the record of an image that cannot be used."""
        return Failure(
            image.name, image.image_id, image.version, self.model_version, reason, message, width, height
        )
