"""One shard of a run: its missing parts are computed and written.

A shard writes only missing objects, each once and whole: it may be killed at any moment, started again, or
run twice concurrently. Existing parts are not computed again; after a kill, at most the parts in flight are.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from boxdrop.aws.s3 import Bucket
from boxdrop.detect.merged import AnyDetector
from boxdrop.detect.stream import Outcome, StageClock, Unusable
from boxdrop.domain.browsers import display_copy
from boxdrop.domain.detector_names import pinned_name
from boxdrop.domain.errors import BoxdropError, LabelSetError, RunError
from boxdrop.domain.images import DEFAULT_LIMITS, Image, Limits
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Failure
from boxdrop.job.detectors import Detectors
from boxdrop.job.log import Log, Progress
from boxdrop.job.meter import no_utilisation
from boxdrop.job.stop import Stop, StoppedError
from boxdrop.metrics import IMAGES_FAILED, IMAGES_PREDICTED
from boxdrop.records import RecordStream
from boxdrop.sources import BucketImages, SourceImage
from boxdrop.store.labelsets import read_label_set
from boxdrop.store.layout import PartName, display_key
from boxdrop.store.lessons import read_lesson
from boxdrop.store.manifests import Manifest
from boxdrop.store.parts import Part, list_parts, read_part, write_part
from boxdrop.store.reports import Stages
from boxdrop.store.tally import Tally
from boxdrop.store.write_once import write_once

FETCHERS: Final = 16
"""Objects that are read at once. Reading a photo from S3 takes 20 to 60 ms, mostly spent waiting: 16 are
enough for about 300 images per second."""

LABELS_REASON: Final = "labels"
"""Why every image of a run fails whose labels the detector cannot take, such as a prompt that is too long."""

_WRITERS: Final = 2
_PARTS_WAITING: Final = 2  # to be written, beside those that are being written
_READERS: Final = 4


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a job works with; the same for all shards.

    Attributes:
        data: the data bucket.
        images: opens an image bucket by name.
        detectors: loads what runs pin.
        device: the GPU's or processor's name, for the log.
        log: where it reports.
        utilisation: of the GPU now, 0 to 1; None where it is not known.
        limits: bytes and pixels that an image may have.
        batch_size, fetchers: see `boxdrop.detect.stream.Stream`.
    """

    data: Bucket
    images: Callable[[str], Bucket]
    detectors: Detectors
    device: str
    log: Log
    utilisation: Callable[[], float | None] = no_utilisation
    limits: Limits = DEFAULT_LIMITS
    batch_size: int | None = None
    fetchers: int = FETCHERS


@dataclass(frozen=True, slots=True)
class _Item:
    """An image on its way, and the part that it belongs to."""

    image: SourceImage
    part: PartName


