"""What tests of publishing share: a project that the ledger knows, images, and whether all agree."""

from collections.abc import Sequence
from typing import Any

from boxdrop.domain.predictions import Prediction, Record
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import Project
from boxdrop.labelstudio.publishing import PublishSummary
from boxdrop.ledger import Image, Ledger, Sighting, State
from boxdrop.pipeline.publish import Batch, publish
from boxdrop.services import Services, Settings
from boxdrop.topology import LEASE_S
from tests.integration.labelstudio.conftest import FRUIT, tasks_of

NAME = "fruit"


def claim(
    ledger: Ledger, records: Sequence[Record], version: str = "v1", run_id: str = "run-1", generation: int = 1
) -> None:
    """The images of these records are in the bucket, and a run has claimed them."""
    ledger.want(
        [
            Sighting(r.image_id, NAME, "photos", f"fruit/{r.image}", version, f"{version[1:]:0>4}")
            for r in records
        ],
        generation,
    )
    ledger.claim_wanted(NAME, run_id, generation, len(records))


def bring(
    ledger: Ledger, connection: Connection, records: Sequence[Record], **options: Any
) -> PublishSummary:
    batch = Batch(
        records,
        options.pop("label_set", FRUIT),
        options.pop("generation", 1),
        options.pop("run_id", "run-1"),
    )
    settings = Settings(lease_s=options.pop("lease_s", LEASE_S))
    services = Services.of(
        settings, ledger=ledger, label_studio=connection, credits=options.pop("credits", None)
    )
    return publish(services, NAME, batch, **options)


def row(ledger: Ledger, record: Record) -> Image:
    found = ledger.image(record.image_id)
    assert found is not None
    return found


def assert_agreement(
    ledger: Ledger, connection: Connection, project: Project, records: Sequence[Prediction]
) -> None:
    """One task an image, one prediction each, and the ledger knows which."""
    tasks = {task.data["image_id"]: task for task in tasks_of(connection, project)}
    assert len(tasks_of(connection, project)) == len(tasks) == len(records)
    for record in records:
        task, image = tasks[record.image_id], row(ledger, record)
        assert len(task.predictions) == 1
        assert (image.state, image.task_id, image.prediction_id) == (
            State.TASKED,
            task.id,
            record.prediction_id,
        )
        assert task.predictions[0].model_version == task.data["model_version"] == record.model_version


def known(ledger: Ledger, project: Project) -> Project:
    """Let the ledger know a project."""
    ledger.store_labels(NAME, "photos", "labels-1")
    ledger.apply_labels(NAME, "labels-1", "detection-1")
    ledger.connect_project(NAME, project.id)
    return project
