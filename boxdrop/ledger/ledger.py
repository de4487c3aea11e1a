"""The ledger: what boxdrop knows about every image, project and run. See docs/ledger.md.

This file is long because all access to the table goes through it: one method per query and per change.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from boxdrop.domain.times import has_come
from boxdrop.iterables import chunked
from boxdrop.ledger import projects, states
from boxdrop.ledger.projects import Lease, Project, Run, RunState, Stage
from boxdrop.ledger.states import (
    MAX_ATTEMPTS,
    FailedImage,
    Image,
    Key,
    Outcome,
    Publication,
    Result,
    Sighting,
    State,
    image_key,
    image_partitions,
)
from boxdrop.ledger.table import Table

R = TypeVar("R")
T = TypeVar("T")

_CHUNK: Final = 1000  # rows in memory at once, in operations on many rows


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """One page of a listing, and the cursor of the next page; None on the last one."""

    rows: tuple[R, ...]
    cursor: str | None


class Ledger:
    """Rows of images, projects and runs in one DynamoDB table. Safe to use from several threads.

    Every change is one conditional write and returns its outcome; losing a race is an outcome, not an
    exception. A change that is repeated, because its response was lost or the caller crashed, returns
    `ALREADY`. So callers decide what to do next from the result's row, never from `APPLIED` alone.

    Changes to many images run in parallel; results come in the order of the arguments. Reads by key are
    strongly consistent; listings and counts read an index, which lags by about a second.

    Args:
        table: its name.
        client: boto3's DynamoDB client. Default: one made from the environment.
        clock: returns the time, with its zone; tests replace it.
        workers: concurrent calls.

    Raises:
        LedgerError: from every method, if the table is missing or unreachable, if these credentials may not
            use it, or if it stays throttled.
    """

    def __init__(
        self,
        table: str,
        *,
        client: Any = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        workers: int = 16,
    ) -> None:
        self._table = Table(table, client, workers)
        self._now = clock

    # Images: changes

    def want(self, sightings: Iterable[Sighting], generation: int) -> list[Result[Image]]:
        """Record that objects exist: new content becomes wanted, or stale if a person verified the old
        content.

        Args:
            sightings: all of one project, at most a few thousand.
            generation: the project's, 0 if it has no labels. In that case read the project *after* this call,
                and `renew` the images if it has labels by then; applying labels sweeps with `want_older`.

        Returns:
            One result per sighting. If a row is wanted, ask for a launch. On `UNORDERED`, ask S3 what the
            object is now, and `observe` that.
        """
        return self._sight(sightings, generation)

    def mark_gone(self, sightings: Iterable[Sighting]) -> list[Result[Image]]:
        """Record that objects were deleted, even for unknown images: their creation event may arrive later.

        Deleting one *version* (EventBridge's "Permanently Deleted" with a version-id) does not delete the
        object: ask S3 for the object and `observe` it.
        """
        return self._sight((replace(each, version=None) for each in sightings), 0)

    def _sight(self, sightings: Iterable[Sighting], generation: int) -> list[Result[Image]]:
        now = self._now()

        def sight(sighting: Sighting) -> Result[Image]:
            def rule(row: Image | None) -> Result[Image]:
                return states.sight(row, sighting, generation, now)

            return self._table.change(Image, image_key(sighting.image_id), rule)

        return self._table.each(sight, sightings)

    def observe(self, seen: Image, version: str | None, generation: int) -> Result[Image]:
        """Record what an object is when events have no order: read the row, *then* ask S3, then call this.

        Args:
            seen: the row as it was read before asking S3; the row of an earlier `Result` will do.
            version: what S3 says; None for 404.
            generation: the project's.

        Returns:
            `SUPERSEDED`: the row has changed in the meantime; ask S3 again with the row of the result.
        """
        now = self._now()
        return self._table.change(
            Image,
            seen.row_key,
            lambda row: states.observe(row, seen, version, generation, now),
            seen,
        )

    def renew(self, image_ids: Iterable[str], generation: int) -> list[Result[Image]]:
        """Mark images as wanted under newer labels, except those that are verified, stale or gone."""
        return self._move(image_ids, lambda row: states.renew(row, generation, self._now()))

    def record_boxes(self, image_id: str, boxes: str, version: str) -> Result[Image]:
        """Record that boxes were dropped with an image; store them before (`boxdrop.store.boxes`).

        Args:
            boxes: their model_version.
            version: the content that they are about.

        Returns:
            `SUPERSEDED`: the image has another content by now, or a person verified it.
        """
        (result,) = self._move([image_id], lambda row: states.bring_boxes(row, boxes, version, self._now()))
        return result

    def adopt_waiting(self, project: str, heir: str, generation: int) -> int:
        """Move waiting images to the project that has since been made from their folder.

        Args:
            project: the outer project; it has no labels.
            heir: the folder's project, ``project/folder``.
            generation: the heir's, 0 if its labels are not in force yet.

        Returns:
            How many images moved.
        """
        entries = self._table.entries(image_partitions(project, State.WAITING))
        adopted = 0
        for some in chunked(entries, _CHUNK):
            rows = self.images(_image_id(entry.key) for entry in some).values()
            mine = [row for row in rows if row.key.startswith(f"{heir}/")]
            adopted += len(_rows(self.adopt(mine, heir, generation), Outcome.APPLIED))
        return adopted

    def adopt(self, images: Iterable[Image], project: str, generation: int) -> list[Result[Image]]:
        """Move images that wait for labels to another project; other images stay."""
        return self._move(images, lambda row: states.adopt(row, project, generation, self._now()))

    def retry(self, image_ids: Iterable[str]) -> list[Result[Image]]:
        """Mark failed images as wanted again."""
        return self._move(image_ids, lambda row: states.retry(row, self._now()))

    def want_older(self, project: str, generation: int, limit: int = 10_000) -> int:
        """Sweep: mark as wanted all images that wait for labels, or were claimed, tasked or failed under
        older ones.

        Images that were handled leave the index ranges that it reads, so an interrupted sweep needs no
        cursor: call until it returns 0.

        Args:
            limit: how many images to check, which bounds the time of a call.

        Returns:
            How many images became wanted.
        """
        tasked_or_failed = "0" * 10, states.generation_mark(generation)
        ranges = [(State.WAITING, " ", "~")]
        if generation > 1:  # before the first labels, images only wait
            for run_id in sorted(self.runs_with_claims(project)):
                run = self.run(project, run_id)
                if run is None or run.generation < generation:
                    ranges.append((State.RUNNING, f"{run_id}#", f"{run_id}#~"))
            ranges += [(state, *tasked_or_failed) for state in (State.TASKED, State.FAILED)]
        wanted = 0
        for state, low, high in ranges:
            entries = self._table.entries(image_partitions(project, state), low, high)
            for some in chunked(itertools.islice(entries, limit), _CHUNK):
                limit -= len(some)
                results = self.renew([_image_id(entry.key) for entry in some], generation)
                wanted += len(_rows(results, Outcome.APPLIED))
        return wanted

    def claim_wanted(
        self,
        project: str,
        run_id: str,
        generation: int,
        limit: int,
        seconds: float = math.inf,
        takes: Callable[[str], bool] = lambda _: True,
    ) -> list[Image]:
        """Claim wanted images for a run, oldest first.

        Create the run first (`start_run`): after a crash in between, reconcile ends that run.

        Args:
            seconds: after which no more are claimed; the first chunk always is.
            takes: whether to claim the image with this id.

        Returns:
            The claimed rows; fewer than `limit` if no more images are wanted, or the time is over.
        """
        listed = self._table.entries(image_partitions(project, State.WANTED))
        entries = (entry for entry in listed if takes(_image_id(entry.key)))
        claimed: list[Image] = []
        until = time.monotonic() + seconds
        while len(claimed) < limit and (not claimed or time.monotonic() < until):
            some = list(itertools.islice(entries, min(limit - len(claimed), _CHUNK)))
            if not some:
                break
            results = self._move(
                [_image_id(entry.key) for entry in some],
                lambda row: states.claim(row, run_id, generation, self._now()),
            )
            claimed += _rows(results, Outcome.APPLIED, Outcome.ALREADY)
        return claimed

    def images_of_run(self, project: str, run_id: str) -> Iterator[Image]:
        """Stream the images that a run has claimed and not finished."""
        entries = self._table.entries(image_partitions(project, State.RUNNING), f"{run_id}#", f"{run_id}#~")
        for some in chunked(entries, _CHUNK):
            for image in self.images(_image_id(entry.key) for entry in some).values():
                if image.state == State.RUNNING and image.run_id == run_id:
                    yield image

    def release_run(
        self,
        project: str,
        run_id: str,
        max_attempts: int = MAX_ATTEMPTS,
        *,
        images: Iterable[Image] | None = None,
        blameless: bool = False,
    ) -> int:
        """Return a dead run's images to wanted; fail an image after `max_attempts` runs died with it.

        Call `finish_run` first. The index may not yet show claims of the last second, so repeat the call;
        what remains, reconcile finds with `runs_with_claims`.

        Args:
            images: those to return, if the caller has them. Default: all that the index shows.
            blameless: no job had started on the images, so the attempt does not count against them.

        Returns:
            How many images it gave back.
        """
        released = 0
        for some in chunked(self.images_of_run(project, run_id) if images is None else images, _CHUNK):
            results = self._move(
                some, lambda row: states.release(row, run_id, self._now(), max_attempts, blameless)
            )
            released += len(_rows(results, Outcome.APPLIED))
        return released

    def runs_with_claims(self, project: str) -> set[str]:
        """The runs that still hold claimed images, found from the images themselves.

        It skips from run to run, so it costs a few reads per run and partition, however many images there
        are.
        """

        def of_partition(partition: str) -> set[str]:
            found: set[str] = set()
            low = " "
            while True:
                entry = next(self._table.entries([partition], low, page=1), None)
                if entry is None:
                    return found
                run_id = entry.sort_key.partition("#")[0]
                found.add(run_id)
                low = f"{run_id}#~"

        return set().union(*self._table.each(of_partition, image_partitions(project, State.RUNNING)))

    def record_tasks(self, publications: Iterable[Publication]) -> list[Result[Image]]:
        """Record what tasks show. `SUPERSEDED`: the image or its labels have changed, or the lease was
        lost."""
        return self._report(publications, states.publish)

    def record_failures(self, failures: Iterable[FailedImage]) -> list[Result[Image]]:
        """Record which images a run could not predict, and why."""
        return self._report(failures, states.fail)

    def _report(
        self,
        reports: Iterable[T],
        rule: Callable[[Image | None, T, datetime], Result[Image]],
    ) -> list[Result[Image]]:
        """Apply a rule to the image that each report names."""
        listed = list(reports)
        ids: list[str] = [report.image_id for report in listed]  # type: ignore[attr-defined]
        known = self.images(ids)
        now = self._now()

        def change(pair: tuple[str, T]) -> Result[Image]:
            image_id, report = pair
            return self._table.change(
                Image, image_key(image_id), lambda row: rule(row, report, now), known.get(image_id)
            )

        return self._table.each(change, zip(ids, listed, strict=True))

    def record_verified(self, image_id: str, version: str, reviewed_at: datetime) -> Result[Image]:
        """Record that a person verified this content; `stale` if it is no longer the object's.

        Args:
            reviewed_at: by Label Studio's clock (the annotation's ``updated_at``): the newest review counts.
        """
        return self._review(image_id, version, reviewed_at)

    def record_unverified(self, image_id: str, reviewed_at: datetime, skipped: bool = False) -> Result[Image]:
        """Record that the task has no submitted annotation any more: it was skipped, or the annotation
        deleted."""
        return self._review(image_id, None, reviewed_at, skipped)

    def _review(
        self, image_id: str, version: str | None, reviewed_at: datetime, skipped: bool = False
    ) -> Result[Image]:
        (result,) = self._move(
            [image_id], lambda row: states.review(row, version, reviewed_at, self._now(), skipped)
        )
        return result

    def record_flag(self, image_id: str, told: State | None) -> Result[Image]:
        """Record the flag that the task now shows: stale, gone, or (None) neither."""
        (result,) = self._move([image_id], lambda row: states.flag(row, told))
        return result

    def record_lost_task(self, image_id: str, task_id: int) -> Result[Image]:
        """Record that a task no longer exists in Label Studio; its image is wanted again."""
        (result,) = self._move([image_id], lambda row: states.lose_task(row, task_id, self._now()))
        return result

    def _move(
        self, images: Iterable[str | Image], rule: Callable[[Image | None], Result[Image]]
    ) -> list[Result[Image]]:
        """Apply one rule to many images, given as rows or by id."""
        listed = list(images)
        known = self.images(each for each in listed if isinstance(each, str))

        def change(image: str | Image) -> Result[Image]:
            if isinstance(image, str):
                return self._table.change(Image, image_key(image), rule, known.get(image))
            return self._table.change(Image, image.row_key, rule, image)

        return self._table.each(change, listed)

    # Images: reading

    def image(self, image_id: str) -> Image | None:
        """One row."""
        return self._table.get(Image, image_key(image_id))

    def images(self, image_ids: Iterable[str]) -> dict[str, Image]:
        """Rows by id, at most a few thousand, in the order of the ids; missing rows are left out."""
        ids = list(dict.fromkeys(image_ids))
        found = self._table.get_many(Image, [image_key(image_id) for image_id in ids])
        return {image_id: found[image_key(image_id)] for image_id in ids if image_key(image_id) in found}

    def list_images(
        self, project: str, state: State, *, cursor: str | None = None, limit: int = _CHUNK
    ) -> Page[Image]:
        """List images in a state, longest in it first.

        Running images are ordered by run, tasked and failed ones by generation. Of verified, stale and gone
        images, those whose task still needs its flag come first.

        Args:
            cursor: from the previous page. An image whose state changes between pages may be missed or appear
                twice.
        """
        entries = self._table.entries(
            image_partitions(project, state), " " if cursor is None else f"{cursor}!", page=min(limit, 500)
        )
        some = list(itertools.islice(entries, limit))
        found = self._table.get_many(Image, [entry.key for entry in some]).values()
        by_id = {image.image_id: image for image in found if image.state == state}
        ids = (_image_id(entry.key) for entry in some)
        rows = tuple(by_id[image_id] for image_id in ids if image_id in by_id)
        return Page(rows, some[-1].sort_key if len(some) == limit else None)

    def images_to_flag(self, project: str, limit: int = _CHUNK) -> list[Image]:
        """Images whose task does not yet show that they are stale or gone, or no longer so."""
        partitions = [
            partition
            for state in (State.STALE, State.GONE, State.VERIFIED)
            for partition in image_partitions(project, state)
        ]
        entries = itertools.islice(self._table.entries(partitions, "due#", "due#~"), limit)
        rows = self.images(_image_id(entry.key) for entry in entries).values()
        return [image for image in rows if image.flag_is_due]

    def oldest_image(self, project: str, state: State) -> Image | None:
        """The image that comes first in `list_images`."""
        entries = self._table.entries(image_partitions(project, state), page=1)
        for entry in entries:
            image = self.image(_image_id(entry.key))
            if image is not None and image.state == state:
                return image
        return None

    def count_images(self, project: str, states_: Iterable[State] = tuple(State)) -> dict[State, int]:
        """How many images are in each state. Reads the index: $0.004 for a million images, on AWS."""
        listed = list(states_)
        pairs = [(state, each) for state in listed for each in image_partitions(project, state)]
        counts = self._table.each(lambda pair: self._table.count(pair[1]), pairs)
        totals = dict.fromkeys(listed, 0)
        for (state, _), count in zip(pairs, counts, strict=True):
            totals[state] += count
        return totals

    def count_skipped(self, project: str, generation: int) -> int:
        """How many of the tasked images of a generation an annotator skipped."""
        low = states.skipped_mark(generation)
        partitions = image_partitions(project, State.TASKED)
        return sum(self._table.each(lambda each: self._table.count(each, low, f"{low}~"), partitions))

    # Projects

    def project(self, name: str) -> Project | None:
        """One project."""
        return self._table.get(Project, projects.project_key(name))

    def projects(self) -> list[Project]:
        """All projects, by name."""
        entries = self._table.entries([projects.PROJECTS])
        found = self._table.get_many(Project, [entry.key for entry in entries]).values()
        return sorted(found, key=lambda project: project.name)

    def projects_named(self, names: Iterable[str]) -> dict[str, Project]:
        """Projects by name, read by key and so strongly consistent; missing projects are left out."""
        keys = {projects.project_key(name): name for name in names}
        return {keys[key]: row for key, row in self._table.get_many(Project, keys).items()}

    def make_project(self, name: str, bucket: str) -> Result[Project]:
        """Record that a project exists, with or without labels."""
        return self._change_project(name, lambda row: projects.make(row, name, bucket))

    def store_labels(
        self,
        name: str,
        bucket: str,
        labels: str | None,
        sequencer: str = "",
        seen: Project | None = None,
        error: str | None = None,
    ) -> Result[Project]:
        """Record the content of the newest ``labels.yaml``; the first one creates the project.

        Args:
            labels: digest of the label set, whose snapshot is already stored; None if it cannot be used.
            sequencer: from the event about ``labels.yaml``, if there was one.
            seen: after `UNORDERED`: the row of that result, once ``labels.yaml`` was read again.
            error: why it cannot be used, in a sentence.
        """
        now = self._now()
        return self._table.change(
            Project,
            projects.project_key(name),
            lambda row: projects.store_labels(row, name, bucket, labels, sequencer, seen, error, now),
        )

    def apply_labels(
        self, name: str, labels: str, detection: str, bundle: tuple[str, str, float] | None = None
    ) -> Result[Project]:
        """Put the stored label set into force; call `want_older` next. A new detection digest raises the
        generation.

        Args:
            bundle: name, digest and default threshold of the detector.
        """
        now = self._now()
        return self._change_project(
            name, lambda row: projects.apply_labels(row, labels, detection, bundle, now)
        )

    def follow_from_now(self, name: str, detection: str) -> Result[Project]:
        """Spare the images that are already there when this detection digest comes into force."""
        return self._change_project(name, lambda row: projects.follow_from_now(row, detection))

    def hold_labels(self, name: str, labels: str, detection: str, images: int) -> Result[Project]:
        """Hold the stored label set until the user approves it; `apply_labels` ends the hold."""
        return self._change_project(name, lambda row: projects.hold_labels(row, labels, detection, images))

    def refuse_labels(self, name: str, labels: str, error: str) -> Result[Project]:
        """Record why the stored label set cannot come into force; the previous one stays."""
        return self._change_project(name, lambda row: projects.refuse_labels(row, labels, error))

    def record_swept(self, name: str, generation: int) -> Result[Project]:
        """Record that the sweep for the labels of this generation is complete."""
        return self._change_project(name, lambda row: projects.spread(row, swept=generation))

    def record_republished(self, name: str, labels: str) -> Result[Project]:
        """Record that stored predictions were sent to publish under these labels' thresholds."""
        return self._change_project(name, lambda row: projects.spread(row, republished=labels))

    def record_prepared(self, name: str, labels: str) -> Result[Project]:
        """Record that Label Studio's project has these labels."""
        return self._change_project(name, lambda row: projects.spread(row, prepared=labels))

    def freeze_labels(self, name: str, label_ids: Mapping[str, int]) -> Result[Project]:
        """Fix label ids for good. `SUPERSEDED`: another caller was first; choose again, starting from the
        row's `label_ids`."""
        return self._change_project(name, lambda row: projects.freeze_labels(row, label_ids))

    def rename_labels(self, name: str, names: Mapping[str, str]) -> Result[Project]:
        """Record that labels were renamed; they keep their ids."""
        return self._change_project(name, lambda row: projects.rename_labels(row, names))

    def connect_project(
        self,
        name: str,
        label_studio_id: int,
        *,
        storage_id: int | None = None,
        webhook_id: int | None = None,
        replacing: int | None = None,
    ) -> Result[Project]:
        """Record the project in Label Studio. `SUPERSEDED`: another caller was first; use the row's project.

        Args:
            replacing: number of a project that no longer exists in Label Studio.
        """
        return self._change_project(
            name, lambda row: projects.connect(row, label_studio_id, storage_id, webhook_id, replacing)
        )

    def record_problem(self, name: str, stage: Stage, problem: str | None) -> Result[Project]:
        """Record why a stage fails, in a sentence; None once it succeeds. Writes only a change."""
        return self._change_project(name, lambda row: projects.record_problem(row, stage, problem))

    def delete_project(self, name: str) -> int:
        """Delete a project's images, runs and leases, and then its own row.

        Returns:
            How many image rows there were.
        """
        partitions = [each for state in State for each in image_partitions(name, state)]
        images = 0
        for some in chunked((entry.key for entry in self._table.entries(partitions)), _CHUNK):
            self._table.delete(list(some))
            images += len(some)
        partition, own = projects.project_key(name)
        keys = [key for key in self._table.keys_under(partition) if key[1] != own]
        self._table.delete([*keys, (partition, own)])
        return images

    def record_audit(self, name: str, label_studio_id: int, newest: int) -> Result[Project]:
        """Record that the image rows know all tasks of the Label Studio project up to this number."""
        return self._change_project(name, lambda row: projects.audit(row, label_studio_id, newest))

    def _change_project(
        self, name: str, rule: Callable[[Project | None], Result[Project]]
    ) -> Result[Project]:
        return self._table.change(Project, projects.project_key(name), rule, self.project(name))

    # Runs

    def start_run(self, project: str, run_id: str, generation: int, deadline: datetime) -> Result[Run]:
        """Create a run, before it claims images."""
        if "#" in run_id:
            raise ValueError(f"run id {run_id!r} has a '#'")
        run = Run(project, run_id, RunState.GATHERING, generation, self._now(), deadline)

        def rule(row: Run | None) -> Result[Run]:
            return Result(Outcome.APPLIED, run) if row is None else Result(Outcome.ALREADY, row)

        return self._table.change(Run, run.row_key, rule)

    def record_submission(
        self,
        project: str,
        run_id: str,
        *,
        attempt: int,
        manifest: str,
        images: int,
        job_ids: Sequence[str],
        deadline: datetime,
    ) -> Result[Run]:
        """Record that a run's manifest was submitted to a job; attempts count from 1."""
        return self._change_run(
            project,
            run_id,
            lambda row: projects.submit(row, attempt, manifest, images, tuple(job_ids), deadline),
        )

    def prolong_run(self, project: str, run_id: str, deadline: datetime) -> Result[Run]:
        """Extend the deadline of a run that is late but alive."""
        return self._change_run(project, run_id, lambda row: projects.prolong(row, deadline))

    def finish_run(
        self, project: str, run_id: str, state: RunState, reason: str | None = None
    ) -> Result[Run]:
        """Record that a run succeeded or failed. After a failure, `release_run` returns its images."""
        return self._change_run(project, run_id, lambda row: projects.finish(row, state, reason, self._now()))

    def run(self, project: str, run_id: str) -> Run | None:
        """One run."""
        return self._table.get(Run, projects.run_key(project, run_id))

    def list_runs(self, project: str, limit: int = 20) -> list[Run]:
        """A project's runs, newest first."""
        partition, prefix = projects.run_key(project, "")
        return self._table.rows_under(Run, partition, prefix, limit)

    def overdue_runs(self) -> list[Run]:
        """Runs of all projects that have not ended and are past their deadline, or have an impossible one."""
        now = self._now()
        entries = self._table.entries([projects.LIVE_RUNS])
        runs = self._table.get_many(Run, [entry.key for entry in entries]).values()
        return [run for run in runs if run.is_live and has_come(run.deadline, now, projects.LONGEST_RUN)]

    def _change_run(
        self, project: str, run_id: str, rule: Callable[[Run | None], Result[Run]]
    ) -> Result[Run]:
        return self._table.change(Run, projects.run_key(project, run_id), rule, self.run(project, run_id))

    # Leases

    def acquire_lease(
        self, project: str, owner: str, *, seconds: float = 60, purpose: str = "publish"
    ) -> Lease | None:
        """Acquire a lease, if it is free or has expired.

        Args:
            owner: a name that is unique to this process and task.
            seconds: how long others wait if this owner dies. Renew after a third of it: clocks differ.

        Returns:
            None while another owner has it.
        """
        now = self._now()
        until = now + timedelta(seconds=seconds)
        result = self._table.change(
            Lease,
            projects.lease_key(project, purpose),
            lambda row: projects.acquire(row, project, purpose, owner, until, now),
        )
        return _if_applied(result)

    def renew_lease(self, lease: Lease, *, seconds: float = 60) -> Lease | None:
        """Renew a lease. None: it was lost; stop, and write nothing more under it.

        A holder that writes anyway does no harm: `record_tasks` takes the lease's token as `fence`, and a row
        written by a newer holder refuses an older token.
        """
        until = self._now() + timedelta(seconds=seconds)
        result = self._table.change(
            Lease, lease.row_key, lambda row: projects.extend(row, lease, lease.owner, until), lease
        )
        return _if_applied(result)

    def release_lease(self, lease: Lease) -> None:
        """Release a lease; harmless if it was lost."""
        until = self._now()
        self._table.change(Lease, lease.row_key, lambda row: projects.extend(row, lease, "", until), lease)


def _image_id(key: Key) -> str:
    return key[0].partition("#")[2]


def _rows(results: Iterable[Result[Image]], *outcomes: Outcome) -> list[Image]:
    return [result.row for result in results if result.outcome in outcomes and result.row is not None]


def _if_applied(result: Result[Lease]) -> Lease | None:
    return result.row if result.outcome == Outcome.APPLIED else None
