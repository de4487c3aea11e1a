"""The counts of a run: parts are tallied by shard, and the shards' reports add up to the summary."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Sequence

from boxdrop.domain.errors import RunError
from boxdrop.domain.predictions import Failure, Prediction, record_key
from boxdrop.store.manifests import ManifestHeader
from boxdrop.store.parts import Part
from boxdrop.store.reports import (
    SAMPLES,
    SCORE_BINS,
    Counts,
    RunSummary,
    Sample,
    SampleBox,
    ShardReport,
    SummaryBundle,
)

_SAMPLE_BOXES = 50


class Tally:
    """Counts parts one by one, in memory that does not grow with the number of images.

    Samples are preferably images with boxes, and the first ones by a hash of their keys: the choice does not
    depend on how a run is split, nor on the order in which its parts are counted.
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
                self._images["without_boxes"] += not record.boxes
                self._images["damaged"] += bool(record.damaged)
                self._add_boxes(record)
        self._images["predicted"] += len(predictions)
        best = heapq.nsmallest(
            SAMPLES, predictions, key=lambda each: (not each.boxes, _hash(record_key(each)))
        )
        self._choose(_sample(prediction) for prediction in best)

    def merge(self, counts: Counts) -> None:
        """Add the counts of another tally."""
        self._images.update(
            predicted=counts.predicted,
            failed=counts.failed,
            superseded=counts.superseded,
            gone=counts.gone,
            without_boxes=counts.without_boxes,
            damaged=counts.damaged,
        )
        self._boxes.update(counts.boxes_by_label)
        self._failures.update(counts.failures_by_reason)
        for label, histogram in counts.score_histograms.items():
            known = self._histograms.setdefault(label, [0] * SCORE_BINS)
            self._histograms[label] = [a + b for a, b in zip(known, histogram, strict=True)]
        self._choose(counts.samples)

    @property
    def counts(self) -> Counts:
        """The counts so far."""
        return Counts(
            predicted=self._images["predicted"],
            failed=self._images["failed"],
            superseded=self._images["superseded"],
            gone=self._images["gone"],
            boxes_by_label=dict(sorted(self._boxes.items())),
            score_histograms={label: tuple(self._histograms[label]) for label in sorted(self._histograms)},
            failures_by_reason=dict(sorted(self._failures.items())),
            samples=tuple(self._samples),
            without_boxes=self._images["without_boxes"],
            damaged=self._images["damaged"],
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
    """Make a run's summary from the reports of all its shards, in their order.

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
        without_boxes=counts.without_boxes,
        damaged=counts.damaged,
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


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _sample(prediction: Prediction) -> Sample:
    boxes = tuple(SampleBox(box.label, box.score, box.xyxy) for box in prediction.boxes[:_SAMPLE_BOXES])
    return Sample(record_key(prediction), prediction.version, prediction.width, prediction.height, boxes)
