"""Rows of projects, runs and leases, and their transition rules; pure, like `states`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from boxdrop.domain.times import has_come, time_text
from boxdrop.ledger.states import Key, Outcome, Result, following, padded

PROJECTS: Final = "project"
"""The index partition that lists the projects. They are few and rarely written."""

LIVE_RUNS: Final = "run#live"
"""The index partition of unfinished runs, by deadline: a handful of writes per minute."""

LONGEST_LEASE: Final = timedelta(minutes=15)
"""Lambda's own limit, which no holder outlives without a renewal."""

LONGEST_RUN: Final = timedelta(hours=2)
"""More than the longest timeout of a job, an hour: a deadline further ahead comes from a wrong clock."""

RUN_LIFE: Final = timedelta(days=400)
_PROBLEM_LENGTH: Final = 600


@dataclass(frozen=True, slots=True)
class Project:
    """A project.

    Attributes:
        name: its prefix in the image bucket, without the trailing slash.
        stored_labels: digest of the newest label set that was stored (``labelsets/<digest>.yaml``).
        labels_sequencer: order of the newest ``labels.yaml``, see `boxdrop.ledger.states.padded`.
        labels_error: why the newest ``labels.yaml`` is not in force, in a sentence; the previous one stays in
            force.
        labels_unread: whether `labels_error` is about a ``labels.yaml`` that is newer than `stored_labels`:
            then it stays, whatever becomes of the stored label set.
        labels_at: when `stored_labels` or `labels_error` last changed.
        labels: digest of the label set that is in force; None while images wait for one.
        detection: the detection digest in force.
        generation: raised each time that `detection` changes; 0 before the first labels.
        bundle_name, bundle_digest: of the detector in force.
        default_threshold: that detector's, for labels that set none.
        applied_at: when `labels` or `detection` last came into force.
        held: detection digest of a change that waits for the user's approval; empty if there is none.
        held_images: how many images it would run again.
        from_now: detection digest of a change that only new images follow, once it comes into force.
        oldest: images detected under generations from this one on stay as they are; 0: the current one.
        swept: the sweeps for generations up to this one are complete.
        republished: digest of the label set under whose thresholds all stored predictions were last sent to
            publish.
        prepared: digest of the label set that Label Studio's project was last updated to.
        label_ids: every label name that the project ever had, with its frozen id.
        label_studio_id, storage_id, webhook_id: Label Studio's ids of the project, its storage and its
            webhook.
        audited_task: the image rows know all tasks of the project up to this number.
        publish_problem, collect_problem: why publish or collect is failing, in a sentence; None once it
            succeeds again.
        revision: how often the row was written; the condition of every write.
    """

    name: str
    bucket: str
    stored_labels: str | None = None
    labels_sequencer: str = ""
    labels_error: str | None = None
    labels_unread: bool = False
    labels_at: datetime | None = None
    labels: str | None = None
    detection: str | None = None
    generation: int = 0
    bundle_name: str | None = None
    bundle_digest: str | None = None
    default_threshold: float | None = None
    applied_at: datetime | None = None
    held: str | None = None
    held_images: int = 0
    from_now: str | None = None
    oldest: int = 0
    swept: int = 0
    republished: str | None = None
    prepared: str | None = None
    label_ids: Mapping[str, int] = field(default_factory=dict)
    label_studio_id: int | None = None
    storage_id: int | None = None
    webhook_id: int | None = None
    audited_task: int = 0
    publish_problem: str | None = None
    collect_problem: str | None = None
    revision: int = 0

    @property
    def row_key(self) -> Key:
        """Where the row is in the table."""
        return project_key(self.name)

    @property
    def index_key(self) -> Key:
        """Where it is in the index."""
        return PROJECTS, self.name

    @property
    def model_version(self) -> str | None:
        """``bundle-name@detection-digest`` of the labels in force, as in predictions."""
        if self.bundle_name is None or self.detection is None:
            return None
        return f"{self.bundle_name}@{self.detection[:8]}"

    @property
    def oldest_generation(self) -> int:
        """Images detected under an older generation than this one run again."""
        return self.oldest or self.generation

    @property
    def labels_are_due(self) -> bool:
        """Whether the newest label set is not in force yet, or has not reached all images and tasks."""
        return self.stored_labels is not None and (
            self.labels != self.stored_labels
            or self.swept < self.oldest_generation
            or self.republished != self.labels
        )


