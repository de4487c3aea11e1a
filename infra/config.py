"""The settings of a deployment, typed and checked before anything is synthesized.

`cdk.json` holds ``environments``, each a name with its settings; ``-c env=NAME`` selects one. The reference
in docs/configuration.md is generated from the descriptions here (`python -m infra.reference`).
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
    """Invalid settings. Names the key and the allowed values."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Network(_Settings):
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


class Alarms(_Settings):
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
            description="Alarm if more reviews per day than this arrive without a webhook call. A few are "
            "normal: Label Studio calls once and waits one second.",
        ),
    ] = 10
    image_age_minutes: Annotated[
        int, Field(ge=5, le=1440, description="Alarm if more than 5 % of images take longer to become tasks.")
    ] = 60


class Environment(_Settings):
    """One deployment of boxdrop. Only `label_studio_url` has no default."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z][a-z0-9-]{0,19}$",
            description="Part of every name: the key below `environments`, not repeated as a setting.",
        ),
    ]
    label_studio_url: Annotated[
        str, Field(pattern=r"^https?://[^\s/]+", description="Label Studio's address, as in the browser.")
    ]
    account: Annotated[
        str | None,
        Field(pattern=r"^\d{12}$", description="AWS account. Default: that of your credentials."),
    ] = None
    region: Annotated[
        str | None,
        Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="Default: that of your credentials."),
    ] = None

    # Existing resources
    image_bucket: Annotated[
        str | None,
        Field(
            pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
            description="Your own bucket for uploads. Its other notifications stay as they are; CORS and "
            "encryption stay up to you. Default: a new bucket. boxdrop's own files are always in "
            "another bucket.",
        ),
    ] = None
    kms_key_arn: Annotated[
        str | None,
        Field(
            pattern=r"^arn:aws[\w-]*:kms:[^:]+:\d{12}:key/.+$",
            description="Your own KMS key for buckets, table, secrets and logs. Default: AWS's own keys.",
        ),
    ] = None
    image_bucket_key_arn: Annotated[
        str | None,
        Field(
            pattern=r"^arn:aws[\w-]*:kms:[^:]+:\d{12}:key/.+$",
            description="The key of `image_bucket`, if it differs from `kms_key_arn`.",
        ),
    ] = None
    network: Annotated[Network | None, Field(description="Your own VPC. Default: a new one.")] = None
    private_network: Annotated[
        bool,
        Field(
            description="In the new VPC: no public addresses; instead interface endpoints to ECR, ECS "
            "and CloudWatch, about $45 a month for each of two zones.",
        ),
    ] = False
    permissions_boundary_arn: Annotated[
        str | None,
        Field(
            pattern=r"^arn:aws[\w-]*:iam::(\d{12}|aws):policy/.+$", description="Set on every role and user."
        ),
    ] = None
    tags: Annotated[dict[str, str], Field(description="Set on every resource that supports tags.")] = Field(
        default_factory=dict
    )
    image_uri: Annotated[
        str | None,
        Field(
            pattern=r"^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[\w./-]+(@sha256:[0-9a-f]{64}|:[\w.-]+)$",
            description="The job's container image in your own ECR repository. Default: Docker builds "
            "functions/job/Dockerfile when you deploy.",
        ),
    ] = None
    label_studio_role_arn: Annotated[
        str | None,
        Field(
            pattern=r"^arn:aws[\w-]*:iam::\d{12}:role/.+$",
            description="The role with which Label Studio runs in this account; it gets permission to read "
            "images. Default: a new user with only this permission.",
        ),
    ] = None
    zenml_url: Annotated[
        str | None,
        Field(pattern=r"^https?://[^\s/]+", description="Your ZenML server. Default: runs are not tracked."),
    ] = None
    access_log_bucket: Annotated[
        str | None,
        Field(
            pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
            description="Your own bucket for S3's access logs.",
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
            "With several, Batch chooses one that is available.",
        ),
    ] = None
    max_vcpus: Annotated[
        int,
        Field(
            ge=4,
            le=1024,
            description="Batch: most vCPUs at once; an xlarge has 4. Your quota limits it, too.",
        ),
    ] = 16
    max_instances: Annotated[int, Field(ge=1, le=50, description="SageMaker: most instances at once.")] = 2
    spot: Annotated[bool, Field(description="Batch: use Spot instances, about 60 % cheaper.")] = True
    on_demand: Annotated[
        bool, Field(description="Batch: use on-demand instances, after Spot if both are on.")
    ] = True
    job_timeout_s: Annotated[
        int, Field(ge=300, le=3600, description="A shard that takes longer is stopped.")
    ] = JOB_TIMEOUT_S

    usd_per_hour: Annotated[
        float,
        Field(gt=0, description="Price of an instance in your region, for the costs that runs report."),
    ] = 0.25

    # Behaviour
    batching_window_s: Annotated[
        int,
        Field(
            ge=0,
            le=900,
            description="How long uploads gather before the detector starts. A longer window saves money and "
            "adds latency.",
        ),
    ] = WINDOW_S
    run_images: Annotated[
        int, Field(ge=1, le=200_000, description="Most images in one run; the next run gets the rest.")
    ] = RUN_IMAGES
    shard_images: Annotated[
        int, Field(ge=128, le=50_000, description="Images per instance; a multiple of 128.")
    ] = SHARD_IMAGES
    apply_limit: Annotated[
        int,
        Field(
            ge=0,
            description="A change of labels that runs more images than this again waits for `boxdrop apply`.",
        ),
    ] = APPLY_LIMIT
    allowed_origins: Annotated[
        tuple[str, ...],
        Field(
            description="Other addresses at which annotators open Label Studio, for the bucket's CORS rule."
        ),
    ] = ()

    # Operation
    alarms: Annotated[Alarms, Field(description="When to notify you, see below.")] = Alarms()
    monthly_budget_usd: Annotated[
        float | None, Field(gt=0, description="You are notified at 80 % and 100 %. `null`: no budget.")
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
        """The prefix of every resource name."""
        return f"boxdrop-{self.name}"

    @property
    def instances(self) -> tuple[str, ...]:
        """The chosen instance types, or the default."""
        if self.instance_types:
            return self.instance_types
        return SAGEMAKER_INSTANCES if self.compute == "sagemaker" else BATCH_INSTANCES

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins from which annotators' browsers may load images."""
        parts = urlsplit(self.label_studio_url)
        return tuple(dict.fromkeys((f"{parts.scheme}://{parts.netloc}", *self.allowed_origins)))


def load(context: Mapping[str, Any], name: str | None) -> Environment:
    """Return the environment named by ``-c env=NAME``; without a name, the only one.

    Args:
        context: the value of ``environments`` in `cdk.json`.

    Raises:
        ConfigError: one line per problem, each with its key and the allowed values.
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
    """Write one of pydantic's errors as a line for the user."""
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
