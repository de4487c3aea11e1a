"""One deployment on the emulator, with a real Label Studio, through which everything happens once."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import requests

from boxdrop.demo import BUNDLE, SCENES
from boxdrop.domain.identity import image_id, new_run_id
from boxdrop.labelstudio.connection import Connection, connect
from boxdrop.labelstudio.webhook import SECRET_HEADER, ensure_webhook
from boxdrop.ledger import Image, Ledger, RunState, Sighting, State
from boxdrop.store import bundles
from boxdrop.store.layout import manifest_key
from boxdrop.system import System
from infra.config import load
from infra.settings import Adopt
from tests.infra.emulated import (
    REGION,
    Deployment,
    Emulator,
    free_space,
    publish_assets,
    synthesize,
    wait_for,
)
from tests.integration.labelstudio.conftest import annotate
from tests.label_studio_server import quiet, with_empty_database
from tests.ports import free_port

PROJECT = "fruit baskets"
FIRST, SECOND, BAD, LOST, NEW = (
    f"{PROJECT}/{name}" for name in ("first + one.jpg", "second.jpg", "broken.jpg", "lost.jpg", "new.jpg")
)
LABELS = "caption: fruit baskets\nlabels:\n- pineapple\n- banana\n- apple\n"


@dataclass
class Happened:
    """What came of it.

    Attributes:
        refused: status that the webhook answered a stranger with.
        rows: ledger rows at the end, by key.
        seen: states in which rows were seen on the way, by key.
    """

    deployment: Deployment
    system: System
    ledger: Ledger
    connection: Connection
    label_studio_project: int = 0
    tasks: list[Any] = field(default_factory=list)
    refused: int = 0
    first_labels: str = ""
    first: Image | None = None
    second: Image | None = None
    verified: Image | None = None
    annotations: list[str] = field(default_factory=list)
    dead_letters: dict[str, int] = field(default_factory=dict)
    folder: Path = Path()

    def row(self, key: str) -> Image | None:
        """An image's row."""
        return self.ledger.image(image_id(self.system.image_bucket, key))

    def wait_for_state(self, key: str, state: State) -> Image:
        """Until an image is in a state."""

        def reached() -> Image | None:
            row = self.row(key)
            return row if row is not None and row.state == state else None

        found: Image = wait_for(f"{state} of {key}", reached)
        return found


@pytest.fixture(scope="session")
def happened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Happened]:
    """Deploys, then lets one thing after the other happen."""
    folder = tmp_path_factory.mktemp("deployment")
    with pytest.MonkeyPatch.context() as environ:
        # Label Studio signs images with what is in its environment, as docs/deploy.md has it.
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environ.setenv(name, "presign")
        studio = with_empty_database(folder / "label-studio")
        server = studio.up(free_port(), quiet)
    try:
        emulator = Emulator(folder)
        try:
            deployment = _deploy(emulator, server.url, folder)
            try:
                yield _use(deployment, connect(server.url, server.token), server.token)
            finally:
                deployment.close()
        finally:
            emulator.close()
    finally:
        studio.down(quiet)
        free_space(folder)


@dataclass
class DeployedAgain:
    """What came of destroying the deployment, and of deploying it again.

    Attributes:
        before, after: the ledger's rows by key.
        tasks_before, tasks_after: ids of the tasks of the project.
        runs_before, runs_after: ids of its runs.
        imported: what the new stack has taken over, by type.
        kept: annotations that are still in the data bucket.
        secrets: the webhook's, before and after.
    """

    before: dict[str, Image]
    after: dict[str, Image]
    tasks_before: set[int]
    tasks_after: set[int]
    runs_before: set[str]
    runs_after: set[str]
    imported: dict[str, str]
    kept: list[str]
    secrets: tuple[str, str]