class Stage(StrEnum):
    """A pipeline step whose failures are recorded in the project's row."""

    PUBLISH = "publish"
    COLLECT = "collect"


class RunState(StrEnum):
    """The stage of a run."""

    GATHERING = "gathering"  # claims images, writes its manifest
    SUBMITTED = "submitted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Run:
    """A run.

    Attributes:
        run_id: begins with the time, so text order is time order; contains no ``#``.
        generation: of the labels that it detects with.
        deadline: when to consider it dead, if it has not ended by then.
        attempt: how often its manifest was submitted.
        manifest: key of the manifest in the data bucket.
        images: how many it holds.
        job_ids: every job that it was submitted to; a submission may happen twice.
        reason: why it failed.
        revision: how often the row was written; the condition of every write.
    """

    project: str
    run_id: str
    state: RunState
    generation: int
    created_at: datetime
    deadline: datetime
    attempt: int = 0
    manifest: str | None = None
    images: int = 0
    job_ids: tuple[str, ...] = ()
    finished_at: datetime | None = None
    reason: str | None = None
    expires_at: int | None = None
    revision: int = 0

    @property
    def row_key(self) -> Key:
        """Where the row is in the table."""
        return run_key(self.project, self.run_id)

    @property
    def index_key(self) -> Key | None:
        """Where it is in the index; a finished run is not indexed."""
        if self.is_live:
            return LIVE_RUNS, f"{time_text(self.deadline)}#{self.project}#{self.run_id}"
        return None

    @property
    def is_live(self) -> bool:
        """Whether the run may still deliver images."""
        return self.state in (RunState.GATHERING, RunState.SUBMITTED)


@dataclass(frozen=True, slots=True)
class Lease:
    """An exclusive right to do one kind of work for a project.

    Attributes:
        purpose: the kind of work.
        owner: who holds it; empty once released.
        token: the fencing token; each new owner gets a larger one.
        until: when others may take it, by the owner's clock. Renew well before: clocks differ by seconds. At
            most `LONGEST_LEASE` ahead; a later time does not count.
        revision: how often the row was written; the condition of every write.
    """

    project: str
    purpose: str
    owner: str
    token: int
    until: datetime
    revision: int = 0

    @property
    def row_key(self) -> Key:
        """Where the row is in the table."""
        return lease_key(self.project, self.purpose)

    @property
    def index_key(self) -> None:
        """Leases are not listed."""
        return


def project_key(name: str) -> Key:
    """Where a project's row is in the table; its runs and leases share the partition."""
    return f"project#{name}", "project"


def run_key(project: str, run_id: str) -> Key:
    """Where a run's row is in the table."""
    return f"project#{project}", f"run#{run_id}"


def lease_key(project: str, purpose: str) -> Key:
    """Where a lease is in the table."""
    return f"project#{project}", f"lease#{purpose}"


def make(row: Project | None, name: str, bucket: str) -> Result[Project]:
    """A project got images; it may have no labels yet."""
    return Result(Outcome.APPLIED, Project(name, bucket)) if row is None else Result(Outcome.ALREADY, row)


def store_labels(
    row: Project | None,
    name: str,
    bucket: str,
    labels: str | None,
    sequencer: str,
    seen: Project | None,
    error: str | None,
    now: datetime,
) -> Result[Project]:
    """A ``labels.yaml`` was read: its label set was stored, or (None) it has an error. The newest counts.

    Events are ordered as for images. An error leaves the stored label set unchanged.
    """
    row = row or Project(name, bucket)
    order = padded(sequencer)
    stored = row.stored_labels if labels is None else labels
    if (row.stored_labels, row.labels_error) == (stored, error):
        return Result(Outcome.ALREADY, replace(row, labels_sequencer=max(order, row.labels_sequencer)))
    if row.stored_labels is not None or row.labels_error is not None:
        if seen is not None:
            order = following(seen.labels_sequencer)
        elif not order or order == row.labels_sequencer.partition(".")[0]:
            return Result(Outcome.UNORDERED, row)
        if order <= row.labels_sequencer or (seen and seen.labels_sequencer != row.labels_sequencer):
            return Result(Outcome.SUPERSEDED, row)
    changed = replace(
        row,
        stored_labels=stored,
        labels_error=error,
        labels_unread=error is not None,
        labels_sequencer=order,
        labels_at=now,
    )
    return Result(Outcome.APPLIED, replace(changed, held=None, held_images=0))


