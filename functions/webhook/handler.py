"""webhook: queue the ids of Label Studio's calls in `reviews`. See `boxdrop.labelstudio.webhook`.

Called by API Gateway's HTTP API (payload format 2.0). Label Studio waits one second and never retries, so the
function looks up only the secret, which it caches for five minutes. Bodies are neither stored nor logged.
"""

import base64
import binascii
from typing import Any

from boxdrop import metrics
from boxdrop.labelstudio.webhook import ReviewEvent, WebhookError, receive
from functions.observability import emit, logger_of
from functions.resources import secrets, services

NAME = "webhook"
logger = logger_of(NAME)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Check a call, queue its ids, respond."""
    reviews = services(NAME).reviews
    try:
        review = _receive(event.get("headers") or {}, _body(event))
    except WebhookError as error:
        emit(NAME, {metrics.WEBHOOK_REFUSED: 1})
        logger.warning("refused", status=error.status, reason=str(error), label_studio_project=error.project)
        if error.project is not None:  # the sender is known: check its whole project
            reviews.send(ReviewEvent("UNREADABLE", error.project).to_fields())
        return {"statusCode": error.status}
    reviews.send(review.to_fields())
    logger.info("queued", action=review.action, label_studio_project=review.project, tasks=review.tasks)
    return {"statusCode": 202}


def _receive(headers: dict[str, str], body: bytes) -> ReviewEvent:
    try:
        return receive(headers, body, secrets().webhook().valid)
    except WebhookError as error:
        if error.status != 401 or not secrets().refresh():  # the secret may have been rotated just now
            raise
        return receive(headers, body, secrets().webhook().valid)


def _body(event: dict[str, Any]) -> bytes:
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(body).encode()
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return b""  # not JSON, and refused as such
