"""A whole system on moto but for the detector: buckets, queues, ledger, and a launcher that only notes.

Jobs are worked here by hand (`World.work`): a test decides when, how often, and whether one dies.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from boxdrop.aws.launchers import LaunchError, job_name
from boxdrop.aws.s3 import Bucket
from boxdrop.aws.sqs import Queue
from boxdrop.demo import BUNDLE
from boxdrop.domain.identity import image_id
from boxdrop.domain.predictions import Candidate, Failure, Prediction, Record
from boxdrop.ledger import Image, Ledger
from boxdrop.pipeline.dispatch import DispatchSummary, dispatch
from boxdrop.pipeline.launch import LaunchSummary, launch
from boxdrop.pipeline.recover import RecoverSummary, recover
from boxdrop.services import Services, Settings
from boxdrop.store.bundles import push
from boxdrop.store.layout import PartName
from boxdrop.store.manifests import read_manifest
from boxdrop.store.parts import Part, write_part

FRUIT = "caption: fruit baskets\nlabels: [pineapple, banana, apple]"


class Clock:
    """The present, which a test may put forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def forward(self, **by: float) -> None:
        self.ahead += timedelta(**by)


class NotedQueue(Queue):
    """A queue whose messages come at once, whatever their delay, which is noted."""

    def __init__(self, url: str, client: Any) -> None:
        super().__init__(url, client=client)
        self.delays: list[float] = []

    def send_texts(self, bodies: Iterable[str], delay_s: float = 0) -> int:
        sent = super().send_texts(bodies)
        self.delays += [delay_s] * sent
        return sent


@dataclass
class NotedLauncher:
    """Notes what it was asked for; a test says whether it refuses, and whether its jobs are alive."""

    submitted: list[tuple[str, int, int]] = field(default_factory=list)
    refuses: bool = False
    alive: bool | None = None

    def submit(self, run_id: str, shards: int, attempt: int) -> tuple[str, ...]:
        if self.refuses:
            raise LaunchError("there is no such job queue")
        self.submitted.append((run_id, shards, attempt))
        return (f"{job_name(run_id, attempt)}-job",)

    def is_alive(self, job_ids: Sequence[str]) -> bool | None:
        return self.alive

    def failure(self, job_ids: Sequence[str]) -> str | None:
        return None


