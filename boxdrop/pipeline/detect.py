"""detect: the images of a run's manifest become parts, a report of each shard, and at last the summary.

A job works on one shard of a run, or on all of them one after the other. It writes only what nobody has
written yet, each object once and whole: it may be killed at any moment, started again, or run twice at the
same time. A part that exists is not computed again; after a kill, at most the parts in flight are.

An image that cannot be used is a record in its part. Whatever the next image would suffer from, too, ends
the job: `UnavailableError` where trying again later may help, `BoxdropError` where somebody has to mend
something.
"""

import contextlib
import resource
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from boxdrop.aws.s3 import Bucket
from boxdrop.detect import Detector
from boxdrop.detect.detector import Provider
from boxdrop.detect.stream import Outcome, StageClock, Stream, Unusable
from boxdrop.errors import BoxdropError, LabelSetError, RunError, UnavailableError
from boxdrop.images import DEFAULT_LIMITS, Limits
from boxdrop.labels import LabelSet
from boxdrop.metrics import (
    COST_PER_THOUSAND,
    CPU_PROVIDER_USED,
    GPU_UTILISATION,
    IMAGES_FAILED,
    IMAGES_PER_SECOND,
    IMAGES_PREDICTED,
    Metric,
)
from boxdrop.predictions import Failure, Prediction, Record, candidates_of, select_boxes
from boxdrop.store.bundles import describe, fetch
from boxdrop.store.labelsets import read_label_set
from boxdrop.store.layout import PartName, problem_key, summary_key
from boxdrop.store.manifests import (
    Manifest,
    ManifestHeader,
    ManifestImage,
    PinnedBundle,
    read_header,
    read_manifest,
)
from boxdrop.store.parts import Part, list_parts, read_part, write_part
from boxdrop.store.reports import (
    LauncherName,
    RunSummary,
    ShardReport,
    ShardWork,
    Stages,
    SummaryBundle,
    list_reports,
    read_report,
    write_report,
    write_summary,
)
from boxdrop.store.tally import Tally, summarise

PROGRESS_S: Final = 10.0
"""Seconds between two lines about progress: CloudWatch keeps, and charges for, every line."""

FETCHERS: Final = 16
"""Objects that are read at once. Reading a photo from S3 takes 20 to 60 ms, mostly of waiting: enough for
some 300 images a second."""

LABELS_REASON: Final = "labels"
"""Why every image of a run fails whose labels the detector cannot take, such as a prompt that is too long."""

_WRITERS = 2
_PARTS_WAITING = 2  # to be written, beside those that are being written
_READERS = 4


class StoppedError(BoxdropError):
    """The job was asked to stop; what it had finished is kept, and another job goes on from there."""


class Stop:
    """Tells a job to end: at once, or when its time is over.

    Args:
        seconds: that it has; None for ever.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._asked = threading.Event()
        self._end = None if seconds is None else time.monotonic() + seconds

    def ask(self) -> None:
        """Let the job end. May be called from a signal handler."""
        self._asked.set()

    def wait(self) -> None:
        """Until it is asked for, or its time is over."""
        self._asked.wait(None if self._end is None else max(0.0, self._end - time.monotonic()))

    def within(self, seconds: float | None) -> "Stop":
        """The same, or sooner when so many seconds are over."""
        nearer = Stop(seconds)
        nearer._asked = self._asked
        return nearer

    @property
    def is_due(self) -> bool:
        """Whether the job has to end."""
        return self._asked.is_set() or (self._end is not None and time.monotonic() >= self._end)

    def check(self) -> None:
        """Raises StoppedError if it is time."""
        if self.is_due:
            raise StoppedError("asked to stop; another job goes on from here")


@dataclass(frozen=True, slots=True)
class Host:
    """Where a job runs, as far as anybody says; see `boxdrop.store.reports.ShardReport`."""

    launcher: LauncherName = "local"
    job_id: str | None = None
    device: str = "unknown"
    instance_type: str | None = None
    spot: bool | None = None
    usd_per_hour: float | None = None


def _no_utilisation() -> float | None:
    """The GPU's utilisation where there is no GPU."""
    return None


