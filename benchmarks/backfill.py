"""Memory and speed of a backfill over a listing of a million keys.

    python -m benchmarks.backfill [--keys 1000000] [--real 5000] [--inventory]

With `--inventory`, the keys come from an S3 Inventory of several files, and a HEAD request asks for each. The
listing, DynamoDB and SQS are simulated in this process and take no time, so it measures only boxdrop.
Beside it, a few thousand keys against a real MiniStack, over HTTP, with 16 concurrent calls: this shows what
boto3 and a network add.
"""

import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import boto3
import click

from boxdrop.aws.inventory import current_objects, read_inventory
from boxdrop.aws.s3 import Bucket, ListedObject
from boxdrop.aws.sqs import Queue
from boxdrop.ledger import Ledger, create_table
from boxdrop.pipeline.backfill import BackfillSummary, backfill
from boxdrop.pipeline.dispatch import Dispatcher
from boxdrop.services import Services, Settings
from tests.aws_server import aws_with_shared_venv
from tests.label_studio_server import quiet
from tests.ports import free_port


@click.command()
@click.option("--keys", default=1_000_000, show_default=True)
@click.option("--real", default=5000, show_default=True, help="Keys against MiniStack; 0 skips this part.")
@click.option("--inventory", is_flag=True, help="Keys from an S3 Inventory, simulated only.")
def main(keys: int, real: int, inventory: bool) -> None:
    """Print one line for each."""
    if inventory:
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
            lists = _Lists(Path(folder), keys)
            found = read_inventory(Bucket("lists", client=lists), "manifest.json")
            objects = current_objects(Bucket("images", client=lists), found.keys())
            clients = (_Table(), lists, _Queue())
            report("from an inventory, simulated", keys, *run(objects, clients, "images"))
        return
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    report("simulated", keys, *run(listing(keys), (_Table(), object(), _Queue()), "images"))
    if real:
        with tempfile.TemporaryDirectory() as folder:
            aws = aws_with_shared_venv(Path(folder) / "aws")
            server = aws.up(free_port(), quiet)
            try:
                made = [boto3.client(name, endpoint_url=server.url) for name in ("dynamodb", "s3", "sqs")]
                create_table(made[0], "ledger")
                for name in ("images", "data"):
                    made[1].create_bucket(Bucket=name)
                report("MiniStack over HTTP", real, *run(listing(real), tuple(made), "images"))
            finally:
                aws.down(quiet)


def listing(keys: int) -> Iterator[ListedObject]:
    """Like an S3 listing: in the order of keys."""
    for number in range(keys):
        yield ListedObject(f"archive/{number // 10_000:04}/photo {number:08}.jpg", f"{number:032x}", 200_000)


def run(
    objects: Iterator[ListedObject], clients: tuple[Any, ...], bucket: str
) -> tuple[BackfillSummary, float]:
    """One backfill; its summary, and seconds."""
    dynamodb, s3, sqs = clients
    url = sqs.create_queue(QueueName="launches")["QueueUrl"]
    services = Services.of(
        Settings(window_s=0.2),
        ledger=Ledger("ledger", client=dynamodb),
        images=Bucket(bucket, client=s3),
        data=Bucket("data", client=s3),
        launches=Queue(url, client=sqs),
    )
    dispatcher = Dispatcher(services)
    began = time.monotonic()
    summary = backfill(dispatcher, bucket, objects)
    return summary, time.monotonic() - began


def report(what: str, keys: int, summary: BackfillSummary, seconds: float) -> None:
    """Print time and memory."""
    assert sum(summary.wanted.values()) == summary.listed == keys, summary
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    click.echo(
        f"{what}: {keys:,} keys wanted in {seconds:.0f} s, {keys / seconds:,.0f} a second; "
        f"peak memory {peak:.0f} MB; load {os.getloadavg()[0]:.1f}"
    )


class _Table:
    """An empty DynamoDB that accepts everything at once."""

    def put_item(self, **_: Any) -> dict[str, Any]:
        return {}

    def get_item(self, **_: Any) -> dict[str, Any]:
        return {}

    def batch_get_item(self, **_: Any) -> dict[str, Any]:
        return {"Responses": {}, "UnprocessedKeys": {}}


class _Lists:
    """An S3 that holds an inventory, and answers every HEAD request at once."""

    def __init__(self, folder: Path, keys: int) -> None:
        self._folder = folder
        files = []
        for number in range(0, keys, 250_000):
            path = folder / f"{number}.csv.gz"
            with gzip.open(path, "wt", 1) as file:
                for each in islice(listing(keys), number, number + 250_000):
                    file.write(f'"images","{quote_plus(each.key, safe="/")}"\n')
            files.append({"key": path.name, "MD5checksum": hashlib.md5(path.read_bytes()).hexdigest()})
        self._manifest = {
            "sourceBucket": "images",
            "fileFormat": "CSV",
            "fileSchema": "Bucket, Key",
            "files": files,
        }

    def get_object(self, **_: Any) -> dict[str, Any]:
        return {"Body": io.BytesIO(json.dumps(self._manifest).encode()), "ETag": "manifest"}

    def download_file(self, _: str, key: str, path: str) -> None:
        shutil.copy(self._folder / key, path)

    def head_object(self, **_: Any) -> dict[str, Any]:
        return {"ETag": "0" * 32, "ContentLength": 200_000}


class _Queue:
    """An SQS that accepts everything."""

    def create_queue(self, **_: Any) -> dict[str, Any]:
        return {"QueueUrl": "launches"}

    def send_message_batch(self, **_: Any) -> dict[str, Any]:
        return {}


if __name__ == "__main__":
    main()
