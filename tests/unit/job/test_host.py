"""What a job finds out about the machine that it runs on."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from functions.job.environment import Environment
from functions.job.host import describe_host, find_gpu

ANSWERS = {"instance-type": "g4dn.xlarge", "instance-life-cycle": "spot"}


class Metadata(BaseHTTPRequestHandler):
    """EC2's instance metadata service, version 2: no answer without a token."""

    def do_PUT(self) -> None:
        ok = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.answer("secret" if ok else None)

    def do_GET(self) -> None:
        knows = self.headers["X-aws-ec2-metadata-token"] == "secret"
        self.answer(ANSWERS.get(self.path.removeprefix("/latest/meta-data/")) if knows else None)

    def answer(self, text: str | None) -> None:
        self.send_response(200 if text else 404)
        self.end_headers()
        self.wfile.write((text or "no").encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
    yield url
    server.shutdown()
    server.server_close()


def environment(**changes: str) -> Environment:
    return Environment.read({"BOXDROP_DATA_BUCKET": "data", "AWS_BATCH_JOB_ID": "4f1"} | changes)


def test_on_batch_the_instance_reports_its_type(metadata: str) -> None:
    host = describe_host(environment(BOXDROP_USD_PER_HOUR="0.21"), None)
    assert (host.launcher, host.job_id, host.instance_type, host.spot) == (
        "batch",
        "4f1",
        "g4dn.xlarge",
        True,
    )
    assert host.usd_per_hour == 0.21


def test_elsewhere_no_metadata_is_requested(metadata: str) -> None:
    for serves, launcher in ((False, "local"), (True, "sagemaker")):
        host = describe_host(Environment("data", Path()), None, serves=serves)
        assert (host.launcher, host.instance_type, host.spot) == (launcher, None, None)


def test_an_instance_that_does_not_answer_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
    host = describe_host(environment(), None)
    assert (host.instance_type, host.spot) == (None, None)


def test_the_processor_has_a_name_and_a_gpu_is_not_needed() -> None:
    assert describe_host(environment(BOXDROP_LAUNCHER="local"), find_gpu()).device
