"""Whether a deployed system, or the local one, can do its work."""

import ipaddress
import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any
from urllib.parse import urlsplit

from boxdrop.aws.secrets import LABEL_STUDIO_SECRET_ID, LABEL_STUDIO_URL, WEBHOOK_SECRET_ID, Secrets
from boxdrop.doctor.account import QUOTAS, region_of_bucket, vcpus
from boxdrop.doctor.lines import Line, MakeClient, NotOkError, look_at_each
from boxdrop.domain.detector_names import shown_digest
from boxdrop.domain.errors import BoxdropError
from boxdrop.labelstudio.connection import Connection, connect
from boxdrop.system import LOCAL, System


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
    return look_at_each(looks)


def _token(system: System, secrets: Secrets) -> str:
    try:
        secrets.label_studio()
    except BoxdropError as error:
        raise NotOkError(
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
        raise NotOkError(f"the name {host} cannot be resolved; give Label Studio a public name") from None
    private = sorted(str(each) for each in found if not ipaddress.ip_address(str(each)).is_global)
    if private:
        raise NotOkError(
            f"{host} is {', '.join(private)}, which functions in AWS cannot reach; give it a public address"
        )
    return f"{host} has a public address"


def _events(system: System, make_client: MakeClient) -> str:
    if system.image_bucket == system.data_bucket:
        raise NotOkError("images and boxdrop's own files are in one bucket; set another image_bucket")
    if system.name != LOCAL:
        region_of_bucket(make_client, system.image_bucket)
    present = make_client("s3").get_bucket_notification_configuration(Bucket=system.image_bucket)
    if "EventBridgeConfiguration" not in present and system.name != LOCAL:
        raise NotOkError(
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
            raise NotOkError(f"{bucket} does not let {origin} load images; {way_out}")
    return f"{origin} may load images"


def _bundle(system: System, make_client: MakeClient, cache: Path) -> str:
    from boxdrop.aws.s3 import Bucket
    from boxdrop.store import bundles

    data = Bucket(system.data_bucket, client=make_client("s3"))
    reference = bundles.resolve(data, None)
    for each in reference.singles:
        bundles.fetch(data, each, cache)  # compares every sha256
    return f"{reference.name} ({shown_digest(reference.digest)}), {reference.family}, all files intact"


def _dead_letters(system: System, make_client: MakeClient) -> str:
    sqs, found = make_client("sqs"), {}
    for name, url in system.queues.items():
        if name.endswith("-dlq"):
            answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
            found[name] = int(answer["Attributes"]["ApproximateNumberOfMessages"])
    full = ", ".join(f"{count} in {name}" for name, count in found.items() if count)
    if full:
        raise NotOkError(f"{full}; see why (docs/operations.md#dead-letters), then: boxdrop retry PROJECT")
    return "none"


def _pump() -> str:
    """Check that the local pump is running."""
    from boxdrop.local.stack import Stack

    process = Stack().pump()
    if process is None:
        raise NotOkError("nothing delivers events; start what is missing with: boxdrop local up")
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
        raise NotOkError("; ".join(problems))
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
        for code, (_, title) in QUOTAS.items():
            try:
                vcpus(make_client, code, title)
            except NotOkError as problem:
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
    raise NotOkError(
        f"these runs are waiting: {runs}; {'; '.join(said) or 'AWS Batch does not know their jobs'}"
    )


def _webhooks(system: System, make_client: MakeClient, connected: Sequence[Connection], url: str) -> str:
    from boxdrop.labelstudio.webhook import SECRET_HEADER
    from boxdrop.ledger import Ledger

    if not connected:
        raise NotOkError("not checked, since Label Studio cannot be reached, see above")
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
            raise NotOkError(
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
        raise NotOkError(f"there is no user {user}; deploy again") from None
    if not any(key["Status"] == "Active" for key in keys):
        raise NotOkError(f"{user} has no access key; run: {fix}")
    return f"{user} has an access key"
