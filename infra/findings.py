"""cdk-nag's AwsSolutions pack, and its findings that were looked at and stay, each with its own reason.

cdk-nag 3 wants each finding acknowledged by its exact resource, which for a reference into another stack is
the name of an export with a hash in it. So the pack runs after synthesis, and this table, which reads as
sentences, is held against what it found. Whatever is not in it fails synthesis.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aws_cdk import App
from cdk_nag import AwsSolutionsChecks


@dataclass(frozen=True, slots=True)
class Finding:
    """What cdk-nag says about one construct; `detail` is what is between brackets, such as a wildcard."""

    rule: str
    path: str
    detail: str
    text: str

    def __str__(self) -> str:
        detail = f" [{self.detail}]" if self.detail else ""
        return f"{self.rule}{detail} at {self.path}: {self.text}"


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Findings that stay. Path (without ``boxdrop-ENV-``) and detail are regular expressions."""

    rule: str
    path: str
    detail: str
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Whether this is about that finding."""
        path = re.sub(r"^boxdrop-.*?-(?=(data|compute|pipeline|monitoring)/)", "", finding.path)
        return (
            finding.rule == self.rule
            and re.match(self.path, path) is not None
            and re.search(self.detail, finding.detail) is not None
        )


_FUNCTION: Final = r"pipeline/(Dispatch|Launch|Publish|Webhook|Collect|Reconcile|Track)/"

ACKNOWLEDGED: Final = (
    Acknowledged(
        "S1", r"data/(ImageBucket|DataBucket)/", "",
        "Access logs cost storage for ever and need a bucket of their own; whoever wants them names one as "
        "access_log_bucket.",
    ),
    Acknowledged(
        "SMG4", r"data/(LabelStudio|Webhook|Zenml)Secret", "",
        "Label Studio's or ZenML's token, or a header that Label Studio sends: nothing in AWS can make a new "
        "one. docs/operations.md tells how people rotate them.",
    ),
    Acknowledged(
        "L1", rf"({_FUNCTION}|data/Notifications)", "",
        "The newest Python that all packages have wheels for: numpy and pandas, as Label Studio's SDK pins "
        "them, have none for a newer one.",
    ),
    Acknowledged(
        "VPC7", r"compute/Batch/Vpc/", "",
        "Nothing can connect to these instances, and what they send is images to and from S3. Whoever must "
        "keep flow logs brings a VPC that has them.",
    ),
    Acknowledged(
        "APIG4", r"pipeline/ApiRoute", "",
        "Label Studio can sign nothing: it sends a secret header, which the function compares in constant "
        "time, and from what passes it takes ids alone.",
    ),
    Acknowledged(
        "IAM4", r"compute/Batch/InstanceRole/", r"AmazonEC2ContainerServiceforEC2Role$",
        "AWS keeps this policy in step with what its ECS agent calls; a copy would break with a new agent. "
        "The job itself has another role.",
    ),
    Acknowledged(
        "IAM5", _FUNCTION, r"^Resource::<\w+Log\w+\.Arn>:\*$", "The streams of the function's own log group."
    ),
    Acknowledged("IAM5", r"data/NotificationsRole/", r"Log\w+\.Arn>:\*$", "Streams of its own log group."),
    Acknowledged(
        "IAM5", rf"{_FUNCTION}(?!Launch|Reconcile)", r"^Resource::\*$", "X-Ray takes no resource."
    ),
    Acknowledged(
        "IAM5", r"pipeline/(Launch|Reconcile)/", r"^Resource::\*$",
        "X-Ray takes no resource, nor do Batch's ListJobs and DescribeJobs, which only read.",
    ),
    Acknowledged(
        "IAM5", r"pipeline/Launch/", r"batch:.*:job-definition/[\w-]+:\*$",
        "Each deployment of the job makes a new revision of the definition.",
    ),
    Acknowledged(
        "IAM5", r"pipeline/Launch/", r"batch:.*:job/\*$",
        "A job is tagged with its run as it is submitted, before it has an id.",
    ),
    Acknowledged(
        "IAM5", _FUNCTION, r"(Ledger\w*Arn\w*|<Ledger\w+\.Arn>)/index/\*$", "The ledger's one index."
    ),
    Acknowledged(
        "IAM5", r"(pipeline/(Dispatch|Publish|Reconcile|Track)|compute/JobRole|data/LabelStudioReads)/",
        r"(Image\w*Arn\w*|<ImageBucket\w+\.Arn>|s3:::[\w.-]+)/\*$",
        "Every image of the image bucket, to be read.",
    ),
    Acknowledged(
        "IAM5", rf"({_FUNCTION}|compute/JobRole/|data/LabelStudioReads/)",
        r"/(annotations|bundles|display|labelsets|lessons|predictions|reviews|runs|sagemaker|tracked|zenml)/\*$",
        "Objects are named after images, labels and runs that do not exist yet: each role has its prefixes.",
    ),
    Acknowledged(
        "IAM5", r"compute/JobRole/", r"(:repository/\*|log-group:/aws/sagemaker/Endpoints/.*:\*)$",
        "SageMaker pulls the image, from whichever repository CDK or the user put it in, and names its log.",
    ),
    Acknowledged(
        "IAM5", r"compute/JobRole/", r"^Resource::\*$",
        "ECR's log-in and CloudWatch's metrics take no resource; metrics are held to SageMaker's namespaces.",
    ),
)  # fmt: skip


def findings(app: App) -> Iterator[Finding]:
    """All that cdk-nag finds in a synthesized app."""
    report = AwsSolutionsChecks(app).validate_scope(app)
    for violation in report.violations:
        name, _, detail = violation.rule_name.partition("[")
        for resource in violation.violating_resources:
            yield Finding(
                name.removeprefix("AwsSolutions-"), resource.construct_path or "", detail.removesuffix("]"),
                violation.description,
            )  # fmt: skip


def open_findings(app: App) -> list[Finding]:
    """What nobody has looked at."""
    return [each for each in findings(app) if not any(known.covers(each) for known in ACKNOWLEDGED)]
