"""A project of the bucket in Label Studio: one, whoever asks for it, with labels, images and webhook."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import BoxdropError, LabelStudioError
from boxdrop.domain.labels import LabelSet
from boxdrop.labelstudio.config import frozen_ids
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import ensure_project, find_fault
from boxdrop.labelstudio.publishing import PublishSummary
from boxdrop.ledger import Ledger
from boxdrop.pipeline.prepare import prepare
from boxdrop.pipeline.publish import number_of
from boxdrop.pipeline.sync import sync_project
from boxdrop.services import Services, WebhookTarget
from tests.integration.labelstudio.conftest import FRUIT, prediction

from .published import NAME, assert_agreement, bring, claim

TARGET = WebhookTarget("http://127.0.0.1:9/reviews", "of the webhook")


def services(ledger: Ledger, connection: Connection, webhook: WebhookTarget | None = None) -> Services:
    return Services.of(
        webhook=webhook, ledger=ledger, label_studio=connection, data=Bucket("data", client=object())
    )


@pytest.fixture
def photos(s3: Any, endpoint: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with images' prefix, which Label Studio can reach, and its project in the ledger."""
    name = ledger._table.name.replace("ledger", "photos")
    s3.create_bucket(Bucket=name)
    for variable, value in {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "BOXDROP_PRESIGN_ACCESS_KEY_ID": "test",
        "BOXDROP_PRESIGN_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(variable, value)
    ledger.store_labels(NAME, name, "labels-1")
    ledger.apply_labels(NAME, "labels-1", "detection-1")
    return name


def test_a_project_gets_its_labels_its_images_and_its_webhook_once(
    ledger: Ledger, connection: Connection, photos: str
) -> None:
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(prepare, services(ledger, connection, TARGET), NAME, FRUIT) for _ in range(2)]
    numbers = {job.result().id for job in jobs}
    assert len(numbers) == 1
    assert prepare(services(ledger, connection, TARGET), NAME, FRUIT).id in numbers
    row = ledger.project(NAME)
    assert row is not None
    assert row.label_studio_id in numbers
    assert row.label_ids == {"pineapple": 1, "banana": 2, "apple": 3}
    hooks = connection.sdk.webhooks.list(project=str(row.label_studio_id))
    assert [hook.id for hook in hooks] == [row.webhook_id]
    storages = connection.sdk.import_storage.s3.list(project=row.label_studio_id)
    assert row.storage_id in [storage.id for storage in storages]
    assert {storage.bucket for storage in storages} == {photos}


def test_annotate_is_refused_on_a_project_of_the_pipeline(
    ledger: Ledger, connection: Connection, photos: str
) -> None:
    own = LabelSet.from_short_form("kiwi")
    made = ensure_project(connection, own, "by annotate", key=f"s3://{photos}/{NAME}/")
    prepared = prepare(services(ledger, connection), NAME, FRUIT)  # the pipeline takes it over
    assert prepared.id == made.id
    before = connection.sdk.projects.get(prepared.id).label_config
    with pytest.raises(LabelStudioError, match=r"belongs to the pipeline of s3://.*Leave out --label-studio"):
        ensure_project(connection, own, "by annotate", key=f"s3://{photos}/{NAME}/")
    assert connection.sdk.projects.get(prepared.id).label_config == before
    assert prepare(services(ledger, connection), NAME, FRUIT).id == prepared.id


def test_ids_come_from_the_ledger_and_stay_though_the_labels_change(
    ledger: Ledger, connection: Connection, photos: str
) -> None:
    prepare(services(ledger, connection), NAME, FRUIT)
    changed = LabelSet.from_short_form("grape, apple, banana")
    project = prepare(services(ledger, connection), NAME, changed)
    assert {label.name: label.id for label in project.label_set} == {"grape": 4, "apple": 3, "banana": 2}
    row = ledger.project(NAME)
    assert row is not None
    assert row.label_ids == {"pineapple": 1, "banana": 2, "apple": 3, "grape": 4}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('value="apple"', 'value="pear"'),  # a label renamed: its id would belong to two names
        ('value="apple"', 'value="Apple"'),
        ('category="3"', 'category="7"'),
        ('category="3"', 'category="2"'),
        ('category="3"', ""),
        ("</RectangleLabels>", '<Label value="pear" category="9"/></RectangleLabels>'),
    ],
)
def test_labels_that_people_changed_by_hand_are_restored_with_their_ids(
    ledger: Ledger, connection: Connection, photos: str, before: str, after: str
) -> None:
    project = prepare(services(ledger, connection), NAME, FRUIT)
    config = connection.sdk.projects.get(project.id).label_config
    assert before in config
    connection.sdk.projects.update(project.id, label_config=config.replace(before, after))
    again = prepare(services(ledger, connection), NAME, FRUIT)
    ids = {label.name: label.id for label in again.label_set}
    assert ids == {"pineapple": 1, "banana": 2, "apple": 3}
    restored = connection.sdk.projects.get(project.id).label_config
    assert frozen_ids(restored) == ids
    key = f"s3://{photos}/{NAME}/"
    assert find_fault(connection, project.id, key, ids) is None, "sync would restore them again and again"


@pytest.mark.parametrize("what", ["webhook", "webhook off", "storage"])
def test_a_connection_that_people_removed_is_found_by_sync_and_made_again(
    ledger: Ledger, connection: Connection, photos: str, data_bucket: Bucket, what: str
) -> None:
    project = prepare(services(ledger, connection, TARGET), NAME, FRUIT)
    ledger.record_prepared(NAME, "labels-1")
    syncing = Services.of(ledger=ledger, label_studio=connection, data=data_bucket)
    assert sync_project(syncing, NAME).faults == ()
    row = ledger.project(NAME)
    assert row is not None
    assert row.webhook_id is not None
    assert row.storage_id is not None
    if what == "storage":
        connection.sdk.import_storage.s3.delete(row.storage_id)
    elif what == "webhook":
        connection.sdk.webhooks.delete(row.webhook_id)
    else:
        connection.sdk.webhooks.update(row.webhook_id, url=TARGET.url, is_active=False)
    (fault,) = sync_project(syncing, NAME).faults
    assert what.split()[0] in fault
    again = ledger.project(NAME)
    assert again is not None
    assert again.prepared != "labels-1", "the next publication prepares the project"
    prepare(services(ledger, connection, TARGET), NAME, FRUIT)
    assert sync_project(syncing, NAME).faults == ()
    assert project.id == row.label_studio_id


def test_a_project_deleted_in_label_studio_is_made_again_with_its_tasks(
    ledger: Ledger, connection: Connection, photos: str
) -> None:
    first = prepare(services(ledger, connection), NAME, FRUIT)
    records = [prediction(number) for number in range(2)]
    claim(ledger, records)
    bring(ledger, connection, records)
    connection.sdk.projects.delete(first.id)
    second = prepare(services(ledger, connection), NAME, FRUIT)
    assert second.id != first.id
    assert number_of(ledger, NAME) == second.id
    assert bring(ledger, connection, records) == PublishSummary(created=2)
    assert_agreement(ledger, connection, second, records)


def test_a_project_that_the_ledger_does_not_have_is_one_sentence(
    ledger: Ledger, connection: Connection
) -> None:
    with pytest.raises(BoxdropError, match="the ledger has no project nowhere"):
        prepare(services(ledger, connection), "nowhere", FRUIT)