class Log:
    """What a job says while it works: events and metrics, each a line. This one says nothing."""

    def event(self, name: str, **fields: Any) -> None:
        """Tell of an event."""

    def metrics(self, values: dict[Metric, float], **dimensions: str) -> None:
        """Give values of metrics that all have these dimensions."""


class Detectors:
    """The detectors that runs pin, from the data bucket. The one used last stays loaded.

    Args:
        data: the data bucket.
        cache: a folder for bundles.
        provider: ``cuda`` or ``cpu``; a detector never runs on another one than this.
        threads: of one run on the processor; None takes all cores.
    """

    def __init__(
        self, data: Bucket, cache: Path, provider: Provider = "cpu", threads: int | None = None
    ) -> None:
        self.data = data
        self.provider: Provider = provider
        self._cache = cache
        self._threads = threads
        self._loaded: Detector | None = None

    @property
    def provider_name(self) -> str:
        """As ONNX Runtime calls it."""
        return {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[self.provider]

    def load(self, pin: PinnedBundle) -> Detector:
        """Have a detector ready.

        Raises:
            BundleError: it is not in the bucket, or its files are not what their sha256 say.
            BoxdropError: CUDA was asked for and cannot be had.
        """
        if self._loaded is None or self._loaded.bundle.digest != pin.digest:
            self._loaded = None  # the memory of the old one is needed for the new one
            bundle = fetch(self.data, describe(self.data, pin.name, pin.digest), self._cache)
            self._loaded = Detector.load(bundle, self.provider, self._threads)
        return self._loaded


class Job:
    """Works on runs, one shard at a time.

    Args:
        data: the data bucket.
        images: gives the bucket of this name.
        detectors: see there.
        host: where it runs.
        log: where it speaks.
        utilisation: of the GPU at this moment, 0 to 1; None where nobody knows.
        limits: bytes and pixels that an image may have.
        batch_size, fetchers: see `boxdrop.detect.stream.Stream`.
    """

    def __init__(
        self,
        data: Bucket,
        images: Callable[[str], Bucket],
        detectors: Detectors,
        host: Host,
        *,
        log: Log | None = None,
        utilisation: Callable[[], float | None] = _no_utilisation,
        limits: Limits = DEFAULT_LIMITS,
        batch_size: int | None = None,
        fetchers: int = FETCHERS,
    ) -> None:
        self.data = data
        self.images = images
        self.detectors = detectors
        self.host = host
        self.log = log or Log()
        self.utilisation = utilisation
        self.limits = limits
        self.batch_size = batch_size
        self.fetchers = fetchers

    def work(
        self,
        run_id: str,
        shard: int | None = None,
        stop: Stop | None = None,
        *,
        started: datetime | None = None,
        job_id: str | None = None,
    ) -> list[ShardReport]:
        """Have all parts of a shard written, and the run's summary if this was the last one.

        Args:
            run_id: the run.
            shard: its number; None works on all of them in turn.
            stop: asks it to end early; then the parts that were begun are finished.
            started: when the job began, for its report; the present by default.
            job_id: what the launcher calls this piece of work; by default, the host's.

        Returns:
            The report of each shard.

        Raises:
            StoppedError: it was asked to stop before everything was there.
            UnavailableError: S3 does not answer.
            BoxdropError: the manifest, labels, detector or device is not there or not right.
        """
        stop = Stop() if stop is None else stop
        header = read_header(self.data, run_id)
        try:
            return self._work_on_all(header, shard, stop, started, job_id)
        except (StoppedError, UnavailableError):
            raise
        except BoxdropError as error:  # AWS Batch reports an exit code only, so the reason is kept here
            with contextlib.suppress(BoxdropError):
                self.data.put(problem_key(run_id), str(error).encode("utf-8", "replace"), "text/plain")
            raise

    def _work_on_all(
        self,
        header: ManifestHeader,
        shard: int | None,
        stop: Stop,
        started: datetime | None,
        job_id: str | None,
    ) -> list[ShardReport]:
        run_id = header.run_id
        reports = []
        for number in range(header.shards) if shard is None else [shard]:
            report = read_report(self.data, run_id, number)
            if report is None:
                report = self._work_on(run_id, number, stop, started or datetime.now(UTC), job_id)
                started = None
            else:
                self.log.event("shard was done before", run_id=run_id, shard=number)
            reports.append(report)
        if not self.data.exists(summary_key(run_id)):
            self._finish_if_complete(header)
        return reports

    def _work_on(
        self, run_id: str, number: int, stop: Stop, started: datetime, job_id: str | None
    ) -> ShardReport:
        stop.check()
        manifest = read_manifest(self.data, run_id, number)
        shard = _Shard(self, manifest, number, stop)
        begun = time.monotonic()
        with _Meter(self.utilisation) as meter:
            parts = shard.compute()
        seconds = time.monotonic() - begun
        shard.count_others()
        rate = shard.computed / seconds if shard.computed else 0.0
        report = write_report(
            self.data,
            ShardReport(
                run_id=run_id,
                work=ShardWork(
                    index=number,
                    started_at=started,
                    finished_at=datetime.now(UTC),
                    images=len(manifest.images),
                    computed=shard.computed,
                    resumed=len(manifest.images) - shard.computed,
                    images_per_s=round(rate, 3),
                    stages=shard.stages,
                    peak_memory_mb=_peak_memory_mb(),
                    gpu_utilisation=meter.mean,
                ),
                counts=shard.tally.counts,
                provider=self.detectors.provider_name,
                device=self.host.device,
                launcher=self.host.launcher,
                job_id=job_id or self.host.job_id,
                instance_type=self.host.instance_type,
                spot=self.host.spot,
                usd_per_hour=self.host.usd_per_hour,
            ),
        )
        self.log.event(
            "shard is done",
            run_id=run_id,
            shard=number,
            parts=parts,
            images=report.work.images,
            computed=shard.computed,
            resumed=report.work.resumed,
            images_per_s=report.work.images_per_s,
            failed=report.counts.failed,
            superseded=report.counts.superseded,
            gone=report.counts.gone,
            peak_memory_mb=report.work.peak_memory_mb,
        )
        if shard.computed:
            self.log.metrics(
                {
                    IMAGES_PER_SECOND: report.work.images_per_s,
                    CPU_PROVIDER_USED: float(self.detectors.provider == "cpu"),
                    **({} if meter.mean is None else {GPU_UTILISATION: round(100 * meter.mean, 1)}),
                }
            )
        return report

    def _finish_if_complete(self, header: ManifestHeader) -> None:
        """Write the summary if every shard has a report, for then every part is there.

        Whoever writes the last report sees all of them, for S3 is consistent.
        """
        if len(list_reports(self.data, header.run_id)) < header.shards:
            return
        summary = self._summary(header)
        if not write_summary(self.data, summary):
            return
        self.log.event(
            "run is done",
            run_id=header.run_id,
            images=summary.images,
            predicted=summary.predicted,
            failed=summary.failed,
            superseded=summary.superseded,
            gone=summary.gone,
            boxes=summary.boxes,
            seconds=summary.seconds,
        )
        if summary.estimated_cost_usd is not None:
            per_thousand = round(1000 * summary.estimated_cost_usd / summary.images, 6)
            self.log.metrics({COST_PER_THOUSAND: per_thousand}, project=header.project)

    def _summary(self, header: ManifestHeader) -> RunSummary:
        bundle = describe(self.data, header.bundle.name, header.bundle.digest)
        with ThreadPoolExecutor(_READERS) as pool:
            numbers = range(header.shards)
            read = pool.map(lambda number: read_report(self.data, header.run_id, number), numbers)
            reports = [report for report in read if report is not None]
        return summarise(
            header,
            SummaryBundle(bundle.name, bundle.digest, bundle.family, bundle.precision),
            read_label_set(self.data, header.labels).caption,
            reports,
        )


@dataclass(frozen=True, slots=True)
class _Item:
    """An image on its way, and the part that it is for."""

    image: ManifestImage
    part: PartName


class _Shard:
    """One shard while a job works on it.

    Attributes:
        computed: images whose part this job has written.
        stages: work by stage so far.
        tally: of the parts that are counted.
    """

    def __init__(self, job: Job, manifest: Manifest, number: int, stop: Stop) -> None:
        self._job = job
        self._manifest = manifest
        self._header = manifest.header
        self._number = number
        self._stop = stop
        self._parts = manifest.header.parts(number)
        self._others: set[PartName] = set()  # that somebody else has written
        self._bucket = job.images(manifest.header.bucket)
        self._clock = StageClock()
        self._label_set: LabelSet | None = None
        self._threshold = 0.0
        self.computed = 0
        self.tally = Tally()

    @property
    def stages(self) -> Stages:
        seconds = self._clock.seconds
        return Stages(**{stage: seconds.get(stage, 0.0) for stage in Stages.__dataclass_fields__})

    def compute(self) -> int:
        """Write the parts that are not there; returns how many.

        Raises:
            StoppedError: there was no time for all of them.
        """
        there = {*list_parts(self._job.data, self._header.project, self._header.run_id)}
        self._others = there.intersection(self._parts)
        missing = [part for part in self._parts if part not in self._others]
        try:
            stream = self._open_stream()
        except LabelSetError as error:  # every attempt would end so: each image gets the reason, once
            return self._fail_all(missing, str(error))
        self._clock = stream.clock
        self._job.log.event(
            "shard begins",
            run_id=self._header.run_id,
            project=self._header.project,
            shard=self._number,
            shards=self._header.shards,
            images=len(self._manifest.images),
            parts=len(self._parts),
            parts_there=len(self._others),
            bundle=f"{self._header.bundle.name}@{self._header.bundle.digest[:16]}",
            provider=self._job.detectors.provider_name,
            device=self._job.host.device,
        )
        written = self._write_all(stream, missing)
        if len(self._others) + written < len(self._parts):
            raise StoppedError(
                f"run {self._header.run_id}, shard {self._number}: asked to stop with "
                f"{len(self._parts) - len(self._others) - written} of {len(self._parts)} parts to go; "
                "another job goes on from here"
            )
        return written

    def count_others(self) -> None:
        """Count the parts that somebody else has written."""
        with ThreadPoolExecutor(_READERS) as pool:
            keys = [part.key for part in sorted(self._others)]
            for part in pool.map(lambda key: read_part(self._job.data, key), keys):
                self.tally.add(part)

    def _open_stream(self) -> Stream[_Item]:
        header = self._header
        label_set = self._label_set = read_label_set(self._job.data, header.labels)
        detector = self._job.detectors.load(header.bundle)
        self._stop.check()
        made = detector.model_version(label_set)
        if made != header.model_version:
            raise RunError(
                f"run {header.run_id}: its manifest says {header.model_version}, but labels and detector "
                f"make {made}; jobs and functions must be of one version of boxdrop"
            )
        detector.thresholds(label_set)  # those that the detector cannot honour are an error now
        detector.embed(label_set)  # so are prompts that it cannot read
        self._threshold = detector.bundle.defaults.threshold
        return Stream(
            detector,
            label_set,
            self._fetch,
            limits=self._job.limits,
            batch_size=self._job.batch_size,
            fetchers=self._job.fetchers,
        )

    def _fail_all(self, missing: Sequence[PartName], message: str) -> int:
        """Write parts in which every image has failed because of the labels; returns how many."""
        header = self._header
        self._job.log.event("labels do not fit the detector", run_id=header.run_id, reason=message)
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
            if write_part(self._job.data, part):
                written += 1
                self.computed += len(records)
                self.tally.add(part)
                self._count(part)
            else:
                self._others.add(name)
        return written

    def _fetch(self, item: _Item) -> bytes:
        return self._bucket.read_version(item.image.key, item.image.version, self._job.limits.max_bytes)

    def _feed(self, missing: Sequence[PartName]) -> Iterator[_Item]:
        for part in missing:
            if self._stop.is_due:
                return
            if self._job.data.exists(part.key):  # another job of this run was here
                self._others.add(part)
                continue
            for image in self._manifest.images_of(part):
                yield _Item(image, part)

    def _write_all(self, stream: Stream[_Item], missing: Sequence[PartName]) -> int:
        written = 0
        waiting: deque[Future[Part | None]] = deque()
        outcomes: list[Outcome[_Item]] = []
        progress = _Progress(self._job.log, self._header.run_id, self._number)

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
            contextlib.closing(stream.outcomes(self._feed(missing))) as arriving,
        ):
            for outcome in arriving:
                outcomes.append(outcome)
                part = outcome.item.part
                if len(outcomes) == part.last - part.first:
                    waiting.append(writers.submit(self._write, part, outcomes))
                    outcomes = []
                    while len(waiting) > _WRITERS + _PARTS_WAITING:
                        settle()
                progress.tell(self.computed + len(outcomes), len(self._manifest.images), stream.clock)
            while waiting:
                settle()
        return written

    def _write(self, name: PartName, outcomes: list[Outcome[_Item]]) -> Part | None:
        """In a thread: write a part; None if somebody else was faster."""
        with self._clock("postprocess"):
            part = self._part(name, outcomes)
        with self._clock("write"):
            if write_part(self._job.data, part):
                return part
        self._others.add(name)
        return None

    def _part(self, name: PartName, outcomes: list[Outcome[_Item]]) -> Part:
        reasons = [outcome.reason if isinstance(outcome, Unusable) else "" for outcome in outcomes]
        if all(reason == "denied" for reason in reasons):
            raise BoxdropError(
                f"s3://{self._header.bucket}: not one of {len(outcomes)} images may be read; let the job's "
                "role read this bucket (s3:GetObject, s3:GetObjectVersion, s3:ListBucket), and use its KMS "
                "key if it has one"
            )
        return Part(
            name,
            tuple(
                self._record(outcome)
                for outcome, reason in zip(outcomes, reasons, strict=True)
                if reason not in ("changed", "gone")
            ),
            superseded=reasons.count("changed"),
            gone=reasons.count("gone"),
        )

    def _record(self, outcome: Outcome[_Item]) -> Record:
        image = outcome.item.image
        name = f"s3://{self._header.bucket}/{image.key}"
        model_version = self._header.model_version
        if isinstance(outcome, Unusable):
            return Failure(
                name,
                image.image_id,
                image.version,
                model_version,
                outcome.reason,
                outcome.message,
                outcome.width,
                outcome.height,
            )
        assert self._label_set is not None
        candidates = candidates_of(outcome.candidates, self._label_set)
        return Prediction(
            image=name,
            image_id=image.image_id,
            version=image.version,
            model_version=model_version,
            width=outcome.width,
            height=outcome.height,
            boxes=select_boxes(candidates, self._label_set, self._threshold),
            candidates=candidates,
        )

    def _count(self, part: Part) -> None:
        failed = sum(isinstance(record, Failure) for record in part.records)
        self._job.log.metrics(
            {IMAGES_PREDICTED: len(part.records) - failed, IMAGES_FAILED: failed},
            project=self._header.project,
        )


