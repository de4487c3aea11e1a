"""What S3, DynamoDB, SQS, Label Studio and `boxdrop status` say at one moment, read from outside.

Nothing here imports boxdrop: the judge must not share a mistake with what it judges. It knows the documented
formats (docs/ledger.md, docs/annotations.md, docs/label-studio.md) and nothing else.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import boto3
import requests
from botocore.config import Config

_TIMEOUT_S = 60
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a local system is; see `find`."""

    home: Path
    endpoint: str
    region: str
    table: str
    images: str
    data: str
    label_studio: str
    token: str
    webhook: str
    secret: str
    queues: dict[str, str]

    @classmethod
    def find(cls, home: Path) -> "Addresses":
        """Read the files of a boxdrop home that is up."""
        system = json.loads((home / "system.json").read_text())
        pump = json.loads((home / "pump.json").read_text())
        login = json.loads((home / "label-studio" / "server.json").read_text())
        return cls(
            home,
            system["endpoint_url"],
            system["region"],
            system["table"],
            system["image_bucket"],
            system["data_bucket"],
            system["label_studio_url"],
            login["token"],
            pump["webhook"],
            pump["secret"],
            system["queues"],
        )

    def client(self, service: str) -> Any:
        """boto3's client of a service."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"mode": "standard", "max_attempts": 3}, read_timeout=_TIMEOUT_S),
        )

    def call(self, method: str, path: str, *, body: Any = None, **query: Any) -> Any:
        """Call Label Studio's API; returns its JSON, None for an empty answer.

        Raises:
            requests.HTTPError: it refused.
        """
        answer = requests.request(
            method,
            f"{self.label_studio}{path}",
            params=query,
            json=body,
            headers={"Authorization": f"Token {self.token}"},
            timeout=_TIMEOUT_S,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None


@dataclass(slots=True)
class Evidence:
    """See the module; plain JSON throughout, so that a failure can be kept and read again.

    Attributes:
        images: version (etag and size) by key of the image bucket.
        labels: text of each labels.yaml by key.
        data: keys of the data bucket.
        label_sets: text by key below ``labelsets/``.
        documents: the JSON of each key below ``annotations/``.
        rows: of the table, each as plain values.
        queues: by name, messages that wait, that are delayed, and that are being worked on.
        projects: Label Studio's, by number.
        tasks: Label Studio's, with annotations and predictions.
        webhooks: Label Studio's, without their secrets.
        pictures: by task, the HTTP status with which a browser gets its image; of two tasks per project.
        status: of `boxdrop status --json`.
    """

    bucket: str
    images: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    data: list[str] = field(default_factory=list)
    label_sets: dict[str, str] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    queues: dict[str, list[int]] = field(default_factory=dict)
    projects: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    webhooks: list[dict[str, Any]] = field(default_factory=list)
    pictures: dict[str, int] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The evidence as text."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=True, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Evidence":
        """The inverse of `to_json`."""
        return cls(**json.loads(text))


def gather(at: Addresses) -> Evidence:
    """Read everything."""
    found = Evidence(at.images)
    s3 = at.client("s3")
    for entry in _listed(s3, at.images):
        if entry["Key"].rpartition("/")[2] == "labels.yaml":
            body = s3.get_object(Bucket=at.images, Key=entry["Key"])["Body"].read()
            found.labels[entry["Key"]] = body.decode("utf-8", "replace")
        else:
            found.images[entry["Key"]] = f"{entry['ETag'].strip(chr(34))}-{entry['Size']}"
    for entry in _listed(s3, at.data):
        found.data.append(entry["Key"])
        folder = entry["Key"].partition("/")[0]
        if folder in ("annotations", "labelsets"):
            body = s3.get_object(Bucket=at.data, Key=entry["Key"])["Body"].read()
            if folder == "annotations":
                found.documents[entry["Key"]] = json.loads(body)
            else:
                found.label_sets[entry["Key"]] = body.decode("utf-8", "replace")
    for page in at.client("dynamodb").get_paginator("scan").paginate(TableName=at.table, ConsistentRead=True):
        found.rows += [{name: _plain(value) for name, value in item.items()} for item in page["Items"]]
    found.queues = depths(at)
    found.projects = list(_projects(at))
    found.webhooks = [
        {name: each[name] for name in ("id", "project", "is_active")}
        for each in at.call("GET", "/api/webhooks/")
    ]
    for project in found.projects:
        tasks = tasks_of(at, project["id"])
        found.tasks += tasks
        found.pictures |= {str(task["id"]): _picture(at, task) for task in (*tasks[:1], *tasks[-1:])}
    found.status = status(at)
    return found


def depths(at: Addresses) -> dict[str, list[int]]:
    """By queue: messages that wait, that are delayed, and that are being worked on."""
    sqs = at.client("sqs")
    parts = ("", "Delayed", "NotVisible")
    names = [f"ApproximateNumberOfMessages{part}" for part in parts]
    found = {}
    for queue, url in at.queues.items():
        answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        found[queue] = [int(answer[name]) for name in names]
    return found


def tasks_of(at: Addresses, project: int, page_size: int = _PAGE) -> list[dict[str, Any]]:
    """All tasks of a project, with annotations and predictions."""
    tasks: list[dict[str, Any]] = []
    while True:
        answer = at.call(
            "GET",
            "/api/tasks/",
            project=project,
            fields="all",
            resolve_uri="false",
            page_size=page_size,
            page=len(tasks) // page_size + 1,
        )
        tasks += answer["tasks"]
        if len(tasks) >= answer["total"]:  # a page after the last one is an error
            return tasks


def _picture(at: Addresses, task: Any) -> int:
    """The status of the image that a browser loads for a task; 0 without an answer."""
    address = base64.urlsafe_b64encode(str(task["data"].get("image", "")).encode()).decode()
    url = f"{at.label_studio}/tasks/{task['id']}/resolve/"
    try:
        answer = requests.get(
            url,
            params={"fileuri": address},
            headers={"Authorization": f"Token {at.token}"},
            timeout=_TIMEOUT_S,
        )
    except requests.RequestException:
        return 0
    return answer.status_code


def status(at: Addresses) -> dict[str, Any]:
    """What `boxdrop status --json` prints, called as people do; its error as text if it fails."""
    environment = {**os.environ, "BOXDROP_HOME": str(at.home)}
    command = [sys.executable, "-m", "boxdrop", "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {"error": f"exit status {done.returncode}: {done.stdout}{done.stderr}"[:2000]}
    return found


def _listed(s3: Any, bucket: str) -> Iterator[Any]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        yield from page.get("Contents", [])


def _projects(at: Addresses) -> Iterator[dict[str, Any]]:
    listed = at.call("GET", "/api/projects/", page_size=1000, include="id,title,model_version,label_config")
    for each in listed["results"]:
        yield {name: each.get(name) for name in ("id", "title", "model_version", "label_config")}


def _plain(attribute: dict[str, Any]) -> Any:
    """A DynamoDB attribute as a plain value."""
    ((tag, value),) = attribute.items()
    if tag == "N":
        return float(value) if "." in value else int(value)
    if tag == "L":
        return [_plain(each) for each in value]
    if tag == "M":
        return {name: _plain(each) for name, each in value.items()}
    return value
