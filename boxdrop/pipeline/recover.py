"""recover: return the images of dead runs, and find work that was lost between two steps.

A run's summary ends it. Without one, the failure of its job or, finally, its deadline ends it: its images
become wanted again, and a launch is requested. Images that a finished run still holds are checked: their
part's message was lost, their object was overwritten or deleted, or they have to run again.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from boxdrop.aws.launchers import run_of_job_name
from boxdrop.domain.errors import BoxdropError, RunError
from boxdrop.domain.times import has_come
from boxdrop.iterables import chunked
from boxdrop.ledger import Image, Outcome, Project, Run, RunState, State
from boxdrop.pipeline.dispatch import ask_for_launch
from boxdrop.pipeline.labels import apply_labels, part_event, spread_labels
from boxdrop.services import Services
from boxdrop.store.layout import problem_key
from boxdrop.store.manifests import read_header
from boxdrop.store.parts import list_parts, read_part
from boxdrop.store.reports import read_summary

GRACE: Final = timedelta(minutes=15)
"""How long publishing a finished run's parts may take before its images are checked."""

_CHUNK: Final = 1000


@dataclass(frozen=True, slots=True)
class RecoverSummary:
    """What was found and repaired.

    Attributes:
        failed: runs that were ended as failed, as ``project/run``.
        finished: runs that had succeeded without being recorded.
        released: images by project that are wanted again.
        parts: parts that were sent to publish again.
        launches: projects for which a launch was requested.
        oldest_s: by project, seconds since the longest-waiting image became wanted; 0 if none waits.
        problems: what could not be checked, one sentence each; the rest was.
    """

    failed: tuple[str, ...] = ()
    finished: int = 0
    released: Mapping[str, int] = field(default_factory=dict)
    parts: int = 0
    launches: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    oldest_s: Mapping[str, float] = field(default_factory=dict)


def fail_run(services: Services, project: str, run_id: str, reason: str, *, blameless: bool = False) -> int:
    """End a run as failed, return its images, and request a launch.

    Args:
        reason: a sentence for people.
        blameless: no job had started on the images.

    Returns:
        How many images it returned; 0 if the run had succeeded.
    """
    result = services.ledger.finish_run(project, run_id, RunState.FAILED, reason)
    if result.row is not None and result.row.state == RunState.SUCCEEDED:
        return 0
    released = services.ledger.release_run(project, run_id, blameless=blameless)
    if released:
        ask_for_launch(services.launches, [project])
    return released


def fail_run_by_id(services: Services, run_id: str, reason: str) -> tuple[str, int]:
    """Like `fail_run`, for a caller that knows only the run; also returns its project.

    The job's own reason is added: AWS Batch knows only its exit code.

    Raises:
        RunError: it has no manifest.
    """
    project = read_header(services.data, run_id).project
    said = services.data.get(problem_key(run_id))
    if said is not None and (words := said.body.decode("utf-8", "replace")) not in reason:
        reason = f"{reason}: {words}"
    return project, fail_run(services, project, run_id, reason)


