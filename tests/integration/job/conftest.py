"""The job's tests: real processes of the real entry point, on moto over HTTP, with the demo detector."""

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from boxdrop.aws.s3 import Bucket
from boxdrop.demo import BUNDLE, SCENES
from boxdrop.detect.sessions import Provider
from boxdrop.domain.identity import image_id, new_run_id, object_version
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Failure, Prediction, from_json
from boxdrop.job.detectors import Detectors
from boxdrop.job.host import Host
from boxdrop.job.job import Job
from boxdrop.store import bundles
from boxdrop.store.labelsets import write_label_set
from boxdrop.store.manifests import ManifestHeader, ManifestImage, PinnedBundle, write_manifest
from boxdrop.store.reports import RunSummary, read_summary
from tests.gated_aws import GatedAws

FRUIT = LabelSet.from_short_form("pineapple, banana, apple")
SCENE_FILES = sorted(SCENES.glob("*.jpg"))
SCENE = SCENE_FILES[0].read_bytes()
PATIENCE_S = 120.0

_numbers = itertools.count()


@pytest.fixture(scope="module")
def gate() -> Iterator[GatedAws]:
    server = GatedAws()
    yield server
    server.close()


class Process:
    """A job that runs, and the lines that it has said so far."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "functions.job", *arguments],
            env=environment,
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.lines: list[dict[str, Any]] = []
        self.errors = ""
        self._arrived: queue.Queue[None] = queue.Queue()
        self._threads = [
            threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(json.loads(line))
            self._arrived.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self.errors = self._process.stderr.read()

    def said(self, message: str) -> dict[str, Any] | None:
        """The first line with this message so far."""
        return next((line for line in list(self.lines) if line.get("message") == message), None)

    def wait_until_said(self, message: str) -> dict[str, Any]:
        """Wait for a line with this message."""
        end = time.monotonic() + PATIENCE_S
        while (line := self.said(message)) is None:
            assert self._process.poll() is None or self._threads[0].is_alive(), f"it ended: {self.lines}"
            try:
                self._arrived.get(timeout=0.2)
            except queue.Empty:
                assert time.monotonic() < end, f"it never said {message!r}: {self.lines}"
        return line

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end; gives the exit code."""
        code = self._process.wait(PATIENCE_S)
        for thread in self._threads:
            thread.join()
        assert "Traceback" not in self.errors, self.errors  # libtiff, too, writes there
        return code

    def kill(self) -> None:
        """Whatever the test has come to."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


@dataclass
class System:
    """An image bucket, a data bucket with the demo detector, and jobs that work on them."""

    gate: GatedAws
    s3: Any
    images: Bucket
    data: Bucket
    pin: PinnedBundle
    model_version: str
    cache: Path
    processes: list[Process]

    def put(self, key: str, body: bytes) -> ManifestImage:
        """Put an image; gives its line of a manifest."""
        answer = self.s3.put_object(Bucket=self.images.name, Key=key, Body=body)
        version = object_version(answer.get("VersionId"), answer["ETag"], len(body))
        assert version is not None
        return ManifestImage(image_id(self.images.name, key), key, version)

    def put_scenes(self, count: int) -> list[ManifestImage]:
        """Put so many sample images, the same ones again and again under different keys."""
        bodies = [file.read_bytes() for file in SCENE_FILES]
        return [self.put(f"fruit/{n:03}.jpg", bodies[n % len(bodies)]) for n in range(count)]

    def plan(
        self, images: list[ManifestImage], *, part_images: int = 4, shard_images: int = 8, **changes: Any
    ) -> str:
        """Write a manifest; gives the run."""
        header: dict[str, Any] = {
            "run_id": new_run_id(),
            "project": "fruit",
            "bucket": self.images.name,
            "generation": 1,
            "labels": write_label_set(self.data, FRUIT),
            "bundle": self.pin,
            "model_version": self.model_version,
            "images": len(images),
            "created_at": datetime.now(UTC),
            "part_images": part_images,
            "shard_images": shard_images,
        }
        header |= changes
        write_manifest(self.data, ManifestHeader(**header), images)
        return str(header["run_id"])

    def job(self, provider: Provider = "cpu", cache: Path | None = None, **settings: Any) -> Job:
        """A job in this process."""
        detectors = Detectors(self.data, cache or self.cache, provider, threads=1)
        return Job(self.data, lambda name: Bucket(name, client=self.s3), detectors, Host(), **settings)

    def start(self, *arguments: str, **environment: str) -> Process:
        """Start a job."""
        process = Process(list(arguments), self.environment | environment)
        self.processes.append(process)
        return process

    @property
    def environment(self) -> dict[str, str]:
        """What a job of this system has in its environment."""
        return {
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL": self.gate.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_MAX_ATTEMPTS": "2",
            "AWS_EC2_METADATA_DISABLED": "true",
            "BOXDROP_DATA_BUCKET": self.data.name,
            "BOXDROP_BUNDLE_CACHE": str(self.cache),
            "BOXDROP_THREADS": "1",
        }

    def parts(self, run_id: str) -> dict[str, bytes]:
        """The parts of a run by the last portion of their keys."""
        bodies = {}
        for listed in self.data.list(f"predictions/fruit/{run_id}/"):
            stored = self.data.get(listed.key)
            assert stored is not None
            bodies[listed.key.rpartition("/")[2]] = stored.body
        return bodies


@pytest.fixture(scope="module")
def client(gate: GatedAws) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=gate.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"mode": "standard", "max_attempts": 2}, read_timeout=60),
    )


@pytest.fixture(scope="session")
def bundle_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles that are fetched once for all tests."""
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture
def system(gate: GatedAws, client: Any, bundle_cache: Path) -> Iterator[System]:
    number = next(_numbers)
    images, data = Bucket(f"images-{number}", client=client), Bucket(f"data-{number}", client=client)
    for bucket in (images, data):
        client.create_bucket(Bucket=bucket.name)
    ref = bundles.push(data, BUNDLE)
    made = System(
        gate=gate,
        s3=client,
        images=images,
        data=data,
        pin=PinnedBundle(ref.name, ref.digest),
        model_version=f"{ref.name}@{FRUIT.digest(ref.digest)[:8]}",
        cache=bundle_cache,
        processes=[],
    )
    gate.forget()
    yield made
    for process in made.processes:
        process.kill()
    gate.forget()


def summary_of(system: System, run_id: str) -> RunSummary:
    summary = read_summary(system.data, run_id)
    assert summary is not None
    return summary


def records_of(system: System, run_id: str) -> list[Prediction | Failure]:
    return [from_json(line) for body in system.parts(run_id).values() for line in body.splitlines()]
