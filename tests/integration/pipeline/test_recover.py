"""Runs that die, end unheard, or leave something behind. Over HTTP, against moto."""

import json
from typing import Any

import pytest

from boxdrop.aws.launchers import SageMakerLauncher, job_name
from boxdrop.ledger import RunState, State
from boxdrop.pipeline.parts import finish_run
from boxdrop.pipeline.recover import fail_run_by_id, failed_runs
from boxdrop.store.layout import request_key, summary_key

from .world import World


@pytest.fixture
def fruit(world: World) -> World:
    """A project with three images in a run that was submitted."""
    world.dispatch(world.labels("fruit"))
    world.launch_all()
    world.dispatch(*(world.put(f"fruit/{name}.jpg") for name in "abc"))
    assert world.launch_all()[0].images == 3
    return world


def run_id(world: World) -> str:
    return world.ledger.list_runs("fruit")[0].run_id


def batch_event(name: str, status: str = "FAILED", **detail: Any) -> dict[str, Any]:
    """As EventBridge sends it, https://docs.aws.amazon.com/batch/latest/userguide/batch_job_events.html."""
    return {
        "version": "0",
        "id": "c8f9c4b5-76e5-d76a-f980-7011e206042b",
        "detail-type": "Batch Job State Change",
        "source": "aws.batch",
        "account": "123456789012",
        "time": "2022-01-11T23:36:40Z",
        "region": "us-east-1",
        "resources": ["arn:aws:batch:us-east-1:123456789012:job/4c7599ae-0a82-49aa-ba5a-4727fcce14a8"],
        "detail": {
            "jobArn": "arn:aws:batch:us-east-1:123456789012:job/4c7599ae-0a82-49aa-ba5a-4727fcce14a8",
            "jobName": name,
            "jobId": "4c7599ae-0a82-49aa-ba5a-4727fcce14a8",
            "jobQueue": "arn:aws:batch:us-east-1:123456789012:job-queue/PexjEHappyPathCanary2JobQueue",
            "status": status,
            "attempts": [],
            **detail,
        },
    }


def test_a_failed_job_of_batch_gives_its_images_back(fruit: World) -> None:
    event = batch_event(job_name(run_id(fruit), 1), statusReason="Host EC2 (instance i-0a) terminated.")
    ((failed, reason),) = failed_runs(event)
    assert fail_run_by_id(fruit.services, failed, reason) == ("fruit", 3)
    run = fruit.ledger.run("fruit", failed)
    assert run is not None
    assert (run.state, run.reason) == (RunState.FAILED, f"AWS Batch: {reason.removeprefix('AWS Batch: ')}")
    assert fruit.states() == {"wanted": 3}
    assert [summary.images for summary in fruit.launch_all()] == [3]
    assert fail_run_by_id(fruit.services, failed, reason) == ("fruit", 0)
    assert fruit.states() == {"running": 3}


@pytest.mark.parametrize(
    "event",
    [
        batch_event("boxdrop-20261124T215700Z-0123abcd-1", "RUNNING"),
        batch_event("boxdrop-20261124T215700Z-0123abcd-1", "SUCCEEDED"),
        batch_event("boxdrop-20261124T215700Z-0123abcd-1", arrayProperties={"index": 3}),
        batch_event("somebody-elses"),
        {"Records": [{"Sns": {"Message": "hello"}}, {"Sns": {"Message": "[1]"}}, {}]},
        {"Records": [{"Sns": {"Message": '{"invocationStatus": "Completed"}'}}]},
    ],
)
def test_other_news_of_jobs_ends_no_run(event: dict[str, Any]) -> None:
    assert list(failed_runs(event)) == []


def test_a_failed_array_is_reported_by_its_parent() -> None:
    properties = {"size": 2, "statusSummary": {"FAILED": 1, "SUCCEEDED": 1}}
    event = batch_event("boxdrop-20261124T215700Z-0123abcd-1", arrayProperties=properties)
    assert [run for run, _ in failed_runs(event)] == ["20261124T215700Z-0123abcd"]


def test_a_failed_invocation_of_sagemaker_is_reported_by_sns() -> None:
    notice = {
        "awsRegion": "us-east-1",
        "invocationStatus": "Failed",
        "failureReason": "Model server did not respond in time",
        "inferenceId": "boxdrop-20261124T215700Z-0123abcd-1-00004",
    }
    event = {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(notice)}}]}
    assert list(failed_runs(event)) == [
        ("20261124T215700Z-0123abcd", "SageMaker: Model server did not respond in time")
    ]


