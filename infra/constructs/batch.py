"""AWS Batch on GPU instances: from zero, Spot first, on-demand second, and back to zero."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from aws_cdk import Stack, Tags
from aws_cdk import aws_batch as batch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.config import COST_TAG, VCPUS, Environment
from infra.constructs.network import Place, make_place

MEMORY_MIB: Final = 14_000
"""An xlarge has 16,384. The system and the ECS agent need some, and a job that requests more is never
placed."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The instances behind a job queue.

    Attributes:
        name: of the queue.
        tag: the instances' name.
        instances: types.
        ceilings: most vCPUs at once of each kind, Spot first.
        disk_gb: of each instance.
    """

    name: str
    tag: str
    instances: tuple[str, ...]
    ceilings: Mapping[Literal["SPOT", "EC2"], int]
    disk_gb: int = 60


class GpuQueue(Construct):
    """The detector's job queue, its compute environments and the job definition.

    Queue and definition have fixed names that the pipeline knows, so its stack does not depend on this one.
    Compute environments have none, since CloudFormation may have to replace them.

    Attributes:
        place: the instances' network.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        environment: Environment,
        image: str,
        role: iam.Role,
        log_group: logs.LogGroup,
        variables: dict[str, str],
    ) -> None:
        super().__init__(scope, "Batch")
        self.place = make_place(self, environment)
        fleet = Fleet(
            environment.prefix, f"{environment.prefix}-job", environment.instances, environment.ceilings
        )
        self.queue = add_queue(self, environment, self.place, fleet)
        self.definition = add_definition(
            self,
            "Definition",
            name=environment.prefix,
            image=image,
            role=role,
            log_group=log_group,
            variables=variables,
            timeout_s=environment.job_timeout_s,
        )


def add_queue(scope: Construct, environment: Environment, place: Place, fleet: Fleet) -> batch.CfnJobQueue:
    """A job queue with compute environments of its own."""
    profile = _instance_profile(scope, environment)
    template = _launch_template(scope, environment, fleet.disk_gb)
    environments = [
        batch.CfnComputeEnvironment(
            scope,
            "Spot" if kind == "SPOT" else "OnDemand",
            type="MANAGED",
            state="ENABLED",
            replace_compute_environment=False,
            update_policy=batch.CfnComputeEnvironment.UpdatePolicyProperty(
                job_execution_timeout_minutes=60, terminate_jobs_on_update=False
            ),
            compute_resources=batch.CfnComputeEnvironment.ComputeResourcesProperty(
                type=kind,
                allocation_strategy=(
                    "SPOT_PRICE_CAPACITY_OPTIMIZED" if kind == "SPOT" else "BEST_FIT_PROGRESSIVE"
                ),
                # No desiredv_cpus: Batch changes it, and refuses an update that sets it lower again.
                minv_cpus=0,
                maxv_cpus=ceiling,
                instance_types=list(fleet.instances),
                instance_role=profile.attr_arn,
                subnets=list(place.subnets),
                security_group_ids=list(place.security_groups),
                ec2_configuration=[
                    batch.CfnComputeEnvironment.Ec2ConfigurationObjectProperty(image_type="ECS_AL2023_NVIDIA")
                ],
                launch_template=batch.CfnComputeEnvironment.LaunchTemplateSpecificationProperty(
                    launch_template_id=template.ref, version=template.attr_latest_version_number
                ),
                # A compute environment's own tags do not reach its instances: these do.
                tags={"Name": fleet.tag, COST_TAG: environment.name, **environment.tags},
                update_to_latest_image_version=True,
            ),
        )
        for kind, ceiling in fleet.ceilings.items()
    ]
    for each in environments:
        each.node.add_dependency(place.vpc)
    return batch.CfnJobQueue(
        scope,
        "Queue",
        job_queue_name=fleet.name,
        priority=1,
        state="ENABLED",
        compute_environment_order=[
            batch.CfnJobQueue.ComputeEnvironmentOrderProperty(
                compute_environment=each.attr_compute_environment_arn, order=order
            )
            for order, each in enumerate(environments, 1)
        ],
        # Without this, a job that fits no instance type blocks the queue forever.
        job_state_time_limit_actions=[
            batch.CfnJobQueue.JobStateTimeLimitActionProperty(
                action="CANCEL", max_time_seconds=seconds, reason=reason, state="RUNNABLE"
            )
            for reason, seconds in {
                "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE": 600,
                "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT": 600,
            }.items()
        ],
    )


