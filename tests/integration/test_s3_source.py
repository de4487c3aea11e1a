"""Images in S3, against a real HTTP endpoint (moto server on loopback)."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer

from boxdrop.domain.errors import BoxdropError, ImageError
from boxdrop.domain.images import Limits
from boxdrop.sources import open_source

KEYS = [
    "fruit/a b.jpg",
    "fruit/50%25 off.png",
    "fruit/plus+sign.jpg",
    "fruit/ü/früchte.webp",
    "fruit/quote's.jpg",
]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    requests.post(f"http://127.0.0.1:{server.get_host_and_port()[1]}/moto-api/reset", timeout=10)
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket="images")
    yield client
    server.stop()


def test_objects_are_listed_by_their_exact_keys_and_read(s3: Any) -> None:
    for key in [*KEYS, "fruit/labels.yaml", "other/a.jpg"]:
        s3.put_object(Bucket="images", Key=key, Body=key.encode())
    source = open_source("s3://images/fruit/")
    images = list(source.images())
    assert sorted(image.key for image in images) == sorted(KEYS)
    assert images[0].name == f"s3://images/{images[0].key}"
    assert [source.fetch(image, Limits()).decode() for image in images] == [image.key for image in images]


def test_more_objects_than_one_page_are_all_listed(s3: Any) -> None:
    for number in range(1005):
        s3.put_object(Bucket="images", Key=f"many/{number:04}.jpg", Body=b"")
    assert sum(1 for _ in open_source("s3://images/many/").images()) == 1005


def test_an_object_that_changed_or_went_since_the_listing_fails_alone(s3: Any) -> None:
    source = open_source("s3://images/")
    s3.put_object(Bucket="images", Key="a.jpg", Body=b"before")
    (image,) = source.images()
    s3.put_object(Bucket="images", Key="a.jpg", Body=b"after")
    with pytest.raises(ImageError) as caught:
        source.fetch(image, Limits())
    assert caught.value.reason == "changed"
    s3.delete_object(Bucket="images", Key="a.jpg")
    with pytest.raises(ImageError) as caught:
        source.fetch(image, Limits())
    assert caught.value.reason == "gone"


def test_an_object_over_the_limit_is_not_fetched(s3: Any) -> None:
    s3.put_object(Bucket="images", Key="a.jpg", Body=b"12345")
    source = open_source("s3://images/")
    (image,) = source.images()
    with pytest.raises(ImageError) as caught:
        source.fetch(image, Limits(max_bytes=4))
    assert caught.value.reason == "too_many_bytes"


def test_a_bucket_that_is_not_there_is_one_clear_sentence(s3: Any) -> None:
    with pytest.raises(
        BoxdropError, match=r"s3://nowhere/ cannot be asked for its versioning: .* \(NoSuchBucket\)"
    ):
        list(open_source("s3://nowhere/").images())
