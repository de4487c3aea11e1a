"""Long jobs in the account, on machines that start for one job.

Training and export need PyTorch. They have a queue of their own, so that a training of hours does not hold
the detector up. Teaching takes minutes and needs no PyTorch, so it uses the detector's image and queue; where
the detector runs on SageMaker, it uses those of long jobs.
"""

from pathlib import Path
from typing import Any, Final

from aws_cdk import Stack
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from boxdrop.store.orders import Kind
from boxdrop.system import VARIABLE, parameter_name
from boxdrop.topology import ORDER_ACCESS
from infra.config import Environment
from infra.constructs.batch import Fleet, add_definition, add_queue
from infra.constructs.function import log_group
from infra.constructs.network import Place, make_place
from infra.stacks.data import Data, use_keys

_REPOSITORY: Final = Path(__file__).parents[2]
_DISK_GB: Final = 150
"""The image takes 20 GB unpacked; the rest is for a data set's images and for checkpoints."""

_SHARED_MEMORY_MIB: Final = 4_096
_ATTEMPTS: Final = 10
"""Batch's maximum. Spot may take a machine away several times, and a training goes on each time; its order's
meter ends it when its machine time is used up."""

WITH_PYTORCH: Final[tuple[Kind, ...]] = ("train", "export")

_TEACH_HOURS: Final = 6.0
"""The most that teaching may take: 10,000 images of a large detector, and some interruptions."""


def queue_name(environment: Environment) -> str:
    """The queue of long jobs with PyTorch."""
    return f"{environment.prefix}-long"


def long_kinds(environment: Environment) -> tuple[Kind, ...]:
    """The kinds of work that the queue of long jobs does."""
    if environment.long_jobs is None:
        return ()
    return WITH_PYTORCH if environment.compute == "batch" else (*WITH_PYTORCH, "teach")


def teaches_in_account(environment: Environment) -> bool:
    """Whether a deployment has a queue that teaches."""
    return environment.compute == "batch" or environment.long_jobs is not None


def definition_name(environment: Environment, kind: Kind) -> str:
    """The job definition of a kind of long work."""
    return f"{environment.prefix}-{kind}"


def offers(environment: Environment) -> dict[str, dict[str, Any]]:
    """Where a deployment does long work, by its kind; see `boxdrop.account.placement.Offer`."""
    found: dict[str, dict[str, Any]] = {}
    if environment.compute == "batch":
        found["teach"] = {
            "queue": environment.prefix,
            "definition": definition_name(environment, "teach"),
            "machines": " or ".join(environment.instances),
            "usd_per_hour": max(environment.usd_per_hour, environment.long_usd_per_hour),
            "most_hours": _TEACH_HOURS,
        }
    for kind in long_kinds(environment):
        assert environment.long_jobs is not None
        found[kind] = {
            "queue": queue_name(environment),
            "definition": definition_name(environment, kind),
            "machines": " or ".join(environment.long_instances),
            "usd_per_hour": environment.long_usd_per_hour,
            "most_hours": environment.long_jobs.most_hours,
        }
    return found


class LongJobQueue(Construct):
    """The queue, its machines, and a job definition with a role for each kind of work.

    Args:
        place: the network of the detector's instances; None makes one.
    """

    def __init__(
        self, scope: Construct, *, environment: Environment, data: Data, place: Place | None
    ) -> None:
        super().__init__(scope, "LongJobs")
        settings = environment.long_jobs
        assert settings is not None
        name = queue_name(environment)
        fleet = Fleet(name, name, environment.long_instances, environment.long_ceilings, _DISK_GB)
        add_queue(self, environment, place or make_place(self, environment), fleet)
        written = log_group(self, "Log", environment, "long", data.key)
        image = settings.image_uri or self._image()
        for kind in long_kinds(environment):
            variables = {"HF_ENDPOINT": settings.hub_url} if settings.hub_url and kind != "teach" else {}
            add_order_definition(
                self,
                environment=environment,
                data=data,
                kind=kind,
                image=image,
                log_group=written,
                hours=settings.most_hours,
                variables=variables,
                shared_memory_mib=_SHARED_MEMORY_MIB,
            )

    def _image(self) -> str:
        asset = ecr_assets.DockerImageAsset(
            self,
            "Image",
            directory=str(_REPOSITORY),
            file="functions/job/Dockerfile.pytorch",
            platform=ecr_assets.Platform.LINUX_AMD64,
        )
        return asset.image_uri