class World:
    """See above.

    Args:
        name: that no other test has.
        make: makes boxdrop's AWS clients.
        versioned: whether the image bucket keeps versions.
        detector: whether a detector was pushed.
    """

    def __init__(
        self, name: str, make: Any, ledger: Ledger, *, versioned: bool = False, detector: bool = True
    ) -> None:
        self.s3, self.sqs = make("s3"), make("sqs")
        self.clock = Clock()
        self.ledger = ledger
        ledger._now = self.clock
        for bucket in (f"images-{name}", f"data-{name}"):
            self.s3.create_bucket(Bucket=bucket)
        self.images = Bucket(f"images-{name}", client=self.s3)
        self.data = Bucket(f"data-{name}", client=self.s3)
        if versioned:
            self.s3.put_bucket_versioning(
                Bucket=self.images.name, VersioningConfiguration={"Status": "Enabled"}
            )
        self.launches, self.parts, self.reviews = (
            NotedQueue(self.sqs.create_queue(QueueName=f"{queue}-{name}")["QueueUrl"], self.sqs)
            for queue in ("launches", "parts", "reviews")
        )
        self.launcher: Any = NotedLauncher()
        self.settings = Settings(window_s=0, run_images=1000, shard_images=128, apply_limit=100)
        self._events = 0
        if detector:
            push(self.data, BUNDLE)

    # What people do, and what S3 tells of it

    def put(self, key: str, body: bytes = b"an image") -> str:
        """Upload an object; returns EventBridge's message about it."""
        answer = self.s3.put_object(Bucket=self.images.name, Key=key, Body=body)
        content = {"key": key, "size": len(body), "etag": answer["ETag"].strip('"')}
        if "VersionId" in answer:
            content["version-id"] = answer["VersionId"]
        return self._event("Object Created", content)

    def labels(self, project: str, text: str = FRUIT) -> str:
        """Upload a labels.yaml."""
        return self.put(f"{project}/labels.yaml", text.encode())

    def notify(self, key: str) -> str:
        """EventBridge's message about an object that was uploaded by someone else."""
        head = self.s3.head_object(Bucket=self.images.name, Key=key)
        content = {"key": key, "size": head["ContentLength"], "etag": head["ETag"].strip('"')}
        return self._event("Object Created", content)

    def delete(self, key: str) -> str:
        """Delete an object."""
        self.s3.delete_object(Bucket=self.images.name, Key=key)
        return self._event("Object Deleted", {"key": key})

    def _event(self, kind: str, content: Mapping[str, Any]) -> str:
        self._events += 1
        detail = {
            "bucket": {"name": self.images.name},
            "object": {**content, "sequencer": f"{self._events:016X}"},
        }
        return json.dumps({"source": "aws.s3", "detail-type": kind, "detail": detail})

    # The functions

    @property
    def services(self) -> Services:
        return Services.of(
            self.settings,
            self.clock,
            ledger=self.ledger,
            images=self.images,
            data=self.data,
            launches=self.launches,
            parts=self.parts,
            reviews=self.reviews,
            launcher=self.launcher,
        )

    def dispatch(self, *messages: str) -> DispatchSummary:
        return dispatch(self.services, {str(number): body for number, body in enumerate(messages)})

    def launch(self, project: str = "fruit", asked_at: datetime | None = None) -> LaunchSummary:
        return launch(self.services, project, asked_at)

    def launch_all(self) -> list[LaunchSummary]:
        """Answer the messages in the queue of launch, until none is left; time passes as they wait."""
        done = []
        while messages := self.received(self.launches):
            self.clock.forward(seconds=max(self.launches.delays, default=0))
            self.launches.delays.clear()
            for message in messages:
                asked = message.get("asked_at")
                done.append(self.launch(message["project"], datetime.fromisoformat(asked) if asked else None))
        return done

    def recover(self, **options: Any) -> RecoverSummary:
        """What reconcile does on its schedule."""
        return recover(self.services, **options)

    def received(self, queue: Queue) -> list[dict[str, Any]]:
        """Take what is in a queue."""
        messages = []
        while True:
            answer = self.sqs.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=10)
            for message in answer.get("Messages", []):
                self.sqs.delete_message(QueueUrl=queue.url, ReceiptHandle=message["ReceiptHandle"])
                messages.append(json.loads(message["Body"]))
            if not answer.get("Messages"):
                return messages

    # The job

    def work(self, run_id: str, *, score: float = 0.9) -> list[PartName]:
        """Do what a job does: parts in which "bad" images fail, and overwritten ones are left out."""
        manifest = read_manifest(self.data, run_id)
        names = manifest.header.parts()
        for name in names:
            records: list[Record] = []
            for image in manifest.images_of(name):
                who = f"s3://{self.images.name}/{image.key}", image.image_id, image.version
                version = manifest.header.model_version
                if self.images.version(image.key) != image.version:
                    continue
                if "bad" in image.key:
                    records.append(Failure(*who, version, "truncated", "the file ends in the middle"))
                else:
                    found = Candidate("apple", "apple", 0, score, (10.0, 20.0, 110.0, 120.0))
                    records.append(Prediction(*who, version, 640, 480, (), (found,)))
            write_part(self.data, Part(name, tuple(records)))
        return names

    # What is known

    def row(self, key: str) -> Image:
        found = self.ledger.image(self.id_of(key))
        assert found is not None, f"the ledger has no {key}"
        return found

    def id_of(self, key: str) -> str:
        return image_id(self.images.name, key)

    def states(self, project: str = "fruit") -> dict[str, int]:
        """Images by state, without those that there are none of."""
        return {str(state): count for state, count in self.ledger.count_images(project).items() if count}

    def live_images(self, project: str = "fruit") -> dict[str, list[str]]:
        """Which runs that have not ended hold which image."""
        held: dict[str, list[str]] = {}
        for run_id in self.ledger.runs_with_claims(project):
            run = self.ledger.run(project, run_id)
            if run is not None and run.is_live:
                for image in self.ledger.images_of_run(project, run_id):
                    held.setdefault(image.key, []).append(run_id)
        return held
