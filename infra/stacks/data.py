"""Persistent resources: buckets, table, secrets, and the user who signs image URLs for annotators'
browsers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aws_cdk import ArnFormat, CfnDeletionPolicy, CfnOutput, CustomResource, Duration, RemovalPolicy, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from boxdrop.ledger import TABLE
from boxdrop.store.layout import (
    ANNOTATIONS,
    BOXES,
    BUNDLES,
    DATASETS,
    DISPLAY,
    LABEL_SETS,
    LESSONS,
    ORDERS,
    PLACES,
    PREDICTIONS,
    REVIEWS,
    RUNS,
    SAGEMAKER,
    TRACKED,
    TRAININGS,
    ZENML,
)
from infra.config import Environment
from infra.constructs.function import RUNTIME, log_group

OLD_VERSIONS: Final = {
    ANNOTATIONS: 365,
    REVIEWS: 365,
    DATASETS: 365,
    LESSONS: 365,
    PLACES: 365,
    BOXES: 90,
    BUNDLES: 90,
    LABEL_SETS: 90,
    DISPLAY: 7,
    PREDICTIONS: 7,
    RUNS: 7,
    TRACKED: 7,
    ZENML: 7,
    TRAININGS: 1,  # checkpoints, which are large and often replaced
    ORDERS: 1,  # meters, which are replaced twice a minute
}
"""Days that a replaced or deleted object of the data bucket can be brought back."""

_NOTIFICATIONS: Final = Path(__file__).parents[1] / "constructs" / "bucket_notifications.py"


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of this deployment, or one that an earlier deployment left.

    Attributes:
        id: what `GetSecretValue` takes: ARN or name.
        arn: for policies, maybe with ``?`` for the characters that Secrets Manager adds to a name.
    """

    id: str
    arn: str


