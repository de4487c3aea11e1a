"""Groups of settings within an environment, see `infra.config`."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from boxdrop.domain.errors import BoxdropError


class ConfigError(BoxdropError):
    """Invalid settings. Names the key and the allowed values."""


class Settings(BaseModel):
    """Settings that cannot be changed, and refuse keys that they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Network(Settings):
    """Your own VPC for the GPU instances. They must reach ECR, CloudWatch, ECS and S3."""

    vpc_id: Annotated[str, Field(pattern=r"^vpc-[0-9a-f]+$", description="The VPC.")]
    subnet_ids: Annotated[tuple[str, ...], Field(min_length=1, description="The subnets of the instances.")]
    availability_zones: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="The zone of each subnet, in the same order."),
    ]
    security_group_ids: Annotated[
        tuple[str, ...],
        Field(description="Security groups of the instances. Default: a new one without inbound rules."),
    ] = ()

    @model_validator(mode="after")
    def _one_zone_a_subnet(self) -> Self:
        if len(self.subnet_ids) != len(self.availability_zones):
            raise ValueError("availability_zones must name one zone for each of subnet_ids")
        return self


class FunctionsNetwork(Settings):
    """Your own subnets for the functions that call Label Studio and ZenML, if these are private."""

    vpc_id: Annotated[str, Field(pattern=r"^vpc-[0-9a-f]+$", description="The VPC.")]
    subnet_ids: Annotated[
        tuple[str, ...],
        Field(
            min_length=1,
            description="Private subnets that reach Label Studio, one in each zone. A public subnet gives "
            "functions no way out.",
        ),
    ]
    security_group_ids: Annotated[
        tuple[str, ...],
        Field(description="Security groups of the functions. Default: a new one without inbound rules."),
    ] = ()
    route_table_ids: Annotated[
        tuple[str, ...],
        Field(
            description="Route tables of the subnets. If given, the deployment makes endpoints: S3 and "
            "DynamoDB (free), SQS and Secrets Manager (about $15 a month for each subnet). Leave it out if "
            "the subnets have a NAT gateway or these endpoints."
        ),
    ] = ()


IMAGE_URI = r"^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[\w./-]+(@sha256:[0-9a-f]{64}|:[\w.-]+)$"
_BUCKET_NAME = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
_TABLE_NAME = r"^[A-Za-z0-9_.-]{3,255}$"


class Adopt(Settings):
    """What `cdk destroy` left behind, to be used again; see docs/deploy.md#deploy-again."""

    data_bucket: Annotated[str, Field(pattern=_BUCKET_NAME, description="Name of the retained data bucket.")]
    table: Annotated[str, Field(pattern=_TABLE_NAME, description="Name of the retained ledger.")]
    image_bucket: Annotated[
        str | None,
        Field(
            pattern=_BUCKET_NAME,
            description="Name of the retained image bucket, if the deployment had made it.",
        ),
    ] = None


class LongJobs(Settings):
    """Training and export in the account: an image with PyTorch, and machines that start for one job."""

    instance_types: Annotated[
        tuple[str, ...] | None,
        Field(
            description="GPU instances. Default: those of g4dn.xlarge, g6.xlarge, g5.xlarge in the region."
        ),
    ] = None
    usd_per_hour: Annotated[
        float | None,
        Field(
            gt=0,
            description="Highest price of one of them in your region, on demand: the limit in dollars that "
            "commands state comes from it. Default: 1.01, that of g5.xlarge in us-east-1, us-east-2 and "
            "us-west-2; elsewhere 1.80, which is above its price in any region that we know.",
        ),
    ] = None
    most_hours: Annotated[
        float, Field(ge=1, le=240, description="The most machine time that one command may ask for.")
    ] = 24.0
    max_vcpus: Annotated[
        int,
        Field(
            ge=4,
            le=256,
            description="Most vCPUs at once, Spot and on-demand together: a job has 4, and 4 are on demand.",
        ),
    ] = 8
    image_uri: Annotated[
        str | None,
        Field(
            pattern=IMAGE_URI,
            description="The image with PyTorch in your own ECR repository. Default: Docker builds "
            "functions/job/Dockerfile.pytorch when you deploy.",
        ),
    ] = None
    hub_url: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[^\s/]+",
            description="A mirror of the Hugging Face hub. Needed with `private_network`, unless trainings "
            "start from `small`.",
        ),
    ] = None


class Alarms(Settings):
    """When the operator is notified."""

    topic_arn: Annotated[
        str | None,
        Field(pattern=r"^arn:aws[\w-]*:sns:", description="Your own SNS topic. Default: a new one."),
    ] = None
    email: Annotated[
        str | None,
        Field(pattern=r"^[^@\s]+@[^@\s]+$", description="Address to notify; its owner confirms once."),
    ] = None
    oldest_message_minutes: Annotated[
        int, Field(ge=5, le=1440, description="Alarm if a message waits longer in a queue.")
    ] = 30
    gpu_idle_minutes: Annotated[
        int, Field(ge=10, le=240, description="Alarm if a GPU instance is idle for this long.")
    ] = 30
    missed_reviews: Annotated[
        int,
        Field(
            ge=0,
            description="Alarm if more reviews per day than this arrive without a webhook call, counted in "
            "the comparisons with Label Studio, four a day. A few are normal: Label Studio calls once and "
            "waits one second.",
        ),
    ] = 10
    image_age_minutes: Annotated[
        int, Field(ge=5, le=1440, description="Alarm if images take longer, on average, to become tasks.")
    ] = 60
    oldest_image_minutes: Annotated[
        int,
        Field(
            ge=15,
            le=10_080,
            description="Alarm if an image waits longer for its boxes, for example because the quota for GPU "
            "instances is 0. Set it above the time of your largest import.",
        ),
    ] = 240
