"""The column *state* in the Data Manager says what the ledger says, without waiting for a sync."""

from collections.abc import Mapping
from typing import Any

import pytest

from boxdrop.aws.s3 import Bucket
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import Project
from boxdrop.labelstudio.webhook import IMAGES_CHANGED, ReviewEvent
from boxdrop.ledger import Ledger, Sighting, State
from boxdrop.pipeline import sync
from boxdrop.pipeline.collect import collect_event
from boxdrop.pipeline.progress import look
from boxdrop.pipeline.publish import hold_lease
from boxdrop.services import Services
from tests.integration.labelstudio.conftest import annotate, prediction, tasks_of

from .published import NAME, bring, claim, known, row


@pytest.fixture
def tasks(project: Project, ledger: Ledger, connection: Connection) -> list[Any]:
    """Four published tasks."""
    known(ledger, project)
    records = [prediction(number) for number in range(4)]
    claim(ledger, records)
    bring(ledger, connection, records)
    return tasks_of(connection, project)


def states(connection: Connection, project: Project) -> list[str]:
    return [(task.data or {})["state"] for task in tasks_of(connection, project)]


def tell(
    ledger: Ledger, connection: Connection, bucket: Bucket, project: Project, *tasks: Any, **options: Any
) -> int:
    event = ReviewEvent("ANNOTATION_CREATED", project.id, tuple(task.id for task in tasks))
    return collect_event(services(ledger, connection, bucket), NAME, event, **options).marked


def services(ledger: Ledger, connection: Connection, bucket: Bucket) -> Services:
    return Services.of(ledger=ledger, label_studio=connection, data=bucket)


def test_verified_and_skipped_tasks_say_so_once_they_are_collected(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket, tasks: list[Any]
) -> None:
    annotate(connection, tasks[0])
    annotate(connection, tasks[1], cancelled=True)
    assert tell(ledger, connection, data_bucket, project, *tasks[:3]) == 2
    assert states(connection, project) == ["verified", "skipped", "tasked", "tasked"]
    before = tasks_of(connection, project)[0]
    assert tell(ledger, connection, data_bucket, project, *tasks[:3]) == 0
    assert tasks_of(connection, project)[0].updated_at == before.updated_at
    assert (before.total_annotations, before.data["prediction_id"]) == (1, prediction(0).prediction_id)
    (annotation,) = connection.sdk.annotations.list(tasks[0].id)
    connection.sdk.annotations.delete(annotation.id)
    assert tell(ledger, connection, data_bucket, project, tasks[0]) == 1
    assert states(connection, project)[0] == "tasked"


def test_skipped_tasks_are_counted_separately_until_they_are_verified(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket, tasks: list[Any]
) -> None:
    annotate(connection, tasks[1], cancelled=True)
    tell(ledger, connection, data_bucket, project, *tasks)
    assert ledger.count_skipped(NAME, 1) == 1
    row_of = ledger.project(NAME)
    assert row_of is not None
    seen = look(ledger, row_of)
    assert (seen.skipped, seen.counts[State.TASKED]) == (1, 4)
    annotate(connection, tasks[1])
    tell(ledger, connection, data_bucket, project, tasks[1])
    assert ledger.count_skipped(NAME, 1) == 0


def test_a_sync_counts_the_skips_that_an_earlier_version_recorded(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket, tasks: list[Any]
) -> None:
    annotate(connection, tasks[1], cancelled=True)
    tell(ledger, connection, data_bucket, project, *tasks)
    known_row = row(ledger, prediction(1))
    assert known_row.reviewed_at is not None
    ledger.record_unverified(known_row.image_id, known_row.reviewed_at)  # as the version before did
    assert ledger.count_skipped(NAME, 1) == 0
    assert sync.sync_project(services(ledger, connection, data_bucket), NAME).collected == 1
    assert ledger.count_skipped(NAME, 1) == 1
    assert sync.sync_project(services(ledger, connection, data_bucket), NAME).collected == 0


def test_a_sync_finds_nothing_to_do_after_tasks_were_marked(
    ledger: Ledger,
    connection: Connection,
    project: Project,
    data_bucket: Bucket,
    tasks: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    annotate(connection, tasks[0])
    annotate(connection, tasks[1], cancelled=True)
    tell(ledger, connection, data_bucket, project, *tasks)

    def not_again(*_: Any, **__: Any) -> object:
        raise AssertionError("a task was collected again")

    monkeypatch.setattr(sync, "collect", not_again)
    assert sync.sync_project(services(ledger, connection, data_bucket), NAME) == sync.SyncSummary(tasks=4)


def test_overwritten_and_deleted_images_are_marked_when_dispatch_says_so(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket, tasks: list[Any]
) -> None:
    annotate(connection, tasks[0])
    tell(ledger, connection, data_bucket, project, tasks[0])
    sighting = {number: row(ledger, prediction(number)) for number in (0, 1)}
    overwritten, deleted = (
        Sighting(each.image_id, NAME, "photos", each.key, version, "9999")
        for each, version in zip(sighting.values(), ("v2", None), strict=True)
    )
    ledger.want([overwritten], 1)
    ledger.mark_gone([deleted])
    fields: Mapping[str, Any] = {
        "action": IMAGES_CHANGED,
        "project": project.id,
        "tasks": [task.id for task in tasks[:2]],
        "annotations": [],
    }
    event = ReviewEvent.from_fields(fields)
    assert collect_event(services(ledger, connection, data_bucket), NAME, event).marked == 2
    assert states(connection, project) == ["stale", "gone", "tasked", "tasked"]
    assert ledger.images_to_flag(NAME) == []


def test_a_busy_publisher_holds_up_the_column_and_not_the_work(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket, tasks: list[Any]
) -> None:
    annotate(connection, tasks[0])
    with hold_lease(ledger, NAME, 60):
        assert tell(ledger, connection, data_bucket, project, tasks[0], wait_s=0) == 0
    assert row(ledger, prediction(0)).verified_version == "v1"
    assert tell(ledger, connection, data_bucket, project, tasks[0]) == 1


def test_a_newer_prediction_leaves_a_skip_readable(
    ledger: Ledger, connection: Connection, project: Project, data_bucket: Bucket, tasks: list[Any]
) -> None:
    annotate(connection, tasks[0], cancelled=True)
    tell(ledger, connection, data_bucket, project, tasks[0])
    newer = [prediction(0, model_version="demo@2")]
    assert bring(ledger, connection, newer).replaced == 1
    assert states(connection, project)[0] == "skipped"
