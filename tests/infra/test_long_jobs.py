"""Machines for training and export in the account: only where they are wanted, and free while idle."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from boxdrop.account.placement import offer_of
from boxdrop.aws.launchers import job_name as run_name
from boxdrop.domain.errors import BoxdropError
from boxdrop.services import now
from boxdrop.store.orders import Order, job_name, order_id
from boxdrop.system import System
from boxdrop.topology import ORDER_ACCESS
from infra.config import load
from infra.settings import ConfigError
from tests.infra.conftest import REPOSITORY, Synthesize, Synthesized, lint

LONG = json.dumps({"long_jobs": {}})


@pytest.fixture(scope="module")
def long_jobs(synthesize: Synthesize) -> Synthesized:
    """The default deployment with machines for long work."""
    return synthesize("default", LONG)


def long_ones(found: Synthesized, kind: str) -> dict[str, Any]:
    """Properties of the resources of a type that belong to long jobs, by logical id."""
    return {
        id_.partition("/")[2]: each["Properties"]
        for id_, each in found.resources(kind).items()
        if "LongJobs" in id_
    }


def test_who_does_not_want_it_builds_no_image_and_has_no_second_queue(default: Synthesized) -> None:
    assert len(default.resources("AWS::Batch::JobQueue")) == 1
    resources = [id_ for template in default.stacks.values() for id_ in template["Resources"]]
    # Teaching needs no machines of its own, but somebody who hears of its failures.
    assert {id_ for id_ in resources if "Long" in id_} == {
        "FailedLongJobsRule",
        "FailedLongJobsMayCall",
        "LongJobFailed",
    }
    assets = json.loads((default.folder / "boxdrop-default-compute.assets.json").read_text())
    assert len(assets["dockerImages"]) == 1


def test_the_image_with_pytorch_is_built_from_its_own_file(long_jobs: Synthesized) -> None:
    assets = json.loads((long_jobs.folder / "boxdrop-default-compute.assets.json").read_text())
    files = {each["source"]["dockerFile"] for each in assets["dockerImages"].values()}
    assert files == {"functions/job/Dockerfile", "functions/job/Dockerfile.pytorch"}
    assert {(REPOSITORY / file).is_file() for file in files} == {True}


def test_cdk_nag_and_cfn_lint_find_nothing_that_was_not_reviewed(long_jobs: Synthesized) -> None:
    assert [str(each) for each in long_jobs.open_findings] == []
    assert lint(long_jobs) == ""


def test_nothing_runs_while_nobody_trains_and_spot_comes_first(long_jobs: Synthesized) -> None:
    (queue,) = long_ones(long_jobs, "AWS::Batch::JobQueue").values()
    assert queue["JobQueueName"] == "boxdrop-default-long"
    environments = long_ones(long_jobs, "AWS::Batch::ComputeEnvironment")
    order = sorted(queue["ComputeEnvironmentOrder"], key=lambda each: each["Order"])
    chosen = [environments[each["ComputeEnvironment"]["Fn::GetAtt"][0]] for each in order]
    resources = [each["ComputeResources"] for each in chosen]
    assert [(each["Type"], each["MinvCpus"], each["MaxvCpus"]) for each in resources] == [
        ("SPOT", 0, 4), ("EC2", 0, 4),
    ]  # fmt: skip
    assert len(long_jobs.resources("AWS::EC2::VPC")) == 1


def test_a_job_goes_on_after_spot_takes_its_machine_but_not_when_its_time_is_used_up(
    long_jobs: Synthesized,
) -> None:
    definitions = long_ones(long_jobs, "AWS::Batch::JobDefinition")
    assert {each["JobDefinitionName"] for each in definitions.values()} == {
        "boxdrop-default-train",
        "boxdrop-default-export",
    }
    for each in definitions.values():
        assert each["RetryStrategy"]["Attempts"] == 10
        assert each["RetryStrategy"]["EvaluateOnExit"] == [
            {"Action": "RETRY", "OnStatusReason": "Host EC2*"},
            {"Action": "RETRY", "OnExitCode": "75"},
            {"Action": "EXIT", "OnReason": "*"},  # 3 among them: no machine time is left
        ]
        names = {each["Name"] for each in each["ContainerProperties"]["Environment"]}
        assert names == {"BOXDROP_DATA_BUCKET", "BOXDROP_ORDER_KIND", "BOXDROP_SYSTEM"}


def test_the_command_line_finds_the_machines_and_their_price(
    long_jobs: Synthesized, default: Synthesized
) -> None:
    def described(found: Synthesized) -> Any:
        (parameter,) = found.resources("AWS::SSM::Parameter").values()
        return json.dumps(parameter["Properties"]["Value"])

    written = described(long_jobs)
    for field in ("boxdrop-default-long", "boxdrop-default-train", "boxdrop-default-export", "1.01"):
        assert field in written
    assert "boxdrop-default-long" not in described(default)
    assert "boxdrop-default-teach" in described(default)


def test_a_failed_training_or_teaching_notifies_the_operator(long_jobs: Synthesized) -> None:
    (rule,) = (
        each["Properties"]
        for each in long_jobs.resources("AWS::Events::Rule").values()
        if each["Properties"].get("Name") == "boxdrop-default-failedlongjobs"
    )
    detail = rule["EventPattern"]["detail"]
    for queue in (":job-queue/boxdrop-default", ":job-queue/boxdrop-default-long"):
        assert f'{queue}"' in json.dumps(detail["jobQueue"])
    prefixes = [each["prefix"] for each in detail["jobName"]]
    assert prefixes == ["boxdrop-teach-", "boxdrop-train-", "boxdrop-export-"]
    teaching = Order(order_id("teach", "fruit", "fruit"), "teach", "fruit", "fruit", (), now(), 3600, 1.01)
    assert [job_name(teaching).startswith(each) for each in prefixes] == [True, False, False]
    assert not any(run_name("20261129T014500Z-0123abcd", 1).startswith(each) for each in prefixes)
    (alarm,) = (
        each["Properties"]
        for id_, each in long_jobs.resources("AWS::CloudWatch::Alarm").items()
        if "LongJobFailed" in id_
    )
    assert alarm["Dimensions"] == [{"Name": "RuleName", "Value": rule["Name"]}]
    section = alarm["AlarmDescription"].rpartition("#")[2]
    assert f"\n## {section}\n" in (REPOSITORY / "docs" / "operations.md").read_text()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"long_jobs": {"max_vcpus": 4}}, "long_jobs.max_vcpus: 4 are not enough"),
        ({"long_jobs": {"instance_types": ["m5.large"]}}, "'m5.large' is not a GPU instance"),
        (
            {"long_jobs": {"hours": 4}},
            "long_jobs.hours: there is no such key; allowed are hub_url, image_uri",
        ),
    ],
)
def test_settings_that_make_no_sense_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        load({"dev": {"label_studio_url": "https://l.example", **settings}}, None)


def test_with_sagemaker_long_jobs_bring_machines_and_a_network_of_their_own(synthesize: Synthesize) -> None:
    found = synthesize("sagemaker", json.dumps({"long_jobs": {"hub_url": "https://hub.example.com"}}))
    assert len(found.resources("AWS::Batch::JobQueue")) == len(found.resources("AWS::EC2::VPC")) == 1
    names = set()
    for each in long_ones(found, "AWS::Batch::JobDefinition").values():
        variables = {one["Name"]: one["Value"] for one in each["ContainerProperties"]["Environment"]}
        names.add(each["JobDefinitionName"].rpartition("-")[2])
        assert variables.get("HF_ENDPOINT") == (
            None if variables["BOXDROP_ORDER_KIND"] == "teach" else "https://hub.example.com"
        )
    assert names == {"train", "export", "teach"}  # the endpoint cannot teach
    assert [str(each) for each in found.open_findings] == []
    (parameter,) = found.resources("AWS::SSM::Parameter").values()
    assert "boxdrop-sagemaker-teach" in json.dumps(parameter["Properties"]["Value"])


def test_the_detectors_own_queue_and_image_teach(default: Synthesized) -> None:
    found = {
        each["Properties"]["JobDefinitionName"]: each["Properties"]
        for each in default.resources("AWS::Batch::JobDefinition").values()
    }
    detector, teaching = found["boxdrop-default"], found["boxdrop-default-teach"]
    assert len(found) == 2
    for same in ("Image", "ResourceRequirements", "LogConfiguration"):
        assert teaching["ContainerProperties"][same] == detector["ContainerProperties"][same]
    assert teaching["ContainerProperties"]["JobRoleArn"] != detector["ContainerProperties"]["JobRoleArn"]
    variables = {one["Name"]: one["Value"] for one in teaching["ContainerProperties"]["Environment"]}
    assert (variables["BOXDROP_ORDER_KIND"], variables["BOXDROP_PROVIDER"]) == ("teach", "cuda")
    assert teaching["RetryStrategy"]["Attempts"] == 10


def test_a_system_that_an_earlier_boxdrop_deployed_says_how_to_get_them() -> None:
    before = System("prod", "us-east-1", "ledger", "images", "data")
    with pytest.raises(BoxdropError, match=r'add "long_jobs": \{\} .* npx cdk deploy --all -c env=prod'):
        offer_of(before, "train")
    with pytest.raises(BoxdropError, match=r"deployed by an earlier boxdrop, .* or leave out --in-account"):
        offer_of(before, "teach")
    on_sagemaker = replace(before, launcher="sagemaker")
    with pytest.raises(
        BoxdropError, match=r'on SageMaker, .* leave out --in-account .* add "long_jobs": \{\}'
    ):
        offer_of(on_sagemaker, "teach")
    with pytest.raises(BoxdropError, match=r"the local system is this machine"):
        offer_of(System("local", "us-east-1", "ledger", "images", "data"), "export")


def test_each_role_allows_what_the_table_says(
    long_jobs: Synthesized, default: Synthesized, synthesize: Synthesize
) -> None:
    checked = [
        check_role(id_, policy["Properties"])
        for found in (long_jobs, default, synthesize("sagemaker", LONG))
        for id_, policy in found.resources("AWS::IAM::Policy").items()
        if re.search(r"(Train|Export|Teach)Role", id_)
    ]
    assert sorted(checked) == ["export"] * 2 + ["teach"] * 3 + ["train"] * 2


def check_role(id_: str, policy: dict[str, Any]) -> str:
    """Compare a role's policy with the table; returns the kind of work."""
    found = re.search(r"(Train|Export|Teach)Role", id_)
    assert found is not None
    kind = found[1].lower()
    statements = {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"]}
    allowed = {
        (action, prefix)
        for statement in statements.values()
        for action in [statement["Action"]]
        if isinstance(action, str) and action in ("s3:GetObject", "s3:PutObject")
        for prefix in re.findall(r'"/(\w+/)\*"', json.dumps(statement["Resource"]))
    }
    access = ORDER_ACCESS[kind]
    assert allowed == {
        *(("s3:GetObject", prefix) for prefix in access.reads),
        *(("s3:PutObject", prefix) for prefix in access.writes),
    }
    wanted: dict[str, Any] = {"System": "ssm:GetParameter", "List": "s3:ListBucket"}
    if access.images:
        wanted["Images"] = ["s3:GetObject", "s3:GetObjectVersion"]
    if access.labels:
        wanted["Labels"] = "s3:PutObject"
        assert '"/*/labels.yaml"' in json.dumps(statements["Labels"]["Resource"])
    if access.ledger:
        wanted |= {
            "ReadLedger": ["dynamodb:GetItem", "dynamodb:BatchGetItem"],
            "ListLedger": "dynamodb:Query",
        }
    others = {sid: each["Action"] for sid, each in statements.items() if sid not in ("Read", "Write")}
    assert others == wanted
    return kind
