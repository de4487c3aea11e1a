"""What a deployment needs of its AWS account and region."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from boxdrop.doctor.lines import Line, MakeClient, NotOkError, look_at_each
from boxdrop.doctor.plan import GPU_INSTANCES, Plan
from boxdrop.topology import OPTIONAL, READERS, WEBHOOK_RESERVE, concurrencies

QUOTAS: Final = {
    "L-3819A6DF": ("vCPUs of G instances on Spot", "All G and VT Spot Instance Requests"),
    "L-DB2E81BA": ("vCPUs of G instances on demand", "Running On-Demand G and VT instances"),
}
_BOOTSTRAP: Final = "/cdk-bootstrap/hnb659fds/version"
_OLDEST_BOOTSTRAP: Final = 6
_LEAST_VCPUS: Final = 4  # of an xlarge
_COST_TAG: Final = "boxdrop:environment"
_SPOT_ROLE: Final = "AWSServiceRoleForEC2Spot"


def look_at_account(make_client: MakeClient, plan: Plan | None = None) -> Iterator[Line]:
    """What a deployment needs of the account and region.

    Args:
        make_client: makes boto3's client of a service.
        plan: what is going to be deployed; the defaults if none is known.
    """
    plan = plan or Plan()
    looks: list[tuple[str, Callable[[], str]]] = [
        ("Credentials", lambda: _credentials(make_client)),
        ("CDK bootstrap", lambda: _bootstrap(make_client)),
    ]
    if plan.compute == "batch":
        looks.append(("GPU instance types", lambda: _offered(make_client, plan)))
        looks += [
            (f"Quota: {name}", lambda code=code, title=title: vcpus(make_client, code, title))  # type: ignore[misc]
            for code, (name, title) in QUOTAS.items()
        ]
        looks.append(("Spot", lambda: _spot_role(make_client)))
    else:
        kind = plan.endpoint_type
        looks.append((f"Quota: {kind} endpoints", lambda: _endpoints(make_client, kind)))
    looks.append(("Calls of functions at once", lambda: _concurrency(make_client, plan)))
    if plan.image_bucket:
        looks.append(("Image bucket", lambda: region_of_bucket(make_client, plan.image_bucket or "")))
    if plan.name and not plan.adopts:
        looks.append(("Left by an earlier deployment", lambda: _left(make_client, plan.name)))
    looks.append(("Cost allocation tag", lambda: _cost_tag(make_client)))
    return look_at_each(looks)


def _credentials(make_client: MakeClient) -> str:
    identity = make_client("sts").get_caller_identity()
    return f"account {identity['Account']}, as {identity['Arn'].rpartition(':')[2]}"


def _bootstrap(make_client: MakeClient) -> str:
    ssm = make_client("ssm")
    fix = "run once for this account and region: npx cdk bootstrap"
    try:
        version = int(ssm.get_parameter(Name=_BOOTSTRAP)["Parameter"]["Value"])
    except ssm.exceptions.ParameterNotFound:
        raise NotOkError(f"it was not done; {fix}") from None
    if version < _OLDEST_BOOTSTRAP:
        raise NotOkError(f"it is of version {version}; {fix}")
    return f"version {version}"


def vcpus(make_client: MakeClient, code: str, title: str) -> str:
    """Check a quota of vCPUs of GPU instances.

    Raises:
        NotOkError: it is too small for one instance.
    """
    client = make_client("service-quotas")
    try:
        quota = client.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
    except client.exceptions.NoSuchResourceException:
        quota = client.get_aws_default_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
    if quota < _LEAST_VCPUS:
        raise NotOkError(
            f"it is {quota:.0f}, but one instance has {_LEAST_VCPUS}; request more in Service Quotas: EC2, "
            f"{title}"
        )
    return f"{quota:.0f}"


def _endpoints(make_client: MakeClient, instance_type: str) -> str:
    name = f"{instance_type} for endpoint usage"
    pages = (
        make_client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
    )
    found = next(
        (quota["Value"] for page in pages for quota in page["Quotas"] if quota["QuotaName"] == name), 0.0
    )
    if found < 1:
        raise NotOkError(f"it is {found:.0f}; request more in Service Quotas: Amazon SageMaker, {name}")
    return f"{found:.0f}"


def _offered(make_client: MakeClient, plan: Plan) -> str:
    """Which of the types the region offers; Batch refuses a list with one that it does not."""
    ec2 = make_client("ec2")
    region = ec2.meta.region_name
    asked = plan.instance_types or GPU_INSTANCES
    answer = ec2.describe_instance_type_offerings(
        LocationType="region", Filters=[{"Name": "instance-type", "Values": list(asked)}]
    )
    there = {each["InstanceType"] for each in answer["InstanceTypeOfferings"]}
    if missing := [each for each in plan.instance_types if each not in there]:
        raise NotOkError(f"{region} does not offer {', '.join(missing)}; remove them from instance_types")
    if not there:
        raise NotOkError(
            f"{region} offers none of {', '.join(asked)}; name types that it offers as instance_types, or "
            "choose another region"
        )
    return f"{region} offers {', '.join(each for each in asked if each in there)}"


def _spot_role(make_client: MakeClient) -> str:
    """EC2 makes the role at the first Spot request, if whoever asks may do so; Batch may not."""
    iam = make_client("iam")
    try:
        iam.get_role(RoleName=_SPOT_ROLE)
    except iam.exceptions.NoSuchEntityException:
        raise NotOkError(
            "the account has never used Spot; run once: aws iam create-service-linked-role "
            "--aws-service-name spot.amazonaws.com"
        ) from None
    return "the account has EC2's role for Spot"


def _concurrency(make_client: MakeClient, plan: Plan) -> str:
    limit = int(make_client("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"])
    queues = [name for name, reader in READERS.items() if plan.tracked or reader.name not in OPTIONAL]
    used = sum(concurrencies(queues, plan.lambda_concurrency).values()) + WEBHOOK_RESERVE
    if used > limit:
        raise NotOkError(
            f"the account allows {limit}, and this deployment uses up to {used}; set lambda_concurrency to "
            f"{limit}, or ask for more in Service Quotas: AWS Lambda, Concurrent executions"
        )
    return f"{used} of the {limit} that the account allows"


def region_of_bucket(make_client: MakeClient, bucket: str) -> str:
    """The region of a bucket of the user's.

    Raises:
        NotOkError: it is another one, from which no events come.
    """
    s3 = make_client("s3")
    said = s3.get_bucket_location(Bucket=bucket).get("LocationConstraint") or "us-east-1"
    there = "eu-west-1" if said == "EU" else said
    here = make_client("sts").meta.region_name
    if there != here:
        raise NotOkError(
            f"{bucket} is in {there}, and its events do not reach {here}; deploy boxdrop in {there}, or use "
            "another bucket"
        )
    return f"{bucket} is in {here}, too"


def _left(make_client: MakeClient, name: str) -> str:
    """Whether buckets or ledger of a destroyed deployment of this name are still there."""
    from botocore.exceptions import ClientError

    stack = f"boxdrop-{name}-data"
    try:
        make_client("cloudformation").describe_stacks(StackName=stack)
    except ClientError as error:
        if "does not exist" not in error.response.get("Error", {}).get("Message", ""):
            raise
    else:
        return f"the stack {stack} is deployed"
    pages = (
        make_client("resourcegroupstaggingapi")
        .get_paginator("get_resources")
        .paginate(
            TagFilters=[{"Key": _COST_TAG, "Values": [name]}], ResourceTypeFilters=["s3", "dynamodb:table"]
        )
    )
    found = [
        each["ResourceARN"].rpartition(":")[2] for page in pages for each in page["ResourceTagMappingList"]
    ]
    if found:
        raise NotOkError(
            f"{', '.join(sorted(found))}; to use them again, name them as adopt "
            "(docs/deploy.md#deploy-again), or delete them"
        )
    return "nothing"


def _cost_tag(make_client: MakeClient) -> str:
    """Only an active tag separates costs; one is known a day after it was first used."""
    answer: Any = make_client("ce").list_cost_allocation_tags(TagKeys=[_COST_TAG])
    if any(each["Status"] == "Active" for each in answer["CostAllocationTags"]):
        return f"{_COST_TAG} is active: set cost_tag_active, and the budget counts only this deployment"
    return (
        f"{_COST_TAG} is not active, so the budget counts whole services; after the first day, activate it "
        "under Billing, Cost allocation tags"
    )
