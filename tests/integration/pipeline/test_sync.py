"""Reconciling: whatever was lost on the way is found, against a real Label Studio."""

import re
from collections.abc import Callable

import pytest

from boxdrop.aws.s3 import Bucket
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import Project
from boxdrop.labelstudio.publishing import PublishSummary
from boxdrop.labelstudio.publishing import publish as publish_without_ledger
from boxdrop.labelstudio.task_data import to_task
from boxdrop.ledger import Ledger, Outcome, Publication, Sighting, State
from boxdrop.pipeline import sync as module
from boxdrop.pipeline.collect import Found, collect
from boxdrop.pipeline.publish import NotConnectedError, number_of
from boxdrop.pipeline.sync import SyncSummary, sync_project
from boxdrop.services import Services
from boxdrop.store.layout import annotation_key
from tests.integration.labelstudio.conftest import FRUIT, annotate, prediction, somewhere, tasks_of

from .published import NAME, assert_agreement, bring, claim, known, row


@pytest.fixture
def project(project: Project, ledger: Ledger) -> Project:
    """A project that the ledger knows."""
    return known(ledger, project)


def sync(ledger: Ledger, connection: Connection, bucket: Bucket) -> SyncSummary:
    return sync_project(Services.of(ledger=ledger, label_studio=connection, data=bucket), NAME)


def test_where_both_agree_nothing_is_done(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket
) -> None:
    records = [prediction(number) for number in range(3)]
    claim(ledger, records)
    bring(ledger, connection, records)
    annotate(connection, tasks_of(connection, project)[1])
    assert sync(ledger, connection, data_bucket) == SyncSummary(tasks=3, collected=1, marked=1)
    assert sync(ledger, connection, data_bucket) == SyncSummary(tasks=3)


def test_an_unrecorded_task_is_found_and_published_into(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket
) -> None:
    record = prediction(0)
    claim(ledger, [record])
    late = to_task(record, FRUIT, "s3://photos/x.jpg")
    connection.sdk.projects.import_tasks(project.id, request=[late])
    assert sync(ledger, connection, data_bucket) == SyncSummary(tasks=1, recorded=1)
    assert bring(ledger, connection, [record]) == PublishSummary(unchanged=1)
    assert_agreement(ledger, connection, project, [record])


def test_a_twin_below_the_newest_audited_task_is_removed(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket
) -> None:
    records = [prediction(number) for number in range(3)]
    claim(ledger, records)
    twin, newest = (to_task(records[number], FRUIT, "s3://photos/x.jpg") for number in (1, 2))
    bring(ledger, connection, records[:2])
    connection.sdk.projects.import_tasks(project.id, request=[twin])  # committed late, and overlooked
    connection.sdk.projects.import_tasks(project.id, request=[newest])
    number = tasks_of(connection, project)[-1].id
    made = Publication(records[2].image_id, "v1", 1, records[2].prediction_id, number, fence=1)
    assert [result.outcome for result in ledger.record_tasks([made])] == [Outcome.APPLIED]
    ledger.record_audit(NAME, project.id, number)
    assert bring(ledger, connection, records) == PublishSummary(unchanged=3)
    assert len(tasks_of(connection, project)) == 4
    assert sync(ledger, connection, data_bucket) == SyncSummary(tasks=4, removed_twins=1)
    assert_agreement(ledger, connection, project, records)


def test_deleted_tasks_are_wanted_again_and_what_was_verified_on_them_is_taken_back(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket
) -> None:
    records = [prediction(number) for number in range(2)]
    claim(ledger, records)
    bring(ledger, connection, records)
    for task in tasks_of(connection, project):
        annotate(connection, task)
    sync(ledger, connection, data_bucket)
    connection.sdk.tasks.delete(str(row(ledger, records[0]).task_id))
    assert sync(ledger, connection, data_bucket) == SyncSummary(tasks=1, lost=1, collected=1)
    assert [row(ledger, record).state for record in records] == [State.WANTED, State.VERIFIED]
    stored = data_bucket.get(annotation_key(NAME, records[0].image_id))
    assert stored is not None
    assert b'"verified": false' in stored.body or b'"verified":false' in stored.body


def test_what_webhooks_lost_is_collected(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket
) -> None:
    records = [prediction(number) for number in range(3)]
    claim(ledger, records)
    bring(ledger, connection, records)
    first, second, third = tasks_of(connection, project)
    annotate(connection, first)
    annotate(connection, second)
    annotate(connection, third, cancelled=True)
    assert sync(ledger, connection, data_bucket) == SyncSummary(tasks=3, collected=3, marked=3)
    states = [row(ledger, record).state for record in records]
    assert states == [State.VERIFIED, State.VERIFIED, State.TASKED]
    (annotation,) = connection.sdk.annotations.list(first.id)
    connection.sdk.annotations.delete(annotation.id)
    assert sync(ledger, connection, data_bucket).collected == 1
    assert row(ledger, records[0]).state == State.TASKED


