"""The address at which Label Studio reports that people worked: an HTTP API, to one function.

Two routes lead to it. The one that Label Studio is given ends with the stack's own UUID, which strangers do
not know; calls of it are never starved by a flood of the other one. ``POST /webhook`` is the address that
earlier versions gave to Label Studio; it goes on working, for a few calls a second.

These are functions, not a construct: a scope between the stack and its resources would change their logical
ids, and CloudFormation would replace the address that Label Studio calls.
"""

import json

from aws_cdk import Fn, Stack
from aws_cdk import aws_apigatewayv2 as gateway
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_

from infra.config import Environment
from infra.constructs.function import log_group


def make_api(stack: Stack, environment: Environment) -> gateway.CfnApi:
    """The API, still without a route: functions get its address before the called function exists."""
    return gateway.CfnApi(
        stack,
        "Api",
        name=f"{environment.prefix}-webhook",
        description="Receives Label Studio's webhook",
        protocol_type="HTTP",
    )


def webhook_url(stack: Stack, api: gateway.CfnApi) -> str:
    """The address that Label Studio calls."""
    return f"{api.attr_api_endpoint}{_path(stack)}"


def _path(stack: Stack) -> str:
    uuid = Fn.select(2, Fn.split("/", stack.stack_id))
    return f"/webhook/{uuid}"


def connect(
    stack: Stack, api: gateway.CfnApi, function_arn: str, environment: Environment, key: kms.IKey | None
) -> None:
    """Let the API call a function, and log the calls without their content."""
    logs = log_group(stack, "ApiLog", environment, "api", key)
    integration = gateway.CfnIntegration(
        stack,
        "ApiIntegration",
        api_id=api.ref,
        integration_type="AWS_PROXY",
        integration_uri=function_arn,
        payload_format_version="2.0",
    )
    routes = [
        gateway.CfnRoute(
            stack,
            id,
            api_id=api.ref,
            route_key=f"POST {path}",
            authorization_type="NONE",
            target=f"integrations/{integration.ref}",
        )
        for id, path in (("ApiRoute", "/webhook"), ("ApiRouteOwn", _path(stack)))
    ]
    stage = gateway.CfnStage(
        stack,
        "ApiStage",
        api_id=api.ref,
        stage_name="$default",
        auto_deploy=True,
        default_route_settings=gateway.CfnStage.RouteSettingsProperty(
            throttling_rate_limit=50,
            throttling_burst_limit=100,
            detailed_metrics_enabled=False,
        ),
        # What strangers can find. A flood of refused calls costs nothing, and these two a second $8 a month
        # (docs/costs.md).
        route_settings={"POST /webhook": {"ThrottlingRateLimit": 2, "ThrottlingBurstLimit": 10}},
        access_log_settings=gateway.CfnStage.AccessLogSettingsProperty(
            destination_arn=logs.log_group_arn,
            # Neither headers, which contain the secret, nor the body, which contains annotations.
            format=json.dumps(
                {
                    "requestId": "$context.requestId",
                    "time": "$context.requestTime",
                    "route": "$context.routeKey",
                    "status": "$context.status",
                    "error": "$context.integrationErrorMessage",
                    "ms": "$context.responseLatency",
                }
            ),
        ),
    )
    for route in routes:
        stage.node.add_dependency(route)
    lambda_.CfnPermission(
        stack,
        "ApiMayCall",
        action="lambda:InvokeFunction",
        function_name=function_arn,
        principal="apigateway.amazonaws.com",
        source_arn=stack.format_arn(service="execute-api", resource=api.ref, resource_name="*/POST/webhook*"),
    )
