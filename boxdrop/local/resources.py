"""What a deployment makes, on this machine: buckets, queues with dead letters, rules, table, secrets.

Each is made if it is missing and brought up to date if it is there, so every `up` may call this.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from boxdrop.errors import LocalError
from boxdrop.local.aws import SIGNER
from boxdrop.store.layout import PREDICTIONS
from boxdrop.system import LOCAL, LOCAL_KEY, System

try:
    import boto3
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    raise LocalError("the whole system needs boto3: pip install 'boxdrop[functions]'") from None

IMAGES: Final = "images"
DATA: Final = "boxdrop-data"
TABLE: Final = "boxdrop"
LABEL_STUDIO_SECRET: Final = "boxdrop/label-studio"  # noqa: S105
WEBHOOK_SECRET: Final = "boxdrop/webhook"  # noqa: S105

PRESIGN: Final = {
    "BOXDROP_PRESIGN_ACCESS_KEY_ID": SIGNER,
    "BOXDROP_PRESIGN_SECRET_ACCESS_KEY": SIGNER,
}
"""What Label Studio signs the addresses of images with; MiniStack checks these signatures."""

WINDOW_S: Final = 0.2
"""How long launch waits for more images. On AWS, minutes pay; here nobody waits for a GPU to come up."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A queue, and how Lambda's event source mapping would empty it.

    Attributes:
        function: folder in ``functions/``.
        batch: messages in one event, at most.
        window_s: how long to wait for a batch to fill, after its first message.
        timeout_s: for one event, after which the function's process is ended.
        visibility_s: after which what failed is delivered again.
        receives: deliveries, after which a message is a dead letter.
    """

    function: str
    batch: int
    window_s: float
    timeout_s: float = 300.0
    visibility_s: int = 5
    receives: int = 60


DELIVERIES: Final[Mapping[str, Delivery]] = {
    "uploads": Delivery("dispatch", batch=200, window_s=0.1),
    "launches": Delivery("launch", batch=10, window_s=WINDOW_S),
    "parts": Delivery("publish", batch=10, window_s=0.0, timeout_s=600),
    "reviews": Delivery("collect", batch=10, window_s=0.1),
}
"""The queues that functions read. Few seconds of visibility, for the pump keeps messages hidden as long as a
function works on them; on AWS it is six times the function's time. In return, many receives: five minutes
without Label Studio make no dead letters."""

JOBS: Final = "jobs"
JOB: Final = Delivery("job", batch=1, window_s=0.0, timeout_s=3600, receives=12)
"""AWS Batch's part: a message is a shard of a run, a delivery an attempt."""

_RULES: Final = {
    "uploads": {
        "source": ["aws.s3"],
        "detail-type": ["Object Created", "Object Deleted"],
        "detail": {"bucket": {"name": [IMAGES]}},
    },
    "parts": {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {
            "bucket": {"name": [DATA]},
            "object": {"key": [{"prefix": PREDICTIONS}, {"suffix": "/summary.json"}]},
        },
    },
}
"""Which events go into which queue."""


def client(service: str, endpoint: str, region: str) -> Any:
    """boto3's client of a service on this machine, whatever else the environment says."""
    own = botocore.session.Session(session_vars={"profile": (None, None, None, None)})  # no AWS_PROFILE
    return boto3.Session(botocore_session=own).client(
        service,
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=LOCAL_KEY,
        aws_secret_access_key=LOCAL_KEY,
        config=Config(retries={"mode": "standard", "max_attempts": 3}, connect_timeout=5, read_timeout=60),
    )


def create(
    endpoint: str,
    region: str,
    *,
    label_studio_url: str,
    label_studio_token: str,
    webhook_secret: str,
    browser_origins: tuple[str, ...],
) -> System:
    """Make everything that is missing.

    Args:
        endpoint: of AWS.
        browser_origins: pages that may read images: those of Label Studio.

    Returns:
        The system, described.

    Raises:
        LocalError: AWS on this machine refused.
    """
    try:
        _create_buckets(client("s3", endpoint, region), browser_origins)
        queues = _create_queues(client("sqs", endpoint, region))
        _create_rules(client("events", endpoint, region), region)
        _create_table(client("dynamodb", endpoint, region))
        secrets = client("secretsmanager", endpoint, region)
        _store_secret(secrets, LABEL_STUDIO_SECRET, {"url": label_studio_url, "token": label_studio_token})
        _store_secret(secrets, WEBHOOK_SECRET, {"current": webhook_secret})
    except (BotoCoreError, ClientError) as error:
        raise LocalError(f"AWS at {endpoint} refused: {error}") from None
    return System(
        name=LOCAL,
        region=region,
        table=TABLE,
        image_bucket=IMAGES,
        data_bucket=DATA,
        queues=queues,
        launcher=LOCAL,
        window_s=WINDOW_S,
        label_studio_url=label_studio_url,
        label_studio_secret=LABEL_STUDIO_SECRET,
        endpoint_url=endpoint,
    )


def _create_buckets(s3: Any, origins: tuple[str, ...]) -> None:
    there = {each["Name"] for each in s3.list_buckets()["Buckets"]}
    for name in (IMAGES, DATA):
        if name not in there:
            s3.create_bucket(Bucket=name)
        s3.put_bucket_notification_configuration(
            Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )
    rule = {"AllowedMethods": ["GET", "HEAD"], "AllowedOrigins": list(origins), "AllowedHeaders": ["*"]}
    s3.put_bucket_cors(Bucket=IMAGES, CORSConfiguration={"CORSRules": [rule]})


def _create_queues(sqs: Any) -> dict[str, str]:
    urls: dict[str, str] = {}
    for name, delivery in {**DELIVERIES, JOBS: JOB}.items():
        dead = f"{name}-dlq"
        urls[dead] = sqs.create_queue(QueueName=dead)["QueueUrl"]
        arn = _attribute(sqs, urls[dead], "QueueArn")
        settings = {
            "VisibilityTimeout": str(delivery.visibility_s),
            "RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": delivery.receives}),
        }
        urls[name] = sqs.create_queue(QueueName=name)["QueueUrl"]
        sqs.set_queue_attributes(QueueUrl=urls[name], Attributes=settings)
    return urls


def _attribute(sqs: Any, url: str, name: str) -> str:
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


def _create_rules(events: Any, region: str) -> None:
    for name, pattern in _RULES.items():
        events.put_rule(Name=name, EventPattern=json.dumps(pattern))
        arn = f"arn:aws:sqs:{region}:000000000000:{name}"
        events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])


def _create_table(dynamodb: Any) -> None:
    from boxdrop.ledger import create_table

    create_table(dynamodb, TABLE)


def _store_secret(secrets: Any, name: str, value: Mapping[str, str]) -> None:
    text = json.dumps(value)
    try:
        secrets.create_secret(Name=name, SecretString=text)
    except secrets.exceptions.ResourceExistsException:
        secrets.put_secret_value(SecretId=name, SecretString=text)
