"""Tracking's tests: a real ZenML server with log-in, real runs of the demo detector, moto over HTTP."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from boxdrop.aws.s3 import Bucket
from boxdrop.demo import BUNDLE, SCENES
from boxdrop.domain.identity import image_id, new_run_id, object_version
from boxdrop.domain.labels import LabelSet
from boxdrop.job.detectors import Detectors
from boxdrop.job.host import Host
from boxdrop.job.job import Job
from boxdrop.ledger import Ledger, create_table
from boxdrop.store import bundles
from boxdrop.store.labelsets import write_label_set
from boxdrop.store.manifests import ManifestHeader, ManifestImage, PinnedBundle, write_manifest
from boxdrop.store.reports import RunSummary, read_summary
from boxdrop.tracking.register import Tracker, connect
from tests.gated_aws import GatedAws
from tests.label_studio_server import connection, server
from tests.zenml_server import RunningZenML, running, with_empty_database

__all__ = ["connection", "server"]

# Before zenml is imported, by any module here: else it takes over logging, stdout and stderr of all tests.
os.environ["ZENML_LOGGING_VERBOSITY"] = "NOTSET"
os.environ["ZENML_ENABLE_RICH_TRACEBACK"] = "false"
os.environ["ZENML_ANALYTICS_OPT_IN"] = "false"

FRUIT = LabelSet.from_short_form("pineapple, banana, apple")
SCENE_FILES = sorted(SCENES.glob("*.jpg"))

_numbers = itertools.count()
_run_times = itertools.count()


@pytest.fixture(scope="session")
def aws_url() -> Iterator[str]:
    """AWS, for as long as the ZenML server that keeps its artifacts there."""
    server = GatedAws()
    yield server.url
    server.close()


@pytest.fixture(scope="session")
def aws_variables(aws_url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "BOXDROP_PRESIGN_ACCESS_KEY_ID": "test",  # Label Studio may be running without any
        "BOXDROP_PRESIGN_SECRET_ACCESS_KEY": "test",
    }


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where zenml's client keeps its settings."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module", autouse=True)
def environment(aws_variables: dict[str, str], home: Path) -> Iterator[None]:
    """AWS and the home are in the environment, where zenml looks; after each module all is put back."""
    before = dict(os.environ)
    os.environ |= aws_variables | {"BOXDROP_HOME": str(home)}
    yield
    os.environ.clear()
    os.environ |= before


@pytest.fixture(scope="session")
def zenml(aws_variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningZenML]:
    """One server for all tests that do not stop it."""
    stopped = with_empty_database(tmp_path_factory.mktemp("server") / "zenml")
    with running(stopped, aws_variables) as answering:
        yield answering


@pytest.fixture(scope="session")
def clients(aws_url: str) -> Any:
    """Makes boto3's client of a service."""

    def make(service: str) -> Any:
        return boto3.client(service, config=Config(retries={"mode": "standard", "max_attempts": 2}))

    return make


@dataclass
class System:
    """An image bucket, a data bucket with the demo detector, a ledger, and a job that runs here."""

    images: Bucket
    data: Bucket
    ledger: Ledger
    table: str
    s3: Any
    pin: PinnedBundle
    model_version: str
    cache: Path

    def put_scenes(self, count: int, folder: str = "fruit") -> list[ManifestImage]:
        """Put so many sample images."""
        lines = []
        for n in range(count):
            body = SCENE_FILES[n % len(SCENE_FILES)].read_bytes()
            key = f"{folder}/{n:03}.jpg"
            answer = self.s3.put_object(Bucket=self.images.name, Key=key, Body=body)
            version = object_version(None, answer["ETag"], len(body))
            assert version is not None
            lines.append(ManifestImage(image_id(self.images.name, key), key, version))
        return lines

    def plan(self, images: list[ManifestImage], project: str = "fruit", run_id: str | None = None) -> str:
        """Write a manifest; gives the run."""
        # Ids have seconds in them: no two runs of a test shall begin in the same one.
        began = datetime.now(UTC) - timedelta(days=1) + timedelta(seconds=next(_run_times))
        header = ManifestHeader(
            run_id=run_id or new_run_id(began),
            project=project,
            bucket=self.images.name,
            generation=1,
            labels=write_label_set(self.data, FRUIT),
            bundle=self.pin,
            model_version=self.model_version,
            images=len(images),
            created_at=began + timedelta(seconds=3),
            part_images=4,
            shard_images=8,
        )
        write_manifest(self.data, header, images)
        return header.run_id

    def detect(self, run_id: str) -> RunSummary:
        """Run the job, here; gives its summary."""
        host = Host(device="test processor", launcher="local", job_id="job-1", usd_per_hour=0.36)
        detectors = Detectors(self.data, self.cache, threads=1)
        Job(self.data, lambda name: Bucket(name, client=self.s3), detectors, host).work(run_id)
        summary = read_summary(self.data, run_id)
        assert summary is not None
        return summary

    def run(self, images: int = 5, project: str = "fruit") -> RunSummary:
        """Do a whole run."""
        return self.detect(self.plan(self.put_scenes(images, project), project))


@pytest.fixture(scope="session")
def bundle_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture
def system(clients: Any, bundle_cache: Path) -> System:
    number = next(_numbers)
    s3, table = clients("s3"), f"tracked-ledger-{number}"
    images, data = Bucket(f"tracked-images-{number}", client=s3), Bucket(f"tracked-data-{number}", client=s3)
    for bucket in (images, data):
        s3.create_bucket(Bucket=bucket.name)
    ref = bundles.push(data, BUNDLE)
    create_table(clients("dynamodb"), table)
    return System(
        images=images,
        data=data,
        ledger=Ledger(table, client=clients("dynamodb")),
        table=table,
        s3=s3,
        pin=PinnedBundle(ref.name, ref.digest),
        model_version=f"{ref.name}@{FRUIT.digest(ref.digest)[:8]}",
        cache=bundle_cache,
    )


@pytest.fixture
def tracker(zenml: RunningZenML, system: System) -> Tracker:
    """Connected to the server with the service account's key."""
    return connect(zenml.store, system.data.name)


def boxdrop(*arguments: str, **variables: str) -> "subprocess.Popen[str]":
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "boxdrop", *arguments],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
