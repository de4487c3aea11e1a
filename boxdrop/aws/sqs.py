"""SQS queues: messages between the functions, and dead letters.

Credentials, region and endpoint come from the environment, as boto3 reads them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from boxdrop.domain.errors import BoxdropError
from boxdrop.iterables import chunked

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    raise BoxdropError("queues need boto3: pip install 'boxdrop[s3]'") from None

MAX_DELAY_S: Final = 900
"""SQS's longest DelaySeconds."""

_BATCH: Final = 10  # messages in one call, SQS's limit
_HIDDEN_S: Final = 120  # while a dead letter is being moved, others do not see it


class QueueError(BoxdropError):
    """A queue cannot be used, or refused a message; sending it again is safe."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was received; `receipt` is for deleting it."""

    body: str
    receipt: str


class Queue:
    """One SQS queue. Safe to use from several threads.

    Args:
        url: the queue's.
        client: boto3's SQS client; by default one made from the environment.
    """

    def __init__(self, url: str, *, client: Any = None) -> None:
        self.url = url
        config = Config(retries={"mode": "standard", "max_attempts": 5}, max_pool_connections=16)
        try:
            self._sqs: Any = client or boto3.client("sqs", config=config)
        except BotoCoreError as error:
            raise QueueError(f"{url}: {error}") from None

    def send(self, message: Mapping[str, Any], delay_s: float = 0) -> None:
        """Send one message as JSON; it may be received after `delay_s`, rounded down to whole seconds.

        Raises:
            QueueError: it may not have been sent.
        """
        self.send_all([message], delay_s)

    def send_all(self, messages: Iterable[Mapping[str, Any]], delay_s: float = 0) -> int:
        """Send messages, ten per call; returns how many.

        Raises:
            QueueError: some may not have been sent.
        """
        return self.send_texts((json.dumps(message) for message in messages), delay_s)

    def send_texts(self, bodies: Iterable[str], delay_s: float = 0) -> int:
        """Send raw message bodies, for example dead letters; returns how many.

        Raises:
            QueueError: some may not have been sent.
        """
        delay = min(int(delay_s), MAX_DELAY_S)
        sent = 0
        for some in chunked(bodies, _BATCH):
            entries = [
                {"Id": str(number), "MessageBody": body, "DelaySeconds": delay}
                for number, body in enumerate(some)
            ]
            try:
                answer = self._sqs.send_message_batch(QueueUrl=self.url, Entries=entries)
            except (BotoCoreError, ClientError) as error:
                raise QueueError(f"{self.url} refused a message: {error}") from None
            if answer.get("Failed"):
                failed = answer["Failed"][0]
                raise QueueError(f"{self.url} refused a message: {failed.get('Message')} ({failed['Code']})")
            sent += len(some)
        return sent

    def receive_all(self) -> Iterator[Message]:
        """Receive messages until the queue is empty. Those that are not deleted are delivered again later.

        Raises:
            QueueError: it cannot be read.
        """
        while True:
            try:
                answer = self._sqs.receive_message(
                    QueueUrl=self.url,
                    MaxNumberOfMessages=_BATCH,
                    VisibilityTimeout=_HIDDEN_S,
                    WaitTimeSeconds=1,
                )
            except (BotoCoreError, ClientError) as error:
                raise QueueError(f"{self.url} cannot be read: {error}") from None
            messages = answer.get("Messages", [])
            if not messages:
                return
            for message in messages:
                yield Message(message["Body"], message["ReceiptHandle"])

    def delete(self, message: Message) -> None:
        """Delete a message that was received.

        Raises:
            QueueError: it may come again.
        """
        try:
            self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message.receipt)
        except (BotoCoreError, ClientError) as error:
            raise QueueError(f"{self.url}: a message cannot be deleted: {error}") from None

    def count(self) -> int:
        """The approximate number of messages, including hidden and delayed ones.

        Raises:
            QueueError: reading the count is not allowed.
        """
        names = (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        )
        try:
            answer = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=list(names))
        except (BotoCoreError, ClientError) as error:
            raise QueueError(f"{self.url} cannot be counted: {error}") from None
        return sum(int(answer["Attributes"].get(name, 0)) for name in names)


def redrive(dead_letters: Queue, queue: Queue) -> int:
    """Send dead letters to their queue again, one by one: sent first, deleted after, so none is lost.

    A message that a crash leaves in both queues is handled twice, which every handler tolerates.

    Returns:
        How many.

    Raises:
        QueueError: some were not sent.
    """
    moved = 0
    for message in dead_letters.receive_all():
        queue.send_texts([message.body])
        dead_letters.delete(message)
        moved += 1
    return moved