class Data(Stack):
    """Buckets, table, secrets. Deploying other stacks does not touch them.

    Attributes:
        images, data: the buckets.
        table: the ledger.
        label_studio_secret: Label Studio's token; created empty.
        webhook_secret: the webhook's header; created with a random value.
        zenml_secret: key of ZenML's service account; created empty, if runs are tracked.
        key: the user's KMS key, for all of this and for logs.
    """

    def __init__(self, scope: Construct, id: str, *, environment: Environment, **options: object) -> None:
        super().__init__(scope, id, **options)  # type: ignore[arg-type]
        self._environment = environment
        self.key: kms.IKey | None = None
        if environment.kms_key_arn:
            self.key = kms.Key.from_key_arn(self, "Key", environment.kms_key_arn)
        self._retain = environment.removal_policy == "retain"
        self._adopt = environment.adopt
        self._access_logs: s3.IBucket | None = None
        if environment.access_log_bucket:
            self._access_logs = s3.Bucket.from_bucket_name(self, "AccessLogs", environment.access_log_bucket)
        self.images = self._image_bucket()
        self.data = self._bucket(
            "DataBucket",
            name=self._adopt.data_bucket if self._adopt else None,
            lifecycle=_data_lifecycle(),
            cors=[self._annotators()],
        )
        _send_events(self.data)
        self.table = self._table()
        self.label_studio_secret = self._secret(
            "LabelStudioSecret", "label-studio", "Label Studio's access token"
        )
        self.webhook_secret = self._secret(
            "WebhookSecret", "webhook", "header that Label Studio's webhook sends", random=True
        )
        self.zenml_secret = (
            self._secret("ZenmlSecret", "zenml", "API key of ZenML's service account")
            if environment.zenml_url
            else None
        )
        self.image_key_arn = environment.image_bucket_key_arn or environment.kms_key_arn
        self._let_label_studio_read()
        self._outputs()

    def _bucket(
        self,
        id: str,
        *,
        name: str | None,
        lifecycle: list[s3.LifecycleRule],
        cors: list[s3.CorsRule] | None = None,
    ) -> s3.Bucket:
        return s3.Bucket(
            self,
            id,
            bucket_name=name,
            encryption=s3.BucketEncryption.KMS if self.key else s3.BucketEncryption.S3_MANAGED,
            encryption_key=self.key,
            bucket_key_enabled=True if self.key else None,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            lifecycle_rules=lifecycle,
            cors=cors,
            # A bucket of a first deployment that fails goes with it: it is empty.
            removal_policy=(
                RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if self._retain else RemovalPolicy.DESTROY
            ),
            server_access_logs_bucket=self._access_logs,
            server_access_logs_prefix=f"{id}/" if self._access_logs else None,
        )

    def _image_bucket(self) -> s3.IBucket:
        environment = self._environment
        if environment.image_bucket:
            bucket = s3.Bucket.from_bucket_name(self, "ImageBucket", environment.image_bucket)
            self._turn_on_events(environment.image_bucket)
            return bucket
        made = self._bucket(
            "ImageBucket",
            name=self._adopt.image_bucket if self._adopt else None,
            lifecycle=[
                s3.LifecycleRule(
                    id="old-versions",
                    noncurrent_version_expiration=Duration.days(30),
                    abort_incomplete_multipart_upload_after=Duration.days(7),
                    expired_object_delete_marker=True,
                )
            ],
            cors=[self._annotators()],
        )
        _send_events(made)
        return made

    def _annotators(self) -> s3.CorsRule:
        """Let the browsers of annotators load what Label Studio signs: images, and display copies."""
        return s3.CorsRule(
            id="annotators",
            allowed_methods=[s3.HttpMethods.GET, s3.HttpMethods.HEAD],
            allowed_origins=list(self._environment.origins),
            allowed_headers=["*"],
            max_age=3600,
        )

    def _turn_on_events(self, name: str) -> None:
        """Turn on EventBridge for the user's bucket. CloudFormation cannot change a bucket that it did not
        create, and S3 has one document for all notifications of a bucket, so a small function adds to it."""
        environment = self._environment
        role = iam.Role(
            self,
            "NotificationsRole",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"boxdrop {environment.name}: add EventBridge to the notifications of {name}",
        )
        logs = log_group(self, "NotificationsLog", environment, "bucket-notifications", self.key)
        statements = {
            "Logs": (["logs:CreateLogStream", "logs:PutLogEvents"], f"{logs.log_group_arn}:*"),
            "Notifications": (
                ["s3:GetBucketLocation", "s3:GetBucketNotification", "s3:PutBucketNotification"],
                self.format_arn(service="s3", region="", account="", resource=name),
            ),
        }
        for sid, (actions, resource) in statements.items():
            role.add_to_policy(iam.PolicyStatement(sid=sid, actions=actions, resources=[resource]))
        function = lambda_.Function(
            self,
            "Notifications",
            description="Adds EventBridge to a bucket's notifications and leaves the others unchanged.",
            runtime=RUNTIME,
            code=lambda_.Code.from_inline(_NOTIFICATIONS.read_text(encoding="utf-8")),
            handler="index.handler",
            role=role.without_policy_updates(),
            log_group=logs,
            timeout=Duration.seconds(60),
        )
        function.node.add_dependency(role)
        CustomResource(
            self,
            "ImageBucketEvents",
            service_token=function.function_arn,
            resource_type="Custom::BucketEvents",
            properties={"Bucket": name},
        )

    def _table(self) -> dynamodb.Table:
        text = dynamodb.AttributeType.STRING
        table = dynamodb.Table(
            self,
            "Ledger",
            table_name=self._adopt.table if self._adopt else None,
            partition_key=dynamodb.Attribute(name=TABLE.partition_key, type=text),
            sort_key=dynamodb.Attribute(name=TABLE.sort_key, type=text),
            billing_mode=dynamodb.BillingMode(TABLE.billing_mode),
            time_to_live_attribute=TABLE.ttl_attribute,
            encryption=(
                dynamodb.TableEncryption.CUSTOMER_MANAGED if self.key else dynamodb.TableEncryption.DEFAULT
            ),
            encryption_key=self.key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            # Protected from deletion, it cannot go with a first deployment that fails: the empty table stays,
            # costs nothing, and its generated name is in nobody's way.
            deletion_protection=self._retain,
            removal_policy=RemovalPolicy.RETAIN if self._retain else RemovalPolicy.DESTROY,
        )
        table.add_global_secondary_index(
            index_name=TABLE.index,
            partition_key=dynamodb.Attribute(name=TABLE.index_partition_key, type=text),
            sort_key=dynamodb.Attribute(name=TABLE.index_sort_key, type=text),
            projection_type=dynamodb.ProjectionType(TABLE.projection),
        )
        return table

    def _secret(self, id: str, name: str, what: str, *, random: bool = False) -> Secret:
        """A secret without a value, which CDK's own construct would fill, or with a random one."""
        full_name = f"{self._environment.prefix}/{name}"
        if self._adopt:  # CloudFormation cannot import a secret by its name
            arn = self.format_arn(
                service="secretsmanager",
                resource="secret",
                resource_name=f"{full_name}-??????",
                arn_format=ArnFormat.COLON_RESOURCE_NAME,
            )
            return Secret(full_name, arn)
        secret = secretsmanager.CfnSecret(
            self,
            id,
            name=full_name,
            description=f"boxdrop {self._environment.name}: {what}",
            kms_key_id=self.key.key_arn if self.key else None,
        )
        if random:
            secret.generate_secret_string = secretsmanager.CfnSecret.GenerateSecretStringProperty(
                secret_string_template=json.dumps({}),
                generate_string_key="current",
                exclude_punctuation=True,
                password_length=48,
            )
        options = secret.cfn_options
        # The secrets of a first deployment that fails go with it: their names would be in the way of the
        # next.
        options.deletion_policy = (
            CfnDeletionPolicy.RETAIN_EXCEPT_ON_CREATE if self._retain else CfnDeletionPolicy.DELETE
        )
        options.update_replace_policy = CfnDeletionPolicy.RETAIN if self._retain else CfnDeletionPolicy.DELETE
        return Secret(secret.ref, secret.ref)

    def _let_label_studio_read(self) -> None:
        """Label Studio signs a URL for each image that a browser loads, with credentials that may only read
        images."""
        environment = self._environment
        statements = [
            iam.PolicyStatement(
                sid="Images", actions=["s3:GetObject"], resources=[self.images.arn_for_objects("*")]
            ),
            iam.PolicyStatement(
                sid="Copies",
                actions=["s3:GetObject"],
                resources=[self.data.arn_for_objects(f"{DISPLAY}*")],
            ),
            # Label Studio looks whether the bucket, or something below a prefix, is there before it keeps the
            # connection.
            iam.PolicyStatement(sid="Bucket", actions=["s3:ListBucket"], resources=[self.images.bucket_arn]),
            iam.PolicyStatement(
                sid="ListCopies",
                actions=["s3:ListBucket"],
                resources=[self.data.bucket_arn],
                conditions={"StringLike": {"s3:prefix": f"{DISPLAY}*"}},
            ),
        ]
        keys = sorted({each for each in (self.image_key_arn, self.key and self.key.key_arn) if each})
        if keys:
            statements.append(iam.PolicyStatement(sid="Key", actions=["kms:Decrypt"], resources=keys))
        if environment.label_studio_role_arn:
            role = iam.Role.from_role_arn(self, "LabelStudioRole", environment.label_studio_role_arn)
            policy = iam.Policy(self, "LabelStudioReads", statements=statements, roles=[role])
        else:
            self.presign_user = iam.CfnUser(
                self,
                "Presign",
                user_name=f"{environment.prefix}-presign",
            )
            user = iam.User.from_user_name(self, "PresignUser", f"{environment.prefix}-presign")
            policy = iam.Policy(self, "LabelStudioReads", statements=statements, users=[user])
            policy.node.add_dependency(self.presign_user)

    def _outputs(self) -> None:
        environment = self._environment
        fill = "aws secretsmanager put-secret-value --secret-id {} --secret-string '{}'"
        outputs = {
            "ImageBucketName": ("Put images here", self.images.bucket_name),
            "FillLabelStudioSecret": (
                "Run this once, with the token from Account & Settings",
                fill.format(f"{environment.prefix}/label-studio", "TOKEN"),
            ),
        }
        if environment.label_studio_role_arn is None:
            outputs["MakePresignKey"] = (
                "Run this once; Label Studio signs images with the key that it prints",
                f"aws iam create-access-key --user-name {environment.prefix}-presign",
            )
        if environment.zenml_url:
            outputs["FillZenmlSecret"] = (
                "Run this once, with the key of a ZenML service account",
                fill.format(f"{environment.prefix}/zenml", "KEY"),
            )
        for name, (description, value) in outputs.items():
            CfnOutput(self, name, description=description, value=value)