class Teaching(Construct):
    """A job definition with a role for teaching, on the detector's queue and with its image.

    Args:
        log_group: the detector's.
    """

    def __init__(
        self, scope: Construct, *, environment: Environment, data: Data, image: str, log_group: logs.LogGroup
    ) -> None:
        super().__init__(scope, "Teaching")
        add_order_definition(
            self,
            environment=environment,
            data=data,
            kind="teach",
            image=image,
            log_group=log_group,
            hours=_TEACH_HOURS,
            variables={},
        )


def add_order_definition(
    scope: Construct,
    *,
    environment: Environment,
    data: Data,
    kind: Kind,
    image: str,
    log_group: logs.LogGroup,
    hours: float,
    variables: dict[str, str],
    shared_memory_mib: int | None = None,
) -> None:
    """A job definition with a role of its own, for one kind of order.

    Args:
        hours: the most that an attempt may take.
        variables: of the environment, beside those that every order needs.
        shared_memory_mib: see `add_definition`.
    """
    add_definition(
        scope,
        kind.capitalize(),
        name=definition_name(environment, kind),
        image=image,
        role=_role(scope, environment, data, kind),
        log_group=log_group,
        variables=order_variables(environment, data, kind) | variables,
        timeout_s=round(hours * 3600),
        attempts=_ATTEMPTS,
        shared_memory_mib=shared_memory_mib,
    )


def _role(scope: Construct, environment: Environment, data: Data, kind: Kind) -> iam.Role:
    role = order_role(scope, f"{kind.capitalize()}Role", environment, kind)
    objects, access = data.data.arn_for_objects, ORDER_ACCESS[kind]
    statements: dict[str, tuple[list[str], list[str]]] = {
        "Read": (["s3:GetObject"], [objects(f"{each}*") for each in access.reads]),
        "Write": (["s3:PutObject"], [objects(f"{each}*") for each in access.writes]),
        # Without it, S3 responds with 403 for a missing object.
        "List": (["s3:ListBucket"], [data.data.bucket_arn]),
    }
    if access.images:
        # The versions that were verified.
        statements["Images"] = (
            ["s3:GetObject", "s3:GetObjectVersion"],
            [data.images.arn_for_objects("*")],
        )
        statements["List"][1].append(data.images.bucket_arn)
    if access.labels:
        statements["Labels"] = (["s3:PutObject"], [data.images.arn_for_objects("*/labels.yaml")])
    if access.ledger:
        statements["ReadLedger"] = (["dynamodb:GetItem", "dynamodb:BatchGetItem"], [data.table.table_arn])
        statements["ListLedger"] = (["dynamodb:Query"], [f"{data.table.table_arn}/index/*"])
    allow(role, statements)
    use_keys(role, data)
    return role


def order_role(scope: Construct, id: str, environment: Environment, kind: Kind) -> iam.Role:
    """A role for jobs that work on orders: they find the system by its description."""
    role = iam.Role(
        scope,
        id,
        assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"),
        description=f"boxdrop {environment.name}: permissions of jobs that {kind}",
    )
    parameter = Stack.of(scope).format_arn(
        service="ssm", resource="parameter", resource_name=parameter_name(environment.name).removeprefix("/")
    )
    allow(role, {"System": (["ssm:GetParameter"], [parameter])})
    return role


def order_variables(environment: Environment, data: Data, kind: Kind) -> dict[str, str]:
    """Environment variables of a container that works on orders, see `functions.job.order`."""
    variables = {
        "BOXDROP_DATA_BUCKET": data.data.bucket_name,
        "BOXDROP_ORDER_KIND": kind,
        VARIABLE: environment.name,
    }
    return variables | ({"BOXDROP_PROVIDER": "cuda"} if kind == "teach" else {})


def allow(role: iam.Role, statements: dict[str, tuple[list[str], list[str]]]) -> None:
    """Add statements, each by its id: actions on resources."""
    for sid, (actions, resources) in statements.items():
        role.add_to_principal_policy(iam.PolicyStatement(sid=sid, actions=actions, resources=resources))
