"""A run's objects, written and read over HTTP."""

from datetime import UTC, datetime
from typing import Any

import pytest

from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import RunError
from boxdrop.domain.identity import content_of, new_run_id, object_version
from boxdrop.domain.predictions import Failure, Prediction
from boxdrop.store.layout import PartName, manifest_key, predictions_prefix
from boxdrop.store.manifests import (
    ManifestHeader,
    ManifestImage,
    PinnedBundle,
    read_header,
    read_manifest,
    write_manifest,
)
from boxdrop.store.parts import Part, list_parts, read_part, write_part
from boxdrop.store.reports import read_report, read_summary
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "endpoint"]


@pytest.fixture(scope="module")
def s3(aws: MakeClient) -> Any:
    return aws("s3")


@pytest.fixture(scope="module")
def bucket(s3: Any) -> Bucket:
    s3.create_bucket(Bucket="runs-data")
    return Bucket("runs-data", client=s3)


IMAGES = [ManifestImage(f"{n:032x}", f"fruit/ü \u2028{n}.jpg", f"v{n}") for n in range(10)]


def header(**changes: Any) -> ManifestHeader:
    fields: dict[str, Any] = {
        "run_id": new_run_id(),
        "project": "fruit/baskets",
        "bucket": "images",
        "generation": 3,
        "labels": "0" * 64,
        "bundle": PinnedBundle("demo", "1" * 64),
        "model_version": "demo@00000000",
        "images": len(IMAGES),
        "created_at": datetime(2026, 11, 24, tzinfo=UTC),
        "part_images": 2,
        "shard_images": 4,
    }
    return ManifestHeader(**(fields | changes))


def test_a_manifest_is_read_back_whole_or_a_shard_at_a_time(bucket: Bucket) -> None:
    written = header()
    write_manifest(bucket, written, IMAGES)
    assert read_header(bucket, written.run_id) == written
    manifest = read_manifest(bucket, written.run_id)
    assert manifest.images == tuple(IMAGES)
    last = read_manifest(bucket, written.run_id, 2)
    assert (last.first, last.images) == (8, tuple(IMAGES[8:]))
    assert last.images_of(PartName("fruit/baskets", written.run_id, 8, 10)) == tuple(IMAGES[8:10])


def test_a_manifest_is_written_once(bucket: Bucket) -> None:
    written = header()
    write_manifest(bucket, written, IMAGES)
    write_manifest(bucket, written, IMAGES)  # an answer was lost, say
    with pytest.raises(RunError, match="has another manifest already"):
        write_manifest(bucket, written, reversed(IMAGES))
    assert read_manifest(bucket, written.run_id).images == tuple(IMAGES)


def test_a_header_that_counts_otherwise_is_refused(bucket: Bucket) -> None:
    with pytest.raises(RunError, match="9 images, but its header says 10"):
        write_manifest(bucket, header(), IMAGES[:9])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace("boxdrop-manifest/1", "boxdrop-manifest/9"), "line 1: format is"),
        (lambda text: text.replace('"v4"', "4"), r"line 6: `version` must be text, not 4"),
        (lambda text: text[: len(text) // 2], "not JSON"),
        (lambda text: "\n".join(text.splitlines()[:-2]), "ends after 8 of 10 images"),
        (lambda text: "", "line 1: this is not JSON"),
    ],
)
def test_a_manifest_that_is_not_right_names_the_line(bucket: Bucket, spoil: Any, message: str) -> None:
    written = header()
    write_manifest(bucket, written, IMAGES)
    stored = bucket.get(manifest_key(written.run_id))
    assert stored is not None
    bucket.put(manifest_key(written.run_id), spoil(stored.body.decode()).encode())
    with pytest.raises(RunError, match=message):
        read_manifest(bucket, written.run_id)


def test_missing_objects_are_reported(bucket: Bucket) -> None:
    run_id = new_run_id()
    with pytest.raises(RunError, match="there is no such manifest"):
        read_manifest(bucket, run_id)
    with pytest.raises(RunError, match="there is no such manifest"):
        read_header(bucket, run_id)
    with pytest.raises(RunError, match="there is no such part"):
        read_part(bucket, PartName("fruit", run_id, 0, 1).key)
    with pytest.raises(RunError, match="is not the key of a part"):
        read_part(bucket, manifest_key(run_id))
    assert read_report(bucket, run_id, 0) is None
    assert read_summary(bucket, run_id) is None


def test_a_part_is_written_once_and_read_back(bucket: Bucket) -> None:
    run_id = new_run_id()
    records = (
        Prediction("s3://images/fruit/ü \u2028.jpg", "0" * 32, "v", "demo@0", 4, 3, ()),
        Failure("s3://images/fruit/b.jpg", "1" * 32, "v", "demo@0", "truncated", "broken: mend it"),
    )
    second = Part(PartName("fruit/baskets", run_id, 8, 12), records, superseded=1, gone=1)
    first = Part(PartName("fruit/baskets", run_id, 0, 8), (), gone=8)
    assert write_part(bucket, second)
    assert write_part(bucket, first)
    assert not write_part(bucket, Part(first.name, (), superseded=8))
    assert list(list_parts(bucket, "fruit/baskets", run_id)) == [first.name, second.name]
    assert read_part(bucket, first.name.key) == first
    assert read_part(bucket, second.name.key) == second


def test_the_parts_of_a_project_inside_another_are_not_the_outer_ones(bucket: Bucket) -> None:
    run_id, other = new_run_id(), new_run_id()
    outer = PartName("nest", run_id, 0, 8)
    inner = [("nest/sub", other), (f"nest/{other}", run_id)]
    earlier = [PartName(*each, 0, 8, is_earlier=True) for each in inner]
    for name in (outer, *earlier):
        write_part(bucket, Part(name, ()))
    folders = list(bucket.list_folders(predictions_prefix("nest")))
    assert "sub" in folders
    found = {folder: list(list_parts(bucket, "nest", folder)) for folder in folders}
    assert [part for parts in found.values() for part in parts] == [outer]


def test_an_object_is_read_by_its_version(bucket: Bucket, s3: Any) -> None:
    etag = s3.put_object(Bucket=bucket.name, Key="plain", Body=b"12345")["ETag"]
    version = object_version(None, etag, 5)
    assert version is not None
    assert content_of(version).etag == etag.strip('"')
    assert content_of(version).size == 5
    assert bucket.read_version("plain", version, 5) == b"12345"
    s3.create_bucket(Bucket="versions")
    s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    versions = Bucket("versions", client=s3)
    answer = s3.put_object(Bucket="versions", Key="k", Body=b"old")
    s3.put_object(Bucket="versions", Key="k", Body=b"new")
    s3.delete_object(Bucket="versions", Key="k")
    version = object_version(answer["VersionId"], answer["ETag"], 3)
    assert version is not None
    assert content_of(version).version_id == answer["VersionId"]
    assert versions.read_version("k", version, 3) == b"old"
