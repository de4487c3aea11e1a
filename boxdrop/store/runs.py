"""Runs: a manifest of images, the parts that a job makes of it, and what the job reports.

All of it is objects in the data bucket, each written once. `docs/runs.md` describes them for readers.

    runs/RUN/manifest.jsonl                        the images of a run; `Manifest`
    predictions/PROJECT/RUN/part-FIRST-LAST.jsonl  what was found in lines FIRST to LAST; `Part`
    runs/RUN/shards/INDEX.json                     what one job, or one of an array, did; `ShardReport`
    runs/RUN/summary.json                          the whole run; `RunSummary`

A part holds the records of `boxdrop.predictions`, one for each image that was still what the manifest says.
Images that were overwritten or deleted in the meantime have none; the part's metadata counts them.
"""

import hashlib
import heapq
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Final, Literal, TypeVar

from boxdrop.aws.s3 import Bucket, Put
from boxdrop.errors import PredictionError, RunError
from boxdrop.predictions import Failure, Prediction, Record
from boxdrop.predictions import from_json as record_from_json
from boxdrop.predictions import to_json as record_to_json
from boxdrop.store.documents import DocumentError, from_json, to_json

MANIFEST_FORMAT: Final = "boxdrop-manifest/1"
SHARD_FORMAT: Final = "boxdrop-shard/1"
SUMMARY_FORMAT: Final = "boxdrop-summary/1"

PART_IMAGES: Final = 128
SCORE_BINS: Final = 20
"""Bins of a score histogram, each 0.05 wide; the last one holds 1.0 too."""
SAMPLES: Final = 12
_SAMPLE_BOXES = 50
_WRITE_ATTEMPTS = 6

Launcher = Literal["batch", "sagemaker", "local"]
T = TypeVar("T")

_RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
_PART_KEY = re.compile(rf"predictions/(.+)/({_RUN_ID.pattern})/part-(\d{{8}})-(\d{{8}})\.jsonl")
_SUMMARY_KEY = re.compile(rf"runs/({_RUN_ID.pattern})/summary\.json")


def new_run_id(now: datetime | None = None) -> str:
    """``YYYYMMDDTHHMMSSZ-<8 hexadecimal digits>``: text order is time order."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def check_run_id(run_id: str) -> str:
    """Give back a run's id if it is one: it comes from outside, and goes into keys.

    Raises:
        RunError: it is not.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise RunError(f"{run_id!r} is no run id; they look like 20261124T215700Z-0123abcd")
    return run_id


def manifest_key(run_id: str) -> str:
    """Key of a run's manifest."""
    return f"runs/{run_id}/manifest.jsonl"


def shard_key(run_id: str, index: int) -> str:
    """Key of a shard's report."""
    return f"runs/{run_id}/shards/{index:05}.json"


def summary_key(run_id: str) -> str:
    """Key of a run's summary."""
    return f"runs/{run_id}/summary.json"


def run_of_summary_key(key: str) -> str | None:
    """The run that a summary's key names; None for other keys."""
    found = _SUMMARY_KEY.fullmatch(key)
    return found[1] if found else None


@dataclass(frozen=True, slots=True, order=True)
class PartName:
    """Which lines of which manifest a part is about: `first` to before `last`, from 0."""

    project: str
    run_id: str
    first: int
    last: int

    @property
    def key(self) -> str:
        """The part's key."""
        return f"{parts_prefix(self.project, self.run_id)}part-{self.first:08}-{self.last:08}.jsonl"

    @classmethod
    def from_key(cls, key: str) -> "PartName | None":
        """Read a key; None if it is not a part's. A project's name may hold slashes."""
        found = _PART_KEY.fullmatch(key)
        return cls(found[1], found[2], int(found[3]), int(found[4])) if found else None


def parts_prefix(project: str, run_id: str) -> str:
    """What the keys of a run's parts begin with."""
    return f"predictions/{project}/{run_id}/"


