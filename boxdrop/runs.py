"""Runs: a manifest of images, the parts that a job makes of it, and what the job reports.

All of it is objects in the data bucket, each written once. `docs/runs.md` describes them for readers.

    runs/RUN/manifest.jsonl                        the images of a run; `Manifest`
    predictions/PROJECT/RUN/part-FIRST-LAST.jsonl  what was found in lines FIRST to LAST; `Part`
    runs/RUN/shards/INDEX.json                     what one job, or one of an array, did; `ShardReport`
    runs/RUN/summary.json                          the whole run; `RunSummary`

A part holds the records of `boxdrop.predictions`, one for each image that was still what the manifest says.
Images that were overwritten or deleted in the meantime have none; the part's metadata counts them.
"""

import heapq
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Final, Literal, TypeVar

from boxdrop.documents import DocumentError, from_json, to_json
from boxdrop.errors import PredictionError, RunError
from boxdrop.objects import Bucket, Put
from boxdrop.predictions import Failure, Prediction, Record
from boxdrop.predictions import from_json as record_from_json
from boxdrop.predictions import to_json as record_to_json

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


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What a job says after the last part of a shard is there.

    Attributes:
        work: see there.
        provider: ONNX Runtime's execution provider that the detector ran on.
        device: the GPU's name, or the processor's.
        launcher, job_id: who started the job, and its id there.
        instance_type: such as ``g4dn.xlarge``; None where nobody says.
        spot: whether it is a Spot instance; None where nobody says.
        usd_per_hour: the instance's price, where the deployment gives it.
    """

    run_id: str
    work: ShardWork
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
class RunSummary:
    """A whole run, once all of its parts are there.

    Attributes:
        labels: sha256 of the label set's snapshot; `caption` is the label set's.
        provider, device: as in `ShardReport`; where shards differ, all of them with commas between.
        images: lines of the manifest = predicted + failed + superseded + gone.
        boxes, boxes_by_label, score_histograms: of the boxes that passed the thresholds of the run's labels.
            A histogram has `SCORE_BINS` counts.
        parts: their keys, in order.
        samples: at most `SAMPLES`, images with boxes if there are any, chosen by hash.
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


def summary_from_json(text: str | bytes, where: str = "summary") -> RunSummary:
    """Read and check the text of a summary.

    Raises:
        RunError: naming `where` and the field.
    """
    return _read(RunSummary, text, where, SUMMARY_FORMAT)


@dataclass(slots=True)
class Tally:
    """Counts, histograms and samples of parts, in memory that does not grow with the number of images."""

    predicted: int = 0
    failed: int = 0
    superseded: int = 0
    gone: int = 0
    boxes_by_label: Counter[str] = field(default_factory=Counter)
    score_histograms: dict[str, list[int]] = field(default_factory=dict)
    failures_by_reason: Counter[str] = field(default_factory=Counter)
    _samples: list[tuple[tuple[bool, int], Sample]] = field(default_factory=list)

    def add(self, part: Part) -> None:
        """Count one part."""
        self.superseded += part.superseded
        self.gone += part.gone
        for record in part.records:
            if isinstance(record, Failure):
                self.failed += 1
                self.failures_by_reason[record.reason] += 1
            else:
                self._add_prediction(record)

    @property
    def images(self) -> int:
        """Lines of the manifest that were counted."""
        return self.predicted + self.failed + self.superseded + self.gone

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples so far, best choice first."""
        return tuple(sample for _, sample in sorted(self._samples, key=lambda each: each[0], reverse=True))

    def _add_prediction(self, prediction: Prediction) -> None:
        self.predicted += 1
        for box in prediction.boxes:
            self.boxes_by_label[box.label] += 1
            histogram = self.score_histograms.setdefault(box.label, [0] * SCORE_BINS)
            histogram[min(SCORE_BINS - 1, int(box.score * SCORE_BINS))] += 1
        # By hash: the same choice, however the images are split into parts and whichever shard counts them.
        rank = (bool(prediction.boxes), -int(prediction.image_id, 16))
        if len(self._samples) < SAMPLES:
            heapq.heappush(self._samples, (rank, _sample(prediction)))
        elif rank > self._samples[0][0]:
            heapq.heapreplace(self._samples, (rank, _sample(prediction)))


def _sample(prediction: Prediction) -> Sample:
    boxes = tuple(SampleBox(box.label, box.score, box.xyxy) for box in prediction.boxes[:_SAMPLE_BOXES])
    key = prediction.image.removeprefix("s3://").partition("/")[2]
    return Sample(key, prediction.version, prediction.width, prediction.height, boxes)


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
