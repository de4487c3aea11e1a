"""The synthesized stacks, deployed by CloudFormation, with the packages that would be deployed.

What the emulator lacks is listed in `tests/infra/emulated.py`.
"""

import json
from typing import Any

import pytest

from boxdrop.ledger import State
from tests.infra.deployed import BAD, SECOND, Happened

pytestmark = pytest.mark.slow


def test_an_uploaded_image_becomes_a_task_with_boxes(happened: Happened) -> None:
    tasks = {task.id: task for task in happened.tasks}
    for row in (happened.first, happened.second):
        assert row is not None
        (prediction,) = tasks[row.task_id].predictions
        assert prediction.result


def test_a_file_that_is_not_an_image_becomes_a_failed_row_with_its_reason(happened: Happened) -> None:
    assert not any(BAD in json.dumps(task.data) for task in happened.tasks)


def test_verified_work_is_in_the_data_bucket(happened: Happened) -> None:
    row = happened.verified
    assert row is not None
    assert any(row.image_id in key for key in happened.annotations)


def test_an_image_that_is_deleted_is_gone(happened: Happened) -> None:
    row = happened.row(SECOND)
    assert row is not None
    assert row.state == State.GONE


def test_a_stranger_is_refused_by_the_webhook(happened: Happened) -> None:
    assert happened.refused == 401


def test_there_are_no_dead_letters(happened: Happened) -> None:
    assert happened.dead_letters == dict.fromkeys(happened.dead_letters, 0)
    assert len(happened.dead_letters) == 5


def test_functions_variables_contain_no_secret(happened: Happened) -> None:
    listed: list[Any] = happened.deployment.emulator.client("lambda").list_functions()["Functions"]
    said = json.dumps([each.get("Environment") for each in listed])
    assert happened.connection.sdk._client_wrapper.get_headers().get("Authorization", "x ?")[6:] not in said