def test_a_run_that_ended_well_is_not_failed_by_late_news(fruit: World) -> None:
    run = run_id(fruit)
    assert finish_run(fruit.services, run) == ("fruit", True)
    assert finish_run(fruit.services, run) == ("fruit", False)
    assert fail_run_by_id(fruit.services, run, "late") == ("fruit", 0)
    assert fruit.states() == {"running": 3}


def test_a_run_whose_deadline_is_over_gives_its_images_back_after_five_of_them_to_blame(fruit: World) -> None:
    for _ in range(5):
        fruit.clock.forward(hours=4)
        fruit.recover()
        fruit.launch_all()
    assert fruit.states() == {"failed": 3}
    row = fruit.row("fruit/a.jpg")
    assert (row.reason, row.message) == ("run_died", "5 runs died while they had this image")


def test_a_late_job_that_is_alive_gets_more_time(fruit: World) -> None:
    fruit.launcher.alive = True
    for _ in range(2):
        fruit.clock.forward(hours=4)
        assert fruit.recover().failed == ()
    assert fruit.states() == {"running": 3}
    fruit.launcher.alive = False
    fruit.clock.forward(hours=4)
    assert fruit.recover().failed == (f"fruit/{run_id(fruit)}",)


def test_an_unrecorded_summary_ends_its_run_and_its_parts_are_published(fruit: World) -> None:
    run = run_id(fruit)
    (part,) = fruit.work(run)
    fruit.data.create(summary_key(run), _summary(fruit, run, part.key))
    fruit.clock.forward(hours=4)
    assert fruit.recover().finished == 1
    fruit.clock.forward(minutes=16)
    found = fruit.recover()
    assert (found.parts, found.released, found.problems) == (1, {}, ())
    (message,) = fruit.received(fruit.parts)
    assert message["detail"]["object"]["key"] == part.key


def _summary(world: World, run: str, part: str) -> bytes:
    """As a job writes it, see `boxdrop.store.reports.RunSummary`."""
    moment = "2026-11-24T21:57:00Z"
    shard = {
        "index": 0,
        "started_at": moment,
        "finished_at": moment,
        "images": 3,
        "computed": 3,
        "resumed": 0,
    }
    stages = dict.fromkeys(("fetch", "decode", "preprocess", "detect", "postprocess", "write"), 0.1)
    fields: dict[str, Any] = {
        "format": "boxdrop-summary/1",
        "run_id": run,
        "project": "fruit",
        "bucket": world.images.name,
        "generation": 1,
        "labels": "0" * 64,
        "caption": None,
        "model_version": "demo@1",
        "bundle": {"name": "demo", "digest": "0" * 64, "family": "owlvit", "precision": "fp32"},
        "provider": "CPUExecutionProvider",
        "device": "cpu",
        "images": 3,
        "predicted": 3,
        "failed": 0,
        "superseded": 0,
        "gone": 0,
        "boxes": 3,
        "boxes_by_label": {},
        "score_histograms": {},
        "failures_by_reason": {},
        "parts": [part],
        "samples": [],
        "launcher": "local",
        "job_ids": [],
        "instance_type": None,
        "spot": None,
        "shards": [
            {**shard, "images_per_s": 1.0, "stages": stages, "peak_memory_mb": 1.0, "gpu_utilisation": None}
        ],
        "created_at": moment,
        "started_at": moment,
        "finished_at": moment,
        "seconds": 1.0,
        "gpu_seconds": 0.0,
        "estimated_cost_usd": None,
    }
    return json.dumps(fields).encode()


def test_images_that_a_finished_run_left_behind_are_checked(fruit: World) -> None:
    """Three images without a record: overwritten and deleted without an event, and simply forgotten."""
    run = run_id(fruit)
    fruit.put("fruit/a.jpg", b"another")
    fruit.delete("fruit/b.jpg")
    finish_run(fruit.services, run)
    assert fruit.recover().released == {}  # they may be on their way
    fruit.clock.forward(minutes=16)
    assert fruit.recover().released == {"fruit": 1}
    assert fruit.states() == {"wanted": 2, "gone": 1}
    assert fruit.row("fruit/a.jpg").version == fruit.images.version("fruit/a.jpg")
    fruit.launch_all()
    assert fruit.states() == {"running": 2, "gone": 1}


