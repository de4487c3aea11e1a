"""What a user chooses about a deployment: typed, checked before anything is synthesized.

`cdk.json` holds ``environments``, a name and its settings each; ``-c env=NAME`` picks one. The reference in
docs/configuration.md is made from the descriptions here (`python -m infra.reference`).
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from boxdrop.domain.errors import BoxdropError
from boxdrop.topology import APPLY_LIMIT, JOB_TIMEOUT_S, RUN_IMAGES, SHARD_IMAGES, WINDOW_S

Compute = Literal["batch", "sagemaker"]

BATCH_INSTANCES: Final = ("g4dn.xlarge", "g6.xlarge", "g5.xlarge")
SAGEMAKER_INSTANCES: Final = ("ml.g4dn.xlarge",)

_LOG_DAYS: Final = (
    1,
    3,
    5,
    7,
    14,
    30,
    60,
    90,
    120,
    150,
    180,
    365,
    400,
    545,
    731,
    1096,
    1827,
    2192,
    2557,
    3653,
)


class ConfigError(BoxdropError):
    """Settings that do not make sense: names the key, and what it may be."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Network(_Settings):
    """A VPC of yours for the GPU instances, which need a way to ECR, CloudWatch, ECS and S3."""

    vpc_id: Annotated[str, Field(pattern=r"^vpc-[0-9a-f]+$", description="The VPC.")]
    subnet_ids: Annotated[tuple[str, ...], Field(min_length=1, description="Its subnets for the instances.")]
    availability_zones: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="The zone of each subnet, in the same order."),
    ]
    security_group_ids: Annotated[
        tuple[str, ...],
        Field(description="Security groups of the instances. Without any, one is made that lets nothing in."),
    ] = ()

    @model_validator(mode="after")
    def _one_zone_a_subnet(self) -> Self:
        if len(self.subnet_ids) != len(self.availability_zones):
            raise ValueError("availability_zones must name one zone for each of subnet_ids")
        return self


class Alarms(_Settings):
    """When somebody should look."""

    topic_arn: Annotated[
        str | None,
        Field(pattern=r"^arn:aws[\w-]*:sns:", description="An SNS topic of yours. Without it, one is made."),
    ] = None
    email: Annotated[
        str | None, Field(pattern=r"^[^@\s]+@[^@\s]+$", description="Who is told by mail; confirms it once.")
    ] = None
    oldest_message_minutes: Annotated[
        int, Field(ge=5, le=1440, description="The promise: no message waits longer in a queue.")
    ] = 30
    gpu_idle_minutes: Annotated[
        int, Field(ge=10, le=240, description="GPU instances that run this long with nothing to do.")
    ] = 30
    missed_reviews: Annotated[
        int,
        Field(
            ge=0,
            description="Reviews within a day that no webhook told of, above which it may be broken. A few "
            "are normal: Label Studio tells once, and waits a second.",
        ),
    ] = 10
    image_age_minutes: Annotated[
        int, Field(ge=5, le=1440, description="95 of 100 images become tasks within this time.")
    ] = 60