@dataclass(frozen=True, slots=True)
class PinnedBundle:
    """The detector that a run uses; `digest` is `boxdrop.detect.Bundle.digest`, 64 hexadecimal digits."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class ManifestHeader:
    """The first line of a manifest: what to do with the images of the others.

    Attributes:
        project: their project's name.
        bucket: that they are in.
        generation: of the project's labels, see `boxdrop.ledger`.
        labels: sha256 of the label set's snapshot, ``labelsets/<sha256>.yaml``.
        model_version: that the records will carry; the job compares it with its detector's.
        images: how many lines follow.
        part_images: lines a part; the last part may have fewer.
        shard_images: lines a shard, a multiple of `part_images`.
    """

    run_id: str
    project: str
    bucket: str
    generation: int
    labels: str
    bundle: PinnedBundle
    model_version: str
    images: int
    created_at: datetime
    part_images: int = PART_IMAGES
    shard_images: int = 16 * PART_IMAGES

    def __post_init__(self) -> None:
        if not _RUN_ID.fullmatch(self.run_id):
            raise ValueError(f"run_id is {self.run_id!r}; use new_run_id()")
        if min(self.images, self.part_images, self.shard_images) < 1:
            raise ValueError("images, part_images and shard_images must be 1 or more")
        if self.shard_images % self.part_images:
            raise ValueError(
                f"shard_images ({self.shard_images}) must be a multiple of part_images ({self.part_images})"
            )

    @property
    def shards(self) -> int:
        """How many jobs it takes."""
        return -(-self.images // self.shard_images)

    def parts(self, shard: int | None = None) -> list[PartName]:
        """The parts of one shard, or of all."""
        begin, end = self.lines(shard)
        return [
            PartName(self.project, self.run_id, first, min(first + self.part_images, end))
            for first in range(begin, end, self.part_images)
        ]

    def lines(self, shard: int | None = None) -> tuple[int, int]:
        """First line, and line after the last, of one shard or of all."""
        if shard is None:
            return 0, self.images
        begin = shard * self.shard_images
        if not 0 <= begin < self.images:
            raise RunError(
                f"run {self.run_id} has {self.shards} shards, numbered from 0; there is no {shard}"
            )
        return begin, min(begin + self.shard_images, self.images)


@dataclass(frozen=True, slots=True)
class ManifestImage:
    """A line of a manifest; `version` as `boxdrop.predictions.object_version` gives it."""

    image_id: str
    key: str
    version: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest, or the lines of it that one shard needs.

    Attributes:
        first: the line number of the first of `images`.
    """

    header: ManifestHeader
    images: tuple[ManifestImage, ...]
    first: int = 0

    def images_of(self, part: PartName) -> tuple[ManifestImage, ...]:
        """The images that a part is about."""
        return self.images[part.first - self.first : part.last - self.first]


def write_manifest(bucket: Bucket, header: ManifestHeader, images: Iterable[ManifestImage]) -> None:
    """Write a run's manifest, once. A second try with the same content is harmless.

    Raises:
        RunError: there are fewer or more images than the header says, or the run has another manifest.
    """
    lines = [to_json(header, format=MANIFEST_FORMAT), *(to_json(image) for image in images)]
    if len(lines) != header.images + 1:
        raise RunError(f"run {header.run_id}: {len(lines) - 1} images, but its header says {header.images}")
    body = ("\n".join(lines) + "\n").encode()
    stored = _create(bucket, manifest_key(header.run_id), body, "application/x-ndjson")
    if stored != body:
        raise RunError(f"run {header.run_id} has another manifest already; take a new run_id")


