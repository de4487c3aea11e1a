"""launch: the wanted images of a project become a run: claimed, written into a manifest, given to a job.

A run's row is written before its claims, its manifest before the submission, and its record after
it. So a launch that dies leaves a run whose deadline passes; `boxdrop.pipeline.recover` returns its images.
"""

import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from boxdrop.aws.launchers import MAX_SHARDS, Launcher
from boxdrop.aws.s3 import Bucket
from boxdrop.aws.sqs import Queue
from boxdrop.errors import BoxdropError
from boxdrop.identity import new_run_id
from boxdrop.ledger import Image, Ledger, Project, RunState, State
from boxdrop.pipeline.dispatch import ask_for_launch
from boxdrop.pipeline.labels import Applied, apply_labels, spread_labels
from boxdrop.store.layout import manifest_key
from boxdrop.store.manifests import PART_IMAGES, ManifestHeader, ManifestImage, PinnedBundle, write_manifest
from boxdrop.times import time_text
from boxdrop.topology import APPLY_LIMIT, JOB_TIMEOUT_S, RUN_IMAGES, SHARD_IMAGES, WINDOW_S

GATHERING: Final = timedelta(minutes=15)
"""As long as a Lambda function may run: a run that is not submitted by then never will be."""

_PURPOSE: Final = "launch"
_LEASE_S: Final = 30  # for a look and one write
_BUSY_S: Final = 5
_LAG: Final = timedelta(seconds=5)
"""Clocks of functions and the ledger's index may differ by less."""


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """How runs are cut.

    Attributes:
        window_s: how long images gather, and ``labels.yaml`` is left alone, before a launch.
        run_images: most images of a run.
        shard_images: images of one job of an array; rounded up to whole parts.
        part_images: images of a part.
        apply_limit: images that changed labels run again unasked.
        job_timeout_s: after which a run that nobody ended is looked at.
    """

    window_s: float = WINDOW_S
    run_images: int = RUN_IMAGES
    shard_images: int = SHARD_IMAGES
    apply_limit: int = APPLY_LIMIT
    job_timeout_s: int = JOB_TIMEOUT_S
    part_images: int = PART_IMAGES

    @property
    def shard(self) -> int:
        """Images of a shard: whole parts, and few enough shards for one array."""
        fewest = -(-self.run_images // MAX_SHARDS)
        return -(-max(self.shard_images, fewest) // self.part_images) * self.part_images


@dataclass(frozen=True, slots=True)
class LaunchSummary:
    """What a launch did.

    Attributes:
        labels: what became of the newest label set; None if it was in force everywhere already.
        wanted: images that changed labels wanted again.
        parts: stored parts that changed thresholds are published from.
        run_id, images, shards: of the run; None and 0 if there was nothing to run.
        note: why there is no run.
    """

    labels: Applied | None = None
    wanted: int = 0
    parts: int = 0
    run_id: str | None = None
    images: int = 0
    shards: int = 0
    note: str | None = None


class Launching:
    """Looks at projects, and makes runs of what is wanted.

    Args:
        ledger: of the system.
        data: the data bucket.
        launches: its own queue, for what is left.
        parts: queue of publish.
        launcher: gives manifests to jobs.
        settings: how runs are cut.
        clock: the time.
    """

    def __init__(
        self,
        ledger: Ledger,
        data: Bucket,
        launches: Queue,
        parts: Queue,
        launcher: Launcher,
        settings: LaunchSettings,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ledger = ledger
        self._data = data
        self._launches = launches
        self._parts = parts
        self._launcher = launcher
        self._settings = settings
        self._now = clock

    def launch(self, name: str, asked_at: datetime | None = None) -> LaunchSummary:
        """Bring labels into force that are due, then make one run of what is wanted.

        Args:
            name: the project's.
            asked_at: when this was asked for, if others ask as well, see `ask_for_launch`.

        Raises:
            BoxdropError: repeat it, which is safe.
        """
        project = self._ledger.project(name)
        if project is None:
            return LaunchSummary(note="there is no such project")
        labels, wanted, parts = None, 0, 0
        if project.labels_are_due:
            labels = apply_labels(
                self._ledger,
                self._data,
                name,
                limit=self._settings.apply_limit,
                quiet_s=int(self._settings.window_s),  # as long as SQS delays: whole seconds
                clock=self._now,
            )
            spread = spread_labels(self._ledger, self._data, self._parts, name, clock=self._now)
            wanted, parts = spread.wanted, spread.parts
            if spread.again_s is not None:
                ask_for_launch(self._launches, [name], spread.again_s)
            project = self._ledger.project(name)
            assert project is not None
        run_id, images, shards, note = self._run(project, None if wanted else asked_at)
        return LaunchSummary(labels, wanted, parts, run_id, images, shards, note)

    def _run(self, project: Project, asked_at: datetime | None) -> tuple[str | None, int, int, str | None]:
        if project.labels is None:
            return None, 0, 0, "its labels are not there yet"
        run_id, note = self._begin(project, asked_at)
        if run_id is None:
            return None, 0, 0, note
        settings = self._settings
        images = self._ledger.claim_wanted(project.name, run_id, project.generation, settings.run_images)
        if not images:
            note = "others were quicker"
            self._ledger.finish_run(project.name, run_id, RunState.SUCCEEDED, note)
            return None, 0, 0, note
        if len(images) == settings.run_images:  # before the submission: should that fail, others are not lost
            ask_for_launch(self._launches, [project.name])
        try:
            shards = self._submit(project, run_id, images)
        except BoxdropError as error:
            # The images are not to blame, and somebody else may try.
            self._ledger.finish_run(project.name, run_id, RunState.FAILED, str(error))
            self._ledger.release_run(project.name, run_id, images=images, blameless=True)
            raise
        return run_id, len(images), shards, None

    def _begin(self, project: Project, asked_at: datetime | None) -> tuple[str | None, str | None]:
        """Make a run's row, if something is wanted and nobody has looked since. One at a time looks."""
        owner = f"{socket.gethostname()}/{uuid.uuid4().hex[:8]}"
        lease = self._ledger.acquire_lease(project.name, owner, seconds=_LEASE_S, purpose=_PURPOSE)
        if lease is None:
            mark = {} if asked_at is None else {"asked_at": time_text(asked_at)}
            self._launches.send({"project": project.name, **mark}, _BUSY_S)
            return None, "another launch looks at this moment"
        try:
            if asked_at is not None and self._was_looked_at_since(project.name, asked_at):
                return None, "a launch after this was asked for has taken what was wanted"
            if self._ledger.oldest_image(project.name, State.WANTED) is None:
                return None, "nothing is wanted"
            run_id = new_run_id(self._now())
            self._ledger.start_run(project.name, run_id, project.generation, self._now() + GATHERING)
            return run_id, None
        finally:
            self._ledger.release_lease(lease)

    def _was_looked_at_since(self, name: str, asked_at: datetime) -> bool:
        newest = self._ledger.list_runs(name, limit=1)
        return bool(newest) and newest[0].created_at >= asked_at + _LAG

    def _submit(self, project: Project, run_id: str, images: list[Image]) -> int:
        name, digest, version = project.bundle_name, project.bundle_digest, project.model_version
        assert project.labels is not None
        assert name is not None
        assert digest is not None
        assert version is not None  # labels come into force together with their detector
        lines = [
            ManifestImage(image.image_id, image.key, image.version)
            for image in images
            if image.version is not None
        ]
        header = ManifestHeader(
            run_id=run_id,
            project=project.name,
            bucket=project.bucket,
            generation=project.generation,
            labels=project.labels,
            bundle=PinnedBundle(name, digest),
            model_version=version,
            images=len(lines),
            created_at=self._now(),
            part_images=self._settings.part_images,
            shard_images=self._settings.shard,
        )
        write_manifest(self._data, header, lines)
        job_ids = self._launcher.submit(run_id, header.shards, 1)
        self._ledger.record_submission(
            project.name,
            run_id,
            attempt=1,
            manifest=manifest_key(run_id),
            images=len(lines),
            job_ids=job_ids,
            deadline=self._now() + timedelta(seconds=self._settings.job_timeout_s),
        )
        return header.shards