def test_a_copy_of_another_projects_task_is_left_to_people(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket
) -> None:
    """The other project keeps its task; nothing is collected, recorded or deleted because of the copies."""
    ours, theirs = prediction(0), prediction(1)
    claim(ledger, [ours])
    bring(ledger, connection, [ours])
    ledger.want([Sighting(theirs.image_id, "other", "photos", "other/x", "v1", "0001")], 1)
    made = Publication(theirs.image_id, "v1", 1, theirs.prediction_id, 90_000, fence=1)
    assert [each.outcome for each in ledger.record_tasks([made])] == [Outcome.APPLIED]
    before = row(ledger, theirs)
    for _ in range(2):
        connection.sdk.projects.import_tasks(
            project.id, request=[to_task(theirs, FRUIT, "s3://photos/x.jpg")]
        )
    copy = tasks_of(connection, project)[-1]
    annotate(connection, copy)

    assert sync(ledger, connection, data_bucket) == SyncSummary(tasks=3, unknown=2)
    assert bring(ledger, connection, [ours]) == PublishSummary(unchanged=1)
    services = Services.of(ledger=ledger, label_studio=connection, data=data_bucket)
    assert collect(services, NAME, copy.id).found == Found.FOREIGN
    assert row(ledger, theirs) == before
    assert len(tasks_of(connection, project)) == 3
    assert data_bucket.get(annotation_key(NAME, theirs.image_id)) is None


def test_images_deleted_meanwhile_are_marked(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket
) -> None:
    record = prediction(0)
    claim(ledger, [record])
    bring(ledger, connection, [record])
    ledger.mark_gone([Sighting(record.image_id, NAME, "photos", "fruit/x", None, "9999")])
    assert sync(ledger, connection, data_bucket) == SyncSummary(tasks=1, marked=1)
    assert tasks_of(connection, project)[0].data["state"] == "gone"


def test_boxes_of_another_program_are_seen_and_the_recorded_ones_published_again(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket
) -> None:
    records = [prediction(number) for number in range(3)]
    claim(ledger, records)
    bring(ledger, connection, records)
    ledger.record_republished(NAME, "labels-1")
    others = [prediction(number, model_version="other@1") for number in range(2)]
    publish_without_ledger(connection, project, others, FRUIT, somewhere)
    assert sync(ledger, connection, data_bucket) == SyncSummary(tasks=3, foreign=2)
    known_project = ledger.project(NAME)
    assert known_project is not None
    assert known_project.republished != known_project.labels  # so the stored parts are sent for
    assert bring(ledger, connection, records) == PublishSummary(replaced=2, unchanged=1)
    assert_agreement(ledger, connection, project, records)
    assert sync(ledger, connection, data_bucket) == SyncSummary(tasks=3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda config: re.sub(r' boxdrop-project="\w+"', "", config), "was replaced by hand"),
        (lambda config: config.replace('category="2"', 'category="9"'), r"changed by hand .*banana"),
        (lambda config: config.replace('name="label"', 'name="box"'), 'no <RectangleLabels name="label">'),
    ],
)
def test_a_labeling_configuration_that_was_changed_by_hand_is_reported(
    ledger: Ledger,
    connection: Connection,
    project: Project,
    data_bucket: Bucket,
    change: Callable[[str], str],
    said: str,
) -> None:
    ledger.freeze_labels(NAME, {label.name: label.id for label in FRUIT.with_frozen_ids({})})
    connection.sdk.projects.update(project.id, title="Renamed, which is no fault")
    assert sync(ledger, connection, data_bucket) == SyncSummary()
    config = connection.sdk.projects.get(project.id).label_config or ""
    connection.sdk.projects.update(project.id, label_config=change(config))
    (fault,) = sync(ledger, connection, data_bucket).faults
    assert re.search(said, fault)


def test_a_deleted_project_is_reported_and_no_verified_work_is_taken_back(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket
) -> None:
    claim(ledger, [prediction(0)])
    bring(ledger, connection, [prediction(0)])
    annotate(connection, tasks_of(connection, project)[0])
    sync(ledger, connection, data_bucket)
    connection.sdk.projects.delete(project.id)
    summary = sync(ledger, connection, data_bucket)
    assert "was deleted in Label Studio" in summary.faults[0]
    assert row(ledger, prediction(0)).state == State.VERIFIED


def test_a_project_without_a_number_in_label_studio_is_one_sentence(ledger: Ledger) -> None:
    with pytest.raises(NotConnectedError, match="there is no project nowhere"):
        number_of(ledger, "nowhere")
    ledger.store_labels("early", "photos", "labels-1")
    with pytest.raises(NotConnectedError, match="not in Label Studio yet"):
        number_of(ledger, "early")


def test_slices_find_what_one_comparison_finds(
    ledger: Ledger,
    connection: Connection,
    project: Project,
    data_bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in Lambda, whose calls end: each goes on from the cursor of the one before, without the lease."""
    monkeypatch.setattr(module, "CHUNK", 2)
    records = [prediction(number) for number in range(7)]
    claim(ledger, records)
    bring(ledger, connection, records)
    made = tasks_of(connection, project)
    annotate(connection, made[1])  # a webhook was lost
    annotate(connection, made[6])
    connection.sdk.tasks.delete(id=str(made[3].id))  # a task was deleted
    services = Services.of(ledger=ledger, label_studio=connection, data=data_bucket)
    slices: list[SyncSummary] = []
    cursor = None
    while not slices or cursor is not None:
        found = sync_project(services, NAME, seconds=0, cursor=cursor)
        slices.append(found)
        cursor = found.cursor
        lease = ledger.acquire_lease(NAME, "a publisher", seconds=60)
        assert lease is not None  # between two slices, others publish
        ledger.release_lease(lease)
    assert len(slices) > 3
    assert sum(each.tasks for each in slices) == 6
    assert sum(each.collected for each in slices) == 2
    assert sum(each.lost for each in slices) == 1
    assert sync(ledger, connection, data_bucket) == SyncSummary(tasks=6)
