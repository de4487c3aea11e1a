"""Conditional reads and writes of objects, against a real HTTP endpoint (moto server on loopback)."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from boxdrop.aws.s3 import Bucket, Put
from boxdrop.domain.errors import BoxdropError
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "endpoint"]


@pytest.fixture
def s3(aws: MakeClient) -> Any:
    return aws("s3")


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest) -> Bucket:
    name = f"bucket-{abs(hash(request.node.nodeid)):x}"
    s3.create_bucket(Bucket=name)
    return Bucket(name, client=s3)


def test_what_was_created_is_read_with_its_etag(bucket: Bucket) -> None:
    assert bucket.get("a/ü 50%25.json") is None
    assert bucket.create("a/ü 50%25.json", b"{}") == Put.STORED
    stored = bucket.get("a/ü 50%25.json")
    assert stored is not None
    assert (stored.body, stored.etag) == (b"{}", "99914b932bd37a50b983c5e7c90ae93b")


def test_an_object_is_created_once(bucket: Bucket) -> None:
    with ThreadPoolExecutor(6) as pool:
        puts = list(pool.map(lambda n: bucket.create("a", str(n).encode()), range(6)))
    assert sorted(puts) == ["refused"] * 5 + ["stored"]
    stored = bucket.get("a")
    assert stored is not None
    assert stored.body == str(puts.index(Put.STORED)).encode()


def test_an_object_is_replaced_only_while_it_is_the_one_that_was_read(bucket: Bucket) -> None:
    bucket.create("a", b"first")
    first = bucket.get("a")
    assert first is not None
    assert bucket.replace("a", b"second", first.etag) == Put.STORED
    assert bucket.replace("a", b"third", first.etag) == Put.REFUSED
    second = bucket.get("a")
    assert second is not None
    assert second.body == b"second"


def test_an_object_that_was_deleted_is_not_replaced(bucket: Bucket, s3: Any) -> None:
    bucket.create("a", b"first")
    first = bucket.get("a")
    assert first is not None
    s3.delete_object(Bucket=bucket.name, Key="a")
    assert bucket.replace("a", b"second", first.etag) == Put.REFUSED
    assert bucket.get("a") is None


class Answers:
    """A client whose writes are answered so."""

    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code

    def put_object(self, **_: Any) -> Any:
        error = {"Error": {"Code": self.code, "Message": "no"}}
        raise ClientError({**error, "ResponseMetadata": {"HTTPStatusCode": self.status}}, "PutObject")


def test_a_write_at_the_same_moment_is_an_outcome_and_no_access_is_an_error() -> None:
    """moto never answers 409; AWS does, while another conditional write of the key is under way."""
    assert Bucket("b", client=Answers(409, "ConditionalRequestConflict")).create("a", b"") == Put.REFUSED
    with pytest.raises(BoxdropError, match=r"^s3://b/a cannot be written: no \(AccessDenied\)"):
        Bucket("b", client=Answers(403, "AccessDenied")).create("a", b"")
    with pytest.raises(BoxdropError, match=r"^s3://b/a cannot be written: no \(NoSuchBucket\)"):
        Bucket("b", client=Answers(404, "NoSuchBucket")).create("a", b"")


def test_a_missing_bucket_is_not_reported_as_a_missing_object(s3: Any) -> None:
    with pytest.raises(BoxdropError, match=r"^s3://nowhere/a cannot be read: .* \(NoSuchBucket\)"):
        Bucket("nowhere", client=s3).get("a")