def apply_labels(
    row: Project | None, labels: str, detection: str, bundle: tuple[str, str, float] | None, now: datetime
) -> Result[Project]:
    """Put the stored label set into force, unless a newer one was stored in the meantime."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if row.stored_labels != labels:
        return Result(Outcome.SUPERSEDED, row)
    name, digest, threshold = bundle or (row.bundle_name, row.bundle_digest, row.default_threshold)
    oldest, from_now = row.oldest, row.from_now
    if row.detection != detection:
        oldest = row.oldest_generation if from_now == detection else 0
        from_now = None
    applied = replace(
        row,
        labels=labels,
        detection=detection,
        generation=row.generation + (row.detection != detection),
        bundle_name=name,
        bundle_digest=digest,
        default_threshold=threshold,
        held=None,
        held_images=0,
        from_now=from_now,
        oldest=oldest,
        labels_error=row.labels_error if row.labels_unread else None,
    )
    if (row.labels, row.detection) == (labels, detection):
        return Result(Outcome.ALREADY, applied)
    return Result(Outcome.APPLIED, replace(applied, applied_at=now))


def follow_from_now(row: Project | None, detection: str) -> Result[Project]:
    """Once this detection digest comes into force, only new images run with it."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if detection in (row.from_now, row.detection):
        return Result(Outcome.ALREADY, row)
    return Result(Outcome.APPLIED, replace(row, from_now=detection))


def hold_labels(row: Project | None, labels: str, detection: str, images: int) -> Result[Project]:
    """The stored label set would run this many images again: it waits for the user's approval."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if row.stored_labels != labels:
        return Result(Outcome.SUPERSEDED, row)
    error = row.labels_error if row.labels_unread else None
    held = replace(row, held=detection, held_images=images, labels_error=error)
    return Result(Outcome.ALREADY if held == row else Outcome.APPLIED, held)


def refuse_labels(row: Project | None, labels: str, error: str) -> Result[Project]:
    """The stored label set cannot come into force, for example because its detector is missing."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if row.stored_labels != labels:
        return Result(Outcome.SUPERSEDED, row)
    if row.labels_unread or row.labels_error == error:
        return Result(Outcome.ALREADY, row)
    return Result(Outcome.APPLIED, replace(row, labels_error=error))


def spread(
    row: Project | None, *, swept: int = 0, republished: str | None = None, prepared: str | None = None
) -> Result[Project]:
    """The labels in force have reached the images, the stored predictions, or Label Studio's project."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    further = replace(
        row,
        swept=max(row.swept, swept),
        republished=republished or row.republished,
        prepared=prepared or row.prepared,
    )
    return Result(Outcome.ALREADY if further == row else Outcome.APPLIED, further)


def freeze_labels(row: Project | None, label_ids: Mapping[str, int]) -> Result[Project]:
    """Names get permanent ids. If another caller was first, choose again from the row's ids."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    frozen = {**label_ids, **row.label_ids}
    if any(frozen[name] != number for name, number in label_ids.items()):
        return Result(Outcome.SUPERSEDED, row)
    if len(set(frozen.values())) != len(frozen):
        return Result(Outcome.SUPERSEDED, row)
    return Result(
        Outcome.ALREADY if frozen == row.label_ids else Outcome.APPLIED, replace(row, label_ids=frozen)
    )


