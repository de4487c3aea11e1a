"""launch: make a run from the wanted images of a project: claim them, write a manifest, submit a job.

Images that were dropped with boxes of their own need no job: launch writes their parts itself.

A run's row is written before its claims, its manifest before the submission, and its record after
it. So a launch that dies leaves a run whose deadline passes; `boxdrop.pipeline.recover` returns its images.
"""

import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.identity import new_run_id
from boxdrop.domain.times import time_text
from boxdrop.ledger import Image, Project, RunState, State
from boxdrop.pipeline.boxes import write_parts
from boxdrop.pipeline.canary import Trial, find_trial
from boxdrop.pipeline.dispatch import ask_for_launch
from boxdrop.pipeline.labels import Applied, apply_labels, spread_labels
from boxdrop.services import Services
from boxdrop.store.labelsets import write_label_set
from boxdrop.store.layout import manifest_key
from boxdrop.store.manifests import ManifestHeader, ManifestImage, PinnedBundle, write_manifest

GATHERING: Final = timedelta(minutes=15)
"""The longest run time of a Lambda function: a run that is not submitted by then never will be."""

_PURPOSE: Final = "launch"
_LEASE_S: Final = 30  # for a check and one write
_BUSY_S: Final = 5
_LAG: Final = timedelta(seconds=5)
"""Clocks of functions and the ledger's index may differ by less."""


@dataclass(frozen=True, slots=True)
class LaunchSummary:
    """What a launch did.

    Attributes:
        labels: the outcome for the newest label set; None if it was already in force everywhere.
        wanted: images that changed labels made wanted.
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


def launch(services: Services, project: str, asked_at: datetime | None = None) -> LaunchSummary:
    """Put due labels into force, then make one run of the wanted images; see `Launching.launch`."""
    return Launching(services).launch(project, asked_at)


class Launching:
    """Checks projects, and makes runs of their wanted images."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ledger = services.ledger
        self._settings = services.settings
        self._now = services.clock

    def launch(self, name: str, asked_at: datetime | None = None) -> LaunchSummary:
        """Put due labels into force, then make one run of the wanted images.

        Args:
            name: the project's.
            asked_at: when the launch was requested, if requests may overlap, see `ask_for_launch`.

        Raises:
            BoxdropError: repeat it, which is safe.
        """
        project = self._ledger.project(name)
        if project is None:
            return LaunchSummary(note="there is no such project")
        labels, wanted, parts = None, 0, 0
        if project.labels_are_due:
            labels = apply_labels(
                self._services,
                name,
                limit=self._settings.apply_limit,
                quiet_s=int(self._settings.window_s),  # SQS delays by whole seconds
            )
            spread = spread_labels(self._services, name)
            wanted, parts = spread.wanted, spread.parts
            if spread.again_s is not None:
                ask_for_launch(self._services.launches, [name], spread.again_s)
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
        begun = time.monotonic()

        def claim(takes: Callable[[str], bool] = lambda _: True) -> list[Image]:
            return self._ledger.claim_wanted(
                project.name, run_id, project.generation, settings.run_images, settings.claim_s, takes
            )

        trial = find_trial(self._services, project)
        images = claim(trial.takes) if trial is not None else []
        if trial is not None and images:
            ask_for_launch(self._services.launches, [project.name])  # for the others
        elif trial is not None:
            images = claim(trial.leaves)
            trial = None
        else:
            images = claim()
        if not images:
            note = "another launch was first"
            self._ledger.finish_run(project.name, run_id, RunState.SUCCEEDED, note)
            return None, 0, 0, note
        out_of_time = time.monotonic() - begun >= settings.claim_s
        if len(images) == settings.run_images or out_of_time:
            # Before the submission: should that fail, the others are not lost.
            ask_for_launch(self._services.launches, [project.name])
        try:
            shards = self._submit(project, run_id, images, trial)
        except BoxdropError as error:
            # The images are not at fault, and the next launch may try.
            self._ledger.finish_run(project.name, run_id, RunState.FAILED, str(error))
            self._ledger.release_run(project.name, run_id, images=images, blameless=True)
            raise
        return run_id, len(images), shards, None

    def _begin(self, project: Project, asked_at: datetime | None) -> tuple[str | None, str | None]:
        """Create a run's row, if images are wanted and no launch has checked since. One launch checks at a
        time."""
        owner = f"{socket.gethostname()}/{uuid.uuid4().hex[:8]}"
        lease = self._ledger.acquire_lease(project.name, owner, seconds=_LEASE_S, purpose=_PURPOSE)
        if lease is None:
            mark = {} if asked_at is None else {"asked_at": time_text(asked_at)}
            self._services.launches.send({"project": project.name, **mark}, _BUSY_S)
            return None, "another launch is checking right now"
        try:
            if asked_at is not None and self._was_looked_at_since(project.name, asked_at):
                return None, "a later launch has already taken the wanted images"
            if self._ledger.oldest_image(project.name, State.WANTED) is None:
                return None, "nothing is wanted"
            run_id = new_run_id(self._now())
            self._ledger.start_run(project.name, run_id, project.generation, self._now() + GATHERING)
            return run_id, None
        finally:
            self._ledger.release_lease(lease)

    def _was_looked_at_since(self, name: str, asked_at: datetime) -> bool:
        newest = self._ledger.list_runs(name, limit=1)
        # A run of the future was created by a wrong clock, who knows when.
        return bool(newest) and asked_at + _LAG <= newest[0].created_at <= self._now() + _LAG

    def _submit(self, project: Project, run_id: str, images: list[Image], trial: Trial | None) -> int:
        name, digest, version = project.bundle_name, project.bundle_digest, project.model_version
        labels = project.labels
        if trial is not None:
            name, digest, version = trial.bundle.name, trial.bundle.digest, trial.model_version
            labels = write_label_set(self._services.data, trial.label_set)
        assert labels is not None
        assert name is not None
        assert digest is not None
        assert version is not None  # labels come into force together with their detector
        own = [image for image in images if image.own_boxes is not None]
        lines = [
            ManifestImage(image.image_id, image.key, image.version)
            for image in images
            if image.version is not None and image.own_boxes is None
        ]
        header = ManifestHeader(
            run_id=run_id,
            project=project.name,
            bucket=project.bucket,
            generation=project.generation,
            labels=labels,
            bundle=PinnedBundle(name, digest),
            model_version=version,
            images=len(lines),
            created_at=self._now(),
            part_images=self._settings.part_images,
            shard_images=self._settings.shard,
        )
        write_manifest(self._services.data, header, lines)
        write_parts(self._services, header, own)
        if not lines:
            note = "all of its images came with boxes of their own"
            self._ledger.finish_run(project.name, run_id, RunState.SUCCEEDED, note)
            return 0
        launcher = self._services.launcher
        job_ids = launcher.submit(run_id, header.shards, 1)
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
