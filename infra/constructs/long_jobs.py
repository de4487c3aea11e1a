"""Long jobs in the account: training and export, with PyTorch, on machines that start for one job.

They have a queue of their own, so that a training of hours holds no detector up.
"""

from pathlib import Path
from typing import Any, Final

from aws_cdk import Stack
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_iam as iam
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


def queue_name(environment: Environment) -> str:
    """The queue of long jobs with PyTorch."""
    return f"{environment.prefix}-long"


def definition_name(environment: Environment, kind: Kind) -> str:
    """The job definition of a kind of long work."""
    return f"{environment.prefix}-{kind}"


def offers(environment: Environment) -> dict[str, dict[str, Any]]:
    """Where a deployment does long work, by its kind; see `boxdrop.account.placement.Offer`."""
    if environment.long_jobs is None:
        return {}
    return {
        kind: {
            "queue": queue_name(environment),
            "definition": definition_name(environment, kind),
            "machines": " or ".join(environment.long_instances),
            "usd_per_hour": environment.long_usd_per_hour,
            "most_hours": environment.long_jobs.most_hours,
        }
        for kind in WITH_PYTORCH
    }


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
        logs = log_group(self, "Log", environment, "long", data.key)
        image = settings.image_uri or self._image()
        for kind in WITH_PYTORCH:
            variables = order_variables(environment, data, kind)
            if settings.hub_url:
                variables["HF_ENDPOINT"] = settings.hub_url
            add_definition(
                self,
                kind.capitalize(),
                name=definition_name(environment, kind),
                image=image,
                role=self._role(environment, data, kind),
                log_group=logs,
                variables=variables,
                timeout_s=round(settings.most_hours * 3600),
                attempts=_ATTEMPTS,
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

    def _role(self, environment: Environment, data: Data, kind: Kind) -> iam.Role:
        role = order_role(self, f"{kind.capitalize()}Role", environment, kind)
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
    return {
        "BOXDROP_DATA_BUCKET": data.data.bucket_name,
        "BOXDROP_ORDER_KIND": kind,
        VARIABLE: environment.name,
    }


def allow(role: iam.Role, statements: dict[str, tuple[list[str], list[str]]]) -> None:
    """Add statements, each by its id: actions on resources."""
    for sid, (actions, resources) in statements.items():
        role.add_to_principal_policy(iam.PolicyStatement(sid=sid, actions=actions, resources=resources))
