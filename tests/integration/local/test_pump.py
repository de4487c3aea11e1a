"""The pump delivers as Lambda does: real queues of MiniStack, handlers in processes of their own."""

import dataclasses
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxdrop.local import pump as pump_module
from boxdrop.local.aws import REGION, Server
from boxdrop.local.functions import Function, FunctionError
from boxdrop.local.pump import Pump, Settings, failed_messages
from boxdrop.local.resources import client, create, queues
from boxdrop.system import System
from boxdrop.topology import Delivery, local_delivery
from tests.aws_server import aws_server

__all__ = ["aws_server"]

HANDLERS = "tests.integration.local.handlers"


@pytest.fixture(scope="module")
def system(aws_server: Server) -> System:
    return create(
        aws_server.url,
        REGION,
        label_studio_url="http://127.0.0.1:9",
        label_studio_token="none",
        webhook_secret="secret",
        browser_origins=("http://127.0.0.1:9",),
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, system: System) -> None:
    """What failed comes back in two seconds, three times; functions have five seconds."""
    changes: dict[str, Any] = {"visibility_s": 2, "receives": 3, "timeout_s": 5.0}

    def changed(queue: str) -> Delivery:
        return dataclasses.replace(local_delivery(queue), **changes)

    monkeypatch.setattr(pump_module, "local_delivery", changed)
    monkeypatch.setattr(pump_module, "local_timeout_s", lambda _: changes["timeout_s"])
    assert system.endpoint_url
    sqs = client("sqs", system.endpoint_url, REGION)
    for name in queues():
        policy = {
            "deadLetterTargetArn": f"arn:aws:sqs:{REGION}:000000000000:{name}-dlq",
            "maxReceiveCount": 3,
        }
        settings = {"VisibilityTimeout": "2", "RedrivePolicy": json.dumps(policy)}
        sqs.set_queue_attributes(QueueUrl=system.queue(name), Attributes=settings)


