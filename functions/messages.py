"""Batches of SQS messages, each of which succeeds or fails on its own."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from boxdrop.domain.errors import BoxdropError
from functions.observability import logger_of

Response = dict[str, list[dict[str, str]]]


def each_message(
    function: str, event: dict[str, Any], context: Any, handle: Callable[[str], None]
) -> Response:
    """Handle messages one by one; SQS retries those that raise, and only those.

    Args:
        function: its name, for the log.
        event: of an SQS event source with ``ReportBatchItemFailures``.
        handle: called with a message's body.
    """
    logger = logger_of(function)

    def handle_record(record: SQSRecord) -> None:
        try:
            handle(record.body)
        except BoxdropError as error:
            logger.warning("will be tried again", message_id=record.message_id, reason=str(error))
            raise
        except Exception:
            logger.exception("a fault; will be tried again", message_id=record.message_id)
            raise

    processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
    answer: Response = process_partial_response(event, handle_record, processor, context)  # type: ignore[assignment]
    return answer


def bodies(event: Mapping[str, Any]) -> dict[str, str]:
    """The messages' bodies by message id, to be handled together; return `failures`."""
    return {record["messageId"]: record["body"] for record in event["Records"]}


def failures(message_ids: Mapping[str, Any]) -> Response:
    """The response that makes SQS retry these messages."""
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in message_ids]}


def fields_of(body: str, *needed: str) -> dict[str, Any]:
    """Read one of boxdrop's own messages.

    Raises:
        MessageError: it is not JSON, or lacks a field; it will end in the dead-letter queue.
    """
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise MessageError(f"a message is not JSON: {error}") from None
    if not isinstance(fields, dict) or not all(name in fields for name in needed):
        raise MessageError(f"a message must be an object with {', '.join(needed)}")
    return fields


class MessageError(BoxdropError):
    """A message that boxdrop did not send."""
