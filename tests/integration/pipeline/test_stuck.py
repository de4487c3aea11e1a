"""Whatever keeps images from going on, `boxdrop status` and `boxdrop doctor` name it.

Each case is a function that brings a system into that state by its real parts; AWS is moto over HTTP.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boxdrop.aws.launchers import job_name
from boxdrop.aws.s3 import Bucket
from boxdrop.job.detectors import Detectors
from boxdrop.job.host import Host
from boxdrop.job.job import Job
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.webhook import SYNC, ReviewEvent
from boxdrop.ledger import State
from boxdrop.pipeline.labels import part_event
from boxdrop.store.layout import bundle_prefix
from boxdrop.store.parts import list_parts
from tests.integration.labelstudio.conftest import annotate

from .test_handlers import Functions, functions, live, tasks
from .test_labels import have_tasks, in_force, project
from .test_recover import batch_event
from .test_retry_and_apply import Call, call
from .world import FRUIT, World

__all__ = ["call", "functions", "live"]

LONG = "a bunch of very ripe yellow bananas that lies on the wooden table beside three green apples"


def run_job(world: World, run_id: str, cache: Path) -> None:
    """Do a run with the real job and the demo detector."""
    Job(
        world.data,
        lambda name: Bucket(name, client=world.s3),
        Detectors(world.data, cache, "cpu", 1),
        Host(),
    ).work(run_id)


def parts_of(world: World, run_id: str) -> list[dict[str, Any]]:
    return [part_event(world.data.name, part.key) for part in list_parts(world.data, "fruit", run_id)]


def one_run(functions: Functions, labels: str = FRUIT, names: str = "ab") -> str:
    """Images and labels are there, and launch has made a run of them."""
    world = functions.world
    functions.deliver(
        "dispatch", world.labels("fruit", labels), *(world.put(f"fruit/{name}.jpg") for name in names)
    )
    (run_id,) = functions.launch()
    return run_id


# -- ways to be stuck ----------------------------------------------------------------------------------------


def no_labels(functions: Functions, **_: Any) -> None:
    functions.deliver("dispatch", functions.world.put("fruit/a.jpg"))


def a_mistake_in_labels(functions: Functions, **_: Any) -> None:
    functions.deliver(
        "dispatch", functions.world.labels("fruit", "labels: []"), functions.world.put("fruit/a.jpg")
    )


def a_mistake_in_a_nested_project(functions: Functions, **_: Any) -> None:
    in_force(functions.world)
    functions.deliver(
        "dispatch",
        functions.world.labels("fruit/2026", "labels: []"),
        functions.world.put("fruit/2026/a.jpg"),
    )


def an_unknown_detector(functions: Functions, **_: Any) -> None:
    functions.deliver(
        "dispatch",
        functions.world.labels("fruit", "detector: owl9\nlabels: [apple]"),
        functions.world.put("fruit/a.jpg"),
    )
    functions.launch()


def changed_labels_are_held(functions: Functions, **_: Any) -> None:
    world = functions.world
    world.settings = type(world.settings)(window_s=0, apply_limit=1)
    in_force(world)
    keys = [f"fruit/{name}.jpg" for name in "ab"]
    world.dispatch(*(world.put(key) for key in keys))
    world.launch_all()
    have_tasks(world, *keys)
    world.dispatch(world.labels("fruit", FRUIT.replace("apple", "pear")))
    world.launch_all()


def a_job_queue_that_is_not_there(functions: Functions, **_: Any) -> None:
    world = functions.world
    in_force(world)
    world.dispatch(world.put("fruit/a.jpg"))
    world.launcher.refuses = True
    with pytest.raises(Exception, match="no such job queue"):
        world.launch()


def no_machine_for_the_job(functions: Functions, **_: Any) -> None:
    world = functions.world
    world.clock.forward(minutes=-40)
    in_force(world)
    world.dispatch(world.put("fruit/a.jpg"))
    world.launch_all()


def a_prompt_over_the_token_limit(live: Functions, cache: Path, **_: Any) -> None:
    run_id = one_run(live, f"labels: [apple, {LONG}]")
    run_job(live.world, run_id, cache)
    assert live.deliver("publish", *parts_of(live.world, run_id)) == []


def a_detector_whose_files_are_gone(functions: Functions, cache: Path, **_: Any) -> None:
    world = functions.world
    run_id = one_run(functions)
    row = project(world)
    world.s3.delete_object(
        Bucket=world.data.name,
        Key=f"{bundle_prefix(row.bundle_name or '', row.bundle_digest or '')}image.onnx",
    )
    with pytest.raises(Exception, match=r"image\.onnx"):
        run_job(world, run_id, cache)
    functions.call("reconcile", batch_event(job_name(run_id, 1), "FAILED"))


def runs_that_die(functions: Functions, **_: Any) -> None:
    world = functions.world
    in_force(world)
    world.dispatch(world.put("fruit/a.jpg"))
    for _attempt in range(5):
        world.launch_all()
        world.clock.forward(hours=4)
        world.recover()


def label_studio_is_down(functions: Functions, **_: Any) -> None:
    run_id = one_run(functions)
    assert functions.deliver("publish", *functions.work(run_id)) == [0]  # tried again


def a_wrong_token(live: Functions, aws: Any, **_: Any) -> None:
    secrets = aws("secretsmanager")
    url = secrets.get_secret_value(SecretId="label-studio")["SecretString"]
    secrets.put_secret_value(SecretId="label-studio", SecretString=_with_token(url))
    run_id = one_run(live)
    assert live.deliver("publish", *live.work(run_id)) == [0]


def _with_token(secret: str) -> str:
    import json

    fields: dict[str, str] = json.loads(secret)
    return json.dumps(fields | {"token": "0123456789abcdef0123456789abcdef01234567"})


def a_removed_label_that_verified_work_uses(live: Functions, connection: Connection, **_: Any) -> None:
    world = live.world
    run_id = one_run(live)
    live.deliver("publish", *live.work(run_id))
    task = tasks(connection, world)["a.jpg"]
    annotate(connection, task)  # a banana
    row = project(world)
    live.deliver("collect", ReviewEvent(SYNC, row.label_studio_id or 0).to_fields())
    assert world.row("fruit/a.jpg").state == State.VERIFIED
    live.deliver("dispatch", world.labels("fruit", "labels: [pineapple, apple]"))
    world.clock.forward(seconds=60)
    (run_id,) = live.launch()
    assert live.deliver("publish", *live.work(run_id)) == []  # refused for good: not tried again


def reviews_that_cannot_be_read(live: Functions, **_: Any) -> None:
    world = live.world
    run_id = one_run(live)
    live.deliver("publish", *live.work(run_id))
    row = project(world)
    live.variables["LABEL_STUDIO_URL"] = "http://127.0.0.1:9"
    assert live.deliver("collect", ReviewEvent(SYNC, row.label_studio_id or 0).to_fields()) == [0]


def dead_letters(functions: Functions, **_: Any) -> None:
    world = functions.world
    in_force(world)
    url = world.sqs.get_queue_url(QueueName=f"uploads-dlq-{world.images.name}")["QueueUrl"]
    world.sqs.send_message(QueueUrl=url, MessageBody="{}")


CASES: dict[Callable[..., None], tuple[str, ...]] = {
    no_labels: ("waits for s3://", "fruit/labels.yaml"),
    a_mistake_in_labels: ("there is no label; give at least one",),
    a_mistake_in_a_nested_project: ("fruit/2026", "there is no label; give at least one"),
    an_unknown_detector: ("there is no detector owl9", "boxdrop bundle push"),
    changed_labels_are_held: ("2 images would run again", "boxdrop apply fruit"),
    a_job_queue_that_is_not_there: ("the last run failed", "there is no such job queue"),
    no_machine_for_the_job: ("has waited 4", "boxdrop doctor"),
    a_prompt_over_the_token_limit: ("2 images failed (labels)", "tokens long", "fewer words"),
    a_detector_whose_files_are_gone: ("the last run failed", "image.onnx"),
    runs_that_die: ("1 image failed (run_died)", "boxdrop retry fruit"),
    label_studio_is_down: ("no server answers at http://127.0.0.1:9",),
    a_wrong_token: ("does not accept the access token",),
    a_removed_label_that_verified_work_uses: ("no longer has: 'banana' (1 box)", "add them to the"),
    reviews_that_cannot_be_read: ("verified work cannot be read", "http://127.0.0.1:9"),
    dead_letters: ("1 in uploads", "boxdrop retry"),
}


@pytest.mark.parametrize("arrange", CASES, ids=lambda arrange: arrange.__name__)
def test_status_and_doctor_name_the_cause(
    arrange: Callable[..., None], request: pytest.FixtureRequest, world: World, tmp_path: Path, call: Call
) -> None:
    if arrange.__code__.co_varnames[0] == "live":
        options: dict[str, Any] = {
            "live": request.getfixturevalue("live"),
            "connection": request.getfixturevalue("connection"),
        }
    else:
        options = {"functions": request.getfixturevalue("functions")}
    arrange(**options, cache=tmp_path / "bundles", aws=request.getfixturevalue("aws"))
    for command in (("status",), ("doctor", "--system", "test")):
        said = call(*command).output
        assert "Traceback" not in said
        for words in CASES[arrange]:
            assert words in said, (command, said)


def test_retry_unblocks_a_project_once_its_labels_are_back(
    live: Functions, connection: Connection, call: Call
) -> None:
    a_removed_label_that_verified_work_uses(live, connection)
    world = live.world
    assert world.row("fruit/b.jpg").state == State.RUNNING
    live.deliver(
        "dispatch", world.labels("fruit", "labels: [pineapple, apple, {name: banana, prompts: [x]}]")
    )
    world.clock.forward(seconds=60)
    (run_id,) = live.launch()
    assert live.deliver("publish", *live.work(run_id)) == []
    assert world.row("fruit/b.jpg").state == State.TASKED
    assert project(world).publish_problem is None
    assert "Label Studio:" not in call("status", "fruit").output


def test_retry_sends_stored_boxes_again_after_label_studio_refused_them(
    live: Functions, connection: Connection, call: Call
) -> None:
    a_removed_label_that_verified_work_uses(live, connection)
    world = live.world
    for annotation in tasks(connection, world)["a.jpg"].annotations:
        connection.sdk.annotations.delete(annotation["id"])
    done = call("retry", "fruit")
    assert done.exit_code == 0, done.output
    assert "1 part of stored boxes sent to Label Studio again" in done.output
    assert live.deliver("publish", *world.received(world.parts)) == []
    assert world.row("fruit/b.jpg").state == State.TASKED
