"""The monthly budget: what it counts, and the regions whose CloudFormation cannot make it.

A function and not a construct, so that the budget keeps its logical id.
"""

from typing import Final

from aws_cdk import Annotations, Stack
from aws_cdk import aws_budgets as budgets

from infra.config import COST_TAG, Environment
from infra.regions import WITHOUT_BUDGETS

_SERVICES: Final = (
    "Amazon API Gateway",
    "Amazon DynamoDB",
    "Amazon Simple Queue Service",
    "Amazon Simple Storage Service",
    "AmazonCloudWatch",
    "AWS Lambda",
    "AWS Secrets Manager",
    "EC2 - Other",
)
"""Names of AWS's bills. Data transfer and disks of instances are in *EC2 - Other*."""

_MACHINES: Final = {"batch": "Amazon Elastic Compute Cloud - Compute", "sagemaker": "Amazon SageMaker"}


def add_budget(stack: Stack, environment: Environment, dollars: float, topic_arn: str) -> None:
    """Add the budget, or a warning where the region has none.

    An inactive cost allocation tag matches no cost at all, and a budget that filters by it would stay at $0.
    So until the settings say that it is active, the budget counts services, those of other systems in the
    account included.
    """
    if environment.chosen_region in WITHOUT_BUDGETS:
        Annotations.of(stack).add_warning_v2(
            "boxdrop:budget",
            f"CloudFormation cannot make a budget in {environment.chosen_region}. Make one in the Billing "
            "console, or set monthly_budget_usd to null (docs/deploy.md#without-a-budget).",
        )
        return
    if environment.cost_tag_active:
        filters = {"TagKeyValue": [f"user:{COST_TAG}${environment.name}"]}
    else:
        filters = {"Service": sorted((*_SERVICES, _MACHINES[environment.compute]))}
    budgets.CfnBudget(
        stack,
        "Budget",
        budget=budgets.CfnBudget.BudgetDataProperty(
            budget_name=environment.prefix,
            budget_type="COST",
            time_unit="MONTHLY",
            budget_limit=budgets.CfnBudget.SpendProperty(amount=dollars, unit="USD"),
            cost_filters=filters,
        ),
        notifications_with_subscribers=[
            budgets.CfnBudget.NotificationWithSubscribersProperty(
                notification=budgets.CfnBudget.NotificationProperty(
                    comparison_operator="GREATER_THAN",
                    notification_type=kind,
                    threshold=percent,
                    threshold_type="PERCENTAGE",
                ),
                subscribers=[
                    budgets.CfnBudget.SubscriberProperty(address=topic_arn, subscription_type="SNS")
                ],
            )
            for kind, percent in (("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100))
        ],
    )
