"""The ledger: what boxdrop knows of every image, project and run. See docs/ledger.md.

This file is long because it is the one door to the table: a method for each question and each change.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from boxdrop.domain.times import time_text
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

_CHUNK: Final = 1000  # rows held at once by what goes over many


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """Some rows of a listing, and where it goes on; no cursor at its end."""

    rows: tuple[R, ...]
    cursor: str | None


class Ledger:
    """Rows of images, projects and runs in one DynamoDB table. Safe to use from several threads.

    Every change is one conditional write, and says what became of it; a lost race is an outcome, never an
    exception. A change that is repeated, because its answer or whoever asked for it was lost, finds that it
    is so `ALREADY`: what to do next is told by the row of the result, never by `APPLIED` alone.

    Changes of many images are made several at once, and answered in the order in which they were given. What
    is read by key is strongly consistent; listings and counts read an index, which follows within about a
    second.

    Args:
        table: its name.
        client: boto3's DynamoDB client; by default one made from the environment.
        clock: the time, with its zone; tests set it.
        workers: calls under way at once.

    Raises:
        LedgerError: from every method, if the table is missing, closed to these credentials, throttled for
            long, or out of reach.
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
        """Record that objects are there: new content is wanted, or stale where a person had verified the old.

        Args:
            sightings: of one project, at most some thousands.
            generation: the project's, 0 if it has no labels. Then read the project *after* this, and `renew`
                the images if labels have come; whoever brings labels into force sweeps with `want_older`.

        Returns:
            For each sighting. A row that is wanted asks for a launch. `UNORDERED`: ask S3 what the object is,
            and `observe` that.
        """
        return self._sight(sightings, generation)

    def mark_gone(self, sightings: Iterable[Sighting]) -> list[Result[Image]]:
        """Record that objects were deleted; of images never heard of, too: their creation may come later.

        The deletion of one *version* (EventBridge's "Permanently Deleted" with a version-id) is not that of
        the object: look at the object and `observe` it.
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
        """Record what an object is, where events have no order: read the row, *then* ask S3, then call this.

        Args:
            seen: the row as it was read before S3 was asked; a `Result` of this ledger will do.
            version: what S3 says; None for 404.
            generation: the project's.

        Returns:
            `SUPERSEDED`: the row has moved meanwhile; ask S3 again with the row of the result.
        """
        now = self._now()
        return self._table.change(
            Image,
            seen.row_key,
            lambda row: states.observe(row, seen, version, generation, now),
            seen,
        )

    def renew(self, image_ids: Iterable[str], generation: int) -> list[Result[Image]]:
        """Want images again under newer labels, but those that are verified, stale or gone."""
        return self._move(image_ids, lambda row: states.renew(row, generation, self._now()))

    def adopt_waiting(self, project: str, heir: str, generation: int) -> int:
        """Give the images that wait in a project, in a folder of it that is a project by now, to that one.

        Args:
            project: which has no labels.
            heir: the folder's, ``project/folder``.
            generation: the heir's, 0 if its labels are not in force yet.

        Returns:
            How many images it got.
        """
        entries = self._table.entries(image_partitions(project, State.WAITING))
        adopted = 0
        for some in chunked(entries, _CHUNK):
            rows = self.images(_image_id(entry.key) for entry in some).values()
            mine = [row for row in rows if row.key.startswith(f"{heir}/")]
            adopted += len(_rows(self.adopt(mine, heir, generation), Outcome.APPLIED))
        return adopted

    def adopt(self, images: Iterable[Image], project: str, generation: int) -> list[Result[Image]]:
        """Move images that wait for labels to another project; others stay where they are."""
        return self._move(images, lambda row: states.adopt(row, project, generation, self._now()))

    def retry(self, image_ids: Iterable[str]) -> list[Result[Image]]:
        """Want failed images again."""
        return self._move(image_ids, lambda row: states.retry(row, self._now()))

    def want_older(self, project: str, generation: int, limit: int = 10_000) -> int:
        """Sweep: want again what waits for labels, or was claimed, tasked or failed under older ones.

        What is done leaves the ranges that are read, so a sweep that dies needs no cursor: call until it
        returns 0.

        Args:
            limit: how many to look at, so that a call ends in time.

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

    def claim_wanted(self, project: str, run_id: str, generation: int, limit: int) -> list[Image]:
        """Claim wanted images for a run, oldest first.

        Make the run before (`start_run`), so that a crash in between leaves a run that somebody ends.

        Returns:
            The rows that are now the run's; fewer than `limit` if there are no more.
        """
        entries = self._table.entries(image_partitions(project, State.WANTED))
        claimed: list[Image] = []
        while len(claimed) < limit:
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
        """Stream the images that a run has claimed and not brought to an end."""
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
        """Put back to wanted what a dead run has claimed; fail an image that `max_attempts` runs died with.

        `finish_run` goes before. Repeat it: the index may not yet show what was claimed a second ago;
        reconcile finds it by `runs_with_claims`.

        Args:
            images: those to give back, if the caller has them; default: all that the index shows.
            blameless: no job has touched the images, so the attempt does not count against them.

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
        """The runs that have claimed images and not brought them to an end, by the images themselves.

        Costs a few reads a run and partition, however many images there are: it skips from run to run.
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
        """Record what tasks show. `SUPERSEDED`: the image or its labels are newer, or the lease was lost."""
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

    def record_unverified(self, image_id: str, reviewed_at: datetime) -> Result[Image]:
        """Record that no submitted annotation is left: skipped, or deleted."""
        return self._review(image_id, None, reviewed_at)

    def _review(self, image_id: str, version: str | None, reviewed_at: datetime) -> Result[Image]:
        (result,) = self._move([image_id], lambda row: states.review(row, version, reviewed_at, self._now()))
        return result

    def record_flag(self, image_id: str, told: State | None) -> Result[Image]:
        """Record what people now read on the task: stale, gone, or (None) neither."""
        (result,) = self._move([image_id], lambda row: states.flag(row, told))
        return result

    def record_lost_task(self, image_id: str, task_id: int) -> Result[Image]:
        """Record that a task is no longer in Label Studio; its image is wanted again."""
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
        """Rows by id, at most some thousands, in the order of the ids, without those that are not there."""
        ids = list(dict.fromkeys(image_ids))
        found = self._table.get_many(Image, [image_key(image_id) for image_id in ids])
        return {image_id: found[image_key(image_id)] for image_id in ids if image_key(image_id) in found}

    def list_images(
        self, project: str, state: State, *, cursor: str | None = None, limit: int = _CHUNK
    ) -> Page[Image]:
        """List images in a state, longest in it first.

        Running ones come run by run, tasked and failed ones by generation, and of verified, stale and gone
        ones those first whose task has to be told.

        Args:
            cursor: of the page before. Images that change their state between pages may be missed, or come
                again.
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
        """Images whose task still has to be told that they are stale or gone, or no longer so."""
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
        """Projects by name, read by key, so that what was written a moment ago is there; else missing."""
        keys = {projects.project_key(name): name for name in names}
        return {keys[key]: row for key, row in self._table.get_many(Project, keys).items()}

    def make_project(self, name: str, bucket: str) -> Result[Project]:
        """Record that a project is there, with or without labels."""
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
        """Record what the newest ``labels.yaml`` says; makes the project if it is the first.

        Args:
            labels: digest of the label set, whose snapshot is stored already; None if it cannot be used.
            sequencer: of the event about ``labels.yaml``, where there is one.
            seen: on `UNORDERED`: that result's row, if ``labels.yaml`` was read anew after it.
            error: why it cannot be used, a sentence.
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
        """Bring the stored label set into force; then `want_older`. New detection, new generation.

        Args:
            bundle: name, digest and default threshold of the detector.
        """
        now = self._now()
        return self._change_project(
            name, lambda row: projects.apply_labels(row, labels, detection, bundle, now)
        )

    def hold_labels(self, name: str, labels: str, detection: str, images: int) -> Result[Project]:
        """Let the stored label set wait until somebody says yes; `apply_labels` ends it."""
        return self._change_project(name, lambda row: projects.hold_labels(row, labels, detection, images))

    def refuse_labels(self, name: str, labels: str, error: str) -> Result[Project]:
        """Record why the stored label set cannot come into force; the one before it stays."""
        return self._change_project(name, lambda row: projects.refuse_labels(row, labels, error))

    def record_swept(self, name: str, generation: int) -> Result[Project]:
        """Record that all images have been wanted again for the labels of this generation."""
        return self._change_project(name, lambda row: projects.spread(row, swept=generation))

    def record_republished(self, name: str, labels: str) -> Result[Project]:
        """Record that stored predictions were sent to be published under these labels' thresholds."""
        return self._change_project(name, lambda row: projects.spread(row, republished=labels))

    def record_prepared(self, name: str, labels: str) -> Result[Project]:
        """Record that Label Studio's project has these labels."""
        return self._change_project(name, lambda row: projects.spread(row, prepared=labels))

    def freeze_labels(self, name: str, label_ids: Mapping[str, int]) -> Result[Project]:
        """Fix label ids for ever. `SUPERSEDED`: others were given; choose anew with the row's `label_ids`."""
        return self._change_project(name, lambda row: projects.freeze_labels(row, label_ids))

    def rename_labels(self, name: str, names: Mapping[str, str]) -> Result[Project]:
        """Record that labels have other names and keep their ids."""
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
        """Record the project in Label Studio. `SUPERSEDED`: somebody else's was first, use that of the row.

        Args:
            replacing: number of one that is no longer in Label Studio.
        """
        return self._change_project(
            name, lambda row: projects.connect(row, label_studio_id, storage_id, webhook_id, replacing)
        )

    def record_problem(self, name: str, stage: Stage, problem: str | None) -> Result[Project]:
        """Record why a stage fails, a sentence; None once it succeeds. Writes only what changed."""
        return self._change_project(name, lambda row: projects.record_problem(row, stage, problem))

    def delete_project(self, name: str) -> int:
        """Delete the rows of a project, its images, runs and leases; its own row last.

        Returns:
            How many rows of images there were.
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
        """Record that the images' rows know all tasks of the Label Studio project up to this number."""
        return self._change_project(name, lambda row: projects.audit(row, label_studio_id, newest))

    def _change_project(
        self, name: str, rule: Callable[[Project | None], Result[Project]]
    ) -> Result[Project]:
        return self._table.change(Project, projects.project_key(name), rule, self.project(name))

    # Runs

    def start_run(self, project: str, run_id: str, generation: int, deadline: datetime) -> Result[Run]:
        """Make a run, before it claims images."""
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
        """Record that a run's manifest was given to a job; attempts count from 1."""
        return self._change_run(
            project,
            run_id,
            lambda row: projects.submit(row, attempt, manifest, images, tuple(job_ids), deadline),
        )

    def prolong_run(self, project: str, run_id: str, deadline: datetime) -> Result[Run]:
        """Let a run that is alive, but late, have more time."""
        return self._change_run(project, run_id, lambda row: projects.prolong(row, deadline))

    def finish_run(
        self, project: str, run_id: str, state: RunState, reason: str | None = None
    ) -> Result[Run]:
        """Record that a run succeeded or failed. After a failure, `release_run` gives the images back."""
        return self._change_run(project, run_id, lambda row: projects.finish(row, state, reason, self._now()))

    def run(self, project: str, run_id: str) -> Run | None:
        """One run."""
        return self._table.get(Run, projects.run_key(project, run_id))

    def list_runs(self, project: str, limit: int = 20) -> list[Run]:
        """A project's runs, newest first."""
        partition, prefix = projects.run_key(project, "")
        return self._table.rows_under(Run, partition, prefix, limit)

    def overdue_runs(self) -> list[Run]:
        """Runs that have not ended though their deadline is over, of all projects."""
        now = self._now()
        entries = self._table.entries([projects.LIVE_RUNS], high=time_text(now))
        runs = self._table.get_many(Run, [entry.key for entry in entries]).values()
        return [run for run in runs if run.is_live and run.deadline <= now]

    def _change_run(
        self, project: str, run_id: str, rule: Callable[[Run | None], Result[Run]]
    ) -> Result[Run]:
        return self._table.change(Run, projects.run_key(project, run_id), rule, self.run(project, run_id))

    # Leases

    def acquire_lease(
        self, project: str, owner: str, *, seconds: float = 60, purpose: str = "publish"
    ) -> Lease | None:
        """Take a lease, if it is free or has run out.

        Args:
            owner: a name of this process and task that no other has.
            seconds: how long others wait should this owner die. Renew at a third of it: clocks differ.

        Returns:
            None while another has it.
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
        """Keep a lease. None: it is lost; stop, and write nothing more under it.

        A holder that writes all the same is refused where it matters: `record_tasks` takes the lease's token
            as `fence`, and a row that a newer holder wrote takes none that is older.
        """
        until = self._now() + timedelta(seconds=seconds)
        result = self._table.change(
            Lease, lease.row_key, lambda row: projects.extend(row, lease, lease.owner, until), lease
        )
        return _if_applied(result)

    def release_lease(self, lease: Lease) -> None:
        """Give a lease back at once; no harm if it was lost."""
        until = self._now()
        self._table.change(Lease, lease.row_key, lambda row: projects.extend(row, lease, "", until), lease)


def _image_id(key: Key) -> str:
    return key[0].partition("#")[2]


def _rows(results: Iterable[Result[Image]], *outcomes: Outcome) -> list[Image]:
    return [result.row for result in results if result.outcome in outcomes and result.row is not None]


def _if_applied(result: Result[Lease]) -> Lease | None:
    return result.row if result.outcome == Outcome.APPLIED else None
