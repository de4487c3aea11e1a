"""Custom resource: also sends a bucket's events to EventBridge. This file is deployed inline.

S3 stores all notifications of a bucket in one document and replaces it as a whole, so this reads it, adds to
it, and writes it back. On deletion the setting stays: others may rely on EventBridge by then, and it costs
nothing.
"""

import json
import urllib.request
from typing import Any

import boto3


def turn_on(s3: Any, bucket: str) -> bool:
    """Add EventBridge to a bucket's notifications; True if it was missing."""
    present = s3.get_bucket_notification_configuration(Bucket=bucket)
    present.pop("ResponseMetadata", None)
    if "EventBridgeConfiguration" in present:
        return False
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={**present, "EventBridgeConfiguration": {}},
        # Other targets were valid when their owners set them; checking them now is not our task.
        SkipDestinationValidation=True,
    )
    return True


def handler(event: Any, context: Any) -> None:  # noqa: ARG001
    """Respond to CloudFormation, whatever happens: without a response it waits for an hour."""
    bucket = event["ResourceProperties"]["Bucket"]
    status, reason = "SUCCESS", ""
    try:
        if event["RequestType"] != "Delete":
            print(json.dumps({"bucket": bucket, "changed": turn_on(boto3.client("s3"), bucket)}))
    except Exception as error:
        status, reason = "FAILED", f"the notifications of {bucket} cannot be changed: {error}"
        print(json.dumps({"bucket": bucket, "error": str(error)}))
    answer = {
        "Status": status,
        "Reason": reason or "done",
        "PhysicalResourceId": f"events-of-{bucket}",
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
    }
    request = urllib.request.Request(event["ResponseURL"], json.dumps(answer).encode(), method="PUT")  # noqa: S310
    urllib.request.urlopen(request, timeout=20)  # noqa: S310