def read_manifest(bucket: Bucket, run_id: str, shard: int | None = None) -> Manifest:
    """Read a manifest, holding in memory only what is asked for.

    Args:
        bucket: the data bucket.
        run_id: the run.
        shard: only the lines of this shard; None for all.

    Raises:
        RunError: there is none, it is not valid, or it has no such shard.
    """
    key = manifest_key(check_run_id(run_id))
    lines = bucket.lines(key)
    if lines is None:
        raise RunError(f"s3://{bucket.name}/{key}: there is no such manifest")
    where = f"s3://{bucket.name}/{key}"
    first_line = next(lines, b"")
    header = _read(ManifestHeader, first_line, f"{where}: line 1", MANIFEST_FORMAT)
    if header.run_id != run_id:
        raise RunError(f"{where}: is the manifest of run {header.run_id}")
    begin, end = header.lines(shard)
    images = tuple(
        _read(ManifestImage, line, f"{where}: line {number + 2}")
        for number, line in enumerate(islice(lines, begin, end), begin)
    )
    if len(images) != end - begin:
        raise RunError(f"{where}: ends after {begin + len(images)} of {header.images} images")
    return Manifest(header, images, begin)


def read_header(bucket: Bucket, run_id: str) -> ManifestHeader:
    """Read the first line of a manifest.

    Raises:
        RunError: there is no manifest, or it is not valid.
    """
    key = manifest_key(check_run_id(run_id))
    lines = bucket.lines(key)
    if lines is None:
        raise RunError(f"s3://{bucket.name}/{key}: there is no such manifest")
    return _read(ManifestHeader, next(lines, b""), f"s3://{bucket.name}/{key}: line 1", MANIFEST_FORMAT)


@dataclass(frozen=True, slots=True)
class Part:
    """What came of some lines of a manifest.

    Attributes:
        records: in the manifest's order.
        superseded, gone: images that were overwritten or deleted before the job read them: no record.
    """

    name: PartName
    records: tuple[Record, ...]
    superseded: int = 0
    gone: int = 0


def write_part(bucket: Bucket, part: Part) -> bool:
    """Write a part, once.

    Returns:
        whether this call wrote it; False where it was there already.
    """
    lines = "".join(record_to_json(record) + "\n" for record in part.records)
    metadata = {"superseded": str(part.superseded), "gone": str(part.gone)}
    return _create_once(bucket, part.name.key, lines.encode(), "application/x-ndjson", metadata)


def read_part(bucket: Bucket, key: str) -> Part:
    """Read a part.

    Raises:
        RunError: the key is not a part's, there is none, or it is not valid.
    """
    name = PartName.from_key(key)
    if name is None:
        raise RunError(f"{key}: is not the key of a part")
    stored = bucket.get(key)
    if stored is None:
        raise RunError(f"s3://{bucket.name}/{key}: there is no such part")
    try:
        records = tuple(
            record_from_json(line, f"s3://{bucket.name}/{key}: line {number}")
            for number, line in enumerate(stored.body.splitlines(), 1)
        )
        counts = [int(stored.metadata.get(word, "0")) for word in ("superseded", "gone")]
    except (PredictionError, ValueError) as error:
        raise RunError(str(error)) from None
    return Part(name, records, *counts)


