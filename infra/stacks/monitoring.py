"""What notifies the operator, and what the operator reads: dashboard, alarms, budget, saved queries."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from boxdrop import metrics
from boxdrop.metrics import Metric
from boxdrop.topology import SYNC_HOURS
from infra.config import Environment
from infra.constructs.budget import add_budget
from infra.constructs.long_jobs import offers
from infra.dashboard import dashboard_body
from infra.stacks.pipeline import Pipeline

RUNBOOK: Final = "https://github.com/boxdrop/boxdrop/blob/main/docs/operations.md"
"""Each alarm's description ends with a link to one of its sections."""

_MINUTE: Final = 60
_HOUR: Final = 3600
_QUARTER: Final = 15 * _MINUTE

_REPEATED: Final[Mapping[str, Any]] = {"period": _QUARTER, "periods": 4, "of": 8}
"""Errors in four of the last eight quarters of an hour. A failed message comes back after half an hour, and
the
schedule calls every quarter: three periods in a row, or more than a few at once, would never be reached. A
restart of Label Studio touches two quarters, and a hiccup on the same day a third."""


class Monitoring(Stack):
    """Dashboard, alarms, budget, saved queries.

    Attributes:
        topic: where alarms and the budget publish.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        environment: Environment,
        pipeline: Pipeline,
        **options: object,
    ) -> None:
        super().__init__(scope, id, **options)  # type: ignore[arg-type]
        self._environment = environment
        self._pipeline = pipeline
        self.topic = self._topic()
        self._dead_letter_alarms()
        self._queue_alarms()
        self._job_alarms()
        self._function_alarms()
        self._work_alarms()
        if environment.monthly_budget_usd is not None:
            add_budget(self, environment, environment.monthly_budget_usd, self.topic.topic_arn)
        self._queries()
        cloudwatch.CfnDashboard(
            self,
            "Dashboard",
            dashboard_name=environment.prefix,
            dashboard_body=self.to_json_string(
                dashboard_body(environment, self.region, pipeline_names(pipeline))
            ),
        )
        CfnOutput(
            self,
            "DashboardUrl",
            value=f"https://{self.region}.console.aws.amazon.com/cloudwatch/home?region={self.region}"
            f"#dashboards/dashboard/{environment.prefix}",
        )

    def _topic(self) -> sns.ITopic:
        alarms = self._environment.alarms
        if alarms.topic_arn:
            return sns.Topic.from_topic_arn(self, "Topic", alarms.topic_arn)
        topic = sns.Topic(self, "Topic", topic_name=f"{self._environment.prefix}-alarms", enforce_ssl=True)
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="Alarms",
                principals=[
                    iam.ServicePrincipal("cloudwatch.amazonaws.com"),
                    iam.ServicePrincipal("budgets.amazonaws.com"),
                ],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )
        if alarms.email:
            topic.add_subscription(subscriptions.EmailSubscription(alarms.email))
        return topic

    # -- alarms -----------------------------------------------------------------------------------------

    def _alarm(
        self,
        id: str,
        runbook: str,
        what: str,
        *,
        query: Mapping[str, Any] | None = None,
        expression: str | None = None,
        inputs: Mapping[str, Mapping[str, Any]] | None = None,
        above: float | None = None,
        below: float | None = None,
        period: int = 5 * _MINUTE,
        periods: int = 1,
        of: int | None = None,
    ) -> cloudwatch.CfnAlarm:
        """An alarm on one metric, or on an expression over several.

        Args:
            runbook: section of docs/operations.md.
            what: a sentence: what is wrong.
            query: namespace, metric_name, dimensions, statistic.
            expression: of metric math, or a Metrics Insights query; over `inputs`, each as `query`.
            period: seconds.
            periods: how many have to be above or below.
            of: the number of last periods to evaluate; by default as many as `periods`. Together with
                `period` at most three hours for a Metrics Insights query.
        """
        assert (above is None) != (below is None)
        options: dict[str, Any] = {}
        if query is not None:
            options = {**query, "period": period}
        else:
            options["metrics"] = [
                cloudwatch.CfnAlarm.MetricDataQueryProperty(
                    id="result",
                    expression=expression,
                    label=id,
                    return_data=True,
                    period=period if not inputs else None,
                ),
                *(
                    cloudwatch.CfnAlarm.MetricDataQueryProperty(
                        id=name,
                        return_data=False,
                        metric_stat=cloudwatch.CfnAlarm.MetricStatProperty(
                            metric=cloudwatch.CfnAlarm.MetricProperty(
                                namespace=each["namespace"],
                                metric_name=each["metric_name"],
                                dimensions=each["dimensions"],
                            ),
                            period=period,
                            stat=each["statistic"],
                        ),
                    )
                    for name, each in (inputs or {}).items()
                ),
            ]
        return cloudwatch.CfnAlarm(
            self,
            id,
            alarm_name=f"{self._environment.prefix}-{runbook}"
            + ("" if _kebab(id) == runbook else f"-{_kebab(id)}"),
            alarm_description=f"{what} What to do: {RUNBOOK}#{runbook}",
            comparison_operator=("GreaterThanThreshold" if above is not None else "LessThanThreshold"),
            threshold=above if above is not None else below,
            evaluation_periods=of or periods,
            datapoints_to_alarm=periods,
            treat_missing_data="notBreaching",
            alarm_actions=[self.topic.topic_arn],
            ok_actions=[self.topic.topic_arn],
            **options,
        )

    def _dead_letter_alarms(self) -> None:
        for name in sorted((*self._pipeline.mailboxes, *self._pipeline.dead_letters)):
            self._alarm(
                f"{name.title()}DeadLetters",
                "dead-letters",
                f"A message of {name} failed too often and moved to {name}-dlq.",
                query=_sqs(
                    f"{self._environment.prefix}-{name}-dlq", "ApproximateNumberOfMessagesVisible", "Maximum"
                ),
                above=0,
            )

    def _queue_alarms(self) -> None:
        minutes = self._environment.alarms.oldest_message_minutes
        for name in sorted(self._pipeline.mailboxes):
            # Launches wait for their window on purpose.
            extra = self._environment.batching_window_s if name == "launches" else 0
            self._alarm(
                f"{name.title()}Waits",
                "messages-wait",
                f"A message in the queue {name} has waited for more than {minutes} minutes.",
                query=_sqs(f"{self._environment.prefix}-{name}", "ApproximateAgeOfOldestMessage", "Maximum"),
                above=minutes * _MINUTE + extra,
                periods=2,
            )

    def _job_alarms(self) -> None:
        environment = self._environment
        self._alarm(
            "RunsFailed",
            "runs-fail",
            "A run died or could not be submitted; its images are wanted again.",
            expression=self._over_all(metrics.RUNS_FAILED),
            above=0,
        )
        if self._pipeline.blocked_rule is not None:
            self._alarm(
                "QueueBlocked",
                "no-instances",
                "AWS Batch cannot place a job: no instance is available, or none is large enough.",
                query={
                    "namespace": "AWS/Events",
                    "metric_name": "MatchedEvents",
                    "statistic": "Sum",
                    "dimensions": [_dimension("RuleName", f"{environment.prefix}-blockedqueue")],
                },
                above=0,
            )
        if offers(environment):
            self._alarm(
                "LongJobFailed",
                "long-job-fails",
                "A training, an export or a teaching in the account has failed.",
                query={
                    "namespace": "AWS/Events",
                    "metric_name": "MatchedEvents",
                    "statistic": "Sum",
                    "dimensions": [_dimension("RuleName", f"{environment.prefix}-failedlongjobs")],
                },
                above=0,
            )
        idle = environment.alarms.gpu_idle_minutes
        self._alarm(
            "GpuIdle",
            "gpu-idle",
            f"A GPU has been paid for and nearly idle for {idle} minutes.",
            query=(
                self._own(metrics.GPU_UTILISATION, "job", "Maximum")
                if environment.compute == "batch"
                else {
                    "namespace": "/aws/sagemaker/Endpoints",
                    "metric_name": "GPUUtilization",
                    "statistic": "Maximum",
                    "dimensions": [
                        _dimension("EndpointName", environment.prefix),
                        _dimension("VariantName", "gpu"),
                    ],
                }
            ),
            below=5,
            period=5 * _MINUTE,
            periods=max(1, idle // 5),
        )
        self._alarm(
            "CpuProvider",
            "cpu-in-use",
            "The detector ran on the CPU: fifty times slower, at a GPU's price.",
            query=self._own(metrics.CPU_PROVIDER_USED, "job", "Sum"),
            above=0,
        )

    def _function_alarms(self) -> None:
        for name in sorted(self._pipeline.functions):
            self._alarm(
                f"{name.title()}Errors",
                "functions-fail",
                f"{name} ended with an error, again and again.",
                query=_lambda(f"{self._environment.prefix}-{name}", "Errors", "Sum"),
                above=0,
                **_REPEATED,
            )

    def _work_alarms(self) -> None:
        alarms = self._environment.alarms
        self._alarm(
            "LabelStudioErrors",
            "label-studio-errors",
            "Calls to Label Studio fail.",
            expression=self._over_all(metrics.LABEL_STUDIO_ERRORS),
            above=0,
            **_REPEATED,
        )
        self._alarm(
            "WebhookRefused",
            "webhook-refused",
            "The webhook is called without its secret.",
            expression=self._over_all(metrics.WEBHOOK_REFUSED),
            above=10,
        )
        self._alarm(
            "WebhookSilent",
            "webhook-silent",
            f"Annotators made more than {alarms.missed_reviews} reviews a day that no webhook reported.",
            expression=self._over_all(metrics.REVIEWS_MISSED),
            # Each comparison finds what was missed since the one before.
            above=alarms.missed_reviews * SYNC_HOURS / 24,
            period=3 * _HOUR,
        )
        self._alarm(
            "ImagesSlow",
            "images-slow",
            f"Images take over {alarms.image_age_minutes} minutes, on average, to become tasks.",
            expression=self._over_all(metrics.END_TO_END, "AVG"),
            above=alarms.image_age_minutes * _MINUTE,
            period=_QUARTER,
            periods=2,
            of=4,
        )
        self._alarm(
            "OldestImage",
            "oldest-image",
            f"An image has waited for its boxes for more than {alarms.oldest_image_minutes} minutes.",
            query=self._own(metrics.OLDEST_IMAGE, "reconcile", "Maximum"),
            above=alarms.oldest_image_minutes * _MINUTE,
            period=_QUARTER,
            periods=2,
        )

    def _over_all(self, metric: Metric, how: str = "SUM") -> str:
        """Return the query over all projects and services: an alarm takes Metrics Insights, but no search."""
        return f"SELECT {how}({metric.name}) FROM {_schema(self._environment, metric)}"  # noqa: S608

    def _own(self, metric: Metric, service: str, statistic: str) -> dict[str, Any]:
        assert metric.dimensions == ()
        return {
            "namespace": self._environment.prefix,
            "metric_name": metric.name,
            "statistic": statistic,
            "dimensions": [_dimension("service", service)],
        }

    # -- queries ---------------------------------------------------------------------------------------

    def _queries(self) -> None:
        prefix = f"/boxdrop/{self._environment.name}/"
        names = [*self._pipeline.functions, "job"]
        for name, query in QUERIES.items():
            logs.CfnQueryDefinition(
                self,
                "".join(word.title() for word in name.split()),
                name=f"{self._environment.prefix}/{name}",
                log_group_names=[f"{prefix}{each}" for each in names],
                query_string=query,
            )


QUERIES: Final = {
    "what happened to this image": (
        "fields @timestamp, service, message, run_id, reason\n| filter image_id = 'IMAGE_ID' or key = "
        "'KEY'\n| sort @timestamp asc\n| limit 200"
    ),
    "what happened in this run": (
        "fields @timestamp, service, message, image_id, reason\n| filter run_id = 'RUN_ID'\n| sort "
        "@timestamp asc\n| limit 1000"
    ),
    "why images fail": (
        "filter ispresent(reason)\n| stats count(*) as images by reason, project\n"
        "| sort images desc\n| limit 50"
    ),
    "errors": (
        "filter level = 'ERROR'\n| fields @timestamp, service, message\n| sort @timestamp desc\n| limit 100"
    ),
    "slow calls": (
        "filter type = 'platform.report'\n| stats count(*) as calls, avg(record.metrics.durationMs) as "
        "mean, pct(record.metrics.durationMs, 95) as p95, max(record.metrics.maxMemoryUsedMB) as memory by "
        "@log\n| sort p95 desc"
    ),
}
"""Saved in CloudWatch Logs Insights: replace the words in capitals."""


def pipeline_names(pipeline: Pipeline) -> dict[str, Sequence[str]]:
    """Return the names that the dashboard needs."""
    return {
        "queues": [box.name for box in pipeline.mailboxes.values()],
        "dead_letters": [*pipeline.mailboxes, *pipeline.dead_letters],
        "functions": list(pipeline.functions),
    }


def _kebab(id: str) -> str:
    return "".join(f"-{each.lower()}" if each.isupper() else each for each in id).lstrip("-")


def _schema(environment: Environment, metric: Metric) -> str:
    # All of them quoted: a name with a hyphen must be, and so must one that is a reserved word.
    names = ", ".join(f'"{name}"' for name in (environment.prefix, "service", *metric.dimensions))
    return f"SCHEMA({names})"


def _dimension(name: str, value: str) -> Any:
    return cloudwatch.CfnAlarm.DimensionProperty(name=name, value=value)


def _sqs(queue: str, metric: str, statistic: str) -> dict[str, Any]:
    return {
        "namespace": "AWS/SQS",
        "metric_name": metric,
        "statistic": statistic,
        "dimensions": [_dimension("QueueName", queue)],
    }


def _lambda(function: str, metric: str, statistic: str) -> dict[str, Any]:
    return {
        "namespace": "AWS/Lambda",
        "metric_name": metric,
        "statistic": statistic,
        "dimensions": [_dimension("FunctionName", function)],
    }
