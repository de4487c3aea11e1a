"""A job works on one shard of a run, or on all of them in turn, and writes the summary when all are done.

An unusable image becomes a failure in its part. An error that would also affect the next image ends the job:
`UnavailableError` if retrying later may help, `BoxdropError` if the operator has to fix something.
"""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import BoxdropError, UnavailableError
from boxdrop.domain.images import DEFAULT_LIMITS, Limits
from boxdrop.job.detectors import Detectors
from boxdrop.job.host import Host
from boxdrop.job.log import Log
from boxdrop.job.meter import Meter, no_utilisation, peak_memory_mb
from boxdrop.job.shard import FETCHERS, Equipment, Shard
from boxdrop.job.stop import Stop, StoppedError
from boxdrop.metrics import COST_PER_THOUSAND, CPU_PROVIDER_USED, GPU_UTILISATION, IMAGES_PER_SECOND
from boxdrop.store.bundles import describe
from boxdrop.store.labelsets import read_label_set
from boxdrop.store.layout import problem_key, summary_key
from boxdrop.store.manifests import ManifestHeader, read_header, read_manifest
from boxdrop.store.reports import (
    RunSummary,
    ShardReport,
    ShardWork,
    SummaryBundle,
    list_reports,
    read_report,
    write_report,
    write_summary,
)
from boxdrop.store.tally import summarise

_READERS: Final = 4


class Job:
    """Works on runs, one shard at a time.

    Args:
        data: the data bucket.
        images: opens an image bucket by name.
        detectors: loads what runs pin.
        host: where it runs.
        log: receives its events.
        utilisation: of the GPU now, 0 to 1; None where it is not known.
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
        utilisation: Callable[[], float | None] = no_utilisation,
        limits: Limits = DEFAULT_LIMITS,
        batch_size: int | None = None,
        fetchers: int = FETCHERS,
    ) -> None:
        self.data = data
        self.detectors = detectors
        self.host = host
        self.log = log or Log()
        self._equipment = Equipment(
            data, images, detectors, host.device, self.log, utilisation, limits, batch_size, fetchers
        )

    def work(
        self,
        run_id: str,
        shard: int | None = None,
        stop: Stop | None = None,
        *,
        started: datetime | None = None,
        job_id: str | None = None,
    ) -> list[ShardReport]:
        """Write the missing parts of a shard, and the run's summary if this was the last shard.

        Args:
            run_id: the run.
            shard: its index; None works on all of them in turn.
            stop: asks the job to end early; the parts in flight are finished first.
            started: when the job started, for its report; now by default.
            job_id: the launcher's id of this piece of work; the host's by default.

        Returns:
            The report of each shard.

        Raises:
            StoppedError: it was asked to stop before everything was written.
            UnavailableError: S3 does not answer.
            BoxdropError: the manifest, labels, detector or device is missing or wrong.
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
        shard = Shard(self._equipment, manifest, number, stop)
        begun = time.monotonic()
        with Meter(self._equipment.utilisation, self._report_gpu) as meter:
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
                    peak_memory_mb=peak_memory_mb(),
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
        self._log_shard(report, parts)
        return report

    def _log_shard(self, report: ShardReport, parts: int) -> None:
        work = report.work
        self.log.event(
            "shard is done",
            run_id=report.run_id,
            shard=work.index,
            parts=parts,
            images=work.images,
            computed=work.computed,
            resumed=work.resumed,
            images_per_s=work.images_per_s,
            failed=report.counts.failed,
            superseded=report.counts.superseded,
            gone=report.counts.gone,
            peak_memory_mb=work.peak_memory_mb,
        )
        if not work.computed:
            return
        self.log.metrics(
            {
                IMAGES_PER_SECOND: work.images_per_s,
                CPU_PROVIDER_USED: float(self.detectors.provider == "cpu"),
            }
        )

    def _report_gpu(self, busy: float) -> None:
        self.log.metrics({GPU_UTILISATION: round(100 * busy, 1)})

    def _finish_if_complete(self, header: ManifestHeader) -> None:
        """Write the summary if every shard has a report, for then every part is there.

        The job that writes the last report sees all of them, because S3 is consistent.
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
