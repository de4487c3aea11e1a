"""`boxdrop backfill --inventory` takes the keys from an S3 Inventory, and from S3 what they are now."""

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from boxdrop.domain.identity import image_id
from boxdrop.ledger import Image, Ledger
from boxdrop.system import System
from tests.aws_server import aws_server

from .test_commands import call, folder, s3, system

__all__ = ["aws_server", "folder", "s3", "system"]

Row = tuple[str, ...]
CURRENT = "Bucket, Key, Size"
FIRST_FILE = "images/weekly/data/0.csv.gz"
VERSIONS = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker"


def file_of(rows: Iterable[Row]) -> bytes:
    """A data file as S3 writes it: every field in quotes, keys URL-encoded."""
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return gzip.compress(text.getvalue().encode())


def inventory(s3: Any, schema: str, *files: bytes, **changes: Any) -> str:
    """Put an inventory of the bucket ``images`` into another bucket; its address."""
    s3.create_bucket(Bucket="lists")
    listed = []
    for number, body in enumerate(files):
        key = f"images/weekly/data/{number}.csv.gz"
        s3.put_object(Bucket="lists", Key=key, Body=body)
        listed.append({"key": key, "size": len(body), "MD5checksum": hashlib.md5(body).hexdigest()})
    manifest = {
        "sourceBucket": "images",
        "destinationBucket": "arn:aws:s3:::lists",
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": "CSV",
        "fileSchema": schema,
        "files": listed,
    } | changes
    key = "images/weekly/2026-11-28T01-00Z/manifest.json"
    s3.put_object(Bucket="lists", Key=key, Body=json.dumps(manifest).encode())
    return f"s3://lists/{key}"


def put(s3: Any, *keys: str) -> None:
    for key in keys:
        s3.put_object(Bucket="images", Key=key, Body=f"image {key}".encode())


def row(system: System, key: str) -> Image | None:
    return Ledger(system.table).image(image_id("images", key))


def test_keys_come_from_the_inventory_in_any_order(system: System, s3: Any, folder: Path) -> None:
    names = ["list/b + c.jpg", "list/2026 é/%25.jpg", "list/a.jpg", "list/not listed.jpg", "other/a.jpg"]
    put(s3, *names)
    listed = [
        ("images", quote(name, safe="/").replace("%20", "+"), "9") for name in names if "not" not in name
    ]
    address = inventory(s3, CURRENT, file_of(listed[:1]), file_of(listed[1:]))
    said = call("backfill", "s3://images/list/", "--inventory", address).output
    assert "3 objects: 3 images wanted in 1 project" in said
    assert all(row(system, name) for name in names[:3])
    assert row(system, "list/not listed.jpg") is None
    assert row(system, "other/a.jpg") is None


def test_objects_that_changed_since_the_inventory_are_taken_as_they_are_now(
    system: System, s3: Any, folder: Path
) -> None:
    s3.put_bucket_versioning(Bucket="images", VersioningConfiguration={"Status": "Enabled"})
    try:
        put(s3, "since/deleted.jpg", "since/hidden.jpg")
        old = s3.put_object(Bucket="images", Key="since/a.jpg", Body=b"old")["VersionId"]
        new = s3.put_object(Bucket="images", Key="since/a.jpg", Body=b"new")["VersionId"]
        s3.delete_object(Bucket="images", Key="since/deleted.jpg")
        address = inventory(
            s3,
            VERSIONS,
            file_of(
                [
                    ("images", "since/a.jpg", old, "true", "false"),
                    ("images", "since/a.jpg", "older", "false", "false"),
                    ("images", "since/deleted.jpg", "v", "true", "false"),
                    ("images", "since/hidden.jpg", "v", "true", "true"),
                ]
            ),
        )
        said = call("backfill", "s3://images/since/", "--inventory", address).output
    finally:
        s3.put_bucket_versioning(Bucket="images", VersioningConfiguration={"Status": "Suspended"})
    assert "1 object: 1 image wanted" in said
    found = row(system, "since/a.jpg")
    assert found is not None
    assert found.version == new


def test_an_interrupted_import_prints_how_to_continue(
    system: System, s3: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxdrop.pipeline.backfill.PAGE", 1)
    monkeypatch.setattr("boxdrop.aws.inventory._AHEAD", 1)
    names = [f"broken/{number}.jpg" for number in range(4)]
    put(s3, *names)
    s3.delete_object(Bucket="images", Key=names[0])
    good = file_of([("images", name, "9") for name in names[:3]])
    address = inventory(s3, CURRENT, good, b"no gzip at all")
    said = call("backfill", "s3://images/", "--inventory", address, code=1).output
    assert "s3://lists/images/weekly/data/1.csv.gz does not match its manifest" in said
    assert f"boxdrop backfill s3://images/ --inventory {address} --skip 3" in " ".join(said.split())
    inventory(s3, CURRENT, good, file_of([("images", names[3], "9")]))
    said = call("backfill", "s3://images/", "--inventory", address, "--skip", "3").output
    assert "1 object: 1 image wanted" in said


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fileFormat": "Parquet"}, "reads inventories in CSV, and this one is in Parquet"),
        ({"fileSchema": "Bucket, Size"}, "describes no column Key, only Bucket, Size"),
        ({"sourceBucket": "elsewhere"}, "is the inventory of s3://elsewhere/, not of s3://images/"),
        ({"files": "none"}, "is not the manifest.json of an S3 Inventory"),
        ({"fileSchema": "Bucket, Size, ETag, Key"}, "does not match its manifest"),
        ({"files": [{"key": FIRST_FILE, "MD5checksum": "0" * 32}]}, "is damaged: its MD5"),
        (
            {"files": [{"key": "gone.csv.gz", "MD5checksum": "0" * 32}]},
            "s3://lists/gone.csv.gz cannot be read",
        ),
    ],
)
def test_an_inventory_that_cannot_be_used_is_one_sentence(
    system: System, s3: Any, folder: Path, changes: dict[str, Any], sentence: str
) -> None:
    address = inventory(s3, CURRENT, file_of([("images", "x/a.jpg", "9")]), **changes)
    assert sentence in call("backfill", "s3://images/", "--inventory", address, code=1).output


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--inventory", "s3://lists/nothing.json"), 1, "there is no such object"),
        (("--inventory", "manifest.json"), 1, "name an inventory by s3://BUCKET/"),
        (("--inventory", "s3://lists/x", "--start-after", "a"), 2, "continue it with --skip"),
        (("--skip", "3"), 2, "--skip counts the keys of an --inventory"),
    ],
)
def test_wrong_options_are_one_sentence(
    system: System, s3: Any, folder: Path, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    s3.create_bucket(Bucket="lists")
    assert sentence in call("backfill", "s3://images/", *arguments, code=code).output
