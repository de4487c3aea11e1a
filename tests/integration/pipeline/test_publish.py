"""Publishing under a lease and by the ledger, against a real Label Studio and a real HTTP DynamoDB."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from boxdrop.domain.predictions import Box, Failure, Prediction
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import Project
from boxdrop.labelstudio.publishing import PublishSummary
from boxdrop.labelstudio.task_data import to_task
from boxdrop.ledger import Ledger, Sighting, State
from boxdrop.pipeline import publish as module
from boxdrop.pipeline.publish import BusyError, LeaseLostError, LedgerRegister, hold_lease
from tests.integration.labelstudio.conftest import FRUIT, annotate, next_task, prediction, tasks_of

from .published import NAME, assert_agreement, bring, claim, known, row


@pytest.fixture
def project(project: Project, ledger: Ledger) -> Project:
    """A project that the ledger knows."""
    return known(ledger, project)


def test_each_image_gets_one_task_and_the_ledger_knows_it(
    ledger: Ledger, connection: Connection, project: Project
) -> None:
    records = [prediction(number) for number in range(5)]
    claim(ledger, records)
    assert bring(ledger, connection, records, chunk=2) == PublishSummary(created=5)
    assert bring(ledger, connection, records, chunk=3) == PublishSummary(unchanged=5)
    assert_agreement(ledger, connection, project, records)
    assert tasks_of(connection, project)[0].data["image"] == "s3://photos/fruit/basket 0.jpg"


def test_tasks_that_could_not_be_recorded_are_found_by_the_next_publisher(
    ledger: Ledger, connection: Connection, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [prediction(number) for number in range(4)]
    claim(ledger, records)
    with monkeypatch.context() as patch:
        for step in ("settle", "shown"):
            patch.setattr(LedgerRegister, step, _dies)
        with pytest.raises(KeyboardInterrupt):
            bring(ledger, connection, records)
    assert row(ledger, records[0]).task_id is None
    assert bring(ledger, connection, records) == PublishSummary(unchanged=4)
    assert_agreement(ledger, connection, project, records)


def _dies(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_newer_prediction_replaces_in_place_and_an_older_one_never_comes_back(
    ledger: Ledger, connection: Connection, project: Project
) -> None:
    old, new = prediction(0), prediction(0, model_version="demo@2")
    claim(ledger, [old])
    bring(ledger, connection, [old])
    number = row(ledger, old).task_id
    ledger.renew([old.image_id], 2)
    ledger.claim_wanted(NAME, "run-2", 2, 1)
    assert bring(ledger, connection, [new], generation=2) == PublishSummary(replaced=1)
    assert bring(ledger, connection, [old], generation=1) == PublishSummary(superseded=1)
    assert_agreement(ledger, connection, project, [new])
    assert row(ledger, new).task_id == number
    assert [each["model_version"] for each in next_task(connection, project)["predictions"]] == ["demo@2"]


def test_a_result_for_an_overwritten_image_is_not_shown(
    ledger: Ledger, connection: Connection, project: Project
) -> None:
    old, new = prediction(0), prediction(0, version="v2")
    claim(ledger, [old])
    claim(ledger, [new], version="v2")
    assert bring(ledger, connection, [old]) == PublishSummary(superseded=1)
    assert bring(ledger, connection, [new]) == PublishSummary(created=1)
    assert_agreement(ledger, connection, project, [new])


def test_a_changed_threshold_is_published_from_the_same_prediction(
    ledger: Ledger, connection: Connection, project: Project
) -> None:
    loose = prediction(0)
    strict = replace(loose, boxes=loose.boxes[:1])
    claim(ledger, [loose])
    bring(ledger, connection, [loose])
    assert strict.prediction_id == loose.prediction_id
    assert bring(ledger, connection, [strict]) == PublishSummary(replaced=1)
    (task,) = tasks_of(connection, project)
    assert len(task.predictions[0].result) == task.data["boxes"] == 1


def test_a_deleted_task_is_made_again(ledger: Ledger, connection: Connection, project: Project) -> None:
    records = [prediction(number) for number in range(2)]
    claim(ledger, records)
    bring(ledger, connection, records)
    gone = row(ledger, records[0]).task_id
    connection.sdk.tasks.delete(str(gone))
    assert bring(ledger, connection, records) == PublishSummary(created=1, unchanged=1)
    assert_agreement(ledger, connection, project, records)
    assert row(ledger, records[0]).task_id != gone


def test_a_number_reused_by_another_image_is_not_the_first_images_task(
    ledger: Ledger, connection: Connection, project: Project
) -> None:
    """On SQLite, Label Studio gives the number of the newest task, once deleted, to the next one."""
    first, second = prediction(0), prediction(1)
    claim(ledger, [first, second])
    bring(ledger, connection, [first])
    number = row(ledger, first).task_id
    connection.sdk.tasks.delete(str(number))
    connection.sdk.projects.import_tasks(project.id, request=[to_task(second, FRUIT, "s3://photos/x.jpg")])
    (other,) = tasks_of(connection, project)
    assert other.id == number
    assert bring(ledger, connection, [first, second]) == PublishSummary(created=1, unchanged=1)
    assert_agreement(ledger, connection, project, [first, second])


def test_a_project_that_was_emptied_is_filled_again(
    ledger: Ledger, connection: Connection, project: Project
) -> None:
    records = [prediction(number) for number in range(3)]
    claim(ledger, records)
    bring(ledger, connection, records)
    for task in tasks_of(connection, project):
        connection.sdk.tasks.delete(str(task.id))
    assert bring(ledger, connection, records) == PublishSummary(created=3)
    assert_agreement(ledger, connection, project, records)


def test_failures_are_recorded_and_read_on_a_task_that_shows_what_was_before(
    ledger: Ledger, connection: Connection, project: Project
) -> None:
    good = prediction(0)
    claim(ledger, [good])
    bring(ledger, connection, [good])
    bad = Failure(good.image, good.image_id, "v2", good.model_version, "broken", "not an image")
    claim(ledger, [bad], version="v2")
    assert bring(ledger, connection, [bad]) == PublishSummary(failures=1)
    assert bring(ledger, connection, [bad]) == PublishSummary(failures=1)
    assert (row(ledger, bad).state, row(ledger, bad).reason) == (State.FAILED, "broken")
    assert tasks_of(connection, project)[0].data["state"] == "failed"


def test_verified_tasks_are_left_alone_unless_asked(
    ledger: Ledger, connection: Connection, project: Project
) -> None:
    record = prediction(0)
    claim(ledger, [record])
    bring(ledger, connection, [record])
    annotate(connection, tasks_of(connection, project)[0])
    newer = prediction(0, boxes=[Box("apple", 0.7, (0, 0, 10, 10), "apple")], model_version="demo@2")
    assert bring(ledger, connection, [newer], generation=2) == PublishSummary(verified=1)
    assert bring(ledger, connection, [newer], generation=2, verified_too=True) == PublishSummary(replaced=1)
    (task,) = tasks_of(connection, project)
    assert task.predictions[0].model_version == "demo@2"
    assert len(task.annotations) == 1


def test_deleted_and_overwritten_images_are_marked_on_their_tasks(
    ledger: Ledger, connection: Connection, project: Project
) -> None:
    records = [prediction(number) for number in range(3)]
    claim(ledger, records)
    bring(ledger, connection, records)
    ledger.mark_gone([Sighting(records[0].image_id, NAME, "photos", "fruit/x", None, "9999")])
    ledger.record_verified(records[1].image_id, "v1", row(ledger, records[1]).since)
    ledger.want([Sighting(records[1].image_id, NAME, "photos", "fruit/y", "v2", "9999")], 1)
    bring(ledger, connection, [])
    states = [task.data["state"] for task in tasks_of(connection, project)]
    assert states == ["gone", "stale", "tasked"]
    assert ledger.images_to_flag(NAME) == []


def test_a_twin_of_a_late_commit_is_removed_and_the_recorded_task_stays(
    ledger: Ledger, connection: Connection, project: Project
) -> None:
    record = prediction(0)
    claim(ledger, [record])
    bring(ledger, connection, [record])
    late = to_task(record, FRUIT, "s3://photos/late.jpg")
    connection.sdk.projects.import_tasks(project.id, request=[late])
    assert bring(ledger, connection, [record]) == PublishSummary(unchanged=1, removed_twins=1)
    assert_agreement(ledger, connection, project, [record])


def test_a_late_commit_of_older_boxes_gives_the_task_and_the_newer_boxes_are_put_into_it(
    ledger: Ledger, connection: Connection, project: Project
) -> None:
    old, new = prediction(0), prediction(0, model_version="demo@2")
    claim(ledger, [new])
    connection.sdk.projects.import_tasks(project.id, request=[to_task(old, FRUIT, "s3://photos/x.jpg")])
    assert bring(ledger, connection, [new]) == PublishSummary(replaced=1)
    assert_agreement(ledger, connection, project, [new])


def test_publishers_take_turns(ledger: Ledger, connection: Connection, project: Project) -> None:
    record = prediction(0)
    claim(ledger, [record])
    with hold_lease(ledger, NAME, 60), pytest.raises(BusyError, match="another process is publishing"):
        bring(ledger, connection, [record])
    assert bring(ledger, connection, [record]) == PublishSummary(created=1)


def test_a_publisher_that_was_overtaken_stops_before_it_writes(
    ledger: Ledger, connection: Connection, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = prediction(0)
    claim(ledger, [record])

    def slow_addresses(_: Sequence[Prediction]) -> list[str]:
        assert ledger.acquire_lease(NAME, "another", seconds=60) is not None
        return ["s3://photos/x.jpg"]

    monkeypatch.setattr(module, "_RENEWED_AFTER", 0.0)
    with pytest.raises(LeaseLostError, match="another publisher took over"):
        bring(ledger, connection, [record], lease_s=0, image_urls=slow_addresses)
    assert tasks_of(connection, project) == []
