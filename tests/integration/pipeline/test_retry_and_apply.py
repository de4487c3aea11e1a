"""`boxdrop apply`, `retry` and `status`, as a user calls them against a system; AWS is moto over HTTP."""

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from boxdrop.cli import boxdrop
from boxdrop.ledger import State
from boxdrop.system import System
from tests.moto_server import MakeClient

from .test_labels import have_tasks, in_force, project
from .world import FRUIT, World

Call = Callable[..., Result]


@pytest.fixture
def call(world: World, aws: MakeClient, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls a command with the system's name in the environment, as a user does with a deployed one."""
    sqs = aws("sqs")
    uploads = {
        name: sqs.create_queue(QueueName=f"{name}-{world.images.name}")["QueueUrl"]
        for name in ("uploads", "uploads-dlq")
    }
    system = System(
        name="test",
        region="us-east-1",
        table=world.ledger._table.name,
        image_bucket=world.images.name,
        data_bucket=world.data.name,
        queues={"launches": world.launches.url, "parts": world.parts.url, **uploads},
    )
    aws("ssm").put_parameter(
        Name="/boxdrop/test/system", Value=system.to_json(), Type="String", Overwrite=True
    )
    for name, value in {
        "BOXDROP_SYSTEM": "test",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("BOXDROP_TABLE", raising=False)

    def invoke(*arguments: str, **options: Any) -> Result:
        result: Result = CliRunner().invoke(boxdrop, arguments, env={"COLUMNS": "200"}, **options)
        return result

    return invoke


def test_apply_shows_what_runs_again_and_asks_first(world: World, call: Call) -> None:
    world.settings = type(world.settings)(window_s=0, apply_limit=1)
    in_force(world)
    keys = [f"fruit/{name}.jpg" for name in "abc"]
    world.dispatch(*(world.put(key) for key in keys))
    world.launch_all()
    have_tasks(world, *keys)
    world.ledger.record_verified(world.id_of(keys[0]), world.row(keys[0]).version or "", world.clock())
    world.dispatch(world.labels("fruit", FRUIT.replace("apple", "green apple")))
    world.launch_all()
    waiting = call("status", "fruit")
    assert "labels.yaml changed so that 2 images would run again: `boxdrop apply fruit`" in waiting.output
    refused = call("apply", "fruit", input="n\n")
    assert refused.exit_code == 1
    assert "2 images run again; 1 verified one stays as it is" in refused.output
    assert world.states() == {"verified": 1, "tasked": 2}
    done = call("apply", "fruit", "--yes")
    assert done.exit_code == 0, done.output
    assert "2 images run again" in done.output
    assert world.states() == {"verified": 1, "wanted": 2}
    assert sum(summary.images for summary in world.launch_all()) == 2
    assert "already in force" in call("apply", "fruit").output


def test_apply_knows_a_mistake_and_a_file_that_is_not_there(world: World, call: Call) -> None:
    missing = call("apply", "nowhere")
    assert missing.exit_code == 1
    assert f"there is no s3://{world.images.name}/nowhere/labels.yaml" in missing.output
    world.labels("fruit", "labels: []")
    wrong = call("apply", "fruit")
    assert wrong.exit_code == 1
    assert "there is no label; give at least one" in wrong.output


def test_apply_of_a_changed_threshold_runs_nothing(world: World, call: Call) -> None:
    in_force(world)
    world.dispatch(world.put("fruit/a.jpg"))
    (summary,) = world.launch_all()
    assert summary.run_id is not None
    world.work(summary.run_id)
    have_tasks(world, "fruit/a.jpg")
    world.labels("fruit", "labels: [pineapple, banana, {name: apple, threshold: 0.9}]")
    done = call("apply", "fruit")
    assert done.exit_code == 0, done.output
    assert "no image runs again" in done.output
    assert "1 part of stored boxes published again" in done.output
    assert world.states() == {"tasked": 1}


def test_retry_runs_failed_images_and_returns_dead_letters(world: World, call: Call) -> None:
    in_force(world)
    world.dispatch(world.put("fruit/a.jpg"), world.put("fruit/b.jpg"))
    for _ in range(5):
        world.launch_all()
        world.clock.forward(hours=4)
        world.recover()
    assert world.states() == {"failed": 2}
    lost = world.put("fruit/c.jpg")
    world.sqs.send_message(QueueUrl=queue(world, "uploads-dlq"), MessageBody=lost)
    status = call("status", "fruit")
    assert "Messages in dead-letter queues: 1 in uploads" in status.output
    assert "run_died" in call("status", "fruit", "--failures").output
    assert "0 failed images" in call("retry", "fruit", "--reason", "truncated").output
    done = call("retry", "fruit")
    assert done.exit_code == 0, done.output
    assert "2 failed images are wanted again" in done.output
    assert world.row("fruit/a.jpg").state == State.WANTED
    (message,) = world.sqs.receive_message(QueueUrl=queue(world, "uploads"))["Messages"]
    assert message["Body"] == lost


def queue(world: World, name: str) -> str:
    """URL of one of the queues of uploads."""
    return str(world.sqs.get_queue_url(QueueName=f"{name}-{world.images.name}")["QueueUrl"])


def test_status_shows_the_stage_the_runs_and_what_is_wrong(world: World, call: Call) -> None:
    world.dispatch(world.put("fruit/a.jpg"))
    assert f"waits for s3://{world.images.name}/fruit/labels.yaml" in call("status").output
    world.dispatch(world.labels("fruit", "labels: [{name: apple, prompts: []}]"))
    refused = call("status").output
    assert "waits for labels" in refused
    assert "label 'apple' has no prompts; give at least one" in refused
    in_force(world)
    (run,) = world.ledger.list_runs("fruit")
    seen = call("status", "fruit").output
    assert "fruit: 1 image is with the detector." in seen
    assert f"{run.run_id}" in seen
    assert "submitted" in seen
    assert project(world).labels_error is None
    assert call("status", "nowhere").exit_code == 1
