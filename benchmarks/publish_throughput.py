"""Publishing to Label Studio, compared with Label Studio's own bulk import of the same payload.

    python -m benchmarks.publish_throughput [--tasks 10000] [--ledger-tasks 1000] [--boxes 5] [--rounds 3]

Starts a Label Studio of its own, and moto for the ledger. Each round fills three new projects, in turn, so
other load affects all: a bare import in chunks of 500; boxdrop without a ledger (the same chunks, each
checked before and counted afterwards); boxdrop with the ledger, with fewer tasks: unlike DynamoDB, moto
handles one call at a time. It prints medians, and the memory for 10 times the tasks.
"""

import logging
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import click
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from boxdrop.domain.identity import image_id
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, Prediction
from boxdrop.iterables import chunked
from boxdrop.labelstudio.connection import Connection, connect
from boxdrop.labelstudio.project import ensure_project
from boxdrop.labelstudio.publishing import CHUNK
from boxdrop.labelstudio.publishing import publish as publish_without_ledger
from boxdrop.labelstudio.task_data import to_task
from boxdrop.ledger import Ledger, Sighting, create_table
from boxdrop.pipeline.publish import Batch, publish
from boxdrop.services import Services
from tests.label_studio_server import quiet, with_empty_database
from tests.ports import free_port

LABELS = LabelSet.from_short_form("pineapple, banana, apple")
NAME = "fruit"


@click.command()
@click.option("--tasks", default=10_000, show_default=True)
@click.option("--ledger-tasks", default=1000, show_default=True, help="Tasks with the ledger.")
@click.option("--boxes", default=5, show_default=True, help="Boxes per task.")
@click.option("--rounds", default=3, show_default=True)
def main(tasks: int, ledger_tasks: int, boxes: int, rounds: int) -> None:
    """Print one table of medians."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
    Thread(target=moto.serve_forever, daemon=True).start()
    client = boto3.client(
        "dynamodb", endpoint_url=f"http://127.0.0.1:{moto.server_port}", region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    jobs: dict[str, tuple[int, Callable[[Connection, int], float]]] = {
        "bare bulk import": (tasks, lambda connection, turn: bare(connection, turn, tasks, boxes)),
        "boxdrop, no ledger": (
            tasks, lambda connection, turn: without_ledger(connection, turn, tasks, boxes),
        ),
        "boxdrop, with ledger": (
            ledger_tasks, lambda connection, turn: with_ledger(connection, turn, ledger_tasks, boxes, client),
        ),
    }  # fmt: skip
    timings: dict[str, list[float]] = {name: [] for name in jobs}
    with tempfile.TemporaryDirectory() as home:
        studio = with_empty_database(Path(home) / "label-studio")
        server = studio.up(free_port(), quiet)
        try:
            connection = connect(server.url, server.token)
            without_ledger(connection, -1, tasks // 10, boxes)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            without_ledger(connection, -2, tasks, boxes)
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            for turn in range(rounds):
                for name, (_, job) in jobs.items():
                    timings[name].append(job(connection, turn))
                    click.echo(f"round {turn + 1}: {name} {timings[name][-1]:.1f} s", err=True)
        finally:
            studio.down(quiet)
    click.echo(
        f"{tasks:,} tasks of {boxes} boxes, medians of {rounds}; {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    click.echo(f"{'':22s}{'seconds':>9s}{'tasks/s':>9s}{'of bare':>9s}")
    first = tasks / statistics.median(timings["bare bulk import"])
    for name, seconds in timings.items():
        speed = jobs[name][0] / statistics.median(seconds)
        click.echo(f"{name:22s}{statistics.median(seconds):9.1f}{speed:9.0f}{speed / first:9.2f}")
    click.echo(
        f"peak memory, no ledger: {before:.0f} MB after {tasks // 10:,} tasks, {after:.0f} MB after {tasks:,}"
    )


def predictions(tasks: int, boxes: int) -> Iterator[Prediction]:
    """A stream of predictions, whose number costs no memory."""
    names = LABELS.names
    found = tuple(
        Box(names[i % 3], 0.9 - i / 100, (10.0 * i, 10.0 * i, 10.0 * i + 90, 10.0 * i + 60), names[i % 3])
        for i in range(boxes)
    )
    for number in range(tasks):
        image = f"image {number}.jpg"
        yield Prediction(image, image_id("photos", image), "v1", "demo@1", 1280, 960, found)


def project(connection: Connection, what: str, turn: int) -> Any:
    """A new project."""
    return ensure_project(connection, LABELS, f"{what} {turn}", key=f"{what} {turn}")


def addresses(some: Any) -> list[str]:
    """Addresses that are never loaded."""
    return [f"s3://photos/{each.image}" for each in some]


def bare(connection: Connection, turn: int, tasks: int, boxes: int) -> float:
    """Code that a user of the SDK would write."""
    number = project(connection, "bare", turn).id
    start = time.perf_counter()
    for some in chunked(predictions(tasks, boxes), CHUNK):
        payload = [to_task(each, LABELS, f"s3://photos/{each.image}") for each in some]
        connection.sdk.projects.import_tasks(number, request=payload)
    return time.perf_counter() - start


def without_ledger(connection: Connection, turn: int, tasks: int, boxes: int) -> float:
    """Label Studio's part."""
    made = project(connection, "without", turn)
    start = time.perf_counter()
    summary = publish_without_ledger(connection, made, predictions(tasks, boxes), LABELS, addresses)
    assert summary.created == tasks, summary
    return time.perf_counter() - start


def with_ledger(connection: Connection, turn: int, tasks: int, boxes: int, client: Any) -> float:
    """Both parts; rows and claims exist before, as after dispatch and launch."""
    table = f"ledger-{turn}"
    create_table(client, table)
    ledger = Ledger(table, client=client, workers=8)
    ledger.store_labels(NAME, "photos", "labels")
    ledger.apply_labels(NAME, "labels", "detection")
    ledger.connect_project(NAME, project(connection, "with", turn).id)
    for some in chunked(predictions(tasks, 0), 1000):
        ledger.want((Sighting(p.image_id, NAME, "photos", p.image, "v1", "01") for p in some), 1)
    start = time.perf_counter()
    services = Services.of(ledger=ledger, label_studio=connection)
    batch = Batch(predictions(tasks, boxes), LABELS, generation=1, run_id="run-1")
    summary = publish(services, NAME, batch, image_urls=addresses)
    assert summary.created == tasks, summary
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
