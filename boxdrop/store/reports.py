"""Reports: what the job of each shard did, and the summary of a whole run.

A job writes a `ShardReport` after the last part of its shard. Once every shard has one, the run's
`RunSummary` is made of them. Each is one object, written once; `docs/runs.md` describes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from boxdrop.aws.s3 import Bucket
from boxdrop.documents import from_json, to_json
from boxdrop.domain.errors import RunError
from boxdrop.domain.identity import check_run_id
from boxdrop.store.layout import shard_key, shard_of_key, shards_prefix, summary_key
from boxdrop.store.write_once import write_once, write_or_read

SHARD_FORMAT: Final = "boxdrop-shard/1"
SUMMARY_FORMAT: Final = "boxdrop-summary/1"

SCORE_BINS: Final = 20
"""Bins of a score histogram, each 0.05 wide; the last one includes 1.0."""
SAMPLES: Final = 12
"""Most images that a summary shows as samples."""

LauncherName = Literal["batch", "sagemaker", "local", "annotate"]
"""What started the detector; ``annotate`` is the command of that name, without a job."""


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
    """How the work on a shard went; part of its report and of the run's summary.

    Attributes:
        images: lines of the shard.
        computed, resumed: how many of these this job did, and how many it found done.
        images_per_s: computed images per second, from the first to the last; 0 if there were none.
        peak_memory_mb: largest resident size of the process.
        gpu_utilisation: mean, 0 to 1, sampled while the job worked; None without NVML.
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
        """How long the shard took."""
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
    """The outcomes of some images of a run.

    Attributes:
        superseded, gone: overwritten or deleted before the job read them.
        boxes_by_label, score_histograms: count the boxes over the thresholds of the run's labels. A
            histogram has `SCORE_BINS` counts.
        samples: at most `SAMPLES`, see `boxdrop.store.tally.Tally`.
        without_boxes: predicted images in which no score reached a threshold; 0 in older reports.
        damaged: predicted images with damaged metadata, which was ignored; 0 in older reports.
    """

    predicted: int = 0
    failed: int = 0
    superseded: int = 0
    gone: int = 0
    boxes_by_label: Mapping[str, int] = field(default_factory=dict)
    score_histograms: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    failures_by_reason: Mapping[str, int] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    without_boxes: int = 0
    damaged: int = 0

    @property
    def images(self) -> int:
        """How many images these are."""
        return self.predicted + self.failed + self.superseded + self.gone


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What a job reports once the last part of its shard is written.

    Attributes:
        work, counts: see there. The counts cover the whole shard, whichever job wrote its parts.
        provider: ONNX Runtime's execution provider that the detector ran on.
        device: the GPU's name, or the processor's.
        launcher, job_id: what started the job, and the job's id there.
        instance_type: such as ``g4dn.xlarge``; None where it is not known.
        spot: whether it is a Spot instance; None where it is not known.
        usd_per_hour: the instance's price, if the deployment is configured with one.
    """

    run_id: str
    work: ShardWork
    counts: Counts
    provider: str
    device: str
    launcher: LauncherName
    job_id: str | None = None
    instance_type: str | None = None
    spot: bool | None = None
    usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class SummaryBundle:
    """The detector that a run used."""

    name: str
    digest: str
    family: str
    precision: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A whole run, once all of its parts are written.

    Attributes:
        labels: digest of the label set, see `boxdrop.store.labelsets`; `caption` is the label set's.
        provider, device: as in `ShardReport`; where shards differ, all of them, comma-separated.
        images: lines of the manifest = predicted + failed + superseded + gone.
        boxes and below: see `Counts`.
        parts: their keys, in order.
        started_at, finished_at: when the first shard started and the last finished, `seconds` apart.
        gpu_seconds: the time that each shard took on its GPU or processor, added up; attempts that were
            killed are not in it. `device_kind` says which of the two.
        estimated_cost_usd: `gpu_seconds` at the instances' price; None if a price is not known.
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
    launcher: LauncherName
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
    without_boxes: int = 0
    damaged: int = 0

    @property
    def device_kind(self) -> Literal["GPU", "processor"]:
        """What `gpu_seconds` were spent on: a run whose shards all ran on processors used no GPU."""
        return "GPU" if "CUDA" in self.provider else "processor"


def write_report(bucket: Bucket, report: ShardReport) -> ShardReport:
    """Write a shard's report, once; returns the one that is there, which another job may have written."""
    key = shard_key(report.run_id, report.work.index)
    body = to_json(report, format=SHARD_FORMAT).encode()
    return _shard_report(write_or_read(bucket, key, body), f"s3://{bucket.name}/{key}")


def read_report(bucket: Bucket, run_id: str, index: int) -> ShardReport | None:
    """Read a shard's report; None if there is none yet.

    Raises:
        RunError: it is not valid.
    """
    key = shard_key(check_run_id(run_id), index)
    stored = bucket.get(key)
    if stored is None:
        return None
    return _shard_report(stored.body, f"s3://{bucket.name}/{key}")


def _shard_report(text: bytes, where: str) -> ShardReport:
    return from_json(ShardReport, text, format=SHARD_FORMAT, where=where, error=RunError)


def list_reports(bucket: Bucket, run_id: str) -> list[int]:
    """List the shards of a run that have a report, in order."""
    shards = (shard_of_key(listed.key) for listed in bucket.list(shards_prefix(check_run_id(run_id))))
    return [shard for shard in shards if shard is not None]


def write_summary(bucket: Bucket, summary: RunSummary) -> bool:
    """Write a run's summary, once.

    Returns:
        whether this call wrote it; False where another job was first.
    """
    body = summary_to_json(summary).encode()
    return write_once(bucket, summary_key(summary.run_id), body)


def summary_to_json(summary: RunSummary) -> str:
    """A summary as it is stored."""
    return to_json(summary, format=SUMMARY_FORMAT)


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
    """Read and check a summary.

    Raises:
        RunError: naming `where` and the field.
    """
    return from_json(RunSummary, text, format=SUMMARY_FORMAT, where=where, error=RunError)