def list_parts(bucket: Bucket, project: str, run_id: str) -> Iterator[PartName]:
    """The parts of a run that are there, in order."""
    for listed in bucket.list(parts_prefix(project, run_id)):
        name = PartName.from_key(listed.key)
        if name is not None:
            yield name


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds of work by stage, summed over threads: more than the time that passed, where several worked."""

    fetch: float = 0.0
    decode: float = 0.0
    preprocess: float = 0.0
    detect: float = 0.0
    postprocess: float = 0.0
    write: float = 0.0


@dataclass(frozen=True, slots=True)
class ShardWork:
    """How a shard's work went, as the run's summary tells it.

    Attributes:
        images: lines of the shard.
        computed, resumed: of these, done by this job, and found done.
        images_per_s: computed ones, over the seconds from the first to the last; 0 if there were none.
        peak_memory_mb: the process's largest resident size.
        gpu_utilisation: mean, 0 to 1, sampled while it worked; None without NVML.
    """

    index: int
    started_at: datetime
    finished_at: datetime
    images: int
    computed: int
    resumed: int
    images_per_s: float
    stages: Stages
    peak_memory_mb: float
    gpu_utilisation: float | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.finished_at - self.started_at).total_seconds()


@dataclass(frozen=True, slots=True)
class SampleBox:
    """A box of a sample, in upright pixels."""

    label: str
    score: float
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """An image that shows what the run found: at most 50 boxes, best first."""

    key: str
    version: str
    width: int
    height: int
    boxes: tuple[SampleBox, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """What came of some images of a run.

    Attributes:
        superseded, gone: overwritten or deleted before the job read them.
        boxes_by_label, score_histograms: of the boxes that passed the thresholds of the run's labels. A
            histogram has `SCORE_BINS` counts.
        samples: at most `SAMPLES`, see `Tally`.
    """

    predicted: int = 0
    failed: int = 0
    superseded: int = 0
    gone: int = 0
    boxes_by_label: Mapping[str, int] = field(default_factory=dict)
    score_histograms: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    failures_by_reason: Mapping[str, int] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()

    @property
    def images(self) -> int:
        """All of them."""
        return self.predicted + self.failed + self.superseded + self.gone


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What a job says after the last part of a shard is there.

    Attributes:
        work, counts: see there. The counts are of the whole shard, whoever made its parts.
        provider: ONNX Runtime's execution provider that the detector ran on.
        device: the GPU's name, or the processor's.
        launcher, job_id: who started the job, and its id there.
        instance_type: such as ``g4dn.xlarge``; None where nobody says.
        spot: whether it is a Spot instance; None where nobody says.
        usd_per_hour: the instance's price, where the deployment gives it.
    """

    run_id: str
    work: ShardWork
    counts: Counts
    provider: str
    device: str
    launcher: Launcher
    job_id: str | None = None
    instance_type: str | None = None
    spot: bool | None = None
    usd_per_hour: float | None = None


def write_report(bucket: Bucket, report: ShardReport) -> ShardReport:
    """Write a shard's report; gives back the first one, should there be one already."""
    key = shard_key(report.run_id, report.work.index)
    body = to_json(report, format=SHARD_FORMAT).encode()
    return _read(ShardReport, _create(bucket, key, body), f"s3://{bucket.name}/{key}", SHARD_FORMAT)


def read_report(bucket: Bucket, run_id: str, index: int) -> ShardReport | None:
    """Read a shard's report; None if there is none yet.

    Raises:
        RunError: it is not valid.
    """
    key = shard_key(check_run_id(run_id), index)
    stored = bucket.get(key)
    if stored is None:
        return None
    return _read(ShardReport, stored.body, f"s3://{bucket.name}/{key}", SHARD_FORMAT)