class Environment(_Settings):
    """One deployment of boxdrop. Only `label_studio_url` has no default."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z][a-z0-9-]{0,19}$",
            description="Part of every name. It is the key below `environments`, not written again.",
        ),
    ]
    label_studio_url: Annotated[
        str, Field(pattern=r"^https?://[^\s/]+", description="Your Label Studio, as in the browser.")
    ]
    account: Annotated[
        str | None,
        Field(pattern=r"^\d{12}$", description="The AWS account. Default: that of your credentials."),
    ] = None
    region: Annotated[
        str | None,
        Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="Default: that of your credentials."),
    ] = None

    # What people bring
    image_bucket: Annotated[
        str | None,
        Field(
            pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
            description="A bucket of yours that images fall into. Its other notifications stay as they are; "
            "CORS and encryption stay yours. Without it, one is made. boxdrop's own files are in another "
            "bucket, always.",
        ),
    ] = None
    kms_key_arn: Annotated[
        str | None,
        Field(
            pattern=r"^arn:aws[\w-]*:kms:[^:]+:\d{12}:key/.+$",
            description="A key of yours for buckets, table, secrets and logs. Without it, AWS's own keys.",
        ),
    ] = None
    image_bucket_key_arn: Annotated[
        str | None,
        Field(
            pattern=r"^arn:aws[\w-]*:kms:[^:]+:\d{12}:key/.+$",
            description="The key of `image_bucket`, if it is another one than `kms_key_arn`.",
        ),
    ] = None
    network: Annotated[Network | None, Field(description="A VPC of yours. Without it, one is made.")] = None
    private_network: Annotated[
        bool,
        Field(
            description="In the VPC that is made: no public addresses, but interface endpoints to ECR, ECS "
            "and CloudWatch, about $45 a month for each of two zones.",
        ),
    ] = False
    permissions_boundary_arn: Annotated[
        str | None,
        Field(pattern=r"^arn:aws[\w-]*:iam::(\d{12}|aws):policy/.+$", description="For every role and user."),
    ] = None
    tags: Annotated[dict[str, str], Field(description="On everything that can have tags.")] = Field(
        default_factory=dict
    )
    image_uri: Annotated[
        str | None,
        Field(
            pattern=r"^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[\w./-]+(@sha256:[0-9a-f]{64}|:[\w.-]+)$",
            description="The job's container image in an ECR repository of yours. Without it, Docker builds "
            "functions/job/Dockerfile as you deploy.",
        ),
    ] = None
    label_studio_role_arn: Annotated[
        str | None,
        Field(
            pattern=r"^arn:aws[\w-]*:iam::\d{12}:role/.+$",
            description="The role that Label Studio runs with in this account: it gets the right to read "
            "images. Without it, a user is made that can do nothing else.",
        ),
    ] = None
    zenml_url: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[^\s/]+", description="Your ZenML server. Without it, runs are not tracked."
        ),
    ] = None
    access_log_bucket: Annotated[
        str | None,
        Field(
            pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
            description="A bucket of yours that gets S3's access logs.",
        ),
    ] = None

    # Compute
    compute: Annotated[
        Compute, Field(description="What runs the detector: AWS Batch, or a SageMaker async endpoint.")
    ] = "batch"
    instance_types: Annotated[
        tuple[str, ...] | None,
        Field(
            description=f"Default: {', '.join(BATCH_INSTANCES)}; for SageMaker {SAGEMAKER_INSTANCES[0]}. "
            "Several let Batch choose the one that is there.",
        ),
    ] = None
    max_vcpus: Annotated[
        int,
        Field(ge=4, le=1024, description="Batch: vCPUs at once; an xlarge has 4. Your quota is the limit."),
    ] = 16
    max_instances: Annotated[int, Field(ge=1, le=50, description="SageMaker: instances at once.")] = 2
    spot: Annotated[bool, Field(description="Batch: Spot instances first, some 60 % cheaper.")] = True
    on_demand: Annotated[
        bool, Field(description="Batch: on-demand instances, second where `spot` is on as well.")
    ] = True
    job_timeout_s: Annotated[
        int, Field(ge=300, le=3600, description="A shard that takes longer is ended.")
    ] = JOB_TIMEOUT_S

    usd_per_hour: Annotated[
        float,
        Field(gt=0, description="What an instance costs in your region, for the costs that runs report."),
    ] = 0.25

    # Behaviour
    batching_window_s: Annotated[
        int,
        Field(
            ge=0,
            le=900,
            description="How long uploads are gathered before the detector starts: latency for money.",
        ),
    ] = WINDOW_S
    run_images: Annotated[
        int, Field(ge=1, le=200_000, description="Images in one run at most; the rest is the next run.")
    ] = RUN_IMAGES
    shard_images: Annotated[
        int, Field(ge=128, le=50_000, description="Images that one instance gets; a multiple of 128.")
    ] = SHARD_IMAGES
    apply_limit: Annotated[
        int,
        Field(
            ge=0,
            description="Changed labels that need the detector for more images wait for `boxdrop apply`.",
        ),
    ] = APPLY_LIMIT
    allowed_origins: Annotated[
        tuple[str, ...],
        Field(description="More addresses at which people open Label Studio, for CORS of the image bucket."),
    ] = ()

    # Operation
    alarms: Annotated[Alarms, Field(description="When somebody should look, see below.")] = Alarms()
    monthly_budget_usd: Annotated[
        float | None, Field(gt=0, description="You are told at 80 % and 100 %. `null`: no budget.")
    ] = 50.0
    removal_policy: Annotated[
        Literal["retain", "destroy"],
        Field(
            description="What `cdk destroy` does with buckets, table and secrets. `destroy` empties nothing: "
            "a bucket with objects stops it."
        ),
    ] = "retain"
    log_retention_days: Annotated[int, Field(description=f"One of {', '.join(map(str, _LOG_DAYS))}.")] = 30

    @field_validator("log_retention_days")
    @classmethod
    def _known_retention(cls, days: int) -> int:
        if days not in _LOG_DAYS:
            raise ValueError(f"must be one of {', '.join(map(str, _LOG_DAYS))}")
        return days

    @field_validator("shard_images")
    @classmethod
    def _whole_parts(cls, images: int) -> int:
        if images % 128:
            raise ValueError("must be a multiple of 128, the images of a part")
        return images

    @field_validator("instance_types")
    @classmethod
    def _gpu_instances(cls, types: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for each in types or ():
            if not re.fullmatch(r"(ml\.)?(g|p)\d[a-z]*\.\w+", each):
                raise ValueError(f"{each!r} is not a GPU instance type, such as g4dn.xlarge")
        return types

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        prefix = "ml." if self.compute == "sagemaker" else ""
        for each in self.instance_types or ():
            if each.startswith("ml.") != bool(prefix):
                raise ValueError(f"instance_types: {each!r} does not fit compute {self.compute}")
        if self.compute == "sagemaker" and self.instance_types and len(self.instance_types) > 1:
            raise ValueError("instance_types: a SageMaker endpoint has one instance type")
        if self.compute == "batch" and not (self.spot or self.on_demand):
            raise ValueError("spot and on_demand are both off: one of them must be on")
        if self.image_bucket_key_arn and not self.image_bucket:
            raise ValueError("image_bucket_key_arn is the key of a bucket of yours: name it as image_bucket")
        if self.network and self.private_network:
            raise ValueError("private_network is for the VPC that is made; yours is as you made it")
        return self

    @property
    def prefix(self) -> str:
        """What every name begins with."""
        return f"boxdrop-{self.name}"

    @property
    def instances(self) -> tuple[str, ...]:
        """Instance types, the default where none are chosen."""
        if self.instance_types:
            return self.instance_types
        return SAGEMAKER_INSTANCES if self.compute == "sagemaker" else BATCH_INSTANCES

    @property
    def origins(self) -> tuple[str, ...]:
        """Where the annotators' browsers are: origins that may load images."""
        parts = urlsplit(self.label_studio_url)
        return tuple(dict.fromkeys((f"{parts.scheme}://{parts.netloc}", *self.allowed_origins)))


