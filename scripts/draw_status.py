"""Draw docs/images/status.svg: `boxdrop status` of a busy system.

The ledger is a real one, on moto's server; its rows are written as the pipeline writes them.
"""

import hashlib
import logging
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from threading import Thread

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from rich.console import Console
from werkzeug.serving import make_server

from boxdrop.cli.status import View
from boxdrop.ledger import FailedImage, Ledger, Publication, RunState, Sighting, create_table
from boxdrop.store.layout import manifest_key


class Scene:
    """A ledger, and the clock for its rows."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.now = datetime.now(UTC)
        ledger._now = lambda: self.now

    def minutes_ago(self, minutes: float) -> None:
        """Set the clock."""
        self.now = datetime.now(UTC) - timedelta(minutes=minutes)

    def project(self, name: str) -> None:
        """A project with labels in force."""
        self.ledger.store_labels(name, "photos", "labels")
        self.ledger.apply_labels(name, "labels", "detection", ("owlv2", "0" * 64, 0.2))

    def want(self, name: str, first: int, count: int) -> None:
        """Images come."""
        self.ledger.want([_sighting(name, number) for number in range(first, first + count)], 1)

    def run(self, name: str, images: int, state: RunState | None) -> str:
        """A run claims the wanted images; with a state, it ends a minute and a half later."""
        run_id = f"{self.now:%Y%m%dT%H%M%SZ}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        later = self.now + timedelta(hours=3)
        self.ledger.start_run(name, run_id, 1, later)
        self.ledger.claim_wanted(name, run_id, 1, images)
        key = manifest_key(run_id)
        self.ledger.record_submission(
            name, run_id, attempt=1, manifest=key, images=images, job_ids=["job"], deadline=later
        )
        if state is not None:
            self.now += timedelta(seconds=90)
            self.ledger.finish_run(name, run_id, state)
        return run_id

    def publish(self, name: str, run_id: str, first: int, count: int, failing: int = 0) -> None:
        """Images of a run get their tasks; the first ones fail with a reason."""
        ids = [_sighting(name, number).image_id for number in range(first, first + count)]
        self.ledger.record_failures(
            FailedImage(image_id, "v1", 1, run_id, "truncated", "the file ends in the middle")
            for image_id in ids[:failing]
        )
        self.ledger.record_tasks(
            Publication(image_id, "v1", 1, "p", first + number, 1)
            for number, image_id in enumerate(ids[failing:], 1)
        )


def _sighting(name: str, number: int) -> Sighting:
    image_id = hashlib.sha256(f"{name}{number}".encode()).hexdigest()[:32]
    return Sighting(image_id, name, "photos", f"{name}/{number:04}.jpg", "v1", f"{number:08}")


def draw(path: Path) -> None:
    """Fill a ledger and draw it into a file."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app))
    Thread(target=server.serve_forever, daemon=True).start()
    client = boto3.client(
        "dynamodb",
        endpoint_url=f"http://127.0.0.1:{server.server_port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106
    )
    create_table(client, "boxdrop")
    scene = Scene(Ledger("boxdrop", client=client, workers=4))
    scene.project("fruit-baskets")
    scene.minutes_ago(30)
    scene.want("fruit-baskets", 0, 60)
    run_id = scene.run("fruit-baskets", 60, RunState.SUCCEEDED)
    scene.publish("fruit-baskets", run_id, 0, 60, failing=2)
    for number in range(10, 34):
        scene.ledger.record_verified(_sighting("fruit-baskets", number).image_id, "v1", scene.now)
    scene.minutes_ago(1)
    scene.want("fruit-baskets", 60, 40)
    scene.run("fruit-baskets", 40, None)
    scene.ledger.make_project("street-signs", "photos")
    scene.ledger.want([_sighting("street-signs", number) for number in range(12)], 0)
    scene.ledger.store_labels(
        "street-signs",
        "photos",
        None,
        error="s3://photos/street-signs/labels.yaml: line 7: label 'stop' has no prompts; give at least one",
    )
    console = Console(record=True, width=118, file=StringIO())
    console.print(View(scene.ledger, None, {}, 60, None).picture(console.width))
    path.write_text(console.export_svg(title="boxdrop status"), encoding="utf-8")
    server.shutdown()
