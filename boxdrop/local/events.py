"""Events in AWS's format: from a queue, a timer, a job that ended, an HTTP request."""

import base64
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from boxdrop.servers.server import HOST


def queue_event(messages: Sequence[Mapping[str, Any]], arn: str, region: str) -> dict[str, Any]:
    """An SQS event with messages from `ReceiveMessage`."""
    return {
        "Records": [
            {
                "messageId": each["MessageId"],
                "receiptHandle": each["ReceiptHandle"],
                "body": each["Body"],
                "attributes": each.get("Attributes", {}),
                "messageAttributes": {},
                "md5OfBody": each.get("MD5OfBody", ""),
                "eventSource": "aws:sqs",
                "eventSourceARN": arn,
                "awsRegion": region,
            }
            for each in messages
        ]
    }


def timer_event() -> dict[str, Any]:
    """The event of EventBridge's schedule."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:000000000000:rule/reconcile"],
        "detail": {},
    }


def job_event(job: Mapping[str, Any], status: str, reason: str, attempt: int) -> dict[str, Any]:
    """Batch's event about a job that has ended
    (https://docs.aws.amazon.com/batch/latest/userguide/batch_job_events.html).
    """
    name = f"boxdrop-{job['run_id']}-{job['attempt']}-{int(job['shard']):05}"
    return timer_event() | {
        "detail-type": "Batch Job State Change",
        "source": "aws.batch",
        "resources": [f"arn:aws:batch:us-east-1:000000000000:job/{name}"],
        "detail": {
            "jobName": name,
            "jobId": name,
            "jobQueue": "arn:aws:batch:us-east-1:000000000000:job-queue/local",
            "status": status,
            "statusReason": reason,
            "attempts": [{}] * attempt,
            "parameters": {},
            "container": {"command": ["--run", str(job["run_id"])], "exitCode": int(status == "FAILED")},
        },
    }


def gateway_event(
    method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, address: str
) -> dict[str, Any]:
    """An HTTP request as API Gateway's event (payload format 2.0)."""
    try:
        text, encoded = body.decode("utf-8"), False
    except UnicodeDecodeError:
        text, encoded = base64.b64encode(body).decode(), True
    now = datetime.now(UTC)
    lower = {name.lower(): value for name, value in headers.items()}
    return {
        "version": "2.0",
        "routeKey": f"{method} {path}",
        "rawPath": path,
        "rawQueryString": query,
        "headers": lower,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "local",
            "domainName": lower.get("host", HOST),
            "domainPrefix": "local",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": address,
                "userAgent": lower.get("user-agent", ""),
            },
            "requestId": uuid.uuid4().hex,
            "routeKey": f"{method} {path}",
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1000),
        },
        "body": text,
        "isBase64Encoded": encoded,
    }
