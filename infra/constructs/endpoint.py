"""A SageMaker asynchronous endpoint that scales to zero."""

from typing import Any

from aws_cdk import Duration, Stack
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sns as sns
from constructs import Construct

from boxdrop.store.layout import SAGEMAKER
from infra.config import Environment
from infra.regions import SAGEMAKER_AMI


class AsyncEndpoint(Construct):
    """Model, endpoint and scaling.

    Two policies work together, as AWS describes: a step from zero as soon as there is a backlog without
    capacity, then a target of requests per instance, which also scales back to zero.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        environment: Environment,
        image: str,
        role: iam.Role,
        bucket: str,
        key_arn: str | None,
        variables: dict[str, str],
    ) -> None:
        super().__init__(scope, "Endpoint")
        name = environment.prefix
        topic = sns.Topic(self, "FailedShards", topic_name=_topic(environment), enforce_ssl=True)
        role.add_to_principal_policy(
            iam.PolicyStatement(sid="Tell", actions=["sns:Publish"], resources=[topic.topic_arn])
        )
        model = sagemaker.CfnModel(
            self,
            "Model",
            execution_role_arn=role.role_arn,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                image=image, environment=dict(sorted(variables.items()))
            ),
        )
        model.node.add_dependency(role)
        config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            production_variants=[
                sagemaker.CfnEndpointConfig.ProductionVariantProperty(
                    variant_name="gpu",
                    model_name=model.attr_model_name,
                    instance_type=environment.instances[0],
                    inference_ami_version=SAGEMAKER_AMI,
                    # An endpoint is created with one instance; scaling removes it within minutes.
                    initial_instance_count=1,
                    initial_variant_weight=1,
                    container_startup_health_check_timeout_in_seconds=600,
                )
            ],
            async_inference_config=sagemaker.CfnEndpointConfig.AsyncInferenceConfigProperty(
                client_config=sagemaker.CfnEndpointConfig.AsyncInferenceClientConfigProperty(
                    max_concurrent_invocations_per_instance=1
                ),
                output_config=sagemaker.CfnEndpointConfig.AsyncInferenceOutputConfigProperty(
                    # Outside predictions/, where every object is a part; failures go where a rule sees them.
                    s3_output_path=f"s3://{bucket}/{SAGEMAKER}answers/",
                    s3_failure_path=f"s3://{bucket}/{SAGEMAKER}failures/",
                    kms_key_id=key_arn,
                    notification_config=(
                        sagemaker.CfnEndpointConfig.AsyncInferenceNotificationConfigProperty(
                            error_topic=topic.topic_arn
                        )
                    ),
                ),
            ),
        )
        endpoint = sagemaker.CfnEndpoint(
            self, "Endpoint", endpoint_name=name, endpoint_config_name=config.attr_endpoint_config_name
        )
        target = scaling.CfnScalableTarget(
            self,
            "Scaling",
            service_namespace="sagemaker",
            resource_id=f"endpoint/{name}/variant/gpu",
            scalable_dimension="sagemaker:variant:DesiredInstanceCount",
            min_capacity=0,
            max_capacity=environment.max_instances,
        )
        target.add_dependency(endpoint)
        dimensions: list[Any] = [cloudwatch.CfnAlarm.DimensionProperty(name="EndpointName", value=name)]
        wake = scaling.CfnScalingPolicy(
            self,
            "FromZero",
            policy_name=f"{name}-from-zero",
            policy_type="StepScaling",
            scaling_target_id=target.ref,
            step_scaling_policy_configuration=scaling.CfnScalingPolicy.StepScalingPolicyConfigurationProperty(
                adjustment_type="ChangeInCapacity",
                metric_aggregation_type="Average",
                cooldown=300,
                step_adjustments=[
                    scaling.CfnScalingPolicy.StepAdjustmentProperty(
                        metric_interval_lower_bound=0, scaling_adjustment=1
                    )
                ],
            ),
        )
        cloudwatch.CfnAlarm(
            self,
            "Waiting",
            alarm_description="Scaling: requests wait and there is no instance. No action needed.",
            namespace="AWS/SageMaker",
            metric_name="HasBacklogWithoutCapacity",
            dimensions=dimensions,
            statistic="Average",
            period=60,
            evaluation_periods=1,
            threshold=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="notBreaching",
            alarm_actions=[wake.ref],
        )
        scaling.CfnScalingPolicy(
            self,
            "Backlog",
            policy_name=f"{name}-backlog",
            policy_type="TargetTrackingScaling",
            scaling_target_id=target.ref,
            target_tracking_scaling_policy_configuration=(
                scaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty(
                    target_value=2,
                    scale_in_cooldown=int(Duration.minutes(5).to_seconds()),
                    scale_out_cooldown=int(Duration.minutes(3).to_seconds()),
                    customized_metric_specification=(
                        scaling.CfnScalingPolicy.CustomizedMetricSpecificationProperty(
                            namespace="AWS/SageMaker",
                            metric_name="ApproximateBacklogSizePerInstance",
                            dimensions=[
                                scaling.CfnScalingPolicy.MetricDimensionProperty(
                                    name="EndpointName", value=name
                                )
                            ],
                            statistic="Average",
                        )
                    ),
                )
            ),
        )


def endpoint_arn(stack: Stack, environment: Environment) -> str:
    """The endpoint's ARN, by its name."""
    return stack.format_arn(service="sagemaker", resource="endpoint", resource_name=environment.prefix)


def topic_arn(stack: Stack, environment: Environment) -> str:
    """ARN of the topic for failed invocations, by its name."""
    return stack.format_arn(service="sns", resource=_topic(environment))


def _topic(environment: Environment) -> str:
    return f"{environment.prefix}-failed-shards"
