"""cdk-nag's AwsSolutions pack, and the findings that were reviewed and accepted, each with its reason.

cdk-nag 3 requires acknowledging each finding by its exact resource, which for a reference to another stack is
the name of an export with a hash in it. So the pack runs after synthesis, and its findings are compared with
this readable table. A finding that is not in the table fails synthesis.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aws_cdk import App
from cdk_nag import AwsSolutionsChecks


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding about one construct; `detail` is the part in brackets, such as a wildcard."""

    rule: str
    path: str
    detail: str
    text: str

    def __str__(self) -> str:
        detail = f" [{self.detail}]" if self.detail else ""
        return f"{self.rule}{detail} at {self.path}: {self.text}"


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An accepted kind of finding. Path (without ``boxdrop-ENV-``) and detail are regular expressions."""

    rule: str
    path: str
    detail: str
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Whether this accepts the finding."""
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
        "Access logs need a bucket of their own, and their storage costs grow; users who want them set "
        "access_log_bucket.",
    ),
    Acknowledged(
        "SMG4", r"data/(LabelStudio|Webhook|Zenml)Secret", "",
        "Label Studio's or ZenML's token, or a header that Label Studio sends: AWS cannot create a new one. "
        "docs/operations.md describes how to rotate them.",
    ),
    Acknowledged(
        "L1", rf"({_FUNCTION}|data/Notifications)", "",
        "The newest Python for which all packages have wheels: numpy and pandas, in the versions that Label "
        "Studio's SDK pins, have none for a newer one.",
    ),
    Acknowledged(
        "VPC7", r"compute/(Batch|LongJobs)/Vpc/", "",
        "Nothing can connect to these instances, and their traffic is images from and to S3. Users who must "
        "keep flow logs provide a VPC that has them.",
    ),
    Acknowledged(
        "APIG4", r"pipeline/ApiRoute", "",
        "Label Studio cannot sign requests: it sends a secret header, which the function compares in "
        "constant time; from valid requests the function uses only ids.",
    ),
    Acknowledged(
        "IAM4", r"compute/(Batch|LongJobs)/InstanceRole/", r"AmazonEC2ContainerServiceforEC2Role$",
        "AWS updates this policy with its ECS agent; a copy would break with a new agent. The job itself "
        "has another role.",
    ),
    Acknowledged(
        "IAM5", _FUNCTION, r"^Resource::<\w+Log\w+\.Arn>:\*$", "The log streams of the function's own log "
                                                               "group."
    ),
    Acknowledged("IAM5", r"data/NotificationsRole/", r"Log\w+\.Arn>:\*$", "Log streams of its own log "
                                                                          "group."),
    Acknowledged(
        "IAM5", rf"{_FUNCTION}(?!Launch|Reconcile)", r"^Resource::\*$",
        "X-Ray has no resource-level permissions, nor has Lambda's network in a VPC.",
    ),
    Acknowledged(
        "IAM5", r"pipeline/(Launch|Reconcile)/", r"^Resource::\*$",
        "X-Ray has no resource-level permissions, nor do Batch's read-only ListJobs and DescribeJobs.",
    ),
    Acknowledged(
        "IAM5", r"pipeline/(Launch|Reconcile)/", r"batch:.*:job-definition/[\w-]+:\*$",
        "Each deployment of the job creates a new revision of the definition.",
    ),
    Acknowledged(
        "IAM5", r"pipeline/(Launch|Reconcile)/", r"batch:.*:job/\*$",
        "A job is tagged with its run or order when it is submitted, before it has an id.",
    ),
    Acknowledged(
        "IAM5", _FUNCTION, r"""(Ledger\w*Arn\w*["}]*|<Ledger\w+\.Arn>)/index/\*$""", "The ledger's one index."
    ),
    Acknowledged(
        "IAM5",
        r"(pipeline/(Dispatch|Publish|Reconcile|Track)|compute/(JobRole|LongJobs/TrainRole|\w+/TeachRole)|data/LabelStudioReads)/",
        r"""(Image\w*Arn\w*["}]*|<ImageBucket\w+\.Arn>|s3:::[\w.-]+)/\*$""",
        "Read access to every image in the image bucket.",
    ),
    Acknowledged(
        "IAM5", rf"({_FUNCTION}|compute/(JobRole|(LongJobs|Teaching)/\w+Role)/|data/LabelStudioReads/)",
        r"/(annotations|boxes|bundles|datasets|display|labelsets|lessons|orders|predictions|reviews|runs|sagemaker"
        r"|tracked|trainings|zenml)/\*$",
        "Objects are named after future images, labels and runs; each role is limited to its prefixes.",
    ),
    Acknowledged(
        "IAM5", r"compute/(LongJobs|Teaching)/TeachRole/", r"/\*/labels\.yaml$",
        "A lesson comes into force in the labels.yaml of any project, and in no other object of the bucket.",
    ),
    Acknowledged(
        "IAM5", r"compute/(LongJobs|Teaching)/TeachRole/",
        r"""(Ledger\w*Arn\w*["}]*|<Ledger\w+\.Arn>)/index/\*$""", "The ledger's one index."
    ),
    Acknowledged(
        "IAM5", r"compute/JobRole/", r"(:repository/\*|log-group:/aws/sagemaker/Endpoints/.*:\*)$",
        "SageMaker pulls the image from the repository that CDK or the user chose, and names the log group "
        "itself.",
    ),
    Acknowledged(
        "IAM5", r"compute/JobRole/", r"^Resource::\*$",
        "ECR's log-in and CloudWatch's metrics have no resource-level permissions; metrics are limited to "
        "SageMaker's namespaces.",
    ),
)  # fmt: skip


def findings(app: App) -> Iterator[Finding]:
    """All cdk-nag findings in a synthesized app."""
    report = AwsSolutionsChecks(app).validate_scope(app)
    for violation in report.violations:
        name, _, detail = violation.rule_name.partition("[")
        for resource in violation.violating_resources:
            yield Finding(
                name.removeprefix("AwsSolutions-"), resource.construct_path or "", detail.removesuffix("]"),
                violation.description,
            )  # fmt: skip


def open_findings(app: App) -> list[Finding]:
    """The findings that are not accepted."""
    return [each for each in findings(app) if not any(known.covers(each) for known in ACKNOWLEDGED)]
