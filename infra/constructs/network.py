"""The network of GPU instances: the user's VPC, or a new one that costs nothing while idle."""

from dataclasses import dataclass

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from infra.config import Environment


@dataclass(frozen=True, slots=True)
class Place:
    """Subnets and security groups of the instances."""

    vpc: ec2.IVpc
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]


def make_place(scope: Construct, environment: Environment) -> Place:
    """The user's network, or a VPC without NAT gateways.

    By default, instances are in public subnets with public addresses, and nothing may connect to them: a NAT
    gateway would cost $33 a month per zone. S3 traffic, which includes all images, uses a free gateway
    endpoint.
    """
    if environment.network:
        network = environment.network
        vpc = ec2.Vpc.from_vpc_attributes(
            scope,
            "Vpc",
            vpc_id=network.vpc_id,
            availability_zones=list(network.availability_zones),
            private_subnet_ids=list(network.subnet_ids),
        )
        groups = network.security_group_ids or (_closed(scope, vpc, environment).security_group_id,)
        return Place(vpc, network.subnet_ids, tuple(groups))
    kind = ec2.SubnetType.PRIVATE_ISOLATED if environment.private_network else ec2.SubnetType.PUBLIC
    made = ec2.Vpc(
        scope,
        "Vpc",
        vpc_name=environment.prefix,
        max_azs=environment.zone_count,
        nat_gateways=0,
        restrict_default_security_group=False,  # would add a function; nothing uses that group
        subnet_configuration=[
            ec2.SubnetConfiguration(
                name="instances",
                subnet_type=kind,
                cidr_mask=20,
                map_public_ip_on_launch=None if environment.private_network else True,
            )
        ],
        gateway_endpoints={
            "S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3),
        },
    )
    group = _closed(scope, made, environment)
    if environment.private_network:
        _add_endpoints(made, group)
    chosen = made.isolated_subnets if environment.private_network else made.public_subnets
    return Place(made, tuple(subnet.subnet_id for subnet in chosen), (group.security_group_id,))


def _closed(scope: Construct, vpc: ec2.IVpc, environment: Environment) -> ec2.SecurityGroup:
    return ec2.SecurityGroup(
        scope,
        "Instances",
        vpc=vpc,
        description=f"boxdrop {environment.name}: GPU instances; nothing may connect to them",
        allow_all_outbound=True,
    )


def _add_endpoints(vpc: ec2.Vpc, group: ec2.SecurityGroup) -> None:
    """Endpoints for an instance without a public address: container images, ECS, logs."""
    door = ec2.SecurityGroup(
        vpc, "EndpointsGroup", vpc=vpc, allow_all_outbound=False, description="boxdrop: interface endpoints"
    )
    door.add_ingress_rule(group, ec2.Port.tcp(443), "the instances")
    services = ec2.InterfaceVpcEndpointAwsService
    for name, service in {
        "EcrApi": services.ECR,
        "EcrDocker": services.ECR_DOCKER,
        "Ecs": services.ECS,
        "EcsAgent": services.ECS_AGENT,
        "EcsTelemetry": services.ECS_TELEMETRY,
        "Logs": services.CLOUDWATCH_LOGS,
    }.items():
        vpc.add_interface_endpoint(name, service=service, security_groups=[door], open=False)