@dataclass(frozen=True, slots=True)
class SummaryBundle:
    """The detector that a run used."""

    name: str
    digest: str
    family: str
    precision: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A whole run, once all of its parts are there.

    Attributes:
        labels: sha256 of the label set's snapshot; `caption` is the label set's.
        provider, device: as in `ShardReport`; where shards differ, all of them with commas between.
        images: lines of the manifest = predicted + failed + superseded + gone.
        boxes and below: see `Counts`.
        parts: their keys, in order.
        started_at, finished_at: of the first shard to start and the last to finish; `seconds` lie between.
        gpu_seconds: sum over shards of the time that each took; attempts that were killed are not in it.
        estimated_cost_usd: `gpu_seconds` at the instances' price; None where a price is not known.
    """

    run_id: str
    project: str
    bucket: str
    generation: int
    labels: str
    caption: str | None
    model_version: str
    bundle: SummaryBundle
    provider: str
    device: str
    images: int
    predicted: int
    failed: int
    superseded: int
    gone: int
    boxes: int
    boxes_by_label: Mapping[str, int]
    score_histograms: Mapping[str, tuple[int, ...]]
    failures_by_reason: Mapping[str, int]
    parts: tuple[str, ...]
    samples: tuple[Sample, ...]
    launcher: Launcher
    job_ids: tuple[str, ...]
    instance_type: str | None
    spot: bool | None
    shards: tuple[ShardWork, ...]
    created_at: datetime
    started_at: datetime
    finished_at: datetime
    seconds: float
    gpu_seconds: float
    estimated_cost_usd: float | None


def write_summary(bucket: Bucket, summary: RunSummary) -> bool:
    """Write a run's summary, once.

    Returns:
        whether this call wrote it; False where another job was first.
    """
    body = to_json(summary, format=SUMMARY_FORMAT).encode()
    return _create_once(bucket, summary_key(summary.run_id), body)


def read_summary(bucket: Bucket, run_id: str) -> RunSummary | None:
    """Read a run's summary; None if the run is not finished.

    Raises:
        RunError: it is not valid.
    """
    key = summary_key(check_run_id(run_id))
    stored = bucket.get(key)
    if stored is None:
        return None
    return summary_from_json(stored.body, f"s3://{bucket.name}/{key}")


def list_reports(bucket: Bucket, run_id: str) -> list[int]:
    """Which shards of a run have a report, in order."""
    prefix = f"runs/{check_run_id(run_id)}/shards/"
    names = (listed.key.removeprefix(prefix).removesuffix(".json") for listed in bucket.list(prefix))
    return [int(name) for name in names if name.isdecimal()]


def summary_from_json(text: str | bytes, where: str = "summary") -> RunSummary:
    """Read and check the text of a summary.

    Raises:
        RunError: naming `where` and the field.
    """
    return _read(RunSummary, text, where, SUMMARY_FORMAT)


class Tally:
    """Counts parts as they come, in memory that does not grow with the number of images.

    Samples are images with boxes, if there are any, and the first ones by a hash of their keys: the same
    choice, however a run is split and in whichever order its parts are counted.
    """

    def __init__(self) -> None:
        self._images: Counter[str] = Counter()  # by outcome
        self._boxes: Counter[str] = Counter()
        self._histograms: dict[str, list[int]] = {}
        self._failures: Counter[str] = Counter()
        self._samples: list[Sample] = []

    def add(self, part: Part) -> None:
        """Count one part."""
        self._images.update(superseded=part.superseded, gone=part.gone)
        predictions = []
        for record in part.records:
            if isinstance(record, Failure):
                self._images["failed"] += 1
                self._failures[record.reason] += 1
            else:
                predictions.append(record)
                self._add_boxes(record)
        self._images["predicted"] += len(predictions)
        best = heapq.nsmallest(SAMPLES, predictions, key=lambda each: (not each.boxes, _hash(_key(each))))
        self._choose(_sample(prediction) for prediction in best)

    def merge(self, counts: Counts) -> None:
        """Add what was counted elsewhere."""
        self._images.update(
            predicted=counts.predicted, failed=counts.failed, superseded=counts.superseded, gone=counts.gone
        )
        self._boxes.update(counts.boxes_by_label)
        self._failures.update(counts.failures_by_reason)
        for label, histogram in counts.score_histograms.items():
            known = self._histograms.setdefault(label, [0] * SCORE_BINS)
            self._histograms[label] = [a + b for a, b in zip(known, histogram, strict=True)]
        self._choose(counts.samples)

    @property
    def counts(self) -> Counts:
        """What was counted so far."""
        return Counts(
            predicted=self._images["predicted"],
            failed=self._images["failed"],
            superseded=self._images["superseded"],
            gone=self._images["gone"],
            boxes_by_label=dict(sorted(self._boxes.items())),
            score_histograms={label: tuple(self._histograms[label]) for label in sorted(self._histograms)},
            failures_by_reason=dict(sorted(self._failures.items())),
            samples=tuple(self._samples),
        )

    def _add_boxes(self, prediction: Prediction) -> None:
        for box in prediction.boxes:
            self._boxes[box.label] += 1
            histogram = self._histograms.setdefault(box.label, [0] * SCORE_BINS)
            histogram[min(SCORE_BINS - 1, int(box.score * SCORE_BINS))] += 1

    def _choose(self, more: Iterable[Sample]) -> None:
        self._samples = heapq.nsmallest(
            SAMPLES, [*self._samples, *more], key=lambda each: (not each.boxes, _hash(each.key))
        )


def summarise(
    header: ManifestHeader, bundle: SummaryBundle, caption: str | None, reports: Iterable[ShardReport]
) -> RunSummary:
    """Make a run's summary of the reports of all its shards, in their order.

    Raises:
        RunError: there are not as many reports or images as the manifest says.
    """
    tally = Tally()
    every = []
    for report in reports:
        tally.merge(report.counts)
        every.append(report)
    counts = tally.counts
    if len(every) != header.shards or counts.images != header.images:
        raise RunError(
            f"run {header.run_id}: {len(every)} reports about {counts.images} images, but its manifest has "
            f"{header.shards} shards and {header.images} images"
        )
    started = min(report.work.started_at for report in every)
    finished = max(report.work.finished_at for report in every)
    spots = {report.spot for report in every}
    return RunSummary(
        run_id=header.run_id,
        project=header.project,
        bucket=header.bucket,
        generation=header.generation,
        labels=header.labels,
        caption=caption,
        model_version=header.model_version,
        bundle=bundle,
        provider=_joined(report.provider for report in every) or "",
        device=_joined(report.device for report in every) or "",
        images=counts.images,
        predicted=counts.predicted,
        failed=counts.failed,
        superseded=counts.superseded,
        gone=counts.gone,
        boxes=sum(counts.boxes_by_label.values()),
        boxes_by_label=counts.boxes_by_label,
        score_histograms=counts.score_histograms,
        failures_by_reason=counts.failures_by_reason,
        parts=tuple(part.key for part in header.parts()),
        samples=counts.samples,
        launcher=every[0].launcher,
        job_ids=tuple(dict.fromkeys(report.job_id for report in every if report.job_id)),
        instance_type=_joined(report.instance_type for report in every),
        spot=True if True in spots else False if False in spots else None,
        shards=tuple(report.work for report in every),
        created_at=header.created_at,
        started_at=started,
        finished_at=finished,
        seconds=round((finished - started).total_seconds(), 3),
        gpu_seconds=round(sum(report.work.seconds for report in every), 3),
        estimated_cost_usd=_cost(every),
    )


def _joined(names: Iterable[str | None]) -> str | None:
    return ", ".join(dict.fromkeys(name for name in names if name)) or None


def _cost(reports: Sequence[ShardReport]) -> float | None:
    total = 0.0
    for report in reports:
        if report.usd_per_hour is None:
            return None
        total += report.usd_per_hour * report.work.seconds / 3600
    return round(total, 6)


def _key(prediction: Prediction) -> str:
    return prediction.image.removeprefix("s3://").partition("/")[2]


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _sample(prediction: Prediction) -> Sample:
    boxes = tuple(SampleBox(box.label, box.score, box.xyxy) for box in prediction.boxes[:_SAMPLE_BOXES])
    return Sample(_key(prediction), prediction.version, prediction.width, prediction.height, boxes)


def _create(bucket: Bucket, key: str, body: bytes, content_type: str = "application/json") -> bytes:
    """Write an object once; gives back what is there then, which may be somebody else's."""
    if _create_once(bucket, key, body, content_type):
        return body
    stored = bucket.get(key)
    if stored is None:
        raise RunError(f"s3://{bucket.name}/{key} was deleted while it was being written; run again")
    return stored.body


def _create_once(
    bucket: Bucket,
    key: str,
    body: bytes,
    content_type: str = "application/json",
    metadata: Mapping[str, str] | None = None,
) -> bool:
    """Write an object if there is none; whether this call wrote it.

    S3 refuses with 412 if the object is there, and with 409 while another write of it is under way, which may
    yet fail: look again, and write again if there is still none.
    """
    for attempt in range(_WRITE_ATTEMPTS):
        if bucket.create(key, body, content_type, metadata=metadata) == Put.STORED:
            return True
        if bucket.exists(key):
            return False
        time.sleep(0.1 * 2**attempt)
    raise RunError(f"s3://{bucket.name}/{key}: writing it was refused {_WRITE_ATTEMPTS} times; run again")


def _read(kind: type[T], text: str | bytes, where: str, format: str | None = None) -> T:
    try:
        return from_json(kind, text, format=format)
    except DocumentError as error:
        raise RunError(f"{where}: {error}") from None