def deploy_again(happened: Happened) -> DeployedAgain:
    """Destroy pipeline and data, deploy both again with what was retained, and upload one more image."""
    old, emulator = happened.deployment, happened.deployment.emulator
    system, secrets = happened.system, emulator.client("secretsmanager")

    def rows() -> dict[str, Image]:
        found = (happened.row(key) for key in (FIRST, SECOND, BAD, LOST, NEW))
        return {row.key: row for row in found if row is not None}

    def tasks() -> set[int]:
        listed = happened.connection.sdk.tasks.list(project=happened.label_studio_project, fields="all")
        return {task.id for task in listed}

    def runs() -> set[str]:
        return {run.run_id for run in happened.ledger.list_runs(PROJECT)}

    def webhook_secret() -> str:
        return str(secrets.get_secret_value(SecretId=f"{old.environment.prefix}/webhook")["SecretString"])

    before, tasks_before, runs_before, secret = rows(), tasks(), runs(), webhook_secret()
    old.close()
    old.destroy("pipeline")
    old.destroy("data")
    adopt = {
        "image_bucket": system.image_bucket,
        "data_bucket": system.data_bucket,
        "table": system.table,
    }
    again = old.environment.model_copy(update={"adopt": Adopt.model_validate(adopt)})
    folder = happened.folder / "cdk.out.again"
    new = Deployment(emulator, again, synthesize(again, folder))
    publish_assets(emulator, folder, again.prefix)
    new.deploy("data")
    old.forget_logs()
    new.deploy("pipeline")
    new.work()
    try:
        assert new.system.table == system.table
        s3 = emulator.client("s3")
        scenes = sorted(SCENES.glob("*.jpg"))
        # Uploaded once more, unchanged; and one that is new.
        s3.put_object(Bucket=system.image_bucket, Key=FIRST, Body=scenes[0].read_bytes())
        s3.put_object(Bucket=system.image_bucket, Key=NEW, Body=scenes[3].read_bytes())
        happened.wait_for_state(NEW, State.TASKED)
        new.invoke("reconcile", {"source": "aws.events"})
        kept = [each.key for each in new.bucket(system.data_bucket).list("annotations/")]
        return DeployedAgain(
            before, rows(), tasks_before, tasks(), runs_before, runs(), new.imported["data"], kept,
            (secret, webhook_secret()),
        )  # fmt: skip
    finally:
        new.close()


def _deploy(emulator: Emulator, label_studio_url: str, folder: Path) -> Deployment:
    settings = {
        "label_studio_url": label_studio_url,
        "account": "000000000000",
        "region": REGION,
        "batching_window_s": 1,
        "image_uri": "000000000000.dkr.ecr.us-east-1.amazonaws.com/boxdrop-job:1",
    }
    environment = load({"emulated": settings}, None)
    templates = synthesize(environment, folder / "cdk.out")
    emulator.client("s3").create_bucket(Bucket="templates")
    emulator.client("ssm").put_parameter(
        Name="/cdk-bootstrap/hnb659fds/version", Value="21", Type="String"
    )  # what `cdk bootstrap` leaves
    publish_assets(emulator, folder / "cdk.out", environment.prefix)
    deployment = Deployment(emulator, environment, templates)
    deployment.deploy("data")
    deployment.deploy("pipeline")
    deployment.make_batch()
    deployment.work()
    return deployment


