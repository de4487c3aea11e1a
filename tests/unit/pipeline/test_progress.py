"""How long images wait, told from the last runs."""

from datetime import UTC, datetime, timedelta

import pytest

from boxdrop.ledger import Project, Run, RunState, State
from boxdrop.pipeline.progress import expected_wait, stage_of

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def run(images: int, seconds: float, state: RunState = RunState.SUCCEEDED, ago_s: float = 3600) -> Run:
    began = NOW - timedelta(seconds=ago_s)
    ended = began + timedelta(seconds=seconds) if state == RunState.SUCCEEDED else None
    return Run("fruit", f"{images}", state, 1, began, NOW, images=images, finished_at=ended)


COLD, LARGE = run(10, 200), run(10_000, 600)


@pytest.mark.parametrize(
    ("runs", "wanted", "running", "expected"),
    [
        ([COLD, LARGE], 0, 0, None),  # nothing to wait for
        ([run(10, 0, RunState.FAILED)], 5, 0, None),  # nobody knows
        ([COLD, LARGE], 5, 0, 60 + 200),  # the window, and a cold start
        ([COLD, LARGE], 100_000, 0, 60 + 6000),  # the window, and the best throughput
        ([run(5, 0, RunState.SUBMITTED, ago_s=150), COLD], 0, 5, 50),  # part of it has passed
        ([run(5, 0, RunState.SUBMITTED, ago_s=900), COLD], 0, 5, 0),  # it should have come
    ],
)
def test_the_wait_is_that_of_the_last_runs(
    runs: list[Run], wanted: int, running: int, expected: float | None
) -> None:
    assert expected_wait(runs, wanted, running, 60, NOW) == expected


def project() -> Project:
    return Project("fruit", "images", labels="0" * 16, generation=1)


@pytest.mark.parametrize(
    ("tasked", "skipped", "verified", "stage"),
    [
        (5, 0, 0, "5 images are ready to be verified"),
        (5, 1, 0, "4 images are ready to be verified, 1 was skipped"),
        (5, 4, 0, "1 image is ready to be verified, 4 were skipped"),
        (5, 5, 9, "5 images were skipped (the tab Skipped); nothing else is left to verify"),
        (0, 0, 9, "nothing to do"),
    ],
)
def test_skipped_images_are_not_ready_to_be_verified(
    tasked: int, skipped: int, verified: int, stage: str
) -> None:
    counts = dict.fromkeys(State, 0) | {State.TASKED: tasked, State.VERIFIED: verified}
    assert stage_of(project(), counts, (), skipped) == stage