def rename_labels(row: Project | None, names: Mapping[str, str]) -> Result[Project]:
    """Labels were renamed and keep their ids; `names` maps old names to new ones."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    label_ids = {names.get(name, name): number for name, number in row.label_ids.items()}
    changed = replace(row, label_ids=label_ids)
    return Result(Outcome.ALREADY if changed == row else Outcome.APPLIED, changed)


def connect(
    row: Project | None,
    label_studio_id: int,
    storage_id: int | None,
    webhook_id: int | None,
    replacing: int | None,
) -> Result[Project]:
    """Record the project in Label Studio: the first caller wins, unless the recorded project is to be
    replaced."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if row.label_studio_id not in (None, label_studio_id, replacing):
        return Result(Outcome.SUPERSEDED, row)
    same = (
        row
        if row.label_studio_id == label_studio_id
        else replace(row, storage_id=None, webhook_id=None, audited_task=0)
    )
    connected = replace(
        same,
        label_studio_id=label_studio_id,
        storage_id=same.storage_id if storage_id is None else storage_id,
        webhook_id=same.webhook_id if webhook_id is None else webhook_id,
    )
    return Result(Outcome.ALREADY if connected == row else Outcome.APPLIED, connected)


def record_problem(row: Project | None, stage: Stage, problem: str | None) -> Result[Project]:
    """A stage fails for this reason; None: it works again."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    text = None if problem is None else problem[:_PROBLEM_LENGTH]
    changed = (
        replace(row, publish_problem=text) if stage == Stage.PUBLISH else replace(row, collect_problem=text)
    )
    return Result(Outcome.ALREADY if changed == row else Outcome.APPLIED, changed)


def audit(row: Project | None, label_studio_id: int, newest: int) -> Result[Project]:
    """The image rows know all tasks up to this one."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if row.label_studio_id != label_studio_id:
        return Result(Outcome.SUPERSEDED, row)
    if row.audited_task == newest:
        return Result(Outcome.ALREADY, row)
    return Result(Outcome.APPLIED, replace(row, audited_task=newest))


def submit(
    row: Run | None, attempt: int, manifest: str, images: int, job_ids: tuple[str, ...], deadline: datetime
) -> Result[Run]:
    """The manifest was submitted. A second submission of one attempt made a second job, which is recorded
    too."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if not row.is_live or attempt < row.attempt:
        return Result(Outcome.SUPERSEDED, row)
    jobs = row.job_ids + tuple(job for job in job_ids if job not in row.job_ids)
    submitted = replace(row, state=RunState.SUBMITTED, manifest=manifest, images=images, job_ids=jobs)
    if attempt > row.attempt:
        submitted = replace(submitted, attempt=attempt, deadline=deadline)
    return Result(Outcome.ALREADY if submitted == row else Outcome.APPLIED, submitted)


def prolong(row: Run | None, deadline: datetime) -> Result[Run]:
    """The run is late, but its job is alive."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if not row.is_live:
        return Result(Outcome.SUPERSEDED, row)
    if deadline <= row.deadline:
        return Result(Outcome.ALREADY, row)
    return Result(Outcome.APPLIED, replace(row, deadline=deadline))


def finish(row: Run | None, state: RunState, reason: str | None, now: datetime) -> Result[Run]:
    """The run ended; the first report wins."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if not row.is_live:
        return Result(Outcome.ALREADY if row.state == state else Outcome.SUPERSEDED, row)
    expires_at = int((now + RUN_LIFE).timestamp())
    ended = replace(row, state=state, reason=reason, finished_at=now, expires_at=expires_at)
    return Result(Outcome.APPLIED, ended)


def acquire(
    row: Lease | None, project: str, purpose: str, owner: str, until: datetime, now: datetime
) -> Result[Lease]:
    """A caller asks for the lease; even its current owner gets a new token."""
    if row is not None and (row.owner, row.until) == (owner, until):
        return Result(Outcome.APPLIED, row)  # this very call, whose answer was lost
    if row is not None and row.owner not in ("", owner) and not has_come(row.until, now, LONGEST_LEASE):
        return Result(Outcome.SUPERSEDED, row)
    token = row.token + 1 if row else 1
    revision = row.revision if row else 0
    return Result(Outcome.APPLIED, Lease(project, purpose, owner, token, until, revision))


def extend(row: Lease | None, lease: Lease, owner: str, until: datetime) -> Result[Lease]:
    """The owner renews, or (empty owner) releases the lease. Valid until another takes it, even after it
    expired."""
    if row is None or (row.owner, row.token) != (lease.owner, lease.token):
        return Result(Outcome.SUPERSEDED, row)
    return Result(Outcome.APPLIED, replace(row, owner=owner, until=until))