def test_one_projects_trouble_is_not_that_of_the_others(fruit: World) -> None:
    fruit.dispatch(fruit.labels("broken"), fruit.put("broken/a.jpg"))
    broken = fruit.ledger.project("broken")
    assert broken is not None
    fruit.s3.delete_object(Bucket=fruit.data.name, Key=f"labelsets/{broken.stored_labels}.yaml")
    fruit.clock.forward(hours=4)
    found = fruit.recover()
    assert found.failed == (f"fruit/{run_id(fruit)}",)
    now = fruit.ledger.project("broken")
    assert now is not None
    assert "put the project's labels.yaml again" in (now.labels_error or "")


def test_wanted_images_whose_launch_was_lost_are_launched(fruit: World) -> None:
    fruit.dispatch(fruit.put("fruit/d.jpg"))
    fruit.received(fruit.launches)
    fruit.clock.forward(seconds=1)
    assert fruit.recover().launches == ("fruit",)
    fruit.launch_all()
    assert fruit.row("fruit/d.jpg").state == State.RUNNING


def test_the_age_of_the_oldest_image_is_reported_while_its_job_waits_for_an_instance(fruit: World) -> None:
    """A job under a quota of 0 is RUNNABLE for ever: its run is alive, and nothing fails."""
    fruit.launcher.alive = True
    fruit.clock.forward(hours=3)
    assert fruit.recover().oldest_s == {"fruit": pytest.approx(3 * 3600, abs=60)}
    assert fruit.states() == {"running": 3}


def test_where_no_image_waits_the_oldest_has_waited_for_nothing(world: World) -> None:
    world.dispatch(world.labels("fruit"))
    world.launch_all()
    assert world.recover().oldest_s == {"fruit": 0}


class Endpoint:
    """SageMaker's runtime, as far as its documentation describes what it writes."""

    def __init__(self, world: World) -> None:
        self._data = world.data
        self.asked: list[str] = []

    def invoke_endpoint_async(self, **request: Any) -> dict[str, str]:
        name = request["InferenceId"]
        self.asked.append(name)
        folder = f"s3://{self._data.name}/sagemaker"
        return {
            "InferenceId": name,
            "OutputLocation": f"{folder}/answers/{name}.out",
            "FailureLocation": f"{folder}/failures/{name}-error.out",
        }

    def write(self, folder: str, name: str, text: str) -> None:
        self._data.put(f"sagemaker/{folder}/{name}", text.encode())


@pytest.fixture
def sagemaker(world: World) -> Endpoint:
    """A project whose images are in a run of two shards, on SageMaker."""
    made = Endpoint(world)
    world.launcher = SageMakerLauncher(
        "endpoint", world.data, 3600, request_key, client=made, clock=world.clock
    )
    world.dispatch(world.labels("fruit"))
    world.launch_all()
    world.dispatch(*(world.put(f"fruit/{number:03}.jpg") for number in range(130)))
    assert world.launch_all()[0].images == 130
    assert len(made.asked) == 2
    return made


def test_a_run_that_waits_in_sagemakers_queue_for_hours_is_not_computed_again(
    world: World, sagemaker: Endpoint
) -> None:
    for _ in range(3):
        world.clock.forward(hours=2)
        assert world.recover().failed == ()
    world.clock.forward(hours=2, minutes=1)
    assert len(world.recover().failed) == 1


def test_a_failure_whose_notification_was_lost_is_read_from_the_failure_path(
    world: World, sagemaker: Endpoint
) -> None:
    run = run_id(world)
    sagemaker.write("failures", f"{sagemaker.asked[1]}-error.out", "ModelError: CUDA\nout of memory")
    world.clock.forward(hours=2)
    assert world.recover().failed == ()  # the other shard is still at work
    sagemaker.write("answers", f"{sagemaker.asked[0]}.out", "{}")
    world.clock.forward(hours=2)
    assert world.recover().failed == (f"fruit/{run}",)
    row = world.ledger.run("fruit", run)
    assert row is not None
    assert row.reason == "SageMaker: ModelError: CUDA out of memory"


def test_requests_of_an_earlier_version_end_at_their_deadline(world: World, sagemaker: Endpoint) -> None:
    run = run_id(world)
    for shard in range(2):
        world.data.put(request_key(run, 1, shard), json.dumps({"run_id": run, "shard": shard}).encode())
    world.clock.forward(hours=2)
    assert world.recover().failed == (f"fruit/{run}",)
