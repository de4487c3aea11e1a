"""The function `track`: messages about summaries, and the schedule."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from zenml.client import Client

from boxdrop.labelstudio.connection import Connection
from boxdrop.ledger import Sighting
from boxdrop.pipeline.parts import publish_part
from boxdrop.services import Services
from boxdrop.store.layout import summary_key
from boxdrop.store.manifests import read_manifest
from boxdrop.store.parts import list_parts
from boxdrop.store.reports import RunSummary
from boxdrop.tracking.track import PATIENCE, NotPublishedError
from functions.track import handler as function
from tests.integration.tracking.conftest import FRUIT, System
from tests.integration.tracking.test_tracking import assert_complete, find
from tests.zenml_server import RunningZenML

pytestmark = pytest.mark.slow


class Context:
    """Lambda's."""

    def get_remaining_time_in_millis(self) -> int:
        return 300_000


@pytest.fixture
def deployed(zenml: RunningZenML, system: System, monkeypatch: pytest.MonkeyPatch) -> System:
    """The function's environment, with the key in Secrets Manager."""
    import boto3

    secret = boto3.client("secretsmanager").create_secret(
        Name=f"boxdrop/{system.data.name}/zenml", SecretString=json.dumps({"key": zenml.store.key})
    )
    for name, value in {
        "BOXDROP_TABLE": system.table,
        "BOXDROP_DATA_BUCKET": system.data.name,
        "ZENML_STORE_URL": zenml.url,
        "BOXDROP_ZENML_SECRET": secret["ARN"],
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ZENML_STORE_API_KEY", raising=False)
    function._tracking.cache_clear()
    return system


def event(system: System, *keys: str) -> dict[str, Any]:
    """S3's events as EventBridge puts them into the queue."""
    return {
        "Records": [
            {
                "messageId": f"message-{n}",
                "eventSource": "aws:sqs",
                "body": json.dumps(
                    {
                        "source": "aws.s3",
                        "detail-type": "Object Created",
                        "detail": {"bucket": {"name": system.data.name}, "object": {"key": key, "size": 9}},
                    }
                ),
            }
            for n, key in enumerate(keys)
        ]
    }


def claimed_run(system: System, images: int = 2) -> RunSummary:
    """A run whose images are in the ledger, claimed by it."""
    lines = system.put_scenes(images)
    run_id = system.plan(lines)
    header = read_manifest(system.data, run_id).header
    ledger = system.ledger
    ledger.store_labels("fruit", system.images.name, header.labels)
    detection = FRUIT.digest(system.pin.digest)
    ledger.apply_labels("fruit", header.labels, detection, (system.pin.name, system.pin.digest, 0.3))
    ledger.want(
        [Sighting(i.image_id, "fruit", system.images.name, i.key, i.version, "0001") for i in lines], 1
    )
    ledger.claim_wanted("fruit", run_id, 1, images)
    return system.detect(run_id)


def test_a_run_is_tracked_once_its_tasks_are_there(deployed: System, connection: Connection) -> None:
    summary = claimed_run(deployed)
    about = event(deployed, summary_key(summary.run_id))
    assert function.handler(about, Context()) == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert list(deployed.data.list("tracked/")) == []

    for part in list_parts(deployed.data, "fruit", summary.run_id):
        publish_part(Services.of(ledger=deployed.ledger, label_studio=connection, data=deployed.data), part)
    for _ in range(2):  # S3 says everything at least once
        assert function.handler(about, Context()) == {"batchItemFailures": []}
    assert_complete(summary)
    run = find(summary.run_id)
    project = deployed.ledger.project("fruit")
    assert project is not None
    assert run.run_metadata["tasks"] == 2
    assert run.run_metadata["label_studio_project"] == project.label_studio_id
    assert run.steps["sync"].end_time > run.steps["load_and_predict"].end_time


def test_a_run_that_never_reaches_label_studio_is_tracked_after_an_hour(deployed: System) -> None:
    summary = claimed_run(deployed)
    tracking = function._tracking()
    with pytest.raises(NotPublishedError, match="2 images are not in Label Studio yet"):
        tracking.track(summary.run_id)
    tracking.track(summary.run_id, now=datetime.now(UTC) + PATIENCE + timedelta(minutes=1))
    assert find(summary.run_id).run_metadata["tasks"] == 0


def test_the_schedule_registers_what_waits(deployed: System) -> None:
    summaries = [deployed.run(images=1) for _ in range(2)]
    assert function.handler({"source": "aws.events"}, Context()) is None
    for summary in summaries:
        assert_complete(summary)


def test_other_objects_are_passed_over(deployed: System) -> None:
    keys = ("runs/20261124T215700Z-0123abcd/manifest.jsonl", "predictions/fruit/part.jsonl")
    before = Client().list_pipeline_runs().total
    assert function.handler(event(deployed, *keys), Context()) == {"batchItemFailures": []}
    assert Client().list_pipeline_runs().total == before
