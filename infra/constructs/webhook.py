"""The receiver of Label Studio's webhook: an HTTP API with one route to one function.

These are functions, not a construct: a scope between the stack and its resources would change their logical
ids, and CloudFormation would replace the address that Label Studio calls.
"""

import json

from aws_cdk import Stack
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


def connect(
    stack: Stack, api: gateway.CfnApi, function_arn: str, environment: Environment, key: kms.IKey | None
) -> None:
    """Let the API call a function for ``POST /webhook``, and log the calls without their content."""
    logs = log_group(stack, "ApiLog", environment, "api", key)
    integration = gateway.CfnIntegration(
        stack,
        "ApiIntegration",
        api_id=api.ref,
        integration_type="AWS_PROXY",
        integration_uri=function_arn,
        payload_format_version="2.0",
    )
    gateway.CfnRoute(
        stack,
        "ApiRoute",
        api_id=api.ref,
        route_key="POST /webhook",
        authorization_type="NONE",
        target=f"integrations/{integration.ref}",
    )
    gateway.CfnStage(
        stack,
        "ApiStage",
        api_id=api.ref,
        stage_name="$default",
        auto_deploy=True,
        default_route_settings=gateway.CfnStage.RouteSettingsProperty(
            # The address is public. A refused call costs us a few millionths of a dollar.
            throttling_rate_limit=50,
            throttling_burst_limit=100,
            detailed_metrics_enabled=False,
        ),
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
    lambda_.CfnPermission(
        stack,
        "ApiMayCall",
        action="lambda:InvokeFunction",
        function_name=function_arn,
        principal="apigateway.amazonaws.com",
        source_arn=stack.format_arn(service="execute-api", resource=api.ref, resource_name="*/POST/webhook"),
    )
