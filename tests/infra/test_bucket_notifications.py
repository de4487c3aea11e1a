"""EventBridge is added to a bucket of the user's, and nothing else changes."""

import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import ModuleType
from typing import Any

import pytest

from boxdrop.local.aws import Server
from tests.aws_server import aws_server, client_of
from tests.infra.conftest import REPOSITORY
from tests.moto_server import MakeClient

__all__ = ["aws_server"]

SOURCE = REPOSITORY / "infra" / "constructs" / "bucket_notifications.py"


@pytest.fixture(scope="module")
def resource() -> ModuleType:
    """The function, as it is deployed: by itself."""
    spec = importlib.util.spec_from_file_location("index", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def aws(aws_server: Server) -> MakeClient:
    """Makes boto3's client of a service. Not moto: it forgets EventBridge."""
    return lambda service: client_of(aws_server, service)


@pytest.fixture
def bucket(aws: MakeClient) -> str:
    """A bucket that tells a queue of its objects."""
    name = "acme-images"
    aws("s3").create_bucket(Bucket=name)
    queue = aws("sqs").create_queue(QueueName="theirs")["QueueUrl"]
    arn = aws("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    theirs = {"QueueConfigurations": [{"Id": "theirs", "QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    aws("s3").put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=theirs)
    return name


def test_notifications_of_others_stay(resource: ModuleType, aws: MakeClient, bucket: str) -> None:
    s3 = aws("s3")
    before = s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    assert resource.turn_on(s3, bucket, "us-east-1")
    after = s3.get_bucket_notification_configuration(Bucket=bucket)
    assert after["QueueConfigurations"] == before
    assert "EventBridgeConfiguration" in after


def test_twice_is_as_good_as_once(resource: ModuleType, aws: MakeClient, bucket: str) -> None:
    s3 = aws("s3")
    resource.turn_on(s3, bucket, "us-east-1")
    assert not resource.turn_on(s3, bucket, "us-east-1")


class Elsewhere:
    """S3, as it answers about a bucket of another region."""

    def __init__(self, said: str | None) -> None:
        self.said = said

    def get_bucket_location(self, **_: str) -> dict[str, str | None]:
        return {"LocationConstraint": self.said}


@pytest.mark.parametrize(
    ("said", "region"), [("eu-central-1", "eu-central-1"), ("EU", "eu-west-1"), (None, "us-east-1")]
)
def test_a_bucket_of_another_region_is_refused(resource: ModuleType, said: str | None, region: str) -> None:
    with pytest.raises(ValueError, match=f"it is in {region}, and its events reach no other region"):
        resource.turn_on(Elsewhere(said), "acme-images", "us-west-2")


def test_it_fits_into_a_template() -> None:
    """CloudFormation takes up to four million bytes; this one is to be read."""
    assert len(SOURCE.read_text()) < 5000


def answer_to(resource: ModuleType, event: dict[str, Any]) -> dict[str, Any]:
    """What CloudFormation hears."""
    heard: list[dict[str, Any]] = []

    class CloudFormation(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), CloudFormation)
    threading.Thread(target=server.handle_request, daemon=True).start()
    ids = {"StackId": "s", "RequestId": "r", "LogicalResourceId": "l"}
    resource.handler({**event, **ids, "ResponseURL": f"http://127.0.0.1:{server.server_port}/"}, None)
    server.server_close()
    return heard[0]


def test_cloudformation_gets_an_answer_also_when_it_fails(
    resource: ModuleType, aws_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": aws_server.url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    said = answer_to(
        resource, {"RequestType": "Create", "ResourceProperties": {"Bucket": "is-not-there-at-all"}}
    )
    assert said["Status"] == "FAILED"
    assert "is-not-there-at-all" in said["Reason"]


def test_deleting_the_resource_changes_nothing(resource: ModuleType) -> None:
    said = answer_to(resource, {"RequestType": "Delete", "ResourceProperties": {"Bucket": "theirs"}})
    assert said["Status"] == "SUCCESS"
