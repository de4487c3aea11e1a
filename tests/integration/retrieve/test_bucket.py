"""Retrieval into a bucket: objects with their provenance, and credits on tasks from there."""

from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image as Pictures

from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.identity import image_id
from boxdrop.ledger import Image, State
from boxdrop.pipeline.credits import ObjectCredits
from boxdrop.retrieve.destinations import BucketPrefix
from boxdrop.retrieve.downloads import Manners
from boxdrop.retrieve.openverse import Openverse
from boxdrop.retrieve.provenance import Credit, SourceRecord
from boxdrop.retrieve.retrieval import Retrieval, Summary
from boxdrop.retrieve.web import Web
from tests.collection_servers import OpenverseServer, entry, image, picture, served
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "endpoint"]

PROJECT = "fruit baskets"


@pytest.fixture
def bucket(aws: MakeClient) -> Iterator[Bucket]:
    client = aws("s3")
    client.create_bucket(Bucket="photos")
    yield Bucket("photos", client=client)
    for listed in client.list_objects_v2(Bucket="photos").get("Contents", []):
        client.delete_object(Bucket="photos", Key=listed["Key"])
    client.delete_bucket(Bucket="photos")


@pytest.fixture
def openverse() -> Iterator[OpenverseServer]:
    server = OpenverseServer([])
    server.results = [
        entry(server.serve(f"/{n}.jpg", image(picture(n))), n, title="Körbe – “Früchte”", creator="Søren")
        for n in range(4)
    ]
    with served(server):
        yield server


def _retrieve(web: Web, server: OpenverseServer, bucket: Bucket, memory: Path, wanted: int = 10) -> Summary:
    destination = BucketPrefix(bucket, f"{PROJECT}/", memory)
    source = Openverse(web, "fruit", url=server.url)
    return Retrieval(source, destination, caption="fruit", manners=Manners(pause_s=0.0)).run(wanted)


def _sources(bucket: Bucket) -> list[SourceRecord]:
    stored = bucket.get(f"{PROJECT}/sources.jsonl")
    assert stored is not None
    return [SourceRecord.from_json(line, "sources.jsonl") for line in stored.body.splitlines()]


def test_each_object_carries_its_provenance_and_sources_lists_them_all(
    web: Web, openverse: OpenverseServer, bucket: Bucket, tmp_path: Path
) -> None:
    _retrieve(web, openverse, bucket, tmp_path)

    records = _sources(bucket)
    keys = [listed.key for listed in bucket.list(f"{PROJECT}/") if not listed.key.endswith("sources.jsonl")]
    assert sorted(f"{PROJECT}/{record.file}" for record in records) == keys
    assert len(keys) == 4
    for record in records:
        stored = bucket.get(f"{PROJECT}/{record.file}")
        assert stored is not None
        assert Pictures.open(BytesIO(stored.body)).format == "JPEG"
        assert Credit.from_metadata(stored.metadata) == Credit.of(record.candidate)


def test_sources_is_there_before_the_first_image(
    web: Web, openverse: OpenverseServer, bucket: Bucket, tmp_path: Path
) -> None:
    there: list[bool] = []

    class Watched(BucketPrefix):
        def place(self, record: SourceRecord, data: bytes, format: str) -> None:
            there.append(self.bucket.exists(f"{self.prefix}sources.jsonl"))
            super().place(record, data, format)

    destination = Watched(bucket, f"{PROJECT}/", tmp_path)
    Retrieval(Openverse(web, "fruit", url=openverse.url), destination, manners=Manners(pause_s=0.0)).run(2)

    assert there == [True, True]


def test_another_machine_resumes_where_the_first_one_stopped(
    web: Web, openverse: OpenverseServer, bucket: Bucket, tmp_path: Path
) -> None:
    _retrieve(web, openverse, bucket, tmp_path / "one", wanted=2)

    summary = _retrieve(web, openverse, bucket, tmp_path / "two")

    assert (summary.kept, summary.images, summary.settled_before) == (2, 4, 2)
    assert max(count for path, count in openverse.count().items() if path.endswith(".jpg")) == 1
    assert len(_sources(bucket)) == 4


def test_an_image_whose_line_a_kill_lost_is_taken_up_again(
    web: Web, openverse: OpenverseServer, bucket: Bucket, tmp_path: Path
) -> None:
    _retrieve(web, openverse, bucket, tmp_path / "one")
    bucket.put(f"{PROJECT}/sources.jsonl", b"")

    summary = _retrieve(web, openverse, bucket, tmp_path / "two")

    assert summary.images == 4
    assert len(_sources(bucket)) == 4
    assert len(list(bucket.list(f"{PROJECT}/"))) == 5


def test_tasks_get_their_credits_from_the_objects(
    web: Web, openverse: OpenverseServer, bucket: Bucket, tmp_path: Path
) -> None:
    _retrieve(web, openverse, bucket, tmp_path, wanted=2)
    bucket.create(f"{PROJECT}/own.jpg", picture(99), "image/jpeg")
    keys = [listed.key for listed in bucket.list(f"{PROJECT}/") if listed.key.endswith(".jpg")]
    rows = [_row(key) for key in keys]

    credits = ObjectCredits(lambda name: bucket)(PROJECT, rows)

    own = next(row for row in rows if row.key.endswith("own.jpg"))
    assert set(credits) == {row.image_id for row in rows} - {own.image_id}
    for fields in credits.values():
        assert fields["license"] == "CC BY 2.0"
        assert fields["license_url"] == "https://creativecommons.org/licenses/by/2.0/"
        assert fields["source"] == "openverse/stocksnap"
        assert fields["landing_page"].startswith("https://stocksnap.example/photo/")
        assert "Tim Sullivan" in fields["credit"]


def test_a_project_that_was_not_retrieved_costs_one_request(bucket: Bucket) -> None:
    asked: list[str] = []

    class Counting(Bucket):
        def exists(self, key: str) -> bool:
            asked.append(key)
            return False

    credits = ObjectCredits(lambda name: Counting(name, client=bucket))

    assert credits("mine", [_row(f"mine/{n}.jpg") for n in range(50)]) == {}
    assert asked == ["mine/sources.jsonl"]


def test_a_bucket_that_is_not_there_is_an_error(
    web: Web, openverse: OpenverseServer, aws: MakeClient, tmp_path: Path
) -> None:
    with pytest.raises(BoxdropError, match="s3://nowhere/"):
        _retrieve(web, openverse, Bucket("nowhere", client=aws("s3")), tmp_path)


def _row(key: str) -> Image:
    return Image(image_id("photos", key), PROJECT, "photos", key, State.WANTED, datetime.now(UTC), "00")
