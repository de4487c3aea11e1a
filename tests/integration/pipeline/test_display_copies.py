"""Tasks that show a display copy: Label Studio reads it from the data bucket; the original stays named."""

from dataclasses import replace
from typing import Any

import pytest
import requests

from boxdrop.aws.s3 import Bucket
from boxdrop.domain.predictions import Prediction
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import Project
from boxdrop.labelstudio.publishing import PublishSummary
from boxdrop.ledger import Ledger
from boxdrop.local.label_studio import Server
from boxdrop.pipeline.publish import Batch, publish
from boxdrop.services import Services
from boxdrop.store.layout import display_key
from tests.integration.labelstudio.conftest import FRUIT, prediction, tasks_of

from .published import NAME, claim, known


@pytest.fixture
def project(project: Project, ledger: Ledger) -> Project:
    return known(ledger, project)


@pytest.fixture(autouse=True)
def environment(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Label Studio needs to reach the buckets."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "BOXDROP_PRESIGN_ACCESS_KEY_ID": "test",
        "BOXDROP_PRESIGN_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)


def copied(number: int, version: str = "v1") -> Prediction:
    made = prediction(number, version=version)
    image = f"s3://photos/fruit/{made.image}"
    return replace(made, image=image, display=display_key(NAME, made.image_id, version))


def bring(ledger: Ledger, connection: Connection, data: Bucket, *records: Prediction) -> PublishSummary:
    claim(ledger, [replace(each, image=each.image.rpartition("/")[2]) for each in records])
    services = Services.of(ledger=ledger, label_studio=connection, data=data, credits=None)
    return publish(services, NAME, Batch(records, FRUIT, 1, "run-1"))


def images(connection: Connection, project: Project) -> dict[str, dict[str, Any]]:
    """What tasks say about their images, as it is stored, by file name."""
    stored = {"project": project.id, "resolve_uri": "false", "fields": "all"}
    listed = connection.request("list", "GET", "/api/tasks/", params=stored)["tasks"]
    return {each["data"]["file_name"]: each["data"] for each in listed}


def test_a_task_shows_the_copy_and_names_the_original(
    ledger: Ledger, connection: Connection, server: Server, project: Project, data_bucket: Bucket
) -> None:
    records = [copied(0), replace(prediction(1), image="s3://photos/fruit/basket 1.jpg")]
    assert records[0].display is not None
    data_bucket.put(records[0].display, b"the copy", "image/jpeg")
    assert bring(ledger, connection, data_bucket, *records).created == 2
    assert bring(ledger, connection, data_bucket, *records) == PublishSummary(unchanged=2)

    data = images(connection, project)
    shown = data["fruit/basket 0.jpg"]
    assert shown["image"] == f"s3://{data_bucket.name}/{records[0].display}"
    assert shown["original"] == "s3://photos/fruit/basket 0.jpg"
    assert data["fruit/basket 1.jpg"]["image"] == "s3://photos/fruit/basket 1.jpg"
    assert "original" not in data["fruit/basket 1.jpg"]

    task = next(
        each for each in tasks_of(connection, project) if each.data["boxes"] and "original" in each.data
    )
    answer = requests.get(
        server.url + task.data["image"], headers={"Authorization": f"Token {server.token}"}, timeout=30
    )
    assert (answer.content, answer.headers["Content-Type"]) == (b"the copy", "image/jpeg")


def test_the_copies_are_connected_with_the_first_one_and_nothing_is_imported(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket
) -> None:
    storages = connection.sdk.import_storage.s3
    assert bring(ledger, connection, data_bucket, prediction(0)).created == 1
    assert storages.list(project=project.id) == []
    for number in (1, 2):
        record = copied(number)
        assert record.display is not None
        data_bucket.put(record.display, b"the copy", "image/jpeg")
        assert bring(ledger, connection, data_bucket, record).created == 1
    (storage,) = storages.list(project=project.id)
    assert (storage.bucket, storage.prefix, storage.presign) == (data_bucket.name, "display/", True)
    connection.sdk.import_storage.s3.sync(storage.id)  # as a person may, in Label Studio's settings
    assert len(tasks_of(connection, project)) == 3


def test_a_task_of_before_gets_its_copy_with_the_next_run(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket
) -> None:
    record = copied(0)
    assert record.display is not None
    assert bring(ledger, connection, data_bucket, replace(record, display=None)).created == 1
    data_bucket.put(record.display, b"the copy", "image/jpeg")
    assert bring(ledger, connection, data_bucket, record).replaced == 1
    assert images(connection, project)["fruit/basket 0.jpg"]["image"].endswith(record.display)
    assert len(tasks_of(connection, project)) == 1


def test_a_copy_that_label_studio_cannot_read_fails_its_image_alone(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket
) -> None:
    summary = bring(ledger, connection, data_bucket, copied(0), prediction(1))  # there is no copy
    assert summary.created == 1
    ((image, reason),) = summary.refused
    assert image == "s3://photos/fruit/basket 0.jpg"
    assert "browsers do not show it as the detector saw it" in reason
    assert f"cannot connect s3://{data_bucket.name}/display/" in reason
