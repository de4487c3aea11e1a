"""The packages that would be deployed: small enough, and whole, under AWS's own runtime client."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from boxdrop.domain.identity import image_id
from boxdrop.labelstudio.webhook import PROJECT_HEADER, SECRET_HEADER
from boxdrop.ledger import Ledger, State, create_table
from boxdrop.local.label_studio import Server
from boxdrop.topology import FUNCTIONS, Package
from infra import bundling
from tests.infra.emulated import PYTHON
from tests.infra.runtime_api import RunningFunction
from tests.label_studio_server import quiet, server
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "endpoint", "server"]

SAFE_MB = 215
"""Well below Lambda's 250: packages of others grow."""

Run = Callable[..., RunningFunction]


@pytest.fixture(scope="module")
def packages() -> dict[str, Path]:
    """Made for the Python that runs here, the very way in which those for Lambda are made."""
    return {
        package: bundling.build(package, python=PYTHON, say=quiet)
        for package in get_args(Package.__value__ if hasattr(Package, "__value__") else Package)
    }


@pytest.fixture(scope="module")
def system(aws: MakeClient, endpoint: str, server: Server) -> dict[str, str]:
    """What functions need, in moto, and how they are told."""
    s3, sqs, secrets = aws("s3"), aws("sqs"), aws("secretsmanager")
    for bucket in ("images", "data"):
        s3.create_bucket(Bucket=bucket)
    create_table(aws("dynamodb"), "ledger")
    urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("launches", "parts", "reviews")}
    for name, value in {
        "label-studio": server.token,
        "webhook": json.dumps({"current": "let-me-in"}),
        "zenml": "ZENKEY_x",
    }.items():
        secrets.create_secret(Name=name, SecretString=value)
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "BOXDROP_TABLE": "ledger",
        "BOXDROP_IMAGE_BUCKET": "images",
        "BOXDROP_DATA_BUCKET": "data",
        **{f"BOXDROP_{name.upper()}_QUEUE": url for name, url in urls.items()},
        "BOXDROP_WINDOW_S": "0",
        "BOXDROP_RUN_IMAGES": "100",
        "BOXDROP_SHARD_IMAGES": "128",
        "BOXDROP_APPLY_LIMIT": "100",
        "BOXDROP_LAUNCHER": "batch",
        "BOXDROP_LEASE_S": "20",
        "BOXDROP_JOB_QUEUE": "boxdrop",
        "BOXDROP_JOB_DEFINITION": "boxdrop",
        "BOXDROP_JOB_TIMEOUT_S": "600",
        "LABEL_STUDIO_URL": server.url,
        "BOXDROP_LABEL_STUDIO_SECRET": "label-studio",
        "BOXDROP_WEBHOOK_SECRET_ID": "webhook",
        "BOXDROP_WEBHOOK_URL": "http://127.0.0.1:9/webhook",
        "ZENML_STORE_URL": "http://127.0.0.1:9",
        "BOXDROP_ZENML_SECRET": "zenml",
    }


@pytest.fixture
def run(packages: dict[str, Path], system: dict[str, str], tmp_path: Path) -> Iterator[Run]:
    """Starts a function from its package."""
    running: list[RunningFunction] = []

    def start(name: str) -> RunningFunction:
        function = RunningFunction(
            packages[FUNCTIONS[name].package], f"functions.{name}.handler.handler", system, tmp_path
        )
        running.append(function)
        return function

    yield start
    for each in running:
        each.close()


def messages(*bodies: Any) -> dict[str, Any]:
    """An SQS event."""
    return {
        "Records": [
            {
                "messageId": str(number), "receiptHandle": "r", "body": json.dumps(body), "attributes": {},
                "messageAttributes": {}, "md5OfBody": "", "eventSource": "aws:sqs", "awsRegion": "us-east-1",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:q",
            }
            for number, body in enumerate(bodies)
        ]
    }  # fmt: skip


