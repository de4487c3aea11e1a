"""The pipeline: queues, functions, rules, the webhook's API, the system's description.

It is long because each is declared once, in the order in which messages meet them.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from boxdrop.store.layout import (
    ANNOTATIONS,
    BOXES,
    BUNDLES,
    LABEL_SETS,
    LESSONS,
    ORDERS,
    PREDICTIONS,
    REVIEWS,
    RUNS,
    SAGEMAKER,
    TRACKED,
    ZENML,
)
from boxdrop.store.orders import JOB_NAME
from boxdrop.system import System, parameter_name
from boxdrop.topology import (
    FUNCTIONS,
    LEASE_S,
    OPTIONAL,
    READERS,
    RECONCILE_MINUTES,
    SYNC_HOURS,
    TRACK_HOURS,
    Function,
    Package,
    concurrencies,
    event_patterns,
)
from infra.config import Environment
from infra.constructs.batch import definition_arns, queue_arn
from infra.constructs.endpoint import endpoint_arn, topic_arn
from infra.constructs.function import PipelineFunction
from infra.constructs.functions_network import make_functions_place
from infra.constructs.long_jobs import offers
from infra.constructs.queues import Mailbox, admit, dead_letter_queue
from infra.constructs.webhook import connect, make_api, webhook_url
from infra.stacks.data import Data, use_keys

CALLED_DIRECTLY: Final = ("reconcile", "track")

CALL_SERVERS: Final = ("publish", "collect", "track")
"""Functions that call Label Studio or ZenML, which may be in a VPC."""

_TABLE_READS: Final = ("dynamodb:GetItem", "dynamodb:BatchGetItem")
_TABLE_WRITES: Final = ("dynamodb:PutItem",)

MakeCode = Callable[[Package], lambda_.Code]


class Pipeline(Stack):
    """Queues, functions and rules. It has no data, and may be destroyed and deployed again at any time.

    Attributes:
        mailboxes: queues with their dead-letter queues, by name.
        dead_letters: dead-letter queues of functions that are called without a queue.
        functions: by name.
        api: the webhook's.
        blocked_rule: matches when Batch cannot place a job.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        environment: Environment,
        data: Data,
        make_code: MakeCode,
        **options: object,
    ) -> None:
        super().__init__(scope, id, **options)  # type: ignore[arg-type]
        self._environment = environment
        self._data = data
        self._make_code = make_code
        self._codes: dict[Package, lambda_.Code] = {}
        tracked = environment.zenml_url is not None
        self.mailboxes = {
            name: Mailbox(self, environment.prefix, name)
            for name, reader in READERS.items()
            if tracked or reader.name not in OPTIONAL
        }
        self.dead_letters = {"reconcile": dead_letter_queue(self, environment.prefix, "reconcile")}
        self.api = make_api(self, environment)
        self._place = make_functions_place(self, environment)
        self.functions = {
            name: self._function(each) for name, each in FUNCTIONS.items() if tracked or name not in OPTIONAL
        }
        connect(self, self.api, self.functions["webhook"].function.function_arn, environment, data.key)
        calls = concurrencies([*self.mailboxes], environment.lambda_concurrency)
        for name, mailbox in self.mailboxes.items():
            reader = READERS[name]
            self.functions[reader.name].read_from(
                mailbox.queue.queue_arn,
                batch=reader.batch,
                window_s=int(reader.window_s),
                concurrency=calls[name],
            )
        self._permissions()
        self._object_rules()
        self._reconcile_rules()
        self._describe()

    # -- functions --------------------------------------------------------------------------------------

    def _function(self, spec: Function) -> PipelineFunction:
        variables = {
            "POWERTOOLS_METRICS_NAMESPACE": self._environment.prefix,
            "POWERTOOLS_LOG_LEVEL": "INFO",
        }
        known = self._variables()
        variables |= {name: known[name] for name in spec.reads if name in known}
        if spec.package not in self._codes:
            self._codes[spec.package] = self._make_code(spec.package)
        return PipelineFunction(
            self,
            spec.name,
            environment=self._environment,
            code=self._codes[spec.package],
            variables=variables,
            memory_mb=spec.memory_mb,
            timeout_s=spec.timeout_s,
            key=self._data.key,
            place=self._place if spec.name in CALL_SERVERS else None,
            dead_letter_queue_arn=(
                self._dead_letters_of(spec.name).queue_arn if spec.name in CALLED_DIRECTLY else None
            ),
        )

    def _variables(self) -> Mapping[str, str]:
        """All environment variables of functions, see `functions/environment.py`."""
        environment, data = self._environment, self._data
        known = {
            "BOXDROP_TABLE": data.table.table_name,
            "BOXDROP_IMAGE_BUCKET": data.images.bucket_name,
            "BOXDROP_DATA_BUCKET": data.data.bucket_name,
            "BOXDROP_WINDOW_S": str(environment.batching_window_s),
            "BOXDROP_RUN_IMAGES": str(environment.run_images),
            "BOXDROP_SHARD_IMAGES": str(environment.shard_images),
            "BOXDROP_APPLY_LIMIT": str(environment.apply_limit),
            "BOXDROP_LAUNCHER": environment.compute,
            "BOXDROP_LEASE_S": f"{LEASE_S:g}",
            "BOXDROP_JOB_TIMEOUT_S": str(environment.job_timeout_s),
            "LABEL_STUDIO_URL": environment.label_studio_url,
            "BOXDROP_LABEL_STUDIO_SECRET": data.label_studio_secret.id,
            "BOXDROP_WEBHOOK_SECRET_ID": data.webhook_secret.id,
            "BOXDROP_WEBHOOK_URL": webhook_url(self, self.api),
        }
        for name, mailbox in self.mailboxes.items():
            known[f"BOXDROP_{name.upper()}_QUEUE"] = mailbox.queue.queue_url
        if environment.compute == "batch":
            known["BOXDROP_JOB_QUEUE"] = known["BOXDROP_JOB_DEFINITION"] = environment.prefix
        else:
            known["BOXDROP_ENDPOINT"] = environment.prefix
        if teaching := offers(environment).get("teach"):
            known["BOXDROP_TEACHING"] = json.dumps(teaching)
        if data.zenml_secret is not None and environment.zenml_url:
            known["ZENML_STORE_URL"] = environment.zenml_url
            known["BOXDROP_ZENML_SECRET"] = data.zenml_secret.id
        return known

    def _permissions(self) -> None:
        """Each function's permissions, in addition to its log and its queue."""
        data, queues = self._data, self.mailboxes
        table, index = data.table.table_arn, f"{data.table.table_arn}/index/*"
        images = data.images.arn_for_objects("*")

        def objects(*prefixes: str) -> list[str]:
            return [data.data.arn_for_objects(f"{prefix}*") for prefix in prefixes]

        for name, function in self.functions.items():
            if name == "webhook":
                continue
            function.allow("ReadLedger", _TABLE_READS, [table])
            if name != "dispatch":  # which knows the keys of what it writes
                function.allow("ListLedger", ["dynamodb:Query"], [index])
            if name != "track":
                function.allow("WriteLedger", _TABLE_WRITES, [table])
            use_keys(function.role, data)

        dispatch = self.functions["dispatch"]
        # Reads labels.yaml, and images whose events have no order; a 404 needs permission on the bucket.
        dispatch.allow("LookAtImages", ["s3:GetObject"], [images])
        dispatch.allow("ListImages", ["s3:ListBucket"], [data.images.bucket_arn])
        dispatch.allow("WriteData", ["s3:PutObject"], objects(LABEL_SETS))
        dispatch.allow(
            "Send", ["sqs:SendMessage"], [queues[name].queue.queue_arn for name in ("launches", "reviews")]
        )

        launch = self.functions["launch"]
        launch.allow("ListRuns", ["dynamodb:Query"], [table])
        launch.allow("ListData", ["s3:ListBucket"], [data.data.bucket_arn])
        launch.allow(
            "ReadData", ["s3:GetObject"], objects(BOXES, BUNDLES, LABEL_SETS, LESSONS, REVIEWS, RUNS)
        )
        # Labels of a canary, which has no lesson. Parts of images that were dropped with boxes: launch writes
        # them itself.
        launch.allow("WriteData", ["s3:PutObject"], objects(LABEL_SETS, PREDICTIONS, RUNS))
        launch.allow(
            "Send", ["sqs:SendMessage"], [queues[name].queue.queue_arn for name in ("launches", "parts")]
        )
        self._let_submit(launch)

        publish = self.functions["publish"]
        # Credits: a project's sources.jsonl and, if there is one, the metadata of its images.
        publish.allow("ReadCredits", ["s3:GetObject"], [images])
        publish.allow("ListBuckets", ["s3:ListBucket"], [data.images.bucket_arn, data.data.bucket_arn])
        # Boxes that were dropped as verified are submitted, unless a person has worked on the image before.
        # Of a canary's run, it reads the threshold in its bundle.
        publish.allow(
            "ReadData",
            ["s3:GetObject"],
            objects(ANNOTATIONS, BOXES, BUNDLES, PREDICTIONS, LABEL_SETS, REVIEWS, RUNS),
        )
        publish.allow(
            "Secrets",
            ["secretsmanager:GetSecretValue"],
            [data.label_studio_secret.arn, data.webhook_secret.arn],
        )

        publish.allow("PutOff", ["sqs:SendMessage"], [queues["parts"].queue.queue_arn])

        webhook = self.functions["webhook"]
        webhook.allow("Secrets", ["secretsmanager:GetSecretValue"], [data.webhook_secret.arn])
        webhook.allow("Send", ["sqs:SendMessage"], [queues["reviews"].queue.queue_arn])

        collect = self.functions["collect"]
        collect.allow("ListData", ["s3:ListBucket"], [data.data.bucket_arn])
        collect.allow("ReadData", ["s3:GetObject"], objects(ANNOTATIONS, LABEL_SETS, REVIEWS))
        collect.allow("WriteData", ["s3:PutObject"], objects(ANNOTATIONS, REVIEWS))
        collect.allow("GoOn", ["sqs:SendMessage"], [queues["reviews"].queue.queue_arn])
        collect.allow("Secrets", ["secretsmanager:GetSecretValue"], [data.label_studio_secret.arn])

        reconcile = self.functions["reconcile"]
        reconcile.allow("LookAtImages", ["s3:GetObject"], [images])
        reconcile.allow("ListBuckets", ["s3:ListBucket"], [data.images.bucket_arn, data.data.bucket_arn])
        reconcile.allow(
            "ReadData", ["s3:GetObject"], objects(BUNDLES, LABEL_SETS, LESSONS, PREDICTIONS, RUNS)
        )
        reconcile.allow(
            "Send",
            ["sqs:SendMessage"],
            [queues[name].queue.queue_arn for name in ("launches", "parts", "reviews")],
        )
        if self._environment.compute == "sagemaker":
            reconcile.allow("ReadAnswers", ["s3:GetObject"], objects(SAGEMAKER))
        if self._environment.compute == "batch" or "teach" in offers(self._environment):
            # has no resource-level permissions
            reconcile.allow("AskAboutJobs", ["batch:DescribeJobs"], ["*"])
        self._let_teach(reconcile)

        if "track" in self.functions and data.zenml_secret is not None:
            track = self.functions["track"]
            track.allow("ListData", ["s3:ListBucket"], [data.data.bucket_arn])
            track.allow("ReadData", ["s3:GetObject"], objects(RUNS, LABEL_SETS, LESSONS, TRACKED, ZENML))
            track.allow("WriteData", ["s3:PutObject"], objects(TRACKED, ZENML))
            # Thumbnails of samples, from the exact version that the boxes belong to.
            track.allow("ReadImages", ["s3:GetObject", "s3:GetObjectVersion"], [images])
            track.allow("Secrets", ["secretsmanager:GetSecretValue"], [data.zenml_secret.arn])

    def _let_teach(self, reconcile: PipelineFunction) -> None:
        """Projects that say `teach: auto` are taught by orders, which reconcile places."""
        teaching = offers(self._environment).get("teach")
        if teaching is None:
            return
        orders, reviews = (self._data.data.arn_for_objects(f"{each}*") for each in (ORDERS, REVIEWS))
        reconcile.allow("ReadTeaching", ["s3:GetObject"], [orders, reviews])
        reconcile.allow("WriteOrders", ["s3:PutObject"], [orders])
        self._let_submit_jobs(reconcile, teaching["queue"], teaching["definition"])

    def _let_submit(self, launch: PipelineFunction) -> None:
        environment = self._environment
        if environment.compute == "sagemaker":
            launch.allow("Submit", ["sagemaker:InvokeEndpointAsync"], [endpoint_arn(self, environment)])
            return
        self._let_submit_jobs(launch, environment.prefix, environment.prefix)

    def _let_submit_jobs(self, function: PipelineFunction, queue: str, definition: str) -> None:
        jobs = [queue_arn(self, queue), *definition_arns(self, definition)]
        function.allow("Submit", ["batch:SubmitJob"], jobs)
        # A job is submitted with its run's or order's id as a tag, before Batch assigns the job's id.
        function.allow(
            "TagJob",
            ["batch:TagResource"],
            [self.format_arn(service="batch", resource="job", resource_name="*")],
        )
        # These have no resource-level permissions.
        function.allow("FindJobs", ["batch:ListJobs"], ["*"])

    # -- rules ----------------------------------------------------------------------------------------

    def _object_rules(self) -> None:
        """Rules that send the buckets' object events to queues."""
        patterns = event_patterns(
            self._data.images.bucket_name, self._data.data.bucket_name, self._environment.upload_patterns
        )
        for id, queue, what in (
            ("Uploads", "uploads", "images that were created, overwritten or deleted"),
            ("Parts", "parts", "parts of predictions, and the ends of their runs"),
            ("Summaries", "track", "summaries of finished runs"),
        ):
            if queue in self.mailboxes:
                self._queue_rule(id, queue, what, patterns[queue])

    def _queue_rule(self, id: str, queue: str, what: str, pattern: Mapping[str, Any]) -> None:
        mailbox = self.mailboxes[queue]
        rule = events.CfnRule(
            self,
            f"{id}Rule",
            name=f"{self._environment.prefix}-{queue}",
            description=f"boxdrop: {what}",
            event_pattern=dict(pattern),
            targets=[
                events.CfnRule.TargetProperty(
                    id=queue,
                    arn=mailbox.queue.queue_arn,
                    # Undelivered messages end in the same dead-letter queue as failed ones.
                    dead_letter_config=events.CfnRule.DeadLetterConfigProperty(
                        arn=mailbox.dead_letters.queue_arn
                    ),
                )
            ],
        )
        mailbox.admit(rule.attr_arn)

    def _reconcile_rules(self) -> None:
        """Rules for failures, and schedules for losses without an event."""
        environment = self._environment
        rules: dict[str, dict[str, Any]] = {
            "Schedule": {
                "description": "boxdrop: find lost runs and images",
                "schedule_expression": f"rate({RECONCILE_MINUTES} minutes)",
            },
            "Sync": {
                "description": "boxdrop: compare Label Studio with the ledger",
                "schedule_expression": f"rate({SYNC_HOURS} hours)",
            },
        }
        if environment.compute == "batch":
            rules["FailedJobs"] = {
                "description": "boxdrop: jobs that failed",
                "event_pattern": {
                    "source": ["aws.batch"],
                    "detail-type": ["Batch Job State Change"],
                    "detail": {"jobQueue": [queue_arn(self, environment.prefix)], "status": ["FAILED"]},
                },
            }
            rules["BlockedQueue"] = {
                "description": "boxdrop: no instance is available for the job at the head of the queue",
                "event_pattern": {
                    "source": ["aws.batch"],
                    "detail-type": ["Batch Job Queue Blocked"],
                    "detail": {"jobQueue": [queue_arn(self, environment.prefix)]},
                },
            }
        if found := offers(environment):
            queues = sorted({each["queue"] for each in found.values()})
            rules["FailedLongJobs"] = {
                "description": "boxdrop: trainings, exports and teachings that failed",
                "event_pattern": {
                    "source": ["aws.batch"],
                    "detail-type": ["Batch Job State Change"],
                    "detail": {
                        "jobQueue": [queue_arn(self, each) for each in queues],
                        "jobName": [{"prefix": f"{JOB_NAME}{kind}-"} for kind in found],
                        "status": ["FAILED"],
                    },
                },
            }
        if "track" in self.functions:
            rules["TrackWaiting"] = {
                "description": "boxdrop: runs that wait for ZenML",
                "schedule_expression": f"rate({TRACK_HOURS} hour)",
            }
        self.blocked_rule: events.CfnRule | None = None
        for id, options in rules.items():
            name = "track" if id == "TrackWaiting" else "reconcile"
            called, dead_letters = self.functions[name], self._dead_letters_of(name)
            rule = events.CfnRule(
                self,
                f"{id}Rule",
                name=f"{environment.prefix}-{id.lower()}",
                targets=[
                    events.CfnRule.TargetProperty(
                        id=name,
                        arn=called.function.function_arn,
                        input=json.dumps({"source": "aws.events", "sync": True}) if id == "Sync" else None,
                        dead_letter_config=events.CfnRule.DeadLetterConfigProperty(
                            arn=dead_letters.queue_arn
                        ),
                    )
                ],
                **options,
            )
            lambda_.CfnPermission(
                self,
                f"{id}MayCall",
                action="lambda:InvokeFunction",
                function_name=called.function.function_arn,
                principal="events.amazonaws.com",
                source_arn=rule.attr_arn,
            )
            admit(dead_letters, [rule.attr_arn])
            if id == "BlockedQueue":
                self.blocked_rule = rule
        if environment.compute == "sagemaker":
            self._hear_of_failed_shards()

    def _dead_letters_of(self, function: str) -> sqs.Queue:
        """The dead-letter queue for failed calls that did not come from a function's queue."""
        return self.dead_letters.get(function) or self.mailboxes[function].dead_letters

    def _hear_of_failed_shards(self) -> None:
        """SageMaker reports failed invocations to a topic of the compute stack."""
        reconcile, dead_letters = self.functions["reconcile"], self.dead_letters["reconcile"]
        topic = topic_arn(self, self._environment)
        sns.CfnSubscription(
            self,
            "FailedShards",
            topic_arn=topic,
            protocol="lambda",
            endpoint=reconcile.function.function_arn,
            redrive_policy={"deadLetterTargetArn": dead_letters.queue_arn},
        )
        lambda_.CfnPermission(
            self,
            "FailedShardsMayCall",
            action="lambda:InvokeFunction",
            function_name=reconcile.function.function_arn,
            principal="sns.amazonaws.com",
            source_arn=topic,
        )
        dead_letters.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("sns.amazonaws.com")],
                actions=["sqs:SendMessage"],
                resources=[dead_letters.queue_arn],
                conditions={"ArnEquals": {"aws:SourceArn": topic}},
            )
        )

    # -- the description ------------------------------------------------------------------------------

    def _describe(self) -> None:
        """The description that `boxdrop --system NAME` reads."""
        environment, data = self._environment, self._data
        queues = {name: box.queue.queue_url for name, box in self.mailboxes.items()}
        queues |= {f"{name}-dlq": box.dead_letters.queue_url for name, box in self.mailboxes.items()}
        queues |= {f"{name}-dlq": queue.queue_url for name, queue in self.dead_letters.items()}
        system = System(
            name=environment.name,
            region=self.region,
            table=data.table.table_name,
            image_bucket=data.images.bucket_name,
            data_bucket=data.data.bucket_name,
            queues=queues,
            launcher=environment.compute,
            window_s=environment.batching_window_s,
            label_studio_url=environment.label_studio_url,
            label_studio_secret=data.label_studio_secret.id,
            jobs=offers(environment),
        )
        description = json.loads(system.to_json()) | {
            "webhook_url": webhook_url(self, self.api),
            "webhook_secret": data.webhook_secret.id,
            "presign_user": None if environment.label_studio_role_arn else f"{environment.prefix}-presign",
            "compute_name": environment.prefix,
        }
        ssm.CfnParameter(
            self,
            "System",
            name=parameter_name(environment.name),
            type="String",
            description="The description that `boxdrop --system` reads",
            value=self.to_json_string(description),
        )
        CfnOutput(
            self,
            "WebhookUrl",
            description="boxdrop sets it up in Label Studio by itself",
            value=webhook_url(self, self.api),
        )
        CfnOutput(
            self,
            "NextStep",
            description="Check what is still missing",
            value=f"boxdrop doctor --system {environment.name}",
        )
