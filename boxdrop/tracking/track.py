"""Summaries become runs in ZenML: one when it lands, and all that wait with `boxdrop track sync`.

A mark in the data bucket, see `boxdrop.store.tracked`, records that a ZenML store has a run. It saves asking
ZenML about each, and keeps away a run that a user deleted there. ZenML itself ensures that there is exactly
one run, see `boxdrop.tracking.register`: the mark is written afterwards.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from boxdrop.annotate.thumbnails import make_thumbnail
from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import BoxdropError, RunError, TrackingError
from boxdrop.domain.identity import earliest_run_id
from boxdrop.domain.images import Limits, decode
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import Lesson
from boxdrop.ledger import Ledger
from boxdrop.store.labelsets import read_label_set_text
from boxdrop.store.layout import RUNS, manifest_key, summary_key
from boxdrop.store.lessons import read_lesson
from boxdrop.store.manifests import read_manifest
from boxdrop.store.reports import RunSummary, read_summary
from boxdrop.store.tracked import TrackedRun, read_mark, tracked_runs, write_mark
from boxdrop.tracking.entry import Published, make_entry
from boxdrop.tracking.outcome import published
from boxdrop.tracking.register import Registered, Tracker

THUMBNAIL_PX: Final = 320
PATIENCE: Final = timedelta(hours=1)
"""After this, a run is registered even if some of its images are not in Label Studio."""

_SAMPLE_LIMITS: Final = Limits(max_bytes=30_000_000, max_pixels=24_000_000)
_FETCHED_AT_ONCE: Final = 2
"""Samples are decoded in a function with 1 GB of memory: at most 13 bytes a pixel, two at once."""

_GIVE_UP: Final = 3


class NotPublishedError(BoxdropError):
    """Not all of a run's images are in Label Studio yet: it is registered when they are."""


@dataclass(frozen=True, slots=True)
class SyncSummary:
    """What `Tracking.sync` did with the runs that were not in ZenML.

    Attributes:
        registered: by this call.
        present: were in ZenML; only the mark was missing.
        unfinished: have no summary: they are running, or died.
        unpublished: not all of their images are in Label Studio yet.
        failed: the error, by run.
    """

    registered: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    unfinished: int = 0
    unpublished: tuple[str, ...] = ()
    failed: Mapping[str, str] | None = None


