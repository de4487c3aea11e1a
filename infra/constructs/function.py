"""One deployed function: code, role, log group, settings."""

from collections.abc import Mapping, Sequence
from typing import Final

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.config import Environment
from infra.constructs.functions_network import FunctionsPlace

# https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html#configuration-vpc-permissions
_INTERFACES: Final = (
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
)

RUNTIME: Final = lambda_.Runtime.PYTHON_3_13


def log_group(
    scope: Construct, id: str, environment: Environment, name: str, key: kms.IKey | None
) -> logs.LogGroup:
    """A log group that is deleted with its stack: permanent records are in the ledger and the data bucket."""
    return logs.LogGroup(
        scope,
        id,
        log_group_name=f"/boxdrop/{environment.name}/{name}",
        retention=_retention(environment.log_retention_days),
        encryption_key=key,
        removal_policy=RemovalPolicy.DESTROY,
    )


def _retention(days: int) -> logs.RetentionDays:
    return next(each for each in logs.RetentionDays if _DAYS.get(each.name) == days)


_DAYS: Final = {
    "ONE_DAY": 1, "THREE_DAYS": 3, "FIVE_DAYS": 5, "ONE_WEEK": 7, "TWO_WEEKS": 14, "ONE_MONTH": 30,
    "TWO_MONTHS": 60, "THREE_MONTHS": 90, "FOUR_MONTHS": 120, "FIVE_MONTHS": 150, "SIX_MONTHS": 180,
    "ONE_YEAR": 365, "THIRTEEN_MONTHS": 400, "EIGHTEEN_MONTHS": 545, "TWO_YEARS": 731, "THREE_YEARS": 1096,
    "FIVE_YEARS": 1827, "SIX_YEARS": 2192, "SEVEN_YEARS": 2557, "TEN_YEARS": 3653,
}  # fmt: skip


class PipelineFunction(Construct):
    """A Lambda function with a role of its own, which may only write its log until `allow` adds permissions.

    The role has no managed policy: AWSLambdaBasicExecutionRole may write every log group of the account.

    Args:
        name: folder below `functions/`; the handler is ``functions.NAME.handler.handler``.
        code: the package, see `infra.bundling`.
        variables: environment variables, exactly those that the handler reads.
        key: for the log group and the variables at rest.
        place: the VPC's subnets in which it runs. Default: Lambda's own network.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        environment: Environment,
        code: lambda_.Code,
        variables: Mapping[str, str],
        memory_mb: int,
        timeout_s: int,
        key: kms.IKey | None,
        concurrency: int | None = None,
        dead_letter_queue_arn: str | None = None,
        place: FunctionsPlace | None = None,
    ) -> None:
        super().__init__(scope, name.title())
        self.name = name
        self.timeout_s = timeout_s
        self.log_group = log_group(self, "Log", environment, name, key)
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"boxdrop {environment.name}: permissions of {name}",
        )
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=f"{environment.prefix}-{name}",
            description=f"boxdrop {environment.name}: {name}",
            runtime=RUNTIME,
            architecture=lambda_.Architecture.X86_64,
            code=code,
            handler=f"functions.{name}.handler.handler",
            role=self.role.without_policy_updates(),
            log_group=self.log_group,
            logging_format=lambda_.LoggingFormat.JSON,
            memory_size=memory_mb,
            timeout=Duration.seconds(timeout_s),
            environment=dict(sorted(variables.items())),
            environment_encryption=key,
            reserved_concurrent_executions=concurrency,
            tracing=lambda_.Tracing.ACTIVE,
        )
        self.allow(
            "Logs", ["logs:CreateLogStream", "logs:PutLogEvents"], [f"{self.log_group.log_group_arn}:*"]
        )
        # X-Ray has no resource-level permissions.
        self.allow("Traces", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], ["*"])
        if key is not None:
            self.allow("Settings", ["kms:Decrypt"], [key.key_arn])
        function = self.function.node.default_child
        assert isinstance(function, lambda_.CfnFunction)
        if place is not None:
            self._enter(function, place)
        if dead_letter_queue_arn is not None:
            function.dead_letter_config = lambda_.CfnFunction.DeadLetterConfigProperty(
                target_arn=dead_letter_queue_arn
            )
            self.allow("DeadLetters", ["sqs:SendMessage"], [dead_letter_queue_arn])

    def _enter(self, function: lambda_.CfnFunction, place: FunctionsPlace) -> None:
        """Run in a VPC. Lambda makes network interfaces there, with permissions of the function's role."""
        function.vpc_config = lambda_.CfnFunction.VpcConfigProperty(
            subnet_ids=list(place.subnets), security_group_ids=list(place.security_groups)
        )
        self.allow("Network", _INTERFACES, ["*"])
        # Lambda refuses the function if its role may not make interfaces yet.
        self.function.node.add_dependency(self.role)

    def allow(self, sid: str, actions: Sequence[str], resources: Sequence[str]) -> None:
        """Add a statement to the role."""
        self.role.add_to_principal_policy(
            iam.PolicyStatement(sid=sid, actions=list(actions), resources=list(resources))
        )

    def read_from(
        self, queue_arn: str, *, batch: int, window_s: int = 0, concurrency: int | None = None
    ) -> None:
        """Receive messages from a queue; only failed ones are delivered again."""
        self.allow(
            f"Receive{len(self.node.children)}",
            ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"],
            [queue_arn],
        )
        mapping = lambda_.CfnEventSourceMapping(
            self,
            "Mapping",
            event_source_arn=queue_arn,
            function_name=self.function.function_name,
            batch_size=batch,
            function_response_types=["ReportBatchItemFailures"],
            maximum_batching_window_in_seconds=window_s or None,
            scaling_config=(
                lambda_.CfnEventSourceMapping.ScalingConfigProperty(maximum_concurrency=concurrency)
                if concurrency
                else None
            ),
        )
        # Lambda refuses a mapping if its function may not read the queue yet.
        mapping.node.add_dependency(self.role)

    @property
    def arn(self) -> str:
        """The function's ARN, without a dependency on the function: roles and policies may refer to it."""
        return Stack.of(self).format_arn(
            service="lambda",
            resource="function",
            resource_name=self.function.function_name,
            arn_format=None,
        )
