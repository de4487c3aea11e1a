"""progress: a project's stage, what it waits for and about how long, and what holds it up."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from shlex import quote
from typing import Final

from boxdrop.ledger import Image, Ledger, Project, Run, RunState, State

_RUNS: Final = 20
_UNDONE: Final = (State.WANTED, State.RUNNING)

LATE: Final = timedelta(minutes=20)
"""How long a run may wait for its machine before the operator should check: a cold start takes about five
minutes, and Spot capacity varies."""

_REASONS_SHOWN: Final = 3
_SYSTEMIC: Final = frozenset({"labels", "refused", "run_died", "denied"})
"""Failure reasons that are not the image's fault: fixing one cause fixes all its images."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A project's state at one moment.

    Attributes:
        counts: images by state.
        oldest: the image that has waited longest for boxes.
        runs: the newest ones, newest first.
        stage: what happens now, or has to happen: a sentence without its full stop.
        problems: what keeps images from going on, a sentence each with the way out; empty if nothing does.
        failures: why images have failed by a fault of their own, a sentence per reason.
        skipped: tasked images that an annotator skipped: they are not waiting to be verified.
        wait_s: seconds until the last of the images now undone has its boxes; None if nothing is undone,
            something holds them up, or there is no earlier run to estimate from.
    """

    project: Project
    counts: Mapping[State, int]
    oldest: Image | None
    runs: tuple[Run, ...]
    stage: str
    problems: tuple[str, ...]
    wait_s: float | None
    failures: tuple[str, ...] = ()
    skipped: int = 0


def look(ledger: Ledger, project: Project, window_s: float = 0, now: datetime | None = None) -> Progress:
    """Read a project's progress. Costs as much as `Ledger.count_images`.

    Args:
        window_s: how long launch lets images gather.
        now: the time.
    """
    moment = now or datetime.now(UTC)
    counts = ledger.count_images(project.name)
    runs = tuple(ledger.list_runs(project.name, _RUNS))
    oldest = [
        image
        for state in (State.WAITING, *_UNDONE)
        if counts[state] and (image := ledger.oldest_image(project.name, state)) is not None
    ]
    stopping = _problems(project, counts, runs, moment)
    in_force = range(project.oldest_generation, project.generation + 1)
    skipped = (
        sum(ledger.count_skipped(project.name, each) for each in in_force) if counts[State.TASKED] else 0
    )
    failed, systemic = _failures(ledger, project.name) if counts[State.FAILED] else ((), ())
    return Progress(
        project,
        counts,
        min(oldest, key=lambda image: image.wanted_at or image.since, default=None),
        runs,
        stage_of(project, counts, runs, skipped),
        (*stopping, *systemic),
        None
        if stopping
        else expected_wait(runs, counts[State.WANTED], counts[State.RUNNING], window_s, moment),
        failed,
        skipped,
    )


def images_said(number: int) -> str:
    """``1 image``, ``2,000 images``."""
    return f"{number:,} image{'' if number == 1 else 's'}"


def _problems(
    project: Project, counts: Mapping[State, int], runs: Sequence[Run], now: datetime
) -> tuple[str, ...]:
    """What holds images up."""
    name = quote(project.name)
    found = []
    if project.labels_error is not None:
        stay = "; the labels before it stay in force" if project.labels is not None else ""
        found.append(f"{project.labels_error}{stay}")
    if project.held is not None:
        found.append(
            f"labels.yaml changed so that {images_said(project.held_images)} would run again: "
            f"`boxdrop apply {name}` runs them, restoring the old labels.yaml cancels the change"
        )
    undone = counts[State.WANTED] + counts[State.RUNNING]
    ended = next((run for run in runs if not run.is_live), None)
    if ended is not None and ended.state == RunState.FAILED and undone + counts[State.FAILED]:
        again = "; they are tried again" if counts[State.WANTED] or any(run.is_live for run in runs) else ""
        found.append(f"the last run failed: {ended.reason or 'the reason is unknown'}{again}")
    late = [run for run in runs if run.state == RunState.SUBMITTED and now - run.created_at >= LATE]
    if late and counts[State.RUNNING] >= late[-1].images:
        minutes = (now - late[-1].created_at).total_seconds() / 60
        found.append(
            f"the run {late[-1].run_id} has waited {minutes:.0f} min and none of its images is done: there "
            "may be no machine for it; `boxdrop doctor` with --system checks quotas and jobs"
        )
    if project.publish_problem is not None:
        found.append(
            f"boxes cannot be published to Label Studio: {project.publish_problem}. "
            f"Once that is fixed: boxdrop retry {name}"
        )
    if project.collect_problem is not None:
        found.append(
            f"verified work cannot be read: {project.collect_problem}. "
            f"Once that is fixed: boxdrop sync {name}"
        )
    return tuple(found)


def _failures(ledger: Ledger, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Why images failed, most frequent reasons first: by their own fault, and by another cause."""
    rows = ledger.list_images(name, State.FAILED).rows
    reasons = Counter(image.reason or "unknown" for image in rows)
    own, systemic = [], []
    for reason, count in reasons.most_common():
        example = next(image for image in rows if (image.reason or "unknown") == reason)
        said = f"{images_said(count)} failed ({reason}): {example.message or 'no details'}"
        if reason in _SYSTEMIC:
            systemic.append(f"{said}. Once that is fixed: boxdrop retry {quote(name)}")
        else:
            own.append(said)
    if own:
        more = f"; {len(own) - _REASONS_SHOWN} more reasons" if len(own) > _REASONS_SHOWN else ""
        own = own[:_REASONS_SHOWN]
        own[-1] += f"{more} (all of them: boxdrop status {quote(name)} --failures)"
    return tuple(own), tuple(systemic)


