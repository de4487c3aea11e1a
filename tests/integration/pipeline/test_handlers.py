"""The functions' handlers as Lambda calls them, each with the variables that it is given and no others.

AWS is moto over HTTP, Label Studio is real; a job is worked by hand.
"""

import base64
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boxdrop.aws.launchers import job_name
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.webhook import PROJECT_HEADER, SECRET_HEADER
from boxdrop.ledger import RunState, State
from boxdrop.local.label_studio import Server
from boxdrop.metrics import METRICS
from boxdrop.pipeline.labels import part_event
from boxdrop.pipeline.recover import failed_runs
from boxdrop.store.layout import annotation_key
from boxdrop.topology import FUNCTIONS
from functions import resources
from functions.environment import FunctionEnvironmentError, read_environment
from functions.resources import services
from tests.integration.labelstudio.conftest import annotate
from tests.ports import free_port

from .test_recover import batch_event
from .world import World

SECRET = "of the webhook"
_AWS = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "BOXDROP_PRESIGN_ACCESS_KEY_ID": "test",
    "BOXDROP_PRESIGN_SECRET_ACCESS_KEY": "test",
    "POWERTOOLS_LOG_LEVEL": "INFO",
}


class Functions:
    """Calls handlers with SQS's events and others."""

    def __init__(self, world: World, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.jobs = world.sqs.create_queue(QueueName=f"jobs-{world.images.name}")["QueueUrl"]
        self._patch = monkeypatch
        self.variables = {
            "BOXDROP_TABLE": world.ledger._table.name,
            "BOXDROP_IMAGE_BUCKET": world.images.name,
            "BOXDROP_DATA_BUCKET": world.data.name,
            "BOXDROP_LAUNCHES_QUEUE": world.launches.url,
            "BOXDROP_PARTS_QUEUE": world.parts.url,
            "BOXDROP_REVIEWS_QUEUE": world.reviews.url,
            "BOXDROP_WINDOW_S": "0.2",
            "BOXDROP_RUN_IMAGES": "1000",
            "BOXDROP_SHARD_IMAGES": "128",
            "BOXDROP_APPLY_LIMIT": "100",
            "BOXDROP_LAUNCHER": "local",
            "BOXDROP_JOB_QUEUE": self.jobs,
            "BOXDROP_JOB_DEFINITION": "",
            "BOXDROP_ENDPOINT": "",
            "BOXDROP_JOB_TIMEOUT_S": "600",
            "BOXDROP_TEACHING": "",
            "BOXDROP_WEBHOOK_URL": "http://127.0.0.1:9/webhook",
            "LABEL_STUDIO_URL": "http://127.0.0.1:9",
            "BOXDROP_LABEL_STUDIO_SECRET": "label-studio",
            "BOXDROP_WEBHOOK_SECRET_ID": "webhook",
        }
        self.aws = {**_AWS, "AWS_ENDPOINT_URL": endpoint}

    def call(self, function: str, event: dict[str, Any]) -> Any:
        """Call a handler in an environment of exactly its variables."""
        with self._patch.context() as patch:
            for name in [name for name in os.environ if name.startswith(("BOXDROP_", "LABEL_STUDIO_"))]:
                patch.delenv(name)
            for name in FUNCTIONS[function].reads:
                patch.setenv(name, self.variables[name])
            for name, value in self.aws.items():
                patch.setenv(name, value)
            handler = importlib.import_module(f"functions.{function}.handler").handler
            for stream in logging.getLogger(
                function
            ).handlers:  # the present one: pytest has one for each test
                if isinstance(stream, logging.StreamHandler):
                    stream.stream = sys.stdout  # not setStream: it flushes the one before, which is closed
            return handler(event, None)

    def deliver(self, function: str, *bodies: str | dict[str, Any]) -> list[int]:
        """Give messages to a function of a queue; returns the places of those that are to come again."""
        texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
        records = [
            {
                "messageId": f"message-{number}",
                "receiptHandle": "receipt",
                "body": text,
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
                "md5OfBody": "",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:queue",
                "awsRegion": "us-east-1",
            }
            for number, text in enumerate(texts)
        ]
        answer = self.call(function, {"Records": records})
        return [int(each["itemIdentifier"].removeprefix("message-")) for each in answer["batchItemFailures"]]

    def launch(self) -> list[str]:
        """Let launch take what it was asked for; returns the runs whose shards a worker now has."""
        while messages := self.world.received(self.world.launches):
            assert self.deliver("launch", *messages) == []
            self.world.clock.forward(seconds=10)
            if not any(self.world.ledger.count_images("fruit", (State.WANTED,)).values()):
                break  # what is left looks once more, after the index has caught up
        queue = type(self.world.parts)(self.jobs, self.world.sqs)
        return [message["run_id"] for message in self.world.received(queue)]

    def work(self, run_id: str, **options: Any) -> list[dict[str, Any]]:
        """Do the job; returns S3's events about its parts."""
        data = self.world.data
        return [part_event(data.name, part.key) for part in self.world.work(run_id, **options)]


@pytest.fixture
def functions(world: World, endpoint: str, aws: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    """The functions, without a Label Studio that answers."""
    secrets = aws("secretsmanager")
    known = {each["Name"] for each in secrets.list_secrets()["SecretList"]}
    for name, value in (("webhook", {"current": SECRET}), ("label-studio", {"token": "unknown"})):
        if name in known:
            secrets.put_secret_value(SecretId=name, SecretString=json.dumps(value))
        else:
            secrets.create_secret(Name=name, SecretString=json.dumps(value))
    services.cache_clear()
    resources.secrets.cache_clear()
    yield Functions(world, endpoint, monkeypatch)
    services.cache_clear()
    resources.secrets.cache_clear()


@pytest.fixture
def live(functions: Functions, server: Server, aws: Any) -> Functions:
    """The functions, with a real Label Studio."""
    secret = json.dumps({"url": server.url, "token": server.token})
    aws("secretsmanager").put_secret_value(SecretId="label-studio", SecretString=secret)
    functions.variables["LABEL_STUDIO_URL"] = ""  # the secret tells it
    return functions


def tasks(connection: Connection, world: World) -> dict[str, Any]:
    """Tasks of the project by file name, with predictions and annotations."""
    row = world.ledger.project("fruit")
    assert row is not None
    listed = list(connection.sdk.tasks.list(project=row.label_studio_id, fields="all"))
    found = {task.data["file_name"].rpartition("/")[2]: task for task in listed}
    assert len(found) == len(listed)
    return found


def emitted(output: str) -> dict[str, float]:
    """Sums of the metrics in a log."""
    sums: dict[str, float] = {}
    for line in output.splitlines():
        if '"_aws"' not in line:
            continue
        fields = json.loads(line)
        for definition in fields["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
            value = fields[definition["Name"]]
            sums[definition["Name"]] = sums.get(definition["Name"], 0) + sum(
                value if isinstance(value, list) else [value]
            )
    return sums


def call_of_webhook(payload: dict[str, Any], secret: str = SECRET, **event: Any) -> dict[str, Any]:
    """As API Gateway's HTTP API calls a function, payload format 2.0."""
    headers = {
        "content-type": "application/json",
        SECRET_HEADER.lower(): secret,
        PROJECT_HEADER.lower(): str(payload["project"]["id"]),
    }
    http = {"method": "POST", "path": "/webhook", "protocol": "HTTP/1.1", "sourceIp": "1.2.3.4"}
    return {
        "version": "2.0",
        "routeKey": "POST /webhook",
        "rawPath": "/webhook",
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {"http": http, "requestId": "JKJaXmPLvHcESHA=", "stage": "$default"},
        "body": json.dumps(payload),
        "isBase64Encoded": False,
    } | event


def test_an_upload_becomes_a_task_and_a_person_verifies_it(
    live: Functions, connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    world = live.world
    uploads = [world.put(f"fruit/{name}.jpg") for name in ("a", "b", "bad")]
    assert live.deliver("dispatch", *uploads, world.labels("fruit"), "{poison") == [4]
    (run_id,) = live.launch()
    events = live.work(run_id)
    ended = part_event(world.data.name, f"runs/{run_id}/summary.json")
    assert live.deliver("publish", *events, ended, "{poison") == [2]
    made = tasks(connection, world)
    assert set(made) == {"a.jpg", "b.jpg"}
    address = base64.b64encode(f"s3://{world.images.name}/fruit/a.jpg".encode()).decode()
    assert made["a.jpg"].data["image"].endswith(f"/resolve/?fileuri={address}")
    assert made["a.jpg"].data["labels_found"] == "apple"
    assert world.states() == {"tasked": 2, "failed": 1}
    assert world.row("fruit/bad.jpg").reason == "truncated"
    run = world.ledger.run("fruit", run_id)
    assert run is not None
    assert run.state == RunState.SUCCEEDED
    assert live.deliver("publish", *events, *events, ended) == []
    assert set(tasks(connection, world)) == {"a.jpg", "b.jpg"}

    annotate(connection, made["a.jpg"])
    row = world.ledger.project("fruit")
    assert row is not None
    assert row.webhook_id is not None
    payload = {"action": "ANNOTATION_CREATED", "project": {"id": row.label_studio_id, "token": "secret!"}}
    payload |= {"annotation": {"id": 1, "task": made["a.jpg"].id}, "task": {"id": made["a.jpg"].id}}
    assert live.call("webhook", call_of_webhook(payload)) == {"statusCode": 202}
    (message,) = world.received(world.reviews)
    assert "secret!" not in json.dumps(message)
    assert live.deliver("collect", message, "{poison") == [1]
    assert world.row("fruit/a.jpg").state == State.VERIFIED
    assert world.data.get(annotation_key("fruit", world.id_of("fruit/a.jpg"))) is not None

    output = capsys.readouterr()
    text = output.out + output.err
    sums = emitted(text)
    assert set(sums) <= {metric.name for metric in METRICS}
    expected = {"ImagesIn": 3, "RunImages": 3, "TasksPublished": 2, "ImagesFailed": 1, "ImagesVerified": 1}
    assert {name: sums[name] for name in expected} == expected
    assert sums["EndToEndSeconds"] > 0
    assert sums["AnnotationLagSeconds"] > 0
    boxes = {name: sum_ for name, sum_ in sums.items() if name.startswith("Boxes")}
    assert boxes == {"BoxesDeleted": 1, "BoxesAdded": 1}
    assert "secret!" not in text
    assert "a.jpg" not in text  # ids, never keys


def test_changed_thresholds_select_boxes_again_without_a_run(live: Functions, connection: Connection) -> None:
    world = live.world
    live.deliver("dispatch", world.labels("fruit"), world.put("fruit/a.jpg"))
    (run_id,) = live.launch()
    live.deliver("publish", *live.work(run_id, score=0.9))
    (before,) = tasks(connection, world).values()
    live.deliver(
        "dispatch", world.labels("fruit", "labels: [pineapple, banana, {name: apple, threshold: 0.95}]")
    )
    world.ledger.record_swept("fruit", 1)
    assert live.launch() == []
    assert live.deliver("publish", *world.received(world.parts)) == []
    (after,) = tasks(connection, world).values()
    assert (before.id, before.data["boxes"]) == (after.id, 1)
    assert (after.data["boxes"], after.predictions[0].result) == (0, [])


def test_while_label_studio_is_away_nothing_is_lost(live: Functions, connection: Connection) -> None:
    world = live.world
    live.deliver("dispatch", world.labels("fruit"), world.put("fruit/a.jpg"))
    (run_id,) = live.launch()
    events = live.work(run_id)
    there = dict(live.variables)
    live.variables["LABEL_STUDIO_URL"] = f"http://127.0.0.1:{free_port()}"
    assert live.deliver("publish", *events) == [0]
    assert world.states() == {"running": 1}
    live.variables = there
    services.cache_clear()
    resources.secrets.cache_clear()
    assert live.deliver("publish", *events) == []
    assert len(tasks(connection, world)) == 1


def test_a_project_deleted_in_label_studio_is_made_again(live: Functions, connection: Connection) -> None:
    world = live.world
    live.deliver("dispatch", world.labels("fruit"), world.put("fruit/a.jpg"))
    (run_id,) = live.launch()
    events = live.work(run_id)
    assert live.deliver("publish", *events) == []
    row = world.ledger.project("fruit")
    assert row is not None
    connection.sdk.projects.delete(row.label_studio_id)
    assert live.deliver("publish", *events) == []
    assert len(tasks(connection, world)) == 1


def test_what_webhooks_lost_is_found_by_the_daily_comparison(live: Functions, connection: Connection) -> None:
    world = live.world
    live.deliver("dispatch", world.labels("fruit"), world.put("fruit/a.jpg"))
    (run_id,) = live.launch()
    live.deliver("publish", *live.work(run_id))
    (task,) = tasks(connection, world).values()
    annotate(connection, task)
    live.call("reconcile", {"source": "aws.events", "detail-type": "Scheduled Event", "sync": True})
    assert live.deliver("collect", *world.received(world.reviews)) == []
    assert world.row("fruit/a.jpg").state == State.VERIFIED


def test_a_failed_job_gives_its_images_back(functions: Functions) -> None:
    world = functions.world
    functions.deliver("dispatch", world.labels("fruit"), world.put("fruit/a.jpg"))
    (run_id,) = functions.launch()
    event = batch_event(job_name(run_id, 1), statusReason="Essential container in task exited")
    assert len(list(failed_runs(event))) == 1
    functions.call("reconcile", event)
    assert world.states() == {"wanted": 1}
    assert len(functions.launch()) == 1


def test_a_launch_of_a_missing_project_makes_no_dead_letter(functions: Functions) -> None:
    assert functions.deliver("launch", {"project": "nowhere"}, {"hello": 1}, "[]") == [1, 2]


@pytest.fixture
def annotation_created(events: Path) -> dict[str, Any]:
    """What Label Studio 1.23 really sent."""
    text = (events / "labelstudio_webhook_04_ANNOTATION_CREATED.json").read_text()
    body: dict[str, Any] = json.loads(text)["body"]
    return body


def test_the_webhook_queues_ids_and_nothing_else(
    functions: Functions, annotation_created: dict[str, Any]
) -> None:
    event = call_of_webhook(annotation_created)
    encoded = {"body": base64.b64encode(event["body"].encode()).decode(), "isBase64Encoded": True}
    for each in (event, event | encoded):
        assert functions.call("webhook", each) == {"statusCode": 202}
        (message,) = functions.world.received(functions.world.reviews)
        assert set(message) == {"action", "project", "tasks", "annotations"}
        assert message["annotations"] == [annotation_created["annotation"]["id"]]


Change = Callable[[dict[str, Any]], dict[str, Any]]


def _with_header(name: str, value: str) -> Change:
    return lambda event: event | {"headers": event["headers"] | {name.lower(): value}}


@pytest.mark.parametrize(
    ("change", "status", "queued"),
    [
        (_with_header(SECRET_HEADER, "guessed"), 401, 0),
        (_with_header(SECRET_HEADER, ""), 401, 0),
        (lambda event: event | {"headers": {}}, 401, 0),
        (lambda event: event | {"headers": None, "body": None}, 401, 0),
        (lambda event: event | {"body": "{not JSON"}, 400, 1),
        (lambda event: event | {"body": "x" * (1 << 21)}, 413, 1),
        (lambda event: event | {"body": "%", "isBase64Encoded": True}, 400, 1),
    ],
)
def test_calls_of_strangers_are_refused_and_unreadable_ones_make_collect_look_everywhere(
    functions: Functions, annotation_created: dict[str, Any], change: Change, status: int, queued: int
) -> None:
    event = change(call_of_webhook(annotation_created))
    assert functions.call("webhook", event) == {"statusCode": status}
    messages = functions.world.received(functions.world.reviews)
    assert len(messages) == queued
    assert all(message["tasks"] == message["annotations"] == [] for message in messages)


def test_a_rotated_secret_is_looked_up_again(
    functions: Functions, annotation_created: dict[str, Any], aws: Any
) -> None:
    assert functions.call("webhook", call_of_webhook(annotation_created))["statusCode"] == 202
    aws("secretsmanager").put_secret_value(
        SecretId="webhook", SecretString=json.dumps({"current": "new", "previous": SECRET})
    )
    known = resources.secrets()
    clock = known._clock
    known._clock = lambda: clock() + 11  # Secrets Manager is asked at most every ten seconds
    assert functions.call("webhook", call_of_webhook(annotation_created, "new"))["statusCode"] == 202
    assert functions.call("webhook", call_of_webhook(annotation_created))["statusCode"] == 202


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_without_its_environment_names_all_that_is_missing(function: str) -> None:
    with pytest.raises(FunctionEnvironmentError, match=f"the function {function} cannot work") as raised:
        read_environment(function, {"BOXDROP_WINDOW_S": "soon"})
    for name in set(FUNCTIONS[function].reads) & {
        "BOXDROP_TABLE",
        "BOXDROP_WEBHOOK_SECRET_ID",
        "BOXDROP_LAUNCHER",
    }:
        assert f"{name} is missing" in str(raised.value)
    assert ("BOXDROP_WINDOW_S is 'soon', not a number") in str(raised.value)


def test_settings_of_launches_come_from_the_environment() -> None:
    given = dict.fromkeys(FUNCTIONS["launch"].reads, "1")
    given |= {"BOXDROP_RUN_IMAGES": "7", "BOXDROP_SHARD_IMAGES": "200"}
    settings = read_environment("launch", given).settings
    assert (settings.run_images, settings.shard, settings.window_s) == (7, 256, 1.0)
    assert replace(settings, shard_images=1).shard == 128


POISON = [
    "not json",
    "[]",
    "null",
    '"text"',
    "\ud800",
    "{" * 5_000,
    json.dumps({"Records": [{"s3": 1}]}),
    json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": {"bucket": {"name": 1}}}),
    json.dumps({"project": {"a": []}, "asked_at": "yesterday", "action": 7, "tasks": "x"}),
    json.dumps({"project": "fruit", "asked_at": 5}),
    json.dumps({"action": "ANNOTATION_CREATED", "project": "nan", "tasks": [None], "annotations": {}}),
]
"""Texts that no function expects, whoever put them into its queue."""


@pytest.mark.parametrize("function", ["dispatch", "launch", "publish", "collect"])
def test_a_message_that_cannot_be_handled_fails_alone(functions: Functions, function: str) -> None:
    """Whatever it holds, the good messages around it are handled, and no call of the function fails."""
    good: dict[str, Any] = {
        "dispatch": functions.world.put("fruit/good.jpg"),
        "launch": {"project": "fruit"},
        "publish": {"source": "aws.s3", "detail-type": "Object Deleted", "detail": {}},
        "collect": {"action": "ANNOTATION_CREATED", "project": 987_654, "tasks": [1], "annotations": []},
    }
    if function == "publish":
        about = {"bucket": {"name": functions.world.data.name}, "object": {"key": "runs/x/other"}}
        good["publish"]["detail"] = about
    again = functions.deliver(function, good[function], *POISON, good[function])
    assert not {0, len(POISON) + 1} & set(again)
    assert set(again) <= set(range(1, len(POISON) + 1))
    if function == "dispatch":
        assert functions.world.row("fruit/good.jpg")


def test_an_object_that_cannot_be_marked_leaves_the_others_of_its_batch_marked(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One project's trouble once sent 22 messages of other projects to the dead letters."""
    assert functions.deliver("dispatch", functions.world.put("a/first.jpg")) == []  # makes its services
    ledger = services("dispatch").ledger
    want = ledger.want

    def refuse(sightings: Any, generation: int) -> Any:
        chosen = list(sightings)
        if any("poison" in each.key for each in chosen):
            raise ValueError("the ledger cannot hold this")
        return want(chosen, generation)

    monkeypatch.setattr(ledger, "want", refuse)
    bodies = [
        functions.world.put(f"{name}/{number}.jpg") for name in ("a", "b", "poison") for number in range(3)
    ]
    assert functions.deliver("dispatch", *bodies) == [6, 7, 8]
    assert functions.world.row("a/0.jpg")
    assert functions.world.row("b/2.jpg")


def test_a_bad_labels_yaml_fails_no_message_of_another_project(functions: Functions) -> None:
    bad = [functions.world.labels(f"bad{number}", text) for number, text in enumerate(BAD_LABELS)]
    good = [functions.world.put(f"good/{number}.jpg") for number in range(3)]
    assert functions.deliver("dispatch", *bad, *good) == []
    for number in range(len(BAD_LABELS)):
        project = functions.world.ledger.project(f"bad{number}")
        assert project is not None
        assert project.labels_error
        assert len(project.labels_error) < 2_500


BAD_LABELS = [
    "labels:\n  - name: a\n    id: " + "9" * 5_000,
    'labels: ["\\U00110000"]',
    "%YAML 999\n---\nlabels: [a]\n",
    "labels: [" * 500,
    'caption: "a\\0b"\nlabels: [banana]\n',
    "? [&a [l,l,l,l,l,l,l,l,l], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]]\n: x\n",
]


def test_a_part_whose_project_is_being_published_is_put_off_by_seconds(
    live: Functions, connection: Connection
) -> None:
    """Failing, it would come back after half an hour, and be given up after five deliveries."""
    world = live.world
    live.deliver("dispatch", world.labels("fruit"), world.put("fruit/a.jpg"))
    (run_id,) = live.launch()
    events = live.work(run_id)
    lease = world.ledger.acquire_lease("fruit", "another", seconds=600)
    assert lease is not None
    for _ in range(3):
        assert live.deliver("publish", *events) == []
        assert world.states() == {"running": 1}
        until = time.monotonic() + 60
        while not (events := world.received(world.parts)):
            assert time.monotonic() < until
    assert [event["boxdrop:put-off"] for event in events] == [3]
    world.ledger.release_lease(lease)
    assert live.deliver("publish", *events) == []
    assert world.states() == {"tasked": 1}
    assert world.received(world.parts) == []
