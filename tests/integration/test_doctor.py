"""`boxdrop doctor` against moto and a real Label Studio: each line is ok, or says what to do.

S3 is MiniStack's: moto forgets that a bucket sends its events to EventBridge.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from boxdrop.aws.s3 import Bucket
from boxdrop.demo import BUNDLE
from boxdrop.doctor import Line, Plan, look_at_account, look_at_machine, look_at_system, read_plan
from boxdrop.domain.errors import BoxdropError
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.webhook import ensure_webhook
from boxdrop.ledger import Ledger, create_table
from boxdrop.local.aws import Server as Aws
from boxdrop.local.label_studio import Server
from boxdrop.store import bundles
from boxdrop.system import System
from tests.aws_server import aws_server, client_of
from tests.integration.labelstudio.conftest import FRUIT
from tests.label_studio_server import connection, server
from tests.moto_server import MakeClient, endpoint
from tests.moto_server import aws as moto

__all__ = ["aws_server", "connection", "endpoint", "moto", "server"]

WEBHOOK = "https://abc.execute-api.us-east-1.amazonaws.com/webhook"


@pytest.fixture(scope="module")
def aws(moto: MakeClient, aws_server: Aws) -> MakeClient:
    """Makes boto3's client of a service."""
    return lambda service: client_of(aws_server, "s3") if service == "s3" else moto(service)


def by_name(lines: Iterable[Line]) -> dict[str, Line]:
    return {line.name: line for line in lines}


# -- before ------------------------------------------------------------------------------------------------


def checkout(folder: Path, installed: str | None) -> Path:
    """A folder with a package.json, and maybe the CDK."""
    (folder / "package.json").write_text('{"devDependencies": {"aws-cdk": "2.1148.1"}}')
    if installed:
        package = folder / "node_modules" / "aws-cdk" / "package.json"
        package.parent.mkdir(parents=True)
        package.write_text(json.dumps({"version": installed}))
    return folder


def test_the_cdk_that_fits_is_ok(tmp_path: Path) -> None:
    line = by_name(look_at_machine(checkout(tmp_path, "2.1148.1"), needs_docker=False))["CDK"]
    assert line == Line("CDK", True, "2.1148.1")


@pytest.mark.parametrize(("installed", "said"), [(None, "npm ci"), ("3.0.0", "needs 2.1148.1; run: npm ci")])
def test_a_cdk_that_is_not_there_or_does_not_fit_is_to_be_installed(
    tmp_path: Path, installed: str | None, said: str
) -> None:
    line = by_name(look_at_machine(checkout(tmp_path, installed), needs_docker=False))["CDK"]
    assert not line.ok
    assert said in line.text


def test_outside_a_checkout_doctor_reports_it(tmp_path: Path) -> None:
    assert "not a checkout of boxdrop" in by_name(look_at_machine(tmp_path, needs_docker=False))["CDK"].text


def test_tools_that_are_missing_are_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lines = by_name(look_at_machine(tmp_path))
    assert lines["Node.js"].text == "there is none; install Node.js 22 or newer"
    assert "set image_uri to an image in ECR" in lines["Docker"].text


def test_docker_is_not_asked_for_where_the_image_is_in_ecr(tmp_path: Path) -> None:
    assert "Docker" not in by_name(look_at_machine(tmp_path, needs_docker=False))


def test_doctor_explains_how_to_bootstrap_an_account(aws: MakeClient) -> None:
    lines = by_name(look_at_account(aws))
    assert lines["Credentials"].ok
    assert "account 123456789012" in lines["Credentials"].text
    assert "npx cdk bootstrap" in lines["CDK bootstrap"].text
    name = "/cdk-bootstrap/hnb659fds/version"
    aws("ssm").put_parameter(Name=name, Value="21", Type="String")
    assert by_name(look_at_account(aws))["CDK bootstrap"] == Line("CDK bootstrap", True, "version 21")


class Quotas:
    """Service Quotas as far as they are asked: moto has none of EC2's."""

    class exceptions:  # noqa: N801  as boto3 calls it
        class NoSuchResourceException(Exception):  # noqa: N818
            pass

    def __init__(self, vcpus: float) -> None:
        self.vcpus = vcpus

    def get_service_quota(self, **_: str) -> Any:
        return {"Quota": {"Value": self.vcpus}}


@pytest.mark.parametrize(("vcpus", "ok"), [(0.0, False), (4.0, True)])
def test_a_quota_too_small_for_one_instance_is_to_be_raised(aws: MakeClient, vcpus: float, ok: bool) -> None:
    lines = look_at_account(lambda service: Quotas(vcpus) if service == "service-quotas" else aws(service))
    quotas = [line for line in lines if line.name.startswith("Quota")]
    assert [line.ok for line in quotas] == [ok, ok]
    assert ok or all("request more in Service Quotas" in line.text for line in quotas)


