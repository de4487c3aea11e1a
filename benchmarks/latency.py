"""The time from an upload to the task in Label Studio, in the local system.

    python -m benchmarks.latency [--images 50]

Starts a whole system of its own and warms it up, then uploads one image after the other, each as soon as the
previous one has its task. It prints the time from the end of each PUT until the ledger knows the task,
without the detector's own time (decode to post-processing, from the run's summary), and how the rest was
spent.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import click

from boxdrop.aws.s3 import Bucket
from boxdrop.demo import SCENES
from boxdrop.domain.identity import image_id
from boxdrop.ledger import Image, Ledger, State
from boxdrop.local.samples import PROJECT
from boxdrop.store.reports import RunSummary, read_summary
from tests.label_studio_server import quiet
from tests.local_system import fresh_stack
from tests.ports import free_port

_WARM_UP = 5
_POLL_S = 0.01
_PATIENCE_S = 120


@dataclass(frozen=True, slots=True)
class Timing:
    """The timings of one image, in seconds.

    Attributes:
        whole: from the end of its PUT to its task.
        detector: of the job, for the image itself.
        launched, begun, detected, published: until the run's row was made, the job began, the job ended, the
            task was known; each from the one before.
    """

    whole: float
    detector: float
    launched: float
    begun: float
    detected: float
    published: float

    @property
    def overhead(self) -> float:
        """The system's overhead over the detector."""
        return self.whole - self.detector


@click.command()
@click.option("--images", default=50, show_default=True)
def main(images: int) -> None:
    """Print the medians and the 95th percentiles."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        os.environ["BOXDROP_HOME"] = str(home)
        stack = fresh_stack(home)
        running = stack.up(free_port(), free_port(), quiet)
        try:
            running.system.enter()
            ledger = Ledger(running.system.table, workers=2)
            bucket, data = Bucket(running.system.image_bucket), Bucket(running.system.data_bucket)
            bucket.put(f"{PROJECT}/labels.yaml", (SCENES / "labels.yaml").read_bytes())
            scenes = sorted(SCENES.glob("*.jpg"))
            timings = []
            for number in range(-_WARM_UP, images):
                body = scenes[number % len(scenes)].read_bytes()
                timings.append(copy(ledger, bucket, data, f"{PROJECT}/{number:05}.jpg", body))
            report(timings[_WARM_UP:])
        finally:
            stack.down(quiet)


def copy(ledger: Ledger, bucket: Bucket, data: Bucket, key: str, body: bytes) -> Timing:
    """Copy one image, and wait for its task."""
    bucket.put(key, body, "image/jpeg")
    began, at = time.monotonic(), datetime.now(UTC)
    row = _tasked(ledger, image_id(bucket.name, key))
    whole = time.monotonic() - began
    assert row.run_id is not None
    run = ledger.run(PROJECT, row.run_id)
    summary = _summary(data, row.run_id)
    assert run is not None
    stages = summary.shards[0].stages
    marks = (at, run.created_at, summary.started_at, summary.finished_at, row.since)
    steps = [(later - earlier).total_seconds() for earlier, later in pairwise(marks)]
    return Timing(whole, stages.decode + stages.preprocess + stages.detect + stages.postprocess, *steps)


def _tasked(ledger: Ledger, identity: str) -> Image:
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        row = ledger.image(identity)
        if row is not None and row.state == State.TASKED:
            return row
        time.sleep(_POLL_S)
    raise click.ClickException(f"no task after {_PATIENCE_S} s")


def _summary(data: Bucket, run_id: str) -> RunSummary:
    while (found := read_summary(data, run_id)) is None:
        time.sleep(_POLL_S)
    return found


def report(timings: Sequence[Timing]) -> None:
    """Print a table."""
    click.echo(f"{len(timings)} images, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; seconds")
    click.echo(f"{'':28s}{'p50':>8s}{'p95':>8s}{'max':>8s}")
    for name, values in {
        "copy -> task": [each.whole for each in timings],
        "detector alone": [each.detector for each in timings],
        "overhead": [each.overhead for each in timings],
        "  until launch has a run": [each.launched for each in timings],
        "  until the job begins": [each.begun for each in timings],
        "  job, detector included": [each.detected for each in timings],
        "  until the task is known": [each.published for each in timings],
    }.items():
        ordered = sorted(values)
        p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
        click.echo(f"{name:28s}{statistics.median(ordered):8.2f}{p95:8.2f}{ordered[-1]:8.2f}")


if __name__ == "__main__":
    main()
