"""Roles against what functions and job really call in a deployment: nothing missing, nothing unused."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import pytest

from tests.infra.deployed import Happened
from tests.infra.emulated import REGION

pytestmark = pytest.mark.slow

ACCOUNT: Final = "000000000000"

PLATFORM: Final = {
    "logs:CreateLogStream": "Lambda writes the log",
    "logs:PutLogEvents": "Lambda writes the log",
    "xray:PutTraceSegments": "Lambda sends traces",
    "xray:PutTelemetryRecords": "Lambda sends traces",
    "sqs:ReceiveMessage": "Lambda polls the queue",
    "sqs:DeleteMessage": "Lambda polls the queue",
    "sqs:GetQueueAttributes": "Lambda polls the queue",
    "kms:Decrypt": "S3, DynamoDB and Secrets Manager use the user's key for whoever asks",
    "kms:GenerateDataKey": "S3, DynamoDB and Secrets Manager use the user's key for whoever asks",
}
"""What a role allows though no code of ours calls it."""

DROPPED: Final = "tests/integration/pipeline/test_dropped_boxes.py"
TAUGHT: Final = "tests/integration/pipeline/test_lessons.py"
TAUGHT_ITSELF: Final = "tests/integration/account/test_automatic.py"
RARE: Final = {
    ("launch", "batch:ListJobs"): "after a lost answer of SubmitJob: tests/integration/test_launchers.py",
    ("launch", "s3:GetObject", "boxes/*"): f"boxes dropped with images: {DROPPED}",
    ("launch", "s3:PutObject", "predictions/*"): f"boxes dropped with images: {DROPPED}",
    ("launch", "s3:GetObject", "lessons/*"): f"labels that name a lesson: {TAUGHT}",
    ("launch", "s3:PutObject", "labelsets/*"): "a canary, without the lesson: "
    "tests/integration/pipeline/test_canary.py",
    ("reconcile", "s3:GetObject", "lessons/*"): f"labels that name a lesson: {TAUGHT}",
    ("reconcile", "batch:SubmitJob"): f"teach: auto: {TAUGHT_ITSELF}",
    ("reconcile", "batch:TagResource"): f"teach: auto: {TAUGHT_ITSELF}",
    ("reconcile", "batch:ListJobs"): f"teach: auto: {TAUGHT_ITSELF}",
    ("reconcile", "s3:GetObject", "orders/*"): f"teach: auto: {TAUGHT_ITSELF}",
    ("reconcile", "s3:GetObject", "reviews/*"): f"teach: auto: {TAUGHT_ITSELF}",
    ("reconcile", "s3:PutObject", "orders/*"): f"teach: auto: {TAUGHT_ITSELF}",
    ("track", "s3:GetObject", "lessons/*"): "figures of a lesson: tests/unit/tracking/test_entry.py",
    ("job", "s3:GetObject", "lessons/*"): "labels that name a lesson: tests/e2e/test_local.py",
    ("job", "s3:GetObject", "display/*"): "display copies: tests/integration/job/test_display_copies.py",
    ("job", "s3:PutObject", "display/*"): "display copies: tests/integration/job/test_display_copies.py",
    ("collect", "s3:GetObject", "labelsets/*"): "what an audit is judged by: "
    "tests/integration/pipeline/test_accept.py",
    ("publish", "s3:GetObject", "boxes/*"): f"boxes dropped as verified: {DROPPED}",
    ("publish", "s3:GetObject", "annotations/*"): f"boxes dropped as verified: {DROPPED}",
    ("reconcile", "sqs:SendMessage", "reconcile-dlq"): "Lambda sends what could not be done",
    (
        "collect",
        "sqs:SendMessage",
        "boxdrop-emulated-reviews",
    ): "a comparison of more tasks than one call can list: tests/integration/pipeline/test_sync.py",
    ("publish", "sqs:SendMessage", "boxdrop-emulated-parts"): "another publisher has the project: "
    "tests/integration/pipeline/test_handlers.py",
    ("job", "s3:ListBucket"): "an image that was deleted meanwhile is 404, not 403: tests/integration/job",
    ("job", "s3:GetObjectVersion"): "where the bucket has versions: MiniStack's events name none",
}
"""What this deployment does not come to, and which test does."""


@dataclass(frozen=True)
class Need:
    """One action on one resource, both as IAM calls them."""

    action: str
    resource: str


def needs(call: Mapping[str, Any]) -> Iterator[Need]:
    """What a call of AWS needs; an operation that is not here fails the test."""
    about, operation = call["about"], f"{call['service']}.{call['operation']}"
    bucket = f"arn:aws:s3:::{about.get('Bucket')}"
    object_ = f"{bucket}/{about.get('Key')}"
    table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{about.get('TableName')}"
    if operation in ("s3.GetObject", "s3.HeadObject"):
        yield Need("s3:GetObjectVersion" if about.get("VersionId") else "s3:GetObject", object_)
        if call["error"] in ("NoSuchKey", "404"):
            yield Need("s3:ListBucket", bucket)  # without it, S3 says 403 and nobody knows why
    elif operation == "s3.PutObject":
        yield Need("s3:PutObject", object_)
    elif operation == "s3.ListObjectsV2":
        yield Need("s3:ListBucket", bucket)
    elif operation in ("dynamodb.GetItem", "dynamodb.BatchGetItem", "dynamodb.PutItem", "dynamodb.Query"):
        index = about.get("IndexName")
        yield Need(f"dynamodb:{call['operation']}", f"{table}/index/{index}" if index else table)
    elif operation in ("sqs.SendMessage", "sqs.SendMessageBatch"):
        yield Need(
            "sqs:SendMessage", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{about['QueueUrl'].rpartition('/')[2]}"
        )
    elif operation == "secretsmanager.GetSecretValue":
        name = about["SecretId"].rpartition(":secret:")[2]
        yield Need(
            "secretsmanager:GetSecretValue", f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}"
        )
    elif operation == "batch.SubmitJob":
        batch = f"arn:aws:batch:{REGION}:{ACCOUNT}"
        yield Need("batch:SubmitJob", f"{batch}:job-queue/{about['jobQueue']}")
        yield Need("batch:SubmitJob", f"{batch}:job-definition/{about['jobDefinition']}")
        yield Need("batch:SubmitJob", f"{batch}:job-definition/{about['jobDefinition']}:1")
        if about.get("tags"):
            yield Need("batch:TagResource", f"{batch}:job/11111111-2222-3333-4444-555555555555")
    elif operation in ("batch.DescribeJobs", "batch.ListJobs"):
        yield Need(f"batch:{call['operation']}", "*")
    else:
        raise AssertionError(f"nobody has said which action {operation} needs")


def allowed(document: Mapping[str, Any]) -> Iterator[Need]:
    """Each action on each resource pattern that a policy allows."""
    for statement in document["Statement"]:
        actions, resources = (
            each if isinstance(each, list) else [each]
            for each in (statement["Action"], statement["Resource"])
        )
        for action in actions:
            for resource in resources:
                if action.startswith("secretsmanager:") and not resource.startswith("arn:"):
                    # In AWS a reference to a secret is its ARN, in MiniStack its name.
                    resource = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{resource}"
                # Of an adopted secret, a policy leaves out what AWS adds to its name, and MiniStack does not.
                resource = resource.removesuffix("-??????")
                yield Need(action, resource)


def covers(pattern: Need, need: Need) -> bool:
    return fnmatchcase(need.action, pattern.action) and (
        pattern.resource == "*" or fnmatchcase(need.resource, pattern.resource)
    )


@pytest.fixture(scope="module")
def called(happened: Happened) -> dict[str, set[Need]]:
    """What each function, and the job, needed."""
    found: dict[str, set[Need]] = {}
    for call in happened.deployment.emulator.calls():
        name = call["function"].removeprefix(f"{happened.deployment.environment.prefix}-")
        found.setdefault(name, set()).update(needs(call))
    return found


@pytest.fixture(scope="module")
def roles(happened: Happened) -> dict[str, set[Need]]:
    """What the role of each deployed function, and that of the job, allows."""
    emulator, prefix = happened.deployment.emulator, happened.deployment.environment.prefix
    iam = emulator.client("iam")
    found: dict[str, set[Need]] = {}
    for function in emulator.client("lambda").list_functions()["Functions"]:
        role = function["Role"].rpartition("/")[2]
        found[function["FunctionName"].removeprefix(f"{prefix}-")] = {
            need
            for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
            for need in allowed(iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"])
        }
    compute = happened.deployment.templates["compute"]["Resources"]
    (policy,) = (
        each["Properties"]["PolicyDocument"]
        for id_, each in compute.items()
        if each["Type"] == "AWS::IAM::Policy" and id_.startswith("JobRole")
    )
    found["job"] = set(allowed(_resolved(policy, happened.deployment.outputs)))
    return found


def _resolved(value: Any, exports: Mapping[str, str]) -> Any:
    """A template's value, with what other stacks export filled in."""
    if isinstance(value, list):
        return [_resolved(each, exports) for each in value]
    if not isinstance(value, Mapping):
        return value
    if "Fn::Join" in value:
        separator, parts = value["Fn::Join"]
        return separator.join(_resolved(parts, exports))
    if "Fn::GetStackOutput" in value:
        return exports[value["Fn::GetStackOutput"]["OutputName"]]
    return {key: _resolved(each, exports) for key, each in value.items()}