def stage_of(project: Project, counts: Mapping[State, int], runs: Sequence[Run], skipped: int) -> str:
    """What happens now, or has to happen: a sentence without its full stop."""
    if project.labels is None and project.labels_error is None and project.stored_labels is None:
        return f"waits for s3://{project.bucket}/{project.name}/labels.yaml"
    if project.labels is None:
        return "its labels come into force" if project.labels_error is None else "waits for labels"
    live = [run for run in runs if run.is_live]
    submitted = sum(run.images for run in live if run.state == RunState.SUBMITTED)
    verb = "is" if submitted == 1 else "are"
    wanted = f"{images_said(counts[State.WANTED])} wait{'s' if counts[State.WANTED] == 1 else ''}"
    if submitted:
        said = f"{images_said(submitted)} {verb} with the detector"
        return f"{said}, {wanted} for the next launch" if counts[State.WANTED] else said
    if live:
        return "a run is gathering its images"
    if counts[State.WANTED]:
        return f"{wanted} for a launch"
    if counts[State.RUNNING]:
        verb = "is" if counts[State.RUNNING] == 1 else "are"
        return f"{images_said(counts[State.RUNNING])} {verb} on the way to Label Studio"
    ready = counts[State.TASKED] - skipped
    if ready > 0:
        said = f"{images_said(ready)} {'is' if ready == 1 else 'are'} ready to be verified"
        return f"{said}, {skipped:,} {'was' if skipped == 1 else 'were'} skipped" if skipped else said
    if skipped:
        was = "was" if skipped == 1 else "were"
        return f"{images_said(skipped)} {was} skipped (the tab Skipped); nothing else is left to verify"
    if counts[State.FAILED]:
        return f"done, but {images_said(counts[State.FAILED])} failed"
    return "nothing to do" if any(counts.values()) else "waits for images"


def expected_wait(
    runs: Sequence[Run], wanted: int, running: int, window_s: float, now: datetime
) -> float | None:
    """Seconds until all pending images have their boxes, estimated from the last runs.

    A run takes at least as long as the fastest one did (a cold start), and for many images as long as the
    best throughput so far allows.
    """
    done = [
        (run.images, (run.finished_at - run.created_at).total_seconds())
        for run in runs
        if run.state == RunState.SUCCEEDED and run.images and run.finished_at is not None
    ]
    if not done or not wanted + running:
        return None
    quickest = min(seconds for _, seconds in done)
    rate = max(images / max(seconds, 0.001) for images, seconds in done)
    total = max(quickest, (wanted + running) / rate)
    if wanted:
        return window_s + total
    began = [run.created_at for run in runs if run.is_live]
    passed = now - min(began, default=now)
    return max(0.0, total - max(passed, timedelta()).total_seconds())
