"""A run of `annotate`, stored in the data bucket like other runs: `boxdrop runs` lists it, and ZenML can
track it.

The run's manifest, label set and summary are stored, and no parts: its predictions stay in the output folder.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Final

from boxdrop.annotate.run import AnnotateRun, Summary
from boxdrop.aws.s3 import Bucket
from boxdrop.domain.identity import new_run_id
from boxdrop.domain.predictions import Record, record_key
from boxdrop.job.host import processor_name
from boxdrop.job.meter import peak_memory_mb
from boxdrop.store.labelsets import write_label_set
from boxdrop.store.layout import PART_IMAGES, PartName
from boxdrop.store.manifests import (
    ManifestHeader,
    ManifestImage,
    PinnedBundle,
    write_manifest,
)
from boxdrop.store.parts import Part
from boxdrop.store.reports import RunSummary, ShardReport, ShardWork, Stages, SummaryBundle, write_summary
from boxdrop.store.tally import Tally, summarise

_PROVIDERS: Final = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
NO_LABELS: Final = "0" * 64
"""In place of the digest of a label set that is not stored."""


def project_name(location: str) -> str:
    """The project name of a source: its last folder, ``annotate/photos``."""
    return f"annotate/{Path(location.removeprefix('s3://')).name or 'images'}"


def summarise_run(
    run: AnnotateRun, result: Summary, started: datetime, finished: datetime, labels: str = NO_LABELS
) -> RunSummary:
    """Make a finished run's summary.

    Args:
        run: a finished one.
        result: what `AnnotateRun.run` returned.
        started, finished: when it started and finished.
        labels: the digest of its stored label set.
    """
    return _summarise(run, result, started, finished, _header(run, result, started, labels))


def store_run(
    data: Bucket, run: AnnotateRun, result: Summary, started: datetime, finished: datetime
) -> RunSummary:
    """Store a finished run in a system's data bucket; see `summarise_run`.

    Raises:
        BoxdropError: the bucket cannot be written.
    """
    header = _header(run, result, started, write_label_set(data, run.label_set))
    lines = (ManifestImage(record.image_id, record_key(record), record.version) for record in run.records())
    write_manifest(data, header, lines)
    summary = _summarise(run, result, started, finished, header)
    write_summary(data, summary)
    return summary


def _header(run: AnnotateRun, result: Summary, started: datetime, labels: str) -> ManifestHeader:
    bundle = run.detector.bundle
    location = run.source.location
    bucket = location.removeprefix("s3://").partition("/")[0] if run.source.folder is None else ""
    return ManifestHeader(
        run_id=new_run_id(started),
        project=project_name(location),
        bucket=bucket,
        generation=0,
        labels=labels,
        bundle=PinnedBundle(bundle.name, bundle.digest),
        model_version=run.model_version,
        images=result.images,
        created_at=started,
        shard_images=-(-result.images // PART_IMAGES) * PART_IMAGES,  # one shard
    )


def _summarise(
    run: AnnotateRun, result: Summary, started: datetime, finished: datetime, header: ManifestHeader
) -> RunSummary:
    tally = Tally()
    for part in _parts(run.records(), header):
        tally.add(part)
    bundle = run.detector.bundle
    provider = run.detector.provider
    report = ShardReport(
        run_id=header.run_id,
        work=ShardWork(
            index=0,
            started_at=started,
            finished_at=finished,
            images=result.images,
            computed=result.computed,
            resumed=result.images - min(result.computed, result.images),
            images_per_s=round(result.computed / result.seconds, 3) if result.seconds else 0.0,
            stages=Stages(**{name: result.stages.get(name, 0.0) for name in Stages.__dataclass_fields__}),
            peak_memory_mb=peak_memory_mb(),
        ),
        counts=tally.counts,
        provider=_PROVIDERS[provider],
        device=processor_name() if provider == "cpu" else "GPU",
        launcher="annotate",
    )
    summary = summarise(
        header,
        SummaryBundle(bundle.name, bundle.digest, bundle.family, bundle.precision),
        run.label_set.caption,
        [report],
    )
    return replace(summary, parts=())


def _parts(records: Iterator[Record], header: ManifestHeader) -> Iterator[Part]:
    """The records one by one, in the form that a tally counts."""
    for line, record in zip(count(), records, strict=False):
        yield Part(PartName(header.project, header.run_id, line, line + 1), (record,))