def add_definition(
    scope: Construct,
    id: str,
    *,
    name: str,
    image: str,
    role: iam.Role,
    log_group: logs.LogGroup,
    variables: Mapping[str, str],
    timeout_s: int,
    attempts: int = 5,
    shared_memory_mib: int | None = None,
) -> batch.CfnJobDefinition:
    """A job definition for one GPU.

    Args:
        timeout_s: of an attempt; a submission may set another.
        attempts: at most, the first included.
        shared_memory_mib: for processes that load images; None: Docker's 64 MiB.
    """
    return batch.CfnJobDefinition(
        scope,
        id,
        job_definition_name=name,
        type="container",
        platform_capabilities=["EC2"],
        propagate_tags=True,
        timeout=batch.CfnJobDefinition.TimeoutProperty(attempt_duration_seconds=timeout_s),
        retry_strategy=batch.CfnJobDefinition.RetryStrategyProperty(
            attempts=attempts,
            # The first matching rule decides. The loss of a Spot instance is not the job's fault, most
            # other failures are; then reconcile returns its images to another run.
            evaluate_on_exit=[
                batch.CfnJobDefinition.EvaluateOnExitProperty(action="RETRY", on_status_reason="Host EC2*"),
                # EX_TEMPFAIL: it was asked to stop, or S3 did not respond.
                batch.CfnJobDefinition.EvaluateOnExitProperty(action="RETRY", on_exit_code="75"),
                batch.CfnJobDefinition.EvaluateOnExitProperty(action="EXIT", on_reason="*"),
            ],
        ),
        container_properties=batch.CfnJobDefinition.ContainerPropertiesProperty(
            image=image,
            job_role_arn=role.role_arn,
            privileged=False,
            environment=[
                batch.CfnJobDefinition.EnvironmentProperty(name=each, value=value)
                for each, value in sorted(variables.items())
            ],
            resource_requirements=[
                batch.CfnJobDefinition.ResourceRequirementProperty(type=type_, value=str(value))
                for type_, value in (("VCPU", VCPUS), ("MEMORY", MEMORY_MIB), ("GPU", 1))
            ],
            linux_parameters=(
                None
                if shared_memory_mib is None
                else batch.CfnJobDefinition.LinuxParametersProperty(shared_memory_size=shared_memory_mib)
            ),
            log_configuration=batch.CfnJobDefinition.LogConfigurationProperty(
                log_driver="awslogs",
                options={
                    "awslogs-group": log_group.log_group_name,
                    "awslogs-stream-prefix": "job",
                },
            ),
        ),
    )


def _instance_profile(scope: Construct, environment: Environment) -> iam.CfnInstanceProfile:
    role = iam.Role(
        scope,
        "InstanceRole",
        assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
        description=f"boxdrop {environment.name}: permissions of a GPU instance's ECS agent, not of the job",
        managed_policies=[
            iam.ManagedPolicy.from_aws_managed_policy_name("service-role/AmazonEC2ContainerServiceforEC2Role")
        ],
    )
    return iam.CfnInstanceProfile(scope, "InstanceProfile", roles=[role.role_name])


def _launch_template(scope: Construct, environment: Environment, disk_gb: int) -> ec2.CfnLaunchTemplate:
    template = ec2.CfnLaunchTemplate(
        scope,
        "Template",
        launch_template_data=ec2.CfnLaunchTemplate.LaunchTemplateDataProperty(
            block_device_mappings=[
                ec2.CfnLaunchTemplate.BlockDeviceMappingProperty(
                    device_name="/dev/xvda",
                    ebs=ec2.CfnLaunchTemplate.EbsProperty(
                        encrypted=True,
                        volume_size=disk_gb,
                        volume_type="gp3",
                        delete_on_termination=True,
                    ),
                )
            ],
            # The job asks the metadata service what the instance is and whether it is on Spot, for the
            # costs of its run. A container reaches it through Docker's bridge, a second hop.
            metadata_options=ec2.CfnLaunchTemplate.MetadataOptionsProperty(
                http_tokens="required", http_put_response_hop_limit=2
            ),
        ),
    )
    Tags.of(template).add(COST_TAG, environment.name)
    return template


def queue_arn(stack: Stack, name: str) -> str:
    """A job queue's ARN, by its name."""
    return stack.format_arn(service="batch", resource="job-queue", resource_name=name)


def definition_arns(stack: Stack, name: str) -> list[str]:
    """A job definition's ARN, for any revision."""
    return [
        stack.format_arn(service="batch", resource="job-definition", resource_name=each)
        for each in (name, f"{name}:*")
    ]