def _send_events(bucket: s3.Bucket) -> None:
    """Events to EventBridge, by the bucket's own property: `event_bridge_enabled` would add a function."""
    resource = bucket.node.default_child
    assert isinstance(resource, s3.CfnBucket)
    resource.add_property_override(
        "NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled", True
    )


def _data_lifecycle() -> list[s3.LifecycleRule]:
    """What expires: SageMaker's answers, and what was replaced or deleted. Predictions and summaries stay.

    A person's work that was replaced or deleted can be brought back for a year. Rules must not overlap,
    because the shortest one would apply to all.
    """
    return [
        s3.LifecycleRule(id="uploads", abort_incomplete_multipart_upload_after=Duration.days(7)),
        s3.LifecycleRule(
            id="sagemaker",
            prefix=SAGEMAKER,
            expiration=Duration.days(30),
            noncurrent_version_expiration=Duration.days(7),
        ),
        *(
            s3.LifecycleRule(
                id=f"old-{prefix.rstrip('/')}",
                prefix=prefix,
                noncurrent_version_expiration=Duration.days(days),
            )
            for prefix, days in OLD_VERSIONS.items()
        ),
    ]


def use_keys(role: iam.Role, data: Data) -> None:
    """Let a role use the user's keys, only through the services whose data they encrypt."""
    keys = sorted({each for each in (data.key and data.key.key_arn, data.image_key_arn) if each})
    if keys:
        role.add_to_principal_policy(
            iam.PolicyStatement(sid="Keys", actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=keys)
        )
