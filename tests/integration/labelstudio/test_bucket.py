"""Images that stay in S3: tasks name them, Label Studio signs an address for each browser."""

import re
from collections.abc import Iterator
from io import BytesIO

import boto3
import PIL.Image
import pytest
import requests
from moto.server import ThreadedMotoServer

from boxdrop.annotate.publishing import publish_records
from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import LabelStudioError
from boxdrop.domain.images import decode
from boxdrop.domain.predictions import Prediction
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import connect_bucket
from boxdrop.labelstudio.publishing import publish
from boxdrop.labelstudio.tasks import ProjectTasks
from boxdrop.local.label_studio import Server
from boxdrop.sources import open_source

from .conftest import FRUIT, MakeProject, next_task, prediction, tasks_of

KEYS = ("fruit/basket 1.jpg", "fruit/100%25 'ripe'.jpg", "früchte/+&=.jpg")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture(autouse=True)
def environment(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("BOXDROP_PRESIGN_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("BOXDROP_PRESIGN_SECRET_ACCESS_KEY", "reader's secret")


@pytest.fixture(scope="module")
def bucket(endpoint: str) -> str:
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="owner",
        aws_secret_access_key="owner's secret",
    )
    s3.create_bucket(Bucket="baskets")
    for key in KEYS:
        s3.put_object(Bucket="baskets", Key=key, Body=key.encode(), ContentType="image/jpeg")
    return "baskets"


def test_the_browser_gets_an_image_that_stayed_in_s3(
    connection: Connection, server: Server, make_project: MakeProject, bucket: str
) -> None:
    project = make_project()
    connect_bucket(connection, project, bucket)
    publish(
        connection,
        project,
        [prediction(n) for n in range(len(KEYS))],
        FRUIT,
        lambda predictions: [f"s3://{bucket}/{KEYS[int(p.image.split()[1][0])]}" for p in predictions],
    )
    for key, task in zip(KEYS, tasks_of(connection, project), strict=True):
        shown = connection.request("open", "GET", f"/api/tasks/{task.id}/")["data"]["image"]
        assert re.match(rf"/tasks/{task.id}/resolve/\?fileuri=", shown)
        headers = {"Authorization": f"Token {server.token}"}
        answer = requests.get(server.url + shown, headers=headers, timeout=30)
        assert answer.content == key.encode()
        assert "X-Amz-Expires=43200" in answer.url or "Expires=" in answer.url
        assert "reader%27s" not in answer.url


def test_connecting_twice_makes_one_storage_and_no_task(
    connection: Connection, make_project: MakeProject, bucket: str
) -> None:
    project = make_project()
    connect_bucket(connection, project, bucket)
    connect_bucket(connection, project, bucket)
    (storage,) = connection.sdk.import_storage.s3.list(project=project.id)
    assert (storage.bucket, storage.presign, storage.presign_ttl, storage.use_blob_urls) == (
        bucket,
        True,
        720,
        True,
    )
    assert tasks_of(connection, project) == []


def test_a_bucket_that_is_not_there_is_one_sentence(
    connection: Connection, make_project: MakeProject
) -> None:
    with pytest.raises(LabelStudioError, match="cannot connect the bucket no-such-bucket to project"):
        connect_bucket(connection, make_project(), "no-such-bucket")


def test_a_second_publication_knows_its_tasks_though_addresses_read_back_differently(
    connection: Connection, make_project: MakeProject, bucket: str
) -> None:
    project = make_project()
    connect_bucket(connection, project, bucket)
    for expected in ("created", "unchanged"):
        summary = publish(connection, project, [prediction()], FRUIT, lambda _: [f"s3://{bucket}/{KEYS[0]}"])
        assert getattr(summary, expected) == 1
    assert next_task(connection, project)["data"]["file_name"] == "basket 0.jpg"


def test_marking_a_task_keeps_its_address(
    connection: Connection, make_project: MakeProject, bucket: str
) -> None:
    project = make_project()
    connect_bucket(connection, project, bucket)
    address = f"s3://{bucket}/{KEYS[0]}"
    publish(connection, project, [prediction()], FRUIT, lambda _: [address])
    (task,) = tasks_of(connection, project)
    assert ProjectTasks(connection, project.id).mark(task.id, "gone")
    stored = {"project": project.id, "resolve_uri": "false"}
    (marked,) = connection.request("list", "GET", "/api/tasks/", params=stored)["tasks"]
    assert (marked["data"]["state"], marked["data"]["image"]) == ("gone", address)


def test_annotate_uploads_a_copy_of_what_browsers_show_differently_and_names_the_object(
    connection: Connection,
    server: Server,
    make_project: MakeProject,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "owner")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "owner's secret")
    scan = BytesIO()
    PIL.Image.new("RGB", (64, 48), (200, 30, 30)).save(scan, "TIFF")
    Bucket(bucket).put("scans/1.tif", scan.getvalue(), "image/tiff")
    source = open_source(f"s3://{bucket}/scans/")
    (image,) = source.images()
    shown = f"s3://{bucket}/{KEYS[0]}"
    records = [
        Prediction(image.name, image.image_id, image.version, "demo@1", 64, 48, (), display="display/1.jpg"),
        Prediction(shown, "2" * 32, "v1", "demo@1", 640, 480, ()),
    ]
    project = make_project()
    connect_bucket(connection, project, bucket)
    assert publish_records(connection, project, source, records).created == 2
    stored = {"project": project.id, "resolve_uri": "false"}
    first, second = connection.request("list", "GET", "/api/tasks/", params=stored)["tasks"]
    assert first["data"]["original"] == f"s3://{bucket}/scans/1.tif"
    assert first["data"]["image"].startswith("/data/upload/")
    assert (second["data"]["image"], "original" in second["data"]) == (shown, False)
    headers = {"Authorization": f"Token {server.token}"}
    copy = decode(requests.get(server.url + first["data"]["image"], headers=headers, timeout=30).content)
    assert (copy.format, copy.width, copy.height) == ("jpeg", 64, 48)