def test_every_function_and_the_job_was_called(called: Mapping[str, Any], roles: Mapping[str, Any]) -> None:
    assert set(called) == set(roles)


def test_no_role_lacks_what_its_code_calls(
    called: Mapping[str, set[Need]], roles: Mapping[str, set[Need]]
) -> None:
    missing = {
        (name, need.action, need.resource)
        for name, wanted in called.items()
        for need in wanted
        if not any(covers(pattern, need) for pattern in roles[name])
    }
    assert not missing, _listed(missing)


def test_no_role_allows_what_its_code_never_calls(
    called: Mapping[str, set[Need]], roles: Mapping[str, set[Need]]
) -> None:
    unused = {
        (name, pattern.action, pattern.resource)
        for name, patterns in roles.items()
        for pattern in patterns
        if pattern.action not in PLATFORM
        and not _is_rare(name, pattern)
        and not any(covers(pattern, need) for need in called[name])
    }
    assert not unused, _listed(unused)


def _listed(found: set[tuple[str, str, str]]) -> str:
    return "\n".join(" ".join(each) for each in sorted(found))


def _is_rare(name: str, pattern: Need) -> bool:
    return any(
        (name, pattern.action) == known[:2] and (len(known) == 2 or pattern.resource.endswith(known[2]))
        for known in RARE
    )