class Bench:
    """A running pump, and what its functions wrote down."""

    def __init__(self, system: System, folder: Path, reconcile_s: float = 600) -> None:
        assert system.endpoint_url
        self.system, self.folder = system, folder
        self.sqs = client("sqs", system.endpoint_url, REGION)
        self.s3 = client("s3", system.endpoint_url, REGION)
        environment = {"RECORDS": str(folder)}
        settings = Settings(
            reconcile_s=reconcile_s,
            environment=environment,
            package=HANDLERS,
            job=f"{HANDLERS}.job",
            teach=f"{HANDLERS}.recorder",
        )
        self.pump = Pump(system, settings)

    def send(self, queue: str, *bodies: str) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.system.queue(queue), MessageBody=body)

    def events(self, function: str) -> list[dict[str, Any]]:
        path = self.folder / f"{function}.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)["event"] for line in lines]

    def bodies(self, function: str) -> list[str]:
        return [record["body"] for event in self.events(function) for record in event.get("Records", [])]

    def left(self, queue: str) -> int:
        """Messages in a queue, seen or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = self.system.queue(queue)
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.05)


@pytest.fixture
def bench(system: System, quick: None, tmp_path: Path) -> Iterator[Bench]:
    assert system.endpoint_url
    sqs = client("sqs", system.endpoint_url, REGION)
    for url in system.queues.values():
        sqs.purge_queue(QueueUrl=url)
    made = Bench(system, tmp_path)
    made.pump.start()
    yield made
    made.pump.stop()


def test_an_object_becomes_an_event_of_eventbridge_in_a_batch(bench: Bench) -> None:
    key = "fruit/a b+%25 é.jpg"
    bench.s3.put_object(Bucket=bench.system.image_bucket, Key=key, Body=b"x")
    eventually(lambda: bool(bench.bodies("dispatch")))
    body = json.loads(bench.bodies("dispatch")[0])
    assert (body["source"], body["detail-type"]) == ("aws.s3", "Object Created")
    assert body["detail"]["object"]["key"] == key
    (record,) = bench.events("dispatch")[0]["Records"]
    assert record["eventSource"] == "aws:sqs"
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    eventually(lambda: bench.left("uploads") == 0)


def test_projects_may_teach_themselves_after_reviews_and_only_then(
    system: System, quick: None, tmp_path: Path
) -> None:
    made = Bench(system, tmp_path, reconcile_s=0.5)
    made.pump.start()
    try:
        eventually(lambda: len(made.events("reconcile")) > 2)
        assert made.events("teach") == []
        made.send("reviews", "one")
        eventually(lambda: len(made.events("teach")) == 1)
        eventually(lambda: made.pump._teacher.pid is None)  # it holds a detector only while it works
    finally:
        made.pump.stop()


def test_publish_gets_only_parts_and_summaries(bench: Bench) -> None:
    part, summary = "predictions/fruit/r/part-0-1.jsonl", "runs/r/summary.json"
    for key in ("runs/r/shards/00000.json", "annotations/fruit/x.json", part, summary):
        bench.s3.put_object(Bucket=bench.system.data_bucket, Key=key, Body=b"x")
    eventually(lambda: len(bench.bodies("publish")) == 2)
    keys = {json.loads(body)["detail"]["object"]["key"] for body in bench.bodies("publish")}
    assert keys == {part, summary}


def test_messages_come_in_one_event_while_the_window_is_open(bench: Bench) -> None:
    eventually(lambda: bench.pump.functions["dispatch"].pid is not None)
    sent = [f"m{n}" for n in range(30)]
    bench.send("uploads", *sent)
    # A queue delivers at least once: on a busy machine a message may come again.
    eventually(lambda: set(bench.bodies("dispatch")) == set(sent))
    assert len(bench.events("dispatch")) < 30
    eventually(lambda: bench.left("uploads") == 0)


def test_a_stopped_pump_leaves_messages_to_the_next_one(bench: Bench) -> None:
    threads = bench.pump._threads
    eventually(lambda: all(thread.is_alive() for thread in threads))
    bench.pump.stop()
    assert not any(thread.is_alive() for thread in threads)
    bench.send("uploads", "m")
    time.sleep(2)  # twice a long poll
    assert bench.left("uploads") == 1
    assert not bench.bodies("dispatch")


def test_a_message_that_failed_comes_again_alone_and_ends_as_a_dead_letter(bench: Bench) -> None:
    bench.send("uploads", "good", "fail")
    eventually(lambda: bench.left("uploads-dlq") == 1)
    assert bench.bodies("dispatch").count("good") == 1
    assert bench.bodies("dispatch").count("fail") == 3
    assert bench.left("uploads") == 0


@pytest.mark.parametrize("what", ["raise", "die"])
def test_a_handler_that_breaks_gets_its_whole_batch_again(bench: Bench, what: str) -> None:
    bench.send("reviews", what, "good")
    eventually(lambda: bench.left("reviews-dlq") >= 1)
    assert bench.bodies("collect").count(what) == 3


def test_a_handler_that_hangs_is_ended_and_the_next_event_finds_a_new_process(bench: Bench) -> None:
    bench.send("parts", "hang")
    eventually(lambda: bench.left("parts-dlq") == 1)
    bench.send("parts", "good")
    eventually(lambda: "good" in bench.bodies("publish"))


def test_what_a_function_works_on_longer_than_the_visibility_timeout_does_not_come_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.send("parts", "hang")  # for 5 seconds, hidden for 2
    eventually(lambda: bench.bodies("publish").count("hang") == 1)
    until = time.monotonic() + 4
    while time.monotonic() < until:
        assert bench.left("parts") == 1
        assert bench.bodies("publish").count("hang") == 1
        time.sleep(0.1)


def test_a_webhook_call_is_handed_on_as_an_api_gateway_event(bench: Bench) -> None:
    request = urllib.request.Request(
        f"{bench.pump.webhook_url}?a=1", data=b'{"action": "x"}', headers={"X-Boxdrop-Secret": "s"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert (answer.status, answer.read()) == (202, b"taken")
    (event,) = bench.events("webhook")
    assert event["version"] == "2.0"
    assert event["headers"]["x-boxdrop-secret"] == "s"
    assert (event["body"], event["isBase64Encoded"]) == ('{"action": "x"}', False)
    assert event["requestContext"]["http"]["method"] == "POST"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(bench.pump.webhook_url.replace("/reviews", "/other"), data=b"", timeout=60)


def test_a_job_is_tried_again_and_reconcile_hears_how_it_ended(bench: Bench) -> None:
    run = "20261122T120000Z-00000000"
    for shard, failures in ((0, 1), (1, 99)):
        job = {"run_id": run, "shard": shard, "attempt": 1, "failures": failures}
        bench.send("jobs", json.dumps(job))
    eventually(lambda: len(bench.events("reconcile")) == 2)
    ended = {event["detail"]["jobName"]: event["detail"] for event in bench.events("reconcile")}
    assert {name: each["status"] for name, each in ended.items()} == {
        f"boxdrop-{run}-1-00000": "SUCCEEDED",
        f"boxdrop-{run}-1-00001": "FAILED",
    }
    assert ended[f"boxdrop-{run}-1-00001"]["statusReason"] == "job: RuntimeError: the GPU is on fire"
    tries = [(event["shard"], event["try"]) for event in bench.events("job")]
    assert sorted(tries) == [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3)]
    eventually(lambda: bench.left("jobs") == 0)
    assert bench.left("jobs-dlq") == 0


def test_a_function_that_cannot_be_imported_is_reported() -> None:
    function = Function("webhook", "no.such.module", os.environ, 5.0)
    with pytest.raises(FunctionError, match="ended in the middle of it"):
        function.warm()


def test_a_stopped_function_does_not_start_again() -> None:
    function = Function("webhook", HANDLERS + ".webhook.handler", os.environ, 5.0)
    function.stop()
    with pytest.raises(FunctionError, match="it was stopped"):
        function.invoke({})


MESSAGES = [{"MessageId": "a"}, {"MessageId": "b"}]


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (None, set()),
        ({}, set()),
        ("done", set()),
        ({"batchItemFailures": None}, set()),
        ({"batchItemFailures": []}, set()),
        ({"batchItemFailures": [{"itemIdentifier": "b"}]}, {"b"}),
        ({"batchItemFailures": [{"itemIdentifier": "c"}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, {"a", "b"}),
        ({"batchItemFailures": [{"wrong": "b"}]}, {"a", "b"}),
        ({"batchItemFailures": "b"}, {"a", "b"}),
    ],
)
def test_an_answer_means_what_lambda_takes_it_for(answer: Any, failed: set[str]) -> None:
    assert failed_messages(answer, MESSAGES) == failed