def created(bucket: str, key: str) -> dict[str, Any]:
    """S3's event by EventBridge."""
    about = {"key": key, "etag": "0" * 32, "size": 1, "sequencer": "0062"}
    detail = {"bucket": {"name": bucket}, "object": about}
    return {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}


@pytest.mark.slow
@pytest.mark.parametrize("package", ["small", "label-studio", "tracking"])
def test_a_package_is_safely_below_lambdas_limit(package: Package, packages: dict[str, Path]) -> None:
    assert bundling.size_mb(packages[package]) < SAFE_MB < bundling.LIMIT_MB


def test_the_packages_for_lambda_are_pinned_for_its_python_and_by_hash() -> None:
    for package in ("small", "label-studio", "tracking"):
        lines = bundling.requirements(package).read_text()
        assert "--hash=sha256:" in lines
        assert "opencv" not in [line.split("==")[0] for line in lines.splitlines()]
        assert "://" not in lines


def test_a_package_has_neither_the_detectors_runtime_nor_the_command_line(packages: dict[str, Path]) -> None:
    for folder in packages.values():
        for absent in ("onnxruntime", "cv2", "torch", "boxdrop/demo", "boxdrop/cli", "functions/job"):
            assert not (folder / absent).exists()


@pytest.mark.slow
def test_dispatch_marks_an_upload(run: Run, aws: MakeClient) -> None:
    answer = run("dispatch").call(messages(created("images", "fruit/a.jpg")))
    assert answer == {"batchItemFailures": []}
    row = Ledger("ledger", client=aws("dynamodb")).image(image_id("images", "fruit/a.jpg"))
    assert row is not None
    assert row.state == State.WAITING


def test_launch_looks_at_a_project(run: Run) -> None:
    assert run("launch").call(messages({"project": "nobody's"})) == {"batchItemFailures": []}


@pytest.mark.slow
def test_publish_logs_in_to_label_studio_and_fails_for_the_part_alone(run: Run) -> None:
    function = run("publish")
    missing = "predictions/fruit/20261124T215700Z-0123abcd/part-00000000-00000001.jsonl"
    answer = function.call(messages(created("data", missing), created("data", "runs/else.txt")))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "0"}]}
    assert missing in function.log.read_text()


@pytest.mark.slow
def test_collect_leaves_projects_of_others_alone(run: Run) -> None:
    review = {"action": "ANNOTATION_CREATED", "project": 4711, "tasks": [1], "annotations": [2]}
    assert run("collect").call(messages(review)) == {"batchItemFailures": []}


def test_reconcile_looks_at_everything(run: Run) -> None:
    function = run("reconcile")
    assert function.call({"source": "aws.events"}) is None
    assert '"message":"looked"' in function.log.read_text().replace(": ", ":")


def test_webhook_takes_ids_from_whom_it_knows(run: Run, aws: MakeClient, system: dict[str, str]) -> None:
    function = run("webhook")
    body = json.dumps({"action": "TASKS_DELETED", "project": {"id": 7}, "tasks": [{"id": 1}]}).encode()
    event = {
        "headers": {SECRET_HEADER.lower(): "guess", PROJECT_HEADER.lower(): "7"},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }
    assert function.call(event) == {"statusCode": 401}
    event["headers"] = {SECRET_HEADER.lower(): "let-me-in", PROJECT_HEADER.lower(): "7"}
    assert function.call(event) == {"statusCode": 202}
    received = aws("sqs").receive_message(QueueUrl=system["BOXDROP_REVIEWS_QUEUE"])["Messages"]
    assert json.loads(received[0]["Body"])["project"] == 7


@pytest.mark.slow
def test_track_loads_zenml_and_fails_for_the_message_alone(run: Run) -> None:
    summary = created("data", "runs/20261124T215700Z-0123abcd/summary.json")
    assert run("track").call(messages(summary)) == {"batchItemFailures": [{"itemIdentifier": "0"}]}
