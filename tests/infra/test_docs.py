"""What is written about a deployment is what the code does."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from PIL import Image

from infra.reference import TARGET, reference
from scripts.camera import MOST_BYTES
from tests.infra.conftest import REPOSITORY, Synthesized


def test_the_configuration_reference_is_what_the_code_says() -> None:
    assert TARGET.read_text() == reference(), "run: python -m infra.reference"


def test_the_drawing_is_what_its_script_draws(tmp_path: Path) -> None:
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    try:
        from draw_architecture import TARGET as DRAWN  # type: ignore[import-not-found]
        from draw_architecture import picture
    finally:
        sys.path.remove(str(REPOSITORY / "scripts"))
    assert picture() == DRAWN.read_text()


def test_pictures_have_full_colour_load_quickly_and_are_shown_somewhere() -> None:
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    written = "".join(page.read_text() for page in pages)
    for picture in sorted((REPOSITORY / "docs" / "images").iterdir()):
        assert f"images/{picture.name}" in written, f"no page shows {picture.name}"
        if picture.suffix == ".png":
            assert Image.open(picture).mode == "RGB", f"{picture.name} has a palette: make pictures"
            assert picture.stat().st_size <= MOST_BYTES, f"{picture.name} is too large"


def test_the_lock_file_has_no_download_addresses_and_pins_the_version_that_fits() -> None:
    lock = (REPOSITORY / "package-lock.json").read_text()
    assert "resolved" not in lock
    assert "https://" not in lock
    assert re.search(r'"aws-cdk": "2\.\d+\.\d+"', (REPOSITORY / "package.json").read_text())


def test_what_costs_money_while_nothing_happens_is_in_the_cost_table(default: Synthesized) -> None:
    """Resources by what AWS charges for; a new kind has to be looked at here and in docs/costs.md."""
    free_while_nothing_happens = {
        "AWS::ApiGatewayV2::Api", "AWS::ApiGatewayV2::Integration", "AWS::ApiGatewayV2::Route",
        "AWS::ApiGatewayV2::Stage", "AWS::Batch::ComputeEnvironment", "AWS::Batch::JobDefinition",
        "AWS::Batch::JobQueue", "AWS::Budgets::Budget", "AWS::CDK::Metadata", "AWS::CloudWatch::Dashboard",
        "AWS::DynamoDB::Table", "AWS::EC2::InternetGateway", "AWS::EC2::LaunchTemplate", "AWS::EC2::Route",
        "AWS::EC2::RouteTable", "AWS::EC2::SecurityGroup", "AWS::EC2::Subnet",
        "AWS::EC2::SubnetRouteTableAssociation", "AWS::EC2::VPC", "AWS::EC2::VPCEndpoint",
        "AWS::EC2::VPCGatewayAttachment", "AWS::Events::Rule", "AWS::IAM::InstanceProfile",
        "AWS::IAM::Policy", "AWS::IAM::Role", "AWS::IAM::User",
        "AWS::Lambda::EventSourceMapping", "AWS::Lambda::Function",
        "AWS::Lambda::Permission", "AWS::Logs::LogGroup", "AWS::Logs::QueryDefinition", "AWS::S3::Bucket",
        "AWS::S3::BucketPolicy", "AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "AWS::SQS::Queue",
        "AWS::SQS::QueuePolicy", "AWS::SSM::Parameter",
    }  # fmt: skip
    charged = {"AWS::SecretsManager::Secret": 0.40, "AWS::CloudWatch::Alarm": 0.10}
    kinds = [each["Type"] for stack in default.stacks.values() for each in stack["Resources"].values()]
    assert set(kinds) <= free_while_nothing_happens | set(charged)
    written = (REPOSITORY / "docs" / "costs.md").read_text()
    secrets = len(default.resources("AWS::SecretsManager::Secret"))
    alarms = default.resources("AWS::CloudWatch::Alarm").values()
    insights = sum("Metrics" in alarm["Properties"] for alarm in alarms)
    assert f"| Secrets in Secrets Manager | {secrets} " in written
    assert f"| CloudWatch alarms on a metric | {len(alarms) - insights} at" in written
    assert f"| CloudWatch alarms on a Metrics Insights query | {insights} at" in written
    fixed = sum(charged.get(kind, 0) for kind in kinds)
    (highest,) = re.findall(r"\*\*\$[\d.]+–([\d.]+)\*\*", written)
    assert fixed < float(highest) < 5


def test_addresses_in_the_documents_lead_somewhere() -> None:
    for page in ("deploy", "costs", "security", "operations", "configuration", "architecture"):
        text = (REPOSITORY / "docs" / f"{page}.md").read_text()
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text):
            assert (REPOSITORY / "docs" / target).exists(), f"{page}.md: {target}"


def test_the_app_names_a_mistake_without_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from infra.app import main; main()"],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "CDK_CONTEXT_JSON": '{"environments": {"dev": {"labels": 1}}}'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "boxdrop: environments.dev.label_studio_url: field required" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_extra_for_deployment_pins_what_the_tests_deploy_with() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pinned = dict(each.split("==") for each in extras["deploy"] if "==" in each)
    assert {"aws-cdk-lib", "constructs", "cdk-nag"} <= set(pinned)
    compiled = (REPOSITORY / "requirements" / "test.txt").read_text()
    for name, pin in pinned.items():
        assert version(name) == pin
        assert f"\n{name}=={pin} " in compiled
    assert "'.[deploy]'" in (REPOSITORY / "docs" / "deploy.md").read_text()