class Shard:
    """One shard while a job works on it.

    Args:
        equipment: what to work with.
        manifest: the shard's lines.
        number: the shard's index.
        stop: ends the work early.

    Attributes:
        computed: images whose part this job has written.
        tally: of the parts that are counted.
    """

    def __init__(self, equipment: Equipment, manifest: Manifest, number: int, stop: Stop) -> None:
        self._with = equipment
        self._manifest = manifest
        self._header = manifest.header
        self._number = number
        self._stop = stop
        self._parts = manifest.header.parts(number)
        self._others: set[PartName] = set()  # parts that another job has written
        self._images = BucketImages(equipment.images(manifest.header.bucket))
        self._clock = StageClock()
        self.computed = 0
        self.tally = Tally()

    @property
    def stages(self) -> Stages:
        """Seconds of work by stage so far."""
        seconds = self._clock.seconds
        return Stages(**{stage: seconds.get(stage, 0.0) for stage in Stages.__dataclass_fields__})

    def compute(self) -> int:
        """Write the missing parts; returns how many.

        Raises:
            StoppedError: it was asked to stop before all of them were written.
        """
        own = {*self._parts}
        present = list_parts(self._with.data, self._header.project, self._header.run_id)
        self._others = {part for part in present if part in own}  # as listed: their keys may be earlier ones
        missing = [part for part in self._parts if part not in self._others]
        detector, label_set = self._load()
        try:
            records = self._open_records(detector, label_set)
        except LabelSetError as error:  # every attempt would fail the same way: record the reason once
            return self._fail_all(missing, str(error))
        self._clock = records.clock
        self._with.log.event(
            "shard begins",
            run_id=self._header.run_id,
            project=self._header.project,
            shard=self._number,
            shards=self._header.shards,
            images=len(self._manifest.images),
            parts=len(self._parts),
            parts_there=len(self._others),
            bundle=pinned_name(self._header.bundle.name, self._header.bundle.digest),
            provider=self._with.detectors.provider_name,
            device=self._with.device,
        )
        written = self._write_all(records, missing)
        if len(self._others) + written < len(self._parts):
            raise StoppedError(
                f"run {self._header.run_id}, shard {self._number}: asked to stop with "
                f"{len(self._parts) - len(self._others) - written} of {len(self._parts)} parts to go; "
                "another job continues from here"
            )
        return written

    def count_others(self) -> None:
        """Count the parts that other jobs have written."""
        with ThreadPoolExecutor(_READERS) as pool:
            keys = [part.key for part in sorted(self._others)]
            for part in pool.map(lambda key: read_part(self._with.data, key), keys):
                self.tally.add(part)

    def _load(self) -> tuple[AnyDetector, LabelSet]:
        """Load what the manifest pins; whatever is missing or altered here ends the job."""
        header = self._header
        label_set = read_label_set(self._with.data, header.labels)
        detector = self._with.detectors.load(header.bundle)
        if label_set.lesson is not None:
            detector.learn(label_set.lesson, read_lesson(self._with.data, label_set.lesson))
        self._stop.check()
        made = detector.model_version(label_set)
        if made != header.model_version:
            raise RunError(
                f"run {header.run_id}: its manifest says {header.model_version}, but labels and detector "
                f"make {made}; jobs and functions must be of one version of boxdrop"
            )
        return detector, label_set

    def _open_records(self, detector: AnyDetector, label_set: LabelSet) -> RecordStream[_Item]:
        """Raises LabelSetError if the detector cannot take these labels."""
        detector.embed(label_set)  # prompts that are too long are an error now
        return RecordStream(
            detector,
            label_set,
            lambda item, limits: self._images.fetch(item.image, limits),
            lambda item: item.image,
            limits=self._with.limits,
            batch_size=self._with.batch_size,
            fetchers=self._with.fetchers,
            on_image=self._write_display_copy,
        )

    def _write_display_copy(self, item: _Item, image: Image) -> str | None:
        """In a thread: write what people see of an image that a browser would show differently, once."""
        if image.shown_alike:
            return None
        key = display_key(self._header.project, item.image.image_id, item.image.version)
        with self._clock("write"):
            if not self._with.data.exists(key):  # a run with other labels needs the same one
                write_once(self._with.data, key, display_copy(image.pixels), "image/jpeg")
        return key

    def _fail_all(self, missing: Sequence[PartName], message: str) -> int:
        """Write parts in which every image has failed because of the labels; returns how many."""
        header = self._header
        self._with.log.event("labels do not fit the detector", run_id=header.run_id, reason=message)
        written = 0
        for name in missing:
            self._stop.check()
            records = tuple(
                Failure(
                    f"s3://{header.bucket}/{image.key}",
                    image.image_id,
                    image.version,
                    header.model_version,
                    LABELS_REASON,
                    message,
                )
                for image in self._manifest.images_of(name)
            )
            part = Part(name, records)
            if write_part(self._with.data, part):
                written += 1
                self.computed += len(records)
                self.tally.add(part)
                self._count(part)
            else:
                self._others.add(name)
        return written

    def _feed(self, missing: Sequence[PartName]) -> Iterator[_Item]:
        for part in missing:
            if self._stop.is_due:
                return
            if self._with.data.exists(part.key):  # another job of this run wrote it
                self._others.add(part)
                continue
            for image in self._manifest.images_of(part):
                yield _Item(self._images.image(image.key, image.version, image.image_id), part)

    def _write_all(self, records: RecordStream[_Item], missing: Sequence[PartName]) -> int:
        written = 0
        waiting: deque[Future[Part | None]] = deque()
        outcomes: list[Outcome[_Item]] = []
        progress = Progress(self._with.log, self._header.run_id, self._number)

        def settle() -> None:
            nonlocal written
            part = waiting.popleft().result()
            if part is None:
                return
            written += 1
            self.computed += part.name.last - part.name.first
            self.tally.add(part)
            self._count(part)

        with (
            ThreadPoolExecutor(_WRITERS, "boxdrop-write") as writers,
            contextlib.closing(records.outcomes(self._feed(missing))) as arriving,
        ):
            for outcome in arriving:
                outcomes.append(outcome)
                part = outcome.item.part
                if len(outcomes) == part.last - part.first:
                    waiting.append(writers.submit(self._write, records, part, outcomes))
                    outcomes = []
                    while len(waiting) > _WRITERS + _PARTS_WAITING:
                        settle()
                progress.report(self.computed + len(outcomes), len(self._manifest.images), self._clock)
            while waiting:
                settle()
        return written

    def _write(
        self, records: RecordStream[_Item], name: PartName, outcomes: list[Outcome[_Item]]
    ) -> Part | None:
        """Write a part, in a thread; None if another job was first."""
        with self._clock("postprocess"):
            part = self._part(records, name, outcomes)
        with self._clock("write"):
            if write_part(self._with.data, part):
                return part
        self._others.add(name)
        return None

    def _part(self, records: RecordStream[_Item], name: PartName, outcomes: list[Outcome[_Item]]) -> Part:
        reasons = [outcome.reason if isinstance(outcome, Unusable) else "" for outcome in outcomes]
        if all(reason == "denied" for reason in reasons):
            raise BoxdropError(
                f"s3://{self._header.bucket}: none of {len(outcomes)} images may be read; let the job's "
                "role read this bucket (s3:GetObject, s3:GetObjectVersion, s3:ListBucket), and use its KMS "
                "key if it has one"
            )
        return Part(
            name,
            tuple(
                records.record(outcome)
                for outcome, reason in zip(outcomes, reasons, strict=True)
                if reason not in ("changed", "gone")
            ),
            superseded=reasons.count("changed"),
            gone=reasons.count("gone"),
        )

    def _count(self, part: Part) -> None:
        failed = sum(isinstance(record, Failure) for record in part.records)
        self._with.log.metrics(
            {IMAGES_PREDICTED: len(part.records) - failed, IMAGES_FAILED: failed},
            project=self._header.project,
        )
