"""Compute for the detector: AWS Batch or a SageMaker endpoint, and the image that Docker builds."""

from pathlib import Path
from typing import Final

from aws_cdk import Fn, Stack
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_iam as iam
from constructs import Construct

from boxdrop.store.layout import BUNDLES, DISPLAY, LABEL_SETS, LESSONS, PREDICTIONS, RUNS, SAGEMAKER
from infra.config import Environment
from infra.constructs.batch import GpuQueue
from infra.constructs.endpoint import AsyncEndpoint
from infra.constructs.function import log_group
from infra.constructs.long_jobs import LongJobQueue, Teaching
from infra.constructs.network import Place
from infra.stacks.data import Data, use_keys

_REPOSITORY: Final = Path(__file__).parents[2]


class Compute(Stack):
    """The job's image, role and machines.

    Attributes:
        role: the job's permissions.
    """

    def __init__(
        self, scope: Construct, id: str, *, environment: Environment, data: Data, **options: object
    ) -> None:
        super().__init__(scope, id, **options)  # type: ignore[arg-type]
        self._environment = environment
        logs = log_group(self, "Log", environment, "job", data.key)
        variables = {
            "BOXDROP_DATA_BUCKET": data.data.bucket_name,
            "BOXDROP_LAUNCHER": environment.compute,
            "BOXDROP_JOB_TIMEOUT_S": str(environment.job_timeout_s),
            "BOXDROP_PROVIDER": "cuda",
            "BOXDROP_USD_PER_HOUR": f"{environment.usd_per_hour:g}",
            "POWERTOOLS_METRICS_NAMESPACE": environment.prefix,
        }
        self.role = self._role(data)
        image = self._image()
        place: Place | None = None
        if environment.compute == "batch":
            place = GpuQueue(
                self,
                environment=environment,
                image=image,
                role=self.role,
                log_group=logs,
                variables=variables,
            ).place
            Teaching(self, environment=environment, data=data, image=image, log_group=logs)
        else:
            self._let_sagemaker_work(data)
            AsyncEndpoint(
                self,
                environment=environment,
                image=image,
                role=self.role,
                bucket=data.data.bucket_name,
                key_arn=data.key.key_arn if data.key else None,
                variables=variables,
            )
        if environment.long_jobs is not None:
            LongJobQueue(self, environment=environment, data=data, place=place)

    @property
    def availability_zones(self) -> list[str]:
        """The region's, as CloudFormation finds them: CDK would look them up, with credentials."""
        return [Fn.select(number, Fn.get_azs()) for number in range(self._environment.zone_count)]

    def _image(self) -> str:
        if self._environment.image_uri:
            return self._environment.image_uri
        asset = ecr_assets.DockerImageAsset(
            self,
            "Image",
            directory=str(_REPOSITORY),
            file="functions/job/Dockerfile",
            exclude=["model_export"],  # which only the image with PyTorch has
            platform=ecr_assets.Platform.LINUX_AMD64,
        )
        return asset.image_uri

    def _role(self, data: Data) -> iam.Role:
        service = "ecs-tasks" if self._environment.compute == "batch" else "sagemaker"
        role = iam.Role(
            self,
            "JobRole",
            assumed_by=iam.ServicePrincipal(f"{service}.amazonaws.com"),
            description=f"boxdrop {self._environment.name}: permissions of the job",
        )
        objects = data.data.arn_for_objects
        statements = {
            # By version if the bucket has versions, else by If-Match.
            "Images": (["s3:GetObject", "s3:GetObjectVersion"], [data.images.arn_for_objects("*")]),
            "Read": (
                ["s3:GetObject"],
                [objects(f"{each}*") for each in (BUNDLES, DISPLAY, LABEL_SETS, LESSONS, PREDICTIONS, RUNS)],
            ),
            "Write": (["s3:PutObject"], [objects(f"{each}*") for each in (DISPLAY, PREDICTIONS, RUNS)]),
            # Without it, S3 responds with 403 for a missing object.
            "List": (["s3:ListBucket"], [data.images.bucket_arn, data.data.bucket_arn]),
        }
        for sid, (actions, resources) in statements.items():
            role.add_to_principal_policy(iam.PolicyStatement(sid=sid, actions=actions, resources=resources))
        use_keys(role, data)
        return role

    def _let_sagemaker_work(self, data: Data) -> None:
        """What SageMaker itself needs of the model's role: pull the image, write logs and metrics, store
        responses."""
        prefix = (
            f"arn:{self.partition}:logs:{self.region}:{self.account}:log-group:"
            f"/aws/sagemaker/Endpoints/{self._environment.prefix}"
        )
        statements = [
            iam.PolicyStatement(
                sid="Pull",
                actions=[
                    "ecr:BatchGetImage",
                    "ecr:GetDownloadUrlForLayer",
                    "ecr:BatchCheckLayerAvailability",
                ],
                resources=[self.format_arn(service="ecr", resource="repository", resource_name="*")],
            ),
            iam.PolicyStatement(sid="PullToken", actions=["ecr:GetAuthorizationToken"], resources=["*"]),
            iam.PolicyStatement(
                sid="Log",
                actions=[
                    "logs:CreateLogGroup",
                    "logs:CreateLogStream",
                    "logs:PutLogEvents",
                    "logs:DescribeLogStreams",
                ],
                resources=[prefix, f"{prefix}:*"],
            ),
            iam.PolicyStatement(
                sid="Count",
                actions=["cloudwatch:PutMetricData"],
                resources=["*"],
                conditions={
                    "StringEquals": {"cloudwatch:namespace": ["/aws/sagemaker/Endpoints", "AWS/SageMaker"]}
                },
            ),
            iam.PolicyStatement(
                sid="Answer", actions=["s3:PutObject"], resources=[data.data.arn_for_objects(f"{SAGEMAKER}*")]
            ),
        ]
        for each in statements:
            self.role.add_to_principal_policy(each)