def _use(deployment: Deployment, connection: Connection, token: str) -> Happened:
    emulator, system = deployment.emulator, deployment.system
    s3 = emulator.client("s3")
    assert system.label_studio_secret is not None
    emulator.client("secretsmanager").put_secret_value(
        SecretId=system.label_studio_secret, SecretString=token
    )  # the command of the stack's output
    data = deployment.bucket(system.data_bucket)
    bundles.use(data, bundles.push(data, BUNDLE).name)
    ledger = Ledger(system.table, client=emulator.client("dynamodb"))
    happened = Happened(deployment, system, ledger, connection, folder=emulator.folder)

    def upload(key: str, body: bytes) -> None:
        s3.put_object(Bucket=system.image_bucket, Key=key, Body=body)

    scenes = sorted(SCENES.glob("*.jpg"))
    upload(f"{PROJECT}/labels.yaml", LABELS.encode())
    upload(FIRST, scenes[0].read_bytes())
    upload(SECOND, scenes[1].read_bytes())
    upload(BAD, b"this is no picture")
    first = happened.wait_for_state(FIRST, State.TASKED)
    happened.wait_for_state(SECOND, State.TASKED)
    happened.wait_for_state(BAD, State.FAILED)
    project = ledger.project(PROJECT)
    assert project is not None
    assert project.label_studio_id is not None
    assert project.labels is not None
    happened.label_studio_project = project.label_studio_id
    happened.first_labels = project.labels
    happened.tasks = list(connection.sdk.tasks.list(project=project.label_studio_id, fields="all"))

    happened.first, happened.second = first, happened.row(SECOND)
    _review(happened, first)
    # An image waits in a project without labels, of which a folder becomes one. People see a copy of it.
    scan = BytesIO()
    PIL.Image.open(scenes[0]).save(scan, "TIFF")
    upload("attic/box/old.tif", scan.getvalue())
    happened.wait_for_state("attic/box/old.tif", State.WAITING)
    upload("attic/box/labels.yaml", LABELS.encode())
    happened.wait_for_state("attic/box/old.tif", State.TASKED)
    _tell_strangers(happened)
    _change_threshold(happened, upload)
    s3.delete_object(Bucket=system.image_bucket, Key=SECOND)
    happened.wait_for_state(SECOND, State.GONE)
    _ask_where_nobody_knows_the_order(happened)
    _lose_things(happened, scenes[2].read_bytes())
    happened.annotations = [each.key for each in data.list("annotations/")]
    for name, url in system.queues.items():
        if name.endswith("-dlq"):
            answer = emulator.client("sqs").get_queue_attributes(
                QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
            )
            happened.dead_letters[name] = int(answer["Attributes"]["ApproximateNumberOfMessages"])
    return happened


def _review(happened: Happened, image: Image) -> None:
    """Somebody verifies a task; the webhook tells of it, at an address that can be looked up here."""
    sdk = happened.connection.sdk
    (webhook,) = sdk.webhooks.list(project=str(happened.label_studio_project))
    assert webhook.url == happened.deployment.outputs["WebhookUrl"]
    ensure_webhook(  # as a whole: Label Studio empties what an update leaves out
        happened.connection,
        happened.label_studio_project,
        happened.deployment.forward(),
        webhook.headers[SECRET_HEADER],
    )
    annotate(happened.connection, sdk.tasks.get(image.task_id), "pineapple")
    happened.verified = happened.wait_for_state(FIRST, State.VERIFIED)


def _tell_strangers(happened: Happened) -> None:
    answer = requests.post(
        happened.deployment.forward(), json={"action": "x"}, headers={SECRET_HEADER: "guess"}, timeout=60
    )
    happened.refused = answer.status_code


def _change_threshold(happened: Happened, upload: Any) -> None:
    """Stored predictions are published again, under the new threshold."""
    changed = LABELS.replace("- banana", "- name: banana\n  threshold: 0.95")
    upload(f"{PROJECT}/labels.yaml", changed.encode())

    def spread() -> bool:
        project = happened.ledger.project(PROJECT)
        return project is not None and project.labels == project.stored_labels == project.republished

    before = happened.ledger.project(PROJECT)
    assert before is not None
    wait_for("new labels", lambda: (p := happened.ledger.project(PROJECT)) and p.labels != before.labels)
    wait_for("stored predictions under the new threshold", spread)