def failed_runs(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The runs whose jobs have failed for good according to an event, each with the reason.

    Args:
        event: EventBridge's "Batch Job State Change"
            (https://docs.aws.amazon.com/batch/latest/userguide/batch_job_events.html), or SNS's notification
            that a SageMaker asynchronous invocation failed
            (https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-check-predictions.html).
    """
    if event.get("source") == "aws.batch":
        detail = event.get("detail", {})
        run_id = run_of_job_name(str(detail.get("jobName", "")))
        # An array job ends when all of its children have ended; their events arrive as well, as ID:INDEX.
        is_child = "index" in (detail.get("arrayProperties") or {})
        if run_id and detail.get("status") == "FAILED" and not is_child:
            yield run_id, f"AWS Batch: {detail.get('statusReason') or 'the job failed'}"
        return
    for record in event.get("Records", ()):
        try:
            notice = json.loads(record["Sns"]["Message"])
            run_id = run_of_job_name(str(notice.get("inferenceId", "")))
            failed = notice.get("invocationStatus") == "Failed"
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        if run_id and failed:
            yield run_id, f"SageMaker: {notice.get('failureReason') or 'the invocation failed'}"


def recover(services: Services, grace: timedelta = GRACE) -> RecoverSummary:
    """Check all projects and runs, and repair what was lost. Safe at any time.

    Args:
        grace: see `GRACE`.
    """
    return Recovery(services, grace).recover()


class Recovery:
    """One pass of `recover`."""

    def __init__(self, services: Services, grace: timedelta) -> None:
        self._services = services
        self._ledger = services.ledger
        self._grace = grace
        self._now = services.clock
        self._window = timedelta(seconds=services.settings.window_s)
        self._job_timeout = timedelta(seconds=services.settings.job_timeout_s)

    def recover(self) -> RecoverSummary:
        """End overdue runs, then check each project."""
        self._failed: list[str] = []
        self._finished = 0
        self._sent = 0
        self._released: Counter[str] = Counter()
        self._asked: set[str] = set()
        self._problems: list[str] = []
        self._oldest: dict[str, float] = {}
        for run in self._ledger.overdue_runs():
            self._guard(lambda run=run: self._end(run))  # type: ignore[misc]
        for project in self._ledger.projects():
            self._guard(lambda project=project: self._look_at(project))  # type: ignore[misc]
        ask_for_launch(self._services.launches, sorted(self._asked))
        return RecoverSummary(
            tuple(self._failed),
            self._finished,
            dict(self._released),
            self._sent,
            tuple(sorted(self._asked)),
            tuple(self._problems),
            dict(self._oldest),
        )

    def _guard(self, look: Callable[[], None]) -> None:
        """An error in one project does not affect the others."""
        try:
            look()
        except BoxdropError as error:
            self._problems.append(str(error))

    def _end(self, run: Run) -> None:
        if read_summary(self._services.data, run.run_id) is not None:
            finished = self._ledger.finish_run(run.project, run.run_id, RunState.SUCCEEDED)
            self._finished += finished.outcome == Outcome.APPLIED
            return
        gathering = run.state == RunState.GATHERING
        reason = "the launch died before it submitted the run"
        if run.state == RunState.SUBMITTED:
            launcher = self._services.launcher
            if launcher.is_alive(run.job_ids):
                self._ledger.prolong_run(run.project, run.run_id, self._now() + self._job_timeout)
                return
            reason = launcher.failure(run.job_ids) or "its deadline passed and no job is working on it"
        ended = self._ledger.finish_run(run.project, run.run_id, RunState.FAILED, reason)
        if ended.outcome == Outcome.APPLIED:
            self._failed.append(f"{run.project}/{run.run_id}")
        self._release(run.project, run.run_id, None, blameless=gathering)

    def _look_at(self, project: Project) -> None:
        name = project.name
        if project.stored_labels is not None:
            apply_labels(self._services, name, limit=self._services.settings.apply_limit)
            spread_labels(self._services, name)
            project = self._ledger.project(name) or project
        if project.generation:  # rows that the index did not show when the labels came
            self._ledger.want_older(name, project.oldest_generation)
        for run_id in sorted(self._ledger.runs_with_claims(name)):
            run = self._ledger.run(name, run_id)
            if run is None or run.state == RunState.FAILED:
                self._release(name, run_id, None, blameless=False)
            elif run.finished_at is not None and self._is_over(run.finished_at, self._grace):
                self._settle(run)
        oldest = self._ledger.oldest_image(name, State.WANTED)
        if oldest is not None and self._is_over(oldest.since, 2 * self._window):
            self._asked.add(name)
        waiting = (oldest, self._ledger.oldest_image(name, State.RUNNING))
        ages = (self._now() - (image.wanted_at or image.since) for image in waiting if image is not None)
        self._oldest[name] = max((age.total_seconds() for age in ages), default=0.0)

    def _is_over(self, since: datetime, wait: timedelta) -> bool:
        """Whether so much time has passed since a time in the ledger, which may be a little ahead."""
        return has_come(since + wait, self._now(), 2 * wait)

    def _settle(self, run: Run) -> None:
        """Images that a finished run still holds."""
        recorded: dict[str, list[tuple[str, str]]] | None = None
        for some in chunked(self._ledger.images_of_run(run.project, run.run_id), _CHUNK):
            if recorded is None:
                recorded = self._recorded(run)
            left = []
            keys: dict[str, None] = {}
            for image in some:
                found = [key for key, version in recorded.get(image.image_id, []) if version == image.version]
                keys |= dict.fromkeys(found)
                if not found:
                    left.append(image)
            data = self._services.data.name
            self._sent += self._services.parts.send_all(part_event(data, key) for key in keys)
            self._release(run.project, run.run_id, [image for image in left if not self._has_moved(image)])

    def _recorded(self, run: Run) -> dict[str, list[tuple[str, str]]]:
        """Maps images to the parts of a run with their record, and its version."""
        found: dict[str, list[tuple[str, str]]] = {}
        for part in list_parts(self._services.data, run.project, run.run_id):
            try:
                records = read_part(self._services.data, part.key).records
            except RunError as error:
                self._problems.append(str(error))
                continue
            for record in records:
                found.setdefault(record.image_id, []).append((part.key, record.version))
        return found

    def _has_moved(self, image: Image) -> bool:
        """Whether the object changed without an event; if so, the row is updated."""
        version = self._services.images.version(image.key)
        if version == image.version:
            return False
        self._ledger.observe(image, version, image.generation)
        self._asked.add(image.project)
        return True

    def _release(
        self, project: str, run_id: str, images: Iterable[Image] | None, *, blameless: bool = False
    ) -> None:
        released = self._ledger.release_run(project, run_id, images=images, blameless=blameless)
        if released:
            self._released[project] += released
            self._asked.add(project)
