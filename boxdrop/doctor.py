"""Checks of a deployment: before it, of machine and account; after it, of the system.

They change nothing. Each check gives one line: ok, or what to do.
"""

import ipaddress
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any, Final
from urllib.parse import urlsplit

from boxdrop.aws.secrets import LABEL_STUDIO_SECRET_ID, LABEL_STUDIO_URL, WEBHOOK_SECRET_ID, Secrets
from boxdrop.domain.errors import BoxdropError
from boxdrop.labelstudio.connection import Connection, connect
from boxdrop.system import LOCAL, System

OLDEST_NODE: Final = 20
_BOOTSTRAP: Final = "/cdk-bootstrap/hnb659fds/version"
_OLDEST_BOOTSTRAP: Final = 6
_QUOTAS: Final = {
    "L-3819A6DF": ("vCPUs of G instances on Spot", "All G and VT Spot Instance Requests"),
    "L-DB2E81BA": ("vCPUs of G instances on demand", "Running On-Demand G and VT instances"),
}
_LEAST_VCPUS: Final = 4  # of an xlarge
_TOOL_S: Final = 60.0

MakeClient = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Line:
    """The result of one check.

    Attributes:
        name: of the checked thing.
        ok: whether it passed.
        text: what was found and, if it failed, what to do.
    """

    name: str
    ok: bool
    text: str


class _NotOkError(Exception):
    """Ends a check as failed; its text says what to do."""


def _lines(looks: Sequence[tuple[str, Callable[[], str]]]) -> Iterator[Line]:
    """Run checks one after the other; a failed one does not stop the others."""
    from botocore.exceptions import BotoCoreError, ClientError

    for name, look in looks:
        try:
            yield Line(name, True, look())
        except (_NotOkError, BoxdropError) as problem:
            yield Line(name, False, str(problem))
        except ClientError as error:
            details = error.response.get("Error", {})
            yield Line(name, False, f"AWS refused: {details.get('Message') or details.get('Code')}")
        except BotoCoreError as error:
            yield Line(name, False, f"cannot reach AWS: {error}")


# -- before ------------------------------------------------------------------------------------------------


def look_at_machine(folder: Path, *, needs_docker: bool = True) -> Iterator[Line]:
    """Check what `cdk deploy` needs on this machine.

    Args:
        folder: the checkout, with ``package.json``.
        needs_docker: whether the job's image is built here, instead of given as ``image_uri``.
    """
    looks: list[tuple[str, Callable[[], str]]] = [
        ("Node.js", _node),
        ("CDK", lambda: _cdk(folder)),
    ]
    if needs_docker:
        looks.append(("Docker", _docker))
    return _lines(looks)


def _node() -> str:
    version = _run("node", "--version", install="install Node.js 22 or newer")
    number = re.match(r"v(\d+)\.", version)
    if number is None or int(number[1]) < OLDEST_NODE:
        raise _NotOkError(f"it is {version}; install Node.js 22 or newer")
    return version


def _cdk(folder: Path) -> str:
    try:
        wanted = json.loads((folder / "package.json").read_text())["devDependencies"]["aws-cdk"]
    except (OSError, ValueError, KeyError):
        raise _NotOkError(f"{folder} is not a checkout of boxdrop; change to one") from None
    try:
        there = json.loads((folder / "node_modules" / "aws-cdk" / "package.json").read_text())["version"]
    except (OSError, ValueError, KeyError):
        raise _NotOkError("it is not installed here; run: npm ci") from None
    if there != wanted:
        raise _NotOkError(f"it is {there}, but aws-cdk-lib needs {wanted}; run: npm ci")
    return str(there)


def _docker() -> str:
    version = _run(
        "docker", "version", "--format", "{{.Server.Version}}",
        install="start Docker, or set image_uri to an image in ECR",
    )  # fmt: skip
    return f"server {version}"