class _Progress:
    """A line every some seconds."""

    def __init__(self, log: Log, run_id: str, shard: int) -> None:
        self._log = log
        self._run_id = run_id
        self._shard = shard
        self._started = self._last = time.monotonic()

    def tell(self, done: int, images: int, clock: StageClock) -> None:
        now = time.monotonic()
        if now - self._last < PROGRESS_S:
            return
        self._last = now
        self._log.event(
            "progress",
            run_id=self._run_id,
            shard=self._shard,
            done=done,
            images=images,
            images_per_s=round(done / (now - self._started), 2),
            stages=clock.seconds,
        )


class _Meter:
    """Takes the mean of the GPU's utilisation over the ``with`` block, a look a second."""

    def __init__(self, utilisation: Callable[[], float | None]) -> None:
        self._utilisation = utilisation
        self._sum, self._looks = 0.0, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="boxdrop-meter", daemon=True)

    def __enter__(self) -> "_Meter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def mean(self) -> float | None:
        """0 to 1; None where nobody knows."""
        return round(self._sum / self._looks, 4) if self._looks else None

    def _look(self) -> None:
        while True:
            value = self._utilisation()
            if value is None:
                return
            self._sum += value
            self._looks += 1
            if self._over.wait(1.0):
                return


def _peak_memory_mb() -> float:
    """Most memory that this process has held.

    From Linux itself where it tells: ``ru_maxrss`` of a new program begins with what its parent held.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
