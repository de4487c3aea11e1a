"""Custom resource: also sends a bucket's events to EventBridge. This file is deployed inline.

S3 stores all notifications of a bucket in one document and replaces it as a whole, so this reads it, adds to
it, and writes it back. On deletion the setting stays: others may rely on EventBridge by then, and it costs
nothing.
"""

import json
import os
import urllib.request
from typing import Any

import boto3


def region_of(s3: Any, bucket: str) -> str:
    """The region of a bucket; S3 says nothing for the oldest one, and EU for the second."""
    said = s3.get_bucket_location(Bucket=bucket).get("LocationConstraint") or "us-east-1"
    return "eu-west-1" if said == "EU" else str(said)


def turn_on(s3: Any, bucket: str, region: str) -> bool:
    """Add EventBridge to a bucket's notifications; True if it was not there.

    Raises:
        ValueError: the bucket is in another region, whose events do not reach this one.
    """
    there = region_of(s3, bucket)
    if there != region:
        raise ValueError(f"it is in {there}, and its events reach no other region; deploy boxdrop in {there}")
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
            changed = turn_on(boto3.client("s3"), bucket, os.environ["AWS_REGION"])
            print(json.dumps({"bucket": bucket, "changed": changed}))
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
