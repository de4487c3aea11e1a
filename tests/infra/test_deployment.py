"""The synthesized stacks, deployed by CloudFormation, with the packages that would be deployed.

What the emulator lacks is listed in `tests/infra/emulated.py`.
"""

import json
from typing import Any

import pytest

from boxdrop.ledger import State
from tests.infra.deployed import BAD, FIRST, LOST, NEW, SECOND, DeployedAgain, Happened, deploy_again

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


# -- destroyed, and deployed again: last, because the deployment is another one afterwards ------------------


@pytest.fixture(scope="module")
def again(happened: Happened) -> DeployedAgain:
    """After ``cdk destroy`` and ``cdk deploy --import-existing-resources``."""
    return deploy_again(happened)


def test_buckets_and_ledger_that_were_retained_belong_to_the_new_stack(again: DeployedAgain) -> None:
    assert set(again.imported) == {"AWS::S3::Bucket", "AWS::DynamoDB::Table"}


def test_nothing_is_repeated_after_deploying_again(again: DeployedAgain) -> None:
    """No second task, no second run of an image that had its boxes, also if it is uploaded once more."""
    assert again.tasks_before <= again.tasks_after
    assert len(again.tasks_after - again.tasks_before) == 1
    assert len(again.runs_after - again.runs_before) == 1
    for key in (FIRST, SECOND, BAD, LOST):
        # The content that was verified is there again, which makes a stale image verified.
        assert key == FIRST or again.after[key].state == again.before[key].state
        assert again.after[key].task_id == again.before[key].task_id
        assert again.after[key].run_id == again.before[key].run_id


def test_nothing_is_lost_by_deploying_again(happened: Happened, again: DeployedAgain) -> None:
    assert set(again.after) == {*again.before, NEW}
    assert again.after[FIRST].state == State.VERIFIED
    assert set(again.kept) >= set(happened.annotations)
    assert again.secrets[0] == again.secrets[1]
