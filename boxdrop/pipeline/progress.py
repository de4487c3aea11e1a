"""progress: how far a project is, what it waits for, and about how long."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from boxdrop.ledger import Image, Ledger, Project, Run, RunState, State

_RUNS: Final = 20
_UNDONE: Final = (State.WANTED, State.RUNNING)


@dataclass(frozen=True, slots=True)
class Progress:
    """A project, seen at one moment.

    Attributes:
        counts: images by state.
        oldest: the image that has waited longest for boxes.
        runs: the newest ones, newest first.
        stage: what happens now, or has to happen: a sentence without its full stop.
        problem: what somebody has to do something about; None if nothing.
        wait_s: seconds until the last of the images now undone has its boxes; None if nothing is undone, or
            no run tells how long it takes.
    """

    project: Project
    counts: Mapping[State, int]
    oldest: Image | None
    runs: tuple[Run, ...]
    stage: str
    problem: str | None
    wait_s: float | None


def look(ledger: Ledger, project: Project, window_s: float = 0, now: datetime | None = None) -> Progress:
    """See how far a project is. Costs what `Ledger.count_images` costs.

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
    return Progress(
        project,
        counts,
        min(oldest, key=lambda image: image.wanted_at or image.since, default=None),
        runs,
        _stage(project, counts, runs),
        _problem(project),
        expected_wait(runs, counts[State.WANTED], counts[State.RUNNING], window_s, moment),
    )


def _problem(project: Project) -> str | None:
    if project.labels_error is not None:
        stay = "; the labels before it stay in force" if project.labels is not None else ""
        return f"{project.labels_error}{stay}"
    if project.held is not None:
        return (
            f"labels.yaml changed so that {project.held_images:,} images would run again: "
            f"`boxdrop apply {project.name}` does it, putting the old labels.yaml back forgets it"
        )
    return None


def _stage(project: Project, counts: Mapping[State, int], runs: Sequence[Run]) -> str:
    if project.labels is None and project.labels_error is None and project.stored_labels is None:
        return f"waits for s3://{project.bucket}/{project.name}/labels.yaml"
    if project.labels is None:
        return "its labels come into force" if project.labels_error is None else "waits for labels"
    live = [run for run in runs if run.is_live]
    submitted = sum(run.images for run in live if run.state == RunState.SUBMITTED)
    if submitted:
        said = f"{submitted:,} images are with the detector"
        return f"{said}, {counts[State.WANTED]:,} wait for the next launch" if counts[State.WANTED] else said
    if live:
        return "a run is gathering its images"
    if counts[State.WANTED]:
        return f"{counts[State.WANTED]:,} images wait for a launch"
    if counts[State.RUNNING]:
        return f"{counts[State.RUNNING]:,} images are on their way into Label Studio"
    if counts[State.TASKED]:
        return f"{counts[State.TASKED]:,} images are ready to be verified"
    return "nothing to do" if any(counts.values()) else "waits for images"


def expected_wait(
    runs: Sequence[Run], wanted: int, running: int, window_s: float, now: datetime
) -> float | None:
    """Seconds until images that are undone now have their boxes, if it goes as in the last runs.

    A run takes at least as long as the quickest one did (a cold start), and for many images as long as the
    best throughput seen asks for.
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
