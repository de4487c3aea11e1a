"""The settings of one deployment, typed and checked; `infra.config` reads them from `cdk.json`."""

import re
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from boxdrop.topology import (
    APPLY_LIMIT,
    JOB_TIMEOUT_S,
    OPTIONAL,
    READERS,
    RUN_IMAGES,
    SHARD_IMAGES,
    WINDOW_S,
    concurrencies,
)
from infra.regions import (
    BATCH_INSTANCES,
    BATCH_PREFERENCE,
    SAGEMAKER_AMI_FAMILIES,
    SAGEMAKER_INSTANCES,
    SAGEMAKER_PREFERENCE,
    zones,
)
from infra.settings import (
    IMAGE_URI,
    Adopt,
    Alarms,
    ConfigError,
    FunctionsNetwork,
    LongJobs,
    Network,
    Settings,
)

Compute = Literal["batch", "sagemaker"]

COST_TAG: Final = "boxdrop:environment"
"""On everything that is deployed, with the environment's name as its value."""

VCPUS: Final = 4
"""Of a job, and of the smallest GPU instance."""


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


class Environment(Settings):
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
    adopt: Annotated[
        Adopt | None,
        Field(
            description="Buckets and ledger that `cdk destroy` left behind; its secrets are used again, "
            "too. Keep the setting from then on. Default: new ones."
        ),
    ] = None
    network: Annotated[Network | None, Field(description="Your own VPC. Default: a new one.")] = None
    functions_network: Annotated[
        FunctionsNetwork | None,
        Field(description="Where the functions that call Label Studio and ZenML run, if these are private."),
    ] = None
    private_network: Annotated[
        bool,
        Field(
            description="In the new VPC: no public addresses; instead interface endpoints to ECR, ECS "
            "and CloudWatch, about $45 a month for each zone.",
        ),
    ] = False
    zones: Annotated[
        int | None,
        Field(
            ge=1,
            le=6,
            description="Availability zones of the new VPC. Default: all that every account has in the "
            "region; two with `private_network`, whose endpoints cost money in each.",
        ),
    ] = None
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
            pattern=IMAGE_URI,
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
            description=f"Default: those of {', '.join(BATCH_PREFERENCE[:3])} that the region offers; for "
            f"SageMaker, the first of {', '.join(SAGEMAKER_PREFERENCE)}. With several, Batch chooses one "
            "that is available.",
        ),
    ] = None
    max_vcpus: Annotated[
        int,
        Field(
            ge=4,
            le=1024,
            description="Batch: most vCPUs at once, Spot and on-demand together; an xlarge has 4. Your "
            "quotas limit it, too. AWS Batch may exceed each part by one instance.",
        ),
    ] = 16
    on_demand_vcpus: Annotated[
        int | None,
        Field(
            ge=4,
            le=1020,
            description="Batch: how many of `max_vcpus` on-demand instances may use while Spot is on. "
            "Default: a quarter, at least 4.",
        ),
    ] = None
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

    long_jobs: Annotated[
        LongJobs | None,
        Field(
            description="Machines for `boxdrop train --in-account` and `detectors get --in-account`; `{}` "
            "takes the defaults. Default: none, and no image with PyTorch is built."
        ),
    ] = None

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
        int,
        Field(
            ge=1,
            le=200_000,
            description="Most images in one run; the next run gets the rest. A launch claims images for "
            "three minutes: 18,000 to 120,000 of them.",
        ),
    ] = RUN_IMAGES
    shard_images: Annotated[
        int, Field(ge=128, le=50_000, description="Images per instance; a multiple of 128.")
    ] = SHARD_IMAGES
    upload_patterns: Annotated[
        tuple[str, ...],
        Field(
            description="Keys of the image bucket that count, with `*` for any characters, such as "
            "`photos/*` or `*.jpg`. Others are never looked at. `labels.yaml` always counts. Default: all."
        ),
    ] = ()
    lambda_concurrency: Annotated[
        int,
        Field(
            ge=10,
            description="How many calls of functions your account may run at once (`boxdrop doctor` asks). "
            "New accounts may have 10: then set it, so that some are left for the webhook.",
        ),
    ] = 1000
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
    cost_tag_active: Annotated[
        bool,
        Field(
            description="Whether the cost allocation tag `boxdrop:environment` is active in your billing "
            "account (`boxdrop doctor` checks it). Then the budget counts only what has this tag; until "
            "then, it counts the services that boxdrop uses, whoever uses them."
        ),
    ] = False
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

    @field_validator("upload_patterns")
    @classmethod
    def _patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for each in patterns:
            if not each or "**" in each or each.startswith("/"):
                raise ValueError(f"{each!r}: write a key without / at its beginning, with single * in it")
        return patterns

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
        for each in self.instance_types or ():
            if prefix and each.split(".")[1] not in SAGEMAKER_AMI_FAMILIES:
                raise ValueError(
                    f"instance_types: SageMaker has no image with driver 580 for {each!r}; use one of the "
                    f"families {', '.join(SAGEMAKER_AMI_FAMILIES)}"
                )
        if self.compute == "batch" and not (self.spot or self.on_demand):
            raise ValueError("spot and on_demand are both off: one of them must be on")
        if self.compute == "batch" and min(self.ceilings.values()) < VCPUS:
            raise ValueError(
                f"max_vcpus: {self.max_vcpus} are not enough for an instance of {VCPUS} vCPUs on Spot and "
                f"one on demand; allow {self.on_demand_share + VCPUS}, or turn spot or on_demand off"
            )
        if self.image_bucket_key_arn and not self.image_bucket:
            raise ValueError("image_bucket_key_arn is the key of a bucket of yours: name it as image_bucket")
        if self.adopt and (self.adopt.image_bucket is None) != (self.image_bucket is not None):
            raise ValueError(
                "adopt.image_bucket: name the retained image bucket; leave it out only where image_bucket "
                "names a bucket of yours"
            )
        if self.adopt and self.removal_policy == "destroy":
            raise ValueError(
                "adopt: CloudFormation imports only what it retains; set removal_policy to retain"
            )
        queues = [name for name, reader in READERS.items() if self.zenml_url or reader.name not in OPTIONAL]
        try:
            concurrencies(queues, self.lambda_concurrency)
        except ValueError as error:
            raise ValueError(f"lambda_concurrency: {error}") from None
        for each in (self.long_jobs and self.long_jobs.instance_types) or ():
            if not re.fullmatch(r"(g|p)\d[a-z]*\.\w+", each):
                raise ValueError(
                    f"long_jobs.instance_types: {each!r} is not a GPU instance, such as g5.xlarge"
                )
        if self.long_jobs and min(self.long_ceilings.values()) < VCPUS:
            raise ValueError(
                f"long_jobs.max_vcpus: {self.long_jobs.max_vcpus} are not enough for an instance on Spot and "
                f"one on demand; allow {2 * VCPUS}, or turn spot or on_demand off"
            )
        if self.network and self.private_network:
            raise ValueError("private_network is for the VPC that is made; yours is as you made it")
        return self

    @property
    def prefix(self) -> str:
        """The prefix of every resource name."""
        return f"boxdrop-{self.name}"

    @property
    def instances(self) -> tuple[str, ...]:
        """The chosen instance types, or the region's default.

        Raises:
            ConfigError: the region has no default.
        """
        if self.instance_types:
            return self.instance_types
        if self.compute == "batch":
            found = BATCH_INSTANCES.get(self.chosen_region, ())
        else:
            endpoint = SAGEMAKER_INSTANCES.get(self.chosen_region)
            found = (endpoint,) if endpoint else ()
        if not found:
            where = "SageMaker" if self.compute == "sagemaker" else "EC2"
            raise ConfigError(
                f"environments.{self.name}.instance_types: {where} offers none of the default GPU instance "
                f"types in {self.chosen_region}; list types that it offers, or choose another region"
            )
        return found

    @property
    def long_instances(self) -> tuple[str, ...]:
        """The instance types of long jobs.

        Raises:
            ConfigError: the region has no default.
        """
        chosen = self.long_jobs.instance_types if self.long_jobs else None
        found = chosen or BATCH_INSTANCES.get(self.chosen_region, ())
        if not found:
            raise ConfigError(
                f"environments.{self.name}.long_jobs.instance_types: EC2 offers none of the default GPU "
                f"instance types in {self.chosen_region}; list types that it offers"
            )
        return found

    @property
    def long_usd_per_hour(self) -> float:
        """The highest price of a machine for long jobs."""
        chosen = self.long_jobs.usd_per_hour if self.long_jobs else None
        return chosen or (1.01 if self.chosen_region in ("us-east-1", "us-east-2", "us-west-2") else 1.80)

    @property
    def long_ceilings(self) -> dict[Literal["SPOT", "EC2"], int]:
        """The most vCPUs of long jobs at once of each kind of instance, Spot first."""
        most = self.long_jobs.max_vcpus if self.long_jobs else 0
        if self.spot and self.on_demand:
            return {"SPOT": most - VCPUS, "EC2": VCPUS}
        return {"SPOT": most} if self.spot else {"EC2": most}

    @property
    def chosen_region(self) -> str:
        """The region; `locate` takes it from the credentials where the settings name none.

        Raises:
            ConfigError: it is unknown.
        """
        if self.region is None:
            raise ConfigError(
                f"environments.{self.name}.region: name a region here, or set AWS_REGION: instance types and "
                "zones depend on it"
            )
        return self.region

    @property
    def zone_count(self) -> int:
        """Availability zones of the new VPC."""
        if self.zones is not None:
            return self.zones
        return 2 if self.private_network else zones(self.chosen_region)

    @property
    def on_demand_share(self) -> int:
        """vCPUs that on-demand instances may use at once while Spot is on."""
        return self.on_demand_vcpus or max(VCPUS, self.max_vcpus // 4 // VCPUS * VCPUS)

    @property
    def ceilings(self) -> dict[Literal["SPOT", "EC2"], int]:
        """The most vCPUs at once of each kind of instance, Spot first; together `max_vcpus`."""
        if not self.on_demand:
            return {"SPOT": self.max_vcpus}
        if not self.spot:
            return {"EC2": self.max_vcpus}
        return {"SPOT": self.max_vcpus - self.on_demand_share, "EC2": self.on_demand_share}

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins from which annotators' browsers may load images."""
        parts = urlsplit(self.label_studio_url)
        return tuple(dict.fromkeys((f"{parts.scheme}://{parts.netloc}", *self.allowed_origins)))
