"""Queues that lose no message: each has a dead-letter queue."""

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from boxdrop.topology import delivery


def dead_letter_queue(scope: Construct, prefix: str, name: str) -> sqs.Queue:
    """A dead-letter queue; it keeps messages for 14 days, SQS's maximum."""
    return sqs.Queue(
        scope,
        f"{name.title()}DeadLetters",
        queue_name=f"{prefix}-{name}-dlq",
        retention_period=Duration.days(14),
        encryption=sqs.QueueEncryption.SQS_MANAGED,
        enforce_ssl=True,
    )


class Mailbox(Construct):
    """A queue, its dead-letter queue, and its function's timeout.

    Messages contain ids and S3 events, nothing confidential. So SQS's own encryption suffices, and the
    sending services need no key.

    Args:
        name: of the queue; the dead-letter queue is NAME-dlq.
    """

    def __init__(self, scope: Construct, prefix: str, name: str) -> None:
        super().__init__(scope, f"{name.title()}Mailbox")
        self.name = name
        spec = delivery(name)
        self.dead_letters = dead_letter_queue(self, prefix, name)
        self.queue = sqs.Queue(
            self,
            f"{name.title()}Queue",
            queue_name=f"{prefix}-{name}",
            visibility_timeout=Duration.seconds(spec.visibility_s),
            retention_period=Duration.days(14),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            dead_letter_queue=sqs.DeadLetterQueue(max_receive_count=spec.receives, queue=self.dead_letters),
        )

    def admit(self, *rules: str) -> None:
        """Let EventBridge rules, by their ARNs, send messages to the queue and its dead-letter queue."""
        for queue in (self.queue, self.dead_letters):
            admit(queue, rules)


def admit(queue: sqs.Queue, rules: Sequence[str]) -> None:
    """Let EventBridge rules, by their ARNs, send messages to a queue."""
    queue.add_to_resource_policy(
        iam.PolicyStatement(
            principals=[iam.ServicePrincipal("events.amazonaws.com")],
            actions=["sqs:SendMessage"],
            resources=[queue.queue_arn],
            conditions={"ArnEquals": {"aws:SourceArn": list(rules)}},
        )
    )