def _run(*command: str, install: str) -> str:
    if shutil.which(command[0]) is None:
        raise _NotOkError(f"there is none; {install}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_S)
    except subprocess.TimeoutExpired:
        raise _NotOkError(f"it does not respond; {install}") from None
    if done.returncode:
        raise _NotOkError(f"it does not work; {install}")
    return done.stdout.strip()


def look_at_account(
    make_client: MakeClient, *, compute: str = "batch", instance_type: str = "ml.g4dn.xlarge"
) -> Iterator[Line]:
    """Check what a deployment needs in the account and region.

    Args:
        make_client: makes a boto3 client.
        compute: ``batch`` or ``sagemaker``.
        instance_type: of the endpoint.
    """
    looks: list[tuple[str, Callable[[], str]]] = [
        ("Credentials", lambda: _credentials(make_client)),
        ("CDK bootstrap", lambda: _bootstrap(make_client)),
    ]
    if compute == "batch":
        looks += [
            (f"Quota: {name}", lambda code=code, title=title: _vcpus(make_client, code, title))  # type: ignore[misc]
            for code, (name, title) in _QUOTAS.items()
        ]
    else:
        looks.append((f"Quota: {instance_type} endpoints", lambda: _endpoints(make_client, instance_type)))
    return _lines(looks)


def _credentials(make_client: MakeClient) -> str:
    identity = make_client("sts").get_caller_identity()
    return f"account {identity['Account']}, as {identity['Arn'].rpartition(':')[2]}"


def _bootstrap(make_client: MakeClient) -> str:
    ssm = make_client("ssm")
    fix = "run once for this account and region: npx cdk bootstrap"
    try:
        version = int(ssm.get_parameter(Name=_BOOTSTRAP)["Parameter"]["Value"])
    except ssm.exceptions.ParameterNotFound:
        raise _NotOkError(f"it was not done; {fix}") from None
    if version < _OLDEST_BOOTSTRAP:
        raise _NotOkError(f"it is of version {version}; {fix}")
    return f"version {version}"


def _vcpus(make_client: MakeClient, code: str, title: str) -> str:
    client = make_client("service-quotas")
    try:
        quota = client.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
    except client.exceptions.NoSuchResourceException:
        quota = client.get_aws_default_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
    if quota < _LEAST_VCPUS:
        raise _NotOkError(
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
        raise _NotOkError(f"it is {found:.0f}; request more in Service Quotas: Amazon SageMaker, {name}")
    return f"{found:.0f}"


# -- after -------------------------------------------------------------------------------------------------


def look_at_system(
    system: System, make_client: MakeClient, cache: Path, *, description: dict[str, Any] | None = None
) -> Iterator[Line]:
    """Check whether a system works.

    Args:
        system: the system.
        make_client: makes a boto3 client.
        cache: folder for fetched bundles.
        description: the deployment's full description, beyond `System`.
    """
    more = description or {}
    secrets = Secrets(
        client=make_client("secretsmanager"),
        environ={
            name: value
            for name, value in {
                LABEL_STUDIO_URL: system.label_studio_url,
                LABEL_STUDIO_SECRET_ID: system.label_studio_secret,
                WEBHOOK_SECRET_ID: more.get("webhook_secret"),
            }.items()
            if value
        },
    )
    connected: list[Connection] = []

    def log_in() -> str:
        access = secrets.label_studio()
        connected.append(connect(access.url or "", access.token))
        return f"{connected[0].url} runs {connected[0].version} and accepts the token"

    looks: list[tuple[str, Callable[[], str]]] = [
        ("Secret: Label Studio's token", lambda: _token(system, secrets)),
        ("Label Studio", log_in),
        ("Images' events", lambda: _events(system, make_client)),
        ("Images in the browser (CORS)", lambda: _cors(system, make_client)),
        ("Detector", lambda: _bundle(system, make_client, cache)),
        ("Dead letters", lambda: _dead_letters(system, make_client)),
        ("Projects", lambda: _projects(system, make_client)),
        ("Machines", lambda: _machines(system, make_client)),
    ]
    if more.get("webhook_secret"):
        looks.insert(1, ("Secret: the webhook's", lambda: _webhook_secret(secrets)))
    if more.get("webhook_url"):
        looks.append(("Webhook", lambda: _webhooks(system, make_client, connected, str(more["webhook_url"]))))
    if more.get("presign_user"):
        looks.append(("Who signs images", lambda: _presign(make_client, str(more["presign_user"]))))
    if system.name == LOCAL:
        looks.append(("The pump", _pump))
    if system.name != LOCAL:
        looks.insert(3, ("Label Studio from the cloud", lambda: _public(system)))
    return _lines(looks)


def _token(system: System, secrets: Secrets) -> str:
    try:
        secrets.label_studio()
    except BoxdropError as error:
        raise _NotOkError(
            f"{error}; store it: aws secretsmanager put-secret-value --secret-id "
            f"{system.label_studio_secret} --secret-string TOKEN"
        ) from None
    return "filled"


def _webhook_secret(secrets: Secrets) -> str:
    count = len(secrets.webhook().valid)
    return "filled" if count == 1 else "filled; a rotation is under way: remove `previous` when it is done"


def _public(system: System) -> str:
    """Functions are not in a VPC, so they cannot reach a private address."""
    host = urlsplit(system.label_studio_url or "").hostname or ""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        raise _NotOkError(f"the name {host} cannot be resolved; give Label Studio a public name") from None
    private = sorted(str(each) for each in found if not ipaddress.ip_address(str(each)).is_global)
    if private:
        raise _NotOkError(
            f"{host} is {', '.join(private)}, which functions in AWS cannot reach; give it a public address"
        )
    return f"{host} has a public address"


def _events(system: System, make_client: MakeClient) -> str:
    if system.image_bucket == system.data_bucket:
        raise _NotOkError("images and boxdrop's own files are in one bucket; set another image_bucket")
    present = make_client("s3").get_bucket_notification_configuration(Bucket=system.image_bucket)
    if "EventBridgeConfiguration" not in present and system.name != LOCAL:
        raise _NotOkError(
            f"{system.image_bucket} does not send its events to EventBridge; turn it on under Properties, or "
            "deploy again"
        )
    return f"s3://{system.image_bucket} sends its events to EventBridge"


def _cors(system: System, make_client: MakeClient) -> str:
    from botocore.exceptions import ClientError

    parts = urlsplit(system.label_studio_url or "")
    origin = f"{parts.scheme}://{parts.netloc}"
    for bucket in (system.image_bucket, system.data_bucket):  # the second one holds display copies
        try:
            rules = make_client("s3").get_bucket_cors(Bucket=bucket)["CORSRules"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "NoSuchCORSConfiguration":
                raise
            rules = []
        allowed = (set(rule["AllowedOrigins"]) for rule in rules if "GET" in rule["AllowedMethods"])
        if not any({"*", origin} & origins for origins in allowed):
            way_out = (
                "add a CORS rule that allows GET from it (docs/deploy.md)"
                if bucket == system.image_bucket
                else "deploy again"
            )
            raise _NotOkError(f"{bucket} does not let {origin} load images; {way_out}")
    return f"{origin} may load images"


def _bundle(system: System, make_client: MakeClient, cache: Path) -> str:
    from boxdrop.aws.s3 import Bucket
    from boxdrop.store import bundles

    data = Bucket(system.data_bucket, client=make_client("s3"))
    reference = bundles.resolve(data, None)
    bundles.fetch(data, reference, cache)  # compares every sha256
    return f"{reference.name} ({reference.digest[:16]}), {reference.family}, all files intact"


def _dead_letters(system: System, make_client: MakeClient) -> str:
    sqs, found = make_client("sqs"), {}
    for name, url in system.queues.items():
        if name.endswith("-dlq"):
            answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
            found[name] = int(answer["Attributes"]["ApproximateNumberOfMessages"])
    full = ", ".join(f"{count} in {name}" for name, count in found.items() if count)
    if full:
        raise _NotOkError(f"{full}; see why (docs/operations.md#dead-letters), then: boxdrop retry PROJECT")
    return "none"


def _pump() -> str:
    """Check that the local pump is running."""
    from boxdrop.local.stack import Stack

    process = Stack().pump()
    if process is None:
        raise _NotOkError("nothing delivers events; start what is missing with: boxdrop local up")
    return f"delivers events (process {process})"


def _projects(system: System, make_client: MakeClient) -> str:
    """Report what holds images up, as in `boxdrop status`, for all projects."""
    from boxdrop.ledger import Ledger, State
    from boxdrop.pipeline.progress import images_said, look

    ledger = Ledger(system.table, client=make_client("dynamodb"))
    seen = [look(ledger, project, system.window_s) for project in ledger.projects()]
    problems = [f"{each.project.name}: {problem}" for each in seen for problem in each.problems]
    problems += [  # this is the stage in `boxdrop status`
        f"{each.project.name}: {images_said(each.counts[State.WAITING])}: {each.stage}"
        for each in seen
        if each.counts[State.WAITING] and not each.problems
    ]
    if problems:
        raise _NotOkError("; ".join(problems))
    failures = [f"{each.project.name}: {failure}" for each in seen for failure in each.failures]
    return "; ".join(["nothing holds their images up" if seen else "none yet", *failures])


def _machines(system: System, make_client: MakeClient) -> str:
    """Why a run waits long for its machine, if AWS knows."""
    from boxdrop.ledger import Ledger, RunState
    from boxdrop.pipeline.progress import LATE

    ledger = Ledger(system.table, client=make_client("dynamodb"))
    late = [
        run
        for project in ledger.projects()
        for run in ledger.list_runs(project.name, 5)
        if run.state == RunState.SUBMITTED and datetime.now(UTC) - run.created_at >= LATE
    ]
    if not late:
        return "no run has waited long for one"
    said = []
    if system.launcher == "batch":
        for code, (_, title) in _QUOTAS.items():
            try:
                _vcpus(make_client, code, title)
            except _NotOkError as problem:
                said.append(f"the quota {title}: {problem}")
        job_ids = [job for run in late for job in run.job_ids][-100:]
        if job_ids:
            for job in make_client("batch").describe_jobs(jobs=job_ids)["jobs"]:
                said.append(
                    f"job {job['jobName']} is {job['status']}: {job.get('statusReason') or 'no reason given'}"
                )
    elif system.launcher == "sagemaker":
        said.append(
            "see the endpoint's instances in SageMaker, and its quota: boxdrop doctor --compute sagemaker"
        )
    else:
        said.append("the job on this machine may have stopped: boxdrop local logs")
    runs = ", ".join(run.run_id for run in late)
    raise _NotOkError(
        f"these runs are waiting: {runs}; {'; '.join(said) or 'AWS Batch does not know their jobs'}"
    )


def _webhooks(system: System, make_client: MakeClient, connected: Sequence[Connection], url: str) -> str:
    from boxdrop.labelstudio.webhook import SECRET_HEADER
    from boxdrop.ledger import Ledger

    if not connected:
        raise _NotOkError("not checked, since Label Studio cannot be reached, see above")
    projects = [
        project
        for project in Ledger(system.table, client=make_client("dynamodb")).projects()
        if project.label_studio_id is not None
    ]
    if not projects:
        return "will be set up with the first project"
    for project in projects:
        listed = connected[0].sdk.webhooks.list(project=str(project.label_studio_id))
        own = [each for each in listed if SECRET_HEADER in (each.headers or {})]
        if not any(each.url == url and each.is_active for each in own):
            raise _NotOkError(
                f"Label Studio's project {project.label_studio_id} ({project.name}) does not call {url}; "
                f"set it up again with: boxdrop sync {quote(project.name)}"
            )
    return f"{len(projects)} {'project calls' if len(projects) == 1 else 'projects call'} {url}"


def _presign(make_client: MakeClient, user: str) -> str:
    iam = make_client("iam")
    fix = f"aws iam create-access-key --user-name {user}, and give it to Label Studio (docs/deploy.md)"
    try:
        keys = iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
    except iam.exceptions.NoSuchEntityException:
        raise _NotOkError(f"there is no user {user}; deploy again") from None
    if not any(key["Status"] == "Active" for key in keys):
        raise _NotOkError(f"{user} has no access key; run: {fix}")
    return f"{user} has an access key"