def line_of(aws: MakeClient, about: str, /, **plan: Any) -> Line:
    return by_name(look_at_account(aws, Plan(**plan)))[about]


def test_the_region_is_asked_which_gpu_instances_it_offers(aws: MakeClient) -> None:
    assert line_of(aws, "GPU instance types").text == "us-east-1 offers g4dn.xlarge, g6.xlarge, g5.xlarge"
    refused = line_of(aws, "GPU instance types", instance_types=("g4dn.xlarge", "g99.xlarge"))
    assert not refused.ok
    assert refused.text == "us-east-1 does not offer g99.xlarge; remove them from instance_types"


def test_an_account_without_the_role_for_spot_is_told_the_command(aws: MakeClient) -> None:
    line = line_of(aws, "Spot")
    assert not line.ok
    assert "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com" in line.text
    # moto names the role of this service otherwise than AWS does.
    aws("iam").create_role(RoleName="AWSServiceRoleForEC2Spot", AssumeRolePolicyDocument="{}")
    assert line_of(aws, "Spot").ok


class Calls:
    """Lambda, as far as it is asked: moto has no account of a new customer's."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def get_account_settings(self) -> Any:
        return {"AccountLimit": {"ConcurrentExecutions": self.limit}}


@pytest.mark.parametrize(
    ("limit", "chosen", "ok"), [(10, 1000, False), (10, 10, True), (1000, 1000, True), (12, 20, False)]
)
def test_a_new_account_with_ten_calls_at_once_is_told_what_to_set(
    aws: MakeClient, limit: int, chosen: int, ok: bool
) -> None:
    line = line_of(
        lambda service: Calls(limit) if service == "lambda" else aws(service),
        "Calls of functions at once",
        lambda_concurrency=chosen,
    )
    assert line.ok == ok
    assert ok or f"set lambda_concurrency to {limit}" in line.text


def test_a_bucket_of_another_region_is_named_with_where_to_deploy(aws: MakeClient) -> None:
    location = {"LocationConstraint": "eu-central-1"}
    aws("s3").create_bucket(Bucket="far-away", CreateBucketConfiguration=location)
    line = line_of(aws, "Image bucket", image_bucket="far-away")
    assert not line.ok
    assert "deploy boxdrop in eu-central-1" in line.text


def test_what_a_destroyed_deployment_left_is_named_before_the_next(aws: MakeClient, moto: MakeClient) -> None:
    name = "Left by an earlier deployment"
    assert line_of(aws, name, name="gone").text == "nothing"
    moto("s3").create_bucket(Bucket="gone-images")
    tags = [{"Key": "boxdrop:environment", "Value": "gone"}]
    moto("s3").put_bucket_tagging(Bucket="gone-images", Tagging={"TagSet": tags})
    line = line_of(aws, name, name="gone")
    assert not line.ok
    assert "gone-images; to use them again, name them as adopt" in line.text
    assert name not in by_name(look_at_account(aws, Plan(name="gone", adopts=True)))


def test_the_plan_is_read_from_the_checkout(tmp_path: Path) -> None:
    settings = {"compute": "sagemaker", "instance_types": ["ml.g5.xlarge"], "image_bucket": "acme"}
    found = {"context": {"environments": {"prod": settings, "dev": {}}}}
    (tmp_path / "cdk.json").write_text(json.dumps(found))
    plan = read_plan(tmp_path, "prod")
    assert (plan.name, plan.compute, plan.endpoint_type, plan.image_bucket) == (
        "prod", "sagemaker", "ml.g5.xlarge", "acme",
    )  # fmt: skip
    assert read_plan(tmp_path).name == ""
    assert read_plan(tmp_path / "elsewhere", compute="batch") == Plan()
    with pytest.raises(BoxdropError, match="no environment 'test'; there are prod, dev"):
        read_plan(tmp_path, "test")


# -- after -------------------------------------------------------------------------------------------------

Look = Callable[[], dict[str, Line]]


@pytest.fixture
def system(aws: MakeClient, server: Server, request: pytest.FixtureRequest) -> System:
    """A system that lacks nothing."""
    mark = f"{abs(hash(request.node.name)):x}"[:8]
    s3, sqs = aws("s3"), aws("sqs")
    made = System(
        name="prod",
        region="us-east-1",
        table=f"ledger-{mark}",
        image_bucket=f"images-{mark}",
        data_bucket=f"data-{mark}",
        queues={"uploads-dlq": sqs.create_queue(QueueName=f"dlq-{mark}")["QueueUrl"]},
        label_studio_url=server.url,
        label_studio_secret=f"label-studio-{mark}",
    )
    create_table(aws("dynamodb"), made.table)
    for bucket in (made.image_bucket, made.data_bucket):
        s3.create_bucket(Bucket=bucket)
    s3.put_bucket_notification_configuration(
        Bucket=made.image_bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    rule = {"AllowedMethods": ["GET"], "AllowedOrigins": [server.url]}
    for bucket in (made.image_bucket, made.data_bucket):
        s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    aws("secretsmanager").create_secret(Name=f"label-studio-{mark}", SecretString=server.token)
    aws("secretsmanager").create_secret(Name=f"webhook-{mark}", SecretString='{"current": "abc"}')
    iam = aws("iam")
    iam.create_user(UserName=f"presign-{mark}")
    iam.create_access_key(UserName=f"presign-{mark}")
    data = Bucket(made.data_bucket, client=s3)
    bundles.use(data, bundles.push(data, BUNDLE).name)
    return made


@pytest.fixture
def look(aws: MakeClient, system: System, tmp_path: Path) -> Look:
    """Looks at the system, as it is now."""
    mark = system.table.partition("-")[2]
    more = {"webhook_url": WEBHOOK, "webhook_secret": f"webhook-{mark}", "presign_user": f"presign-{mark}"}
    return lambda: by_name(look_at_system(system, aws, tmp_path, description=more))


def test_of_a_system_that_lacks_nothing_every_line_is_ok_but_that_it_is_on_this_machine(look: Look) -> None:
    lines = look()
    assert len(lines) == 12
    assert [line.name for line in lines.values() if not line.ok] == ["Label Studio from the cloud"]
    assert "functions in AWS cannot reach" in lines["Label Studio from the cloud"].text
    assert "accepts the token" in lines["Label Studio"].text


def test_an_empty_secret_comes_with_the_command_that_fills_it(
    look: Look, aws: MakeClient, system: System
) -> None:
    aws("secretsmanager").delete_secret(SecretId=system.label_studio_secret, ForceDeleteWithoutRecovery=True)
    line = look()["Secret: Label Studio's token"]
    assert not line.ok
    assert f"put-secret-value --secret-id {system.label_studio_secret}" in line.text


def test_an_invalid_token_is_distinguished_from_an_empty_secret(
    look: Look, aws: MakeClient, system: System
) -> None:
    aws("secretsmanager").put_secret_value(SecretId=system.label_studio_secret, SecretString="wrong")
    lines = look()
    assert lines["Secret: Label Studio's token"].ok
    assert "does not accept the access token" in lines["Label Studio"].text


@pytest.mark.parametrize("of", ["image_bucket", "data_bucket"])
def test_a_bucket_without_a_cors_rule_for_label_studio_is_to_get_one(
    look: Look, aws: MakeClient, system: System, server: Server, of: str
) -> None:
    aws("s3").delete_bucket_cors(Bucket=getattr(system, of))
    line = look()["Images in the browser (CORS)"]
    assert not line.ok
    assert f"{getattr(system, of)} does not let {server.url} load images" in line.text


def test_a_bucket_without_events_is_named(look: Look, aws: MakeClient, system: System) -> None:
    aws("s3").put_bucket_notification_configuration(Bucket=system.image_bucket, NotificationConfiguration={})
    assert "does not send its events to EventBridge" in look()["Images' events"].text


def test_a_bundle_that_was_changed_is_not_ok(look: Look, aws: MakeClient, system: System) -> None:
    s3 = aws("s3")
    listed = s3.list_objects_v2(Bucket=system.data_bucket, Prefix="bundles/")["Contents"]
    (key,) = (each["Key"] for each in listed if each["Key"].endswith("/tokenizer.json"))
    s3.put_object(Bucket=system.data_bucket, Key=key, Body=b"{}")
    assert not look()["Detector"].ok


def test_dead_letters_are_counted(look: Look, aws: MakeClient, system: System) -> None:
    aws("sqs").send_message(QueueUrl=system.queues["uploads-dlq"], MessageBody="{}")
    assert "1 in uploads-dlq" in look()["Dead letters"].text


def test_a_user_without_a_key_cannot_sign(look: Look, aws: MakeClient, system: System) -> None:
    iam, user = aws("iam"), f"presign-{system.table.partition('-')[2]}"
    for key in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]:
        iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
    assert f"aws iam create-access-key --user-name {user}" in look()["Who signs images"].text


def test_a_project_whose_webhook_calls_another_address_is_named(
    look: Look, aws: MakeClient, system: System, connection: Connection
) -> None:
    from boxdrop.labelstudio.project import ensure_project

    project = ensure_project(connection, FRUIT, "fruit", key=f"doctor {system.table}")
    ledger = Ledger(system.table, client=aws("dynamodb"))
    ledger.make_project("fruit", system.image_bucket)
    ledger.connect_project("fruit", project.id, storage_id=1, webhook_id=1, replacing=None)
    ensure_webhook(connection, project.id, "https://elsewhere.example.com/", "abc")
    line = look()["Webhook"]
    assert not line.ok
    assert "set it up again with: boxdrop sync fruit" in line.text
    ensure_webhook(connection, project.id, WEBHOOK, "abc")
    assert look()["Webhook"] == Line("Webhook", True, f"1 project calls {WEBHOOK}")