class Tracking:
    """Registers the runs of one system in a ZenML store.

    Args:
        tracker: see `boxdrop.tracking.register.connect`.
        bucket: the data bucket.
        ledger: knows a run's tasks in Label Studio; None if nothing is published.
        open_images: opens an image bucket by its name, for thumbnails; None for pages without them.
    """

    def __init__(
        self,
        tracker: Tracker,
        bucket: Bucket,
        ledger: Ledger | None = None,
        open_images: Callable[[str], Bucket] | None = Bucket,
    ) -> None:
        self._tracker = tracker
        self._bucket = bucket
        self._ledger = ledger
        self._open_images = open_images

    def track(self, run_id: str, now: datetime | None = None) -> Registered:
        """Register one finished run, exactly once.

        Args:
            run_id: the run. One that has its mark is skipped.
            now: the current time, by default.

        Raises:
            NotPublishedError: its images are still on their way into Label Studio.
            RunError: it has no summary yet.
            TrackingError: ZenML refused or went away; call again later.
        """
        mark = read_mark(self._bucket, self._tracker.store_id, run_id)
        if mark is not None:
            return Registered(mark.zenml_run, created=False, url=mark.url)
        summary = read_summary(self._bucket, run_id)
        if summary is None:
            raise RunError(f"run {run_id} has no summary in s3://{self._bucket.name} yet")
        outcome = self._published(summary, now or datetime.now(UTC))
        labels = read_label_set_text(self._bucket, summary.labels)
        entry = make_entry(
            summary,
            manifest=self._read(manifest_key(run_id)),
            labels=labels,
            lesson=self._lesson(labels),
            thumbnails=self._thumbnails(summary),
            published=outcome,
        )
        registered = self._tracker.record(entry)
        mark = TrackedRun(run_id, registered.id, registered.url)
        write_mark(self._bucket, self._tracker.store_id, mark)
        return registered

    def sync(
        self,
        *,
        since: datetime | None = None,
        on_progress: Callable[[str], None] = lambda _: None,
        until: Callable[[], bool] = lambda: False,
    ) -> SyncSummary:
        """Register every finished run that is not in ZenML yet, the oldest first.

        Args:
            since: skips runs that are older.
            on_progress: called with each run's id before it is registered.
            until: called before each run; True ends the work early.

        Raises:
            TrackingError: ZenML does not answer, or refuses several runs in a row.
        """
        registered: list[str] = []
        present: list[str] = []
        unpublished: list[str] = []
        failed: dict[str, str] = {}
        unfinished = in_a_row = 0
        for run_id in self.untracked(since):
            if until():
                break
            on_progress(run_id)
            try:
                found = self.track(run_id)
                (registered if found.created else present).append(run_id)
                in_a_row = 0
            except NotPublishedError:
                unpublished.append(run_id)
            except TrackingError as error:
                failed[run_id] = str(error)
                in_a_row += 1
                if in_a_row == _GIVE_UP:
                    raise TrackingError(
                        f"{in_a_row} runs in a row failed, the last one {run_id}: {error}"
                    ) from error
            except BoxdropError as error:
                if self._bucket.exists(summary_key(run_id)):
                    failed[run_id] = str(error)
                else:
                    unfinished += 1
        return SyncSummary(tuple(registered), tuple(present), unfinished, tuple(unpublished), failed)

    def untracked(self, since: datetime | None = None) -> list[str]:
        """List the runs that this ZenML does not have, oldest first; some have no summary yet."""
        tracked = tracked_runs(self._bucket, self._tracker.store_id)
        first = earliest_run_id(since) if since else ""
        return [
            run_id for run_id in self._bucket.list_folders(RUNS) if run_id >= first and run_id not in tracked
        ]

    def _published(self, summary: RunSummary, now: datetime) -> Published | None:
        if self._ledger is None or summary.launcher == "annotate":
            return None
        images = (image.image_id for image in read_manifest(self._bucket, summary.run_id).images)
        outcome = published(self._ledger, summary.project, summary.run_id, images)
        if outcome.waiting and now - summary.finished_at < PATIENCE:
            raise NotPublishedError(
                f"run {summary.run_id}: {outcome.waiting:,} images are not in Label Studio yet; "
                "it is registered when they are"
            )
        return outcome

    def _lesson(self, labels: str) -> Lesson | None:
        """The lesson of a label set; None without one, or where it cannot be read: figures block no run."""
        number = LabelSet.from_snapshot(labels, "labels").lesson
        if number is None:
            return None
        try:
            return read_lesson(self._bucket, number)
        except BoxdropError:
            return None

    def _thumbnails(self, summary: RunSummary) -> dict[str, bytes]:
        """Make thumbnails of the samples, of exactly the versions that the boxes belong to."""
        if self._open_images is None or not summary.samples or not summary.bucket:
            return {}
        images = self._open_images(summary.bucket)

        def fetch(key: str, version: str) -> bytes | None:
            try:
                picture = decode(images.read_version(key, version, _SAMPLE_LIMITS.max_bytes), _SAMPLE_LIMITS)
                return make_thumbnail(picture, THUMBNAIL_PX)
            except BoxdropError:  # its boxes are drawn on an empty frame
                return None

        with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
            made = pool.map(lambda sample: (sample.key, fetch(sample.key, sample.version)), summary.samples)
            return {key: thumbnail for key, thumbnail in made if thumbnail is not None}

    def _read(self, key: str) -> bytes:
        stored = self._bucket.get(key)
        if stored is None:
            raise RunError(f"s3://{self._bucket.name}/{key}: there is no such object")
        return stored.body
