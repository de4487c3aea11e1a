"""The network of the functions that call Label Studio or ZenML, where these have no public address."""

from dataclasses import dataclass

from aws_cdk import Stack
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from infra.config import Environment
from infra.settings import FunctionsNetwork


@dataclass(frozen=True, slots=True)
class FunctionsPlace:
    """Subnets and security groups of functions."""

    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]


def make_functions_place(scope: Construct, environment: Environment) -> FunctionsPlace | None:
    """The user's subnets, with the endpoints that the functions call if route tables are named.

    S3 and DynamoDB have gateway endpoints, which are free; SQS and Secrets Manager have interface endpoints.
    Logs and metrics leave a function through Lambda itself.
    """
    network = environment.functions_network
    if network is None:
        return None
    groups = network.security_group_ids
    if not groups:
        group = ec2.CfnSecurityGroup(
            scope,
            "Functions",
            vpc_id=network.vpc_id,
            group_description=f"boxdrop {environment.name}: functions; nothing may connect to them",
            security_group_egress=[
                ec2.CfnSecurityGroup.EgressProperty(
                    ip_protocol="-1", cidr_ip="0.0.0.0/0", description="AWS, Label Studio and ZenML"
                )
            ],
        )
        groups = (group.attr_group_id,)
    if network.route_table_ids:
        _add_endpoints(scope, environment.name, network, groups)
    return FunctionsPlace(network.subnet_ids, groups)


def _add_endpoints(scope: Construct, name: str, network: FunctionsNetwork, groups: tuple[str, ...]) -> None:
    region = Stack.of(scope).region
    for id, service in {"S3": "s3", "DynamoDb": "dynamodb"}.items():
        ec2.CfnVPCEndpoint(
            scope,
            f"{id}Endpoint",
            service_name=f"com.amazonaws.{region}.{service}",
            vpc_endpoint_type="Gateway",
            vpc_id=network.vpc_id,
            route_table_ids=list(network.route_table_ids),
        )
    door = ec2.CfnSecurityGroup(
        scope,
        "Endpoints",
        vpc_id=network.vpc_id,
        group_description=f"boxdrop {name}: endpoints that the functions call",
        security_group_ingress=[
            ec2.CfnSecurityGroup.IngressProperty(
                ip_protocol="tcp",
                from_port=443,
                to_port=443,
                source_security_group_id=group,
                description="the functions",
            )
            for group in groups
        ],
    )
    for id, service in {"Sqs": "sqs", "Secrets": "secretsmanager"}.items():
        ec2.CfnVPCEndpoint(
            scope,
            f"{id}Endpoint",
            service_name=f"com.amazonaws.{region}.{service}",
            vpc_endpoint_type="Interface",
            vpc_id=network.vpc_id,
            subnet_ids=list(network.subnet_ids),
            security_group_ids=[door.attr_group_id],
            private_dns_enabled=True,
        )