def load(context: Mapping[str, Any], name: str | None) -> Environment:
    """The environment that ``-c env=NAME`` names; without a name, the only one there is.

    Args:
        context: what `cdk.json` holds under ``environments``.

    Raises:
        ConfigError: one line a problem, each with its key and what is allowed.
    """
    if not isinstance(context, Mapping) or not context:
        raise ConfigError("cdk.json: context.environments must hold one environment at least")
    if name is None:
        if len(context) > 1:
            raise ConfigError(f"which environment? Say -c env=NAME; there are {', '.join(context)}")
        (name,) = context
    if name not in context:
        raise ConfigError(f"cdk.json has no environment {name!r}; there are {', '.join(context)}")
    settings = context[name]
    if not isinstance(settings, Mapping):
        raise ConfigError(f"cdk.json: environments.{name} must be an object")
    if "name" in settings:
        raise ConfigError(f"environments.{name}.name: the name is the key itself; remove it")
    try:
        return Environment.model_validate({"name": name, **settings})
    except ValidationError as error:
        raise ConfigError("\n".join(_sentence(name, each) for each in error.errors())) from None


def _sentence(name: str, problem: Any) -> str:
    """One problem of pydantic's as a line for people."""
    *parents, last = problem["loc"] or ("",)
    key = ".".join(map(str, ("environments", name, *problem["loc"])))
    if problem["type"] == "extra_forbidden":
        model: Any = Environment
        for parent in parents:
            model = {"alarms": Alarms, "network": Network}.get(str(parent), model)
        allowed = ", ".join(sorted(field for field in model.model_fields if field != "name"))
        return f"{key}: there is no such key; allowed are {allowed}"
    if last == "name":
        return f"{key}: an environment's name is at most 20 lower-case letters, digits and hyphens"
    said = problem["msg"].removeprefix("Value error, ")
    given = "" if problem["type"] == "missing" else f" (given: {problem['input']!r})"
    if problem["type"] == "value_error" and not problem["loc"]:
        given = ""
    return f"{key}: {said[0].lower()}{said[1:]}{given}"