def _ask_where_nobody_knows_the_order(happened: Happened) -> None:
    """Events without a sequencer, about other content than the ledger's: S3 is asked. A missing part."""
    system, sqs = happened.system, happened.deployment.emulator.client("sqs")
    calls = len(happened.deployment.emulator.calls())
    missing = f"predictions/{PROJECT}/{new_run_id()}/part-00000000-00000001.jsonl"
    for queue, bucket, key in (
        ("uploads", system.image_bucket, FIRST),
        ("uploads", system.image_bucket, SECOND),  # which is gone
        ("parts", system.data_bucket, missing),
    ):
        about = {"bucket": {"name": bucket}, "object": {"key": key, "etag": "0" * 32, "size": 5}}
        event = {"source": "aws.s3", "detail-type": "Object Created", "detail": about}
        sqs.send_message(QueueUrl=system.queue(queue), MessageBody=json.dumps(event))

    def looked_at() -> set[str]:
        keys = [call["about"].get("Key") for call in happened.deployment.emulator.calls()[calls:]]
        return {key for key in keys if isinstance(key, str)}  # DynamoDB's keys are objects

    wait_for("look at all of them", lambda: {FIRST, SECOND, missing} <= looked_at())


def _lose_things(happened: Happened, picture: bytes) -> None:
    """Runs that died in the ways that only reconcile finds."""
    deployment, ledger, system = happened.deployment, happened.ledger, happened.system
    earlier = Ledger(
        system.table,
        client=deployment.emulator.client("dynamodb"),
        clock=lambda: datetime.now(UTC) - timedelta(hours=3),
    )
    project = ledger.project(PROJECT)
    assert project is not None
    # A job that Batch says to have failed.
    (run, *_) = ledger.list_runs(PROJECT, limit=1)
    deployment.invoke(
        "reconcile",
        {
            "source": "aws.batch",
            "detail-type": "Batch Job State Change",
            "detail": {"jobName": f"boxdrop-{run.run_id}-1", "status": "FAILED", "statusReason": "test"},
        },
    )
    # A run whose time is over, with a job that is to be asked for.
    overdue = new_run_id(datetime.now(UTC) - timedelta(hours=3))
    earlier.start_run(PROJECT, overdue, project.generation, datetime.now(UTC) - timedelta(hours=2))
    earlier.record_submission(
        PROJECT, overdue, attempt=1, manifest=f"runs/{overdue}/manifest.jsonl", images=1,
        job_ids=("11111111-2222-3333-4444-555555555555",), deadline=datetime.now(UTC) - timedelta(hours=1),
    )  # fmt: skip
    # An image that a run which ended well left behind without a word.
    _leave_behind(happened, earlier, project.generation)
    deployment.emulator.client("s3").put_object(Bucket=system.image_bucket, Key=LOST, Body=picture)
    happened.wait_for_state(LOST, State.TASKED)
    # Labels that are stored, and whose launch died before they came into force.
    ledger.store_labels(PROJECT, system.image_bucket, happened.first_labels, sequencer="F" * 18)
    deployment.invoke("reconcile", {"source": "aws.events"})
    deployment.invoke("reconcile", {"source": "aws.events", "sync": True})
    wait_for(
        "comparison with Label Studio",
        lambda: any(
            call["function"].endswith("-reconcile") and call["about"].get("QueueUrl", "").endswith("reviews")
            for call in deployment.emulator.calls()
        ),
    )


def _leave_behind(happened: Happened, earlier: Ledger, generation: int) -> None:
    """A finished run still holds an image, of which neither a record nor the object is there."""
    bucket, ghost = happened.system.image_bucket, f"{PROJECT}/ghost.jpg"
    run_id = new_run_id(datetime.now(UTC) - timedelta(hours=2))
    data = happened.deployment.bucket(happened.system.data_bucket)
    (part, *_) = [each.key for each in data.list(f"predictions/{PROJECT}/")]
    earlier_run = part.split("/")[2]
    for key in (manifest_key(earlier_run), part):  # a manifest is there before its parts
        stored = data.get(key)
        assert stored is not None
        body = stored.body.replace(earlier_run.encode(), run_id.encode())
        data.create(key.replace(earlier_run, run_id), body)
    earlier.start_run(PROJECT, run_id, generation, datetime.now(UTC) + timedelta(hours=1))
    earlier.want([Sighting(image_id(bucket, ghost), PROJECT, bucket, ghost, "v")], generation)
    assert earlier.claim_wanted(PROJECT, run_id, generation, 10)
    earlier.finish_run(PROJECT, run_id, RunState.SUCCEEDED)
