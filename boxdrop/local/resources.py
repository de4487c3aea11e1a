"""The local counterparts of a deployment's resources: buckets, queues with dead letters, rules, table,
secrets.

Each is created if it is missing, else updated, so every `up` may call this.
"""

import importlib.util
import json
from collections.abc import Mapping
from typing import Any, Final

from boxdrop.domain.errors import LocalError
from boxdrop.local.aws import SIGNER
from boxdrop.system import LOCAL, LOCAL_KEY, System
from boxdrop.topology import JOBS, LOCAL_LIMITS, OPTIONAL, READERS, local_delivery, local_event_patterns

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
"""Label Studio's credentials for signing image URLs; MiniStack checks these signatures."""


def queues() -> tuple[str, ...]:
    """The local system's queues: a deployment's and the pump's own; `track` only if ZenML is installed."""
    tracked = importlib.util.find_spec("zenml") is not None
    readers = (name for name, reader in READERS.items() if tracked or reader.name not in OPTIONAL)
    return (*readers, JOBS)


def client(service: str, endpoint: str, region: str) -> Any:
    """boto3's client of a local service, independent of the environment."""
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
    public_url: str | None = None,
) -> System:
    """Create everything that is missing.

    Args:
        endpoint: of AWS.
        browser_origins: pages that may read images: those of Label Studio.
        public_url: where people on other machines open Label Studio.

    Returns:
        The system, described.

    Raises:
        LocalError: the local AWS refused.
    """
    try:
        _create_buckets(client("s3", endpoint, region), browser_origins)
        urls = _create_queues(client("sqs", endpoint, region))
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
        queues=urls,
        launcher=LOCAL,
        window_s=float(LOCAL_LIMITS["BOXDROP_WINDOW_S"]),
        label_studio_url=label_studio_url,
        label_studio_secret=LABEL_STUDIO_SECRET,
        endpoint_url=endpoint,
        public_url=public_url,
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
    for name in (IMAGES, DATA):  # display copies are in the data bucket
        s3.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [rule]})


def _create_queues(sqs: Any) -> dict[str, str]:
    urls: dict[str, str] = {}
    for name in queues():
        delivery = local_delivery(name)
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
    patterns = local_event_patterns(IMAGES, DATA)
    for name in patterns.keys() & set(queues()):
        pattern = patterns[name]
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
