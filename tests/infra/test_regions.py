"""The tables of regions agree with the specification of CloudFormation that cfn-lint ships."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import cfnlint
import pytest
from cfnlint.helpers import AVAILABILITY_ZONES

from infra.config import Environment, load, locate
from infra.regions import (
    BATCH_INSTANCES,
    BATCH_PREFERENCE,
    SAGEMAKER_AMI_FAMILIES,
    SAGEMAKER_INSTANCES,
    SAGEMAKER_PREFERENCE,
    WITHOUT_BUDGETS,
    zones,
)
from infra.settings import ConfigError
from tests.infra.conftest import Synthesize, Synthesized, lint

SCHEMAS = Path(cfnlint.__file__).parent / "data" / "schemas"
COMMERCIAL = sorted(
    path.stem
    for path in (SCHEMAS / "providers").glob("*-*.json")
    if not path.stem.startswith(("cn-", "us-gov-", "us-iso", "eu-iso", "eusc-"))
)
URL = "https://label-studio.example.com"


@cache
def offered(kind: str) -> dict[str, set[str]]:
    """Instance types by region: ``aws_ec2_instance`` or ``aws_sagemaker_hosting``."""
    found = json.loads((SCHEMAS / "extensions" / kind / "instancetype_enum.json").read_text())
    return {region: set(about["enum"]) for region, about in found.items() if isinstance(about, dict)}


@cache
def resource_types(region: str) -> frozenset[str]:
    """What CloudFormation can make in a region."""
    return frozenset(json.loads((SCHEMAS / "providers" / f"{region}.json").read_text()))


def settings(region: str | None, **more: Any) -> Environment:
    given = {} if region is None else {"region": region}
    return load({"dev": {"label_studio_url": URL, **given, **more}}, None)


def test_the_tables_have_every_commercial_region() -> None:
    assert set(BATCH_INSTANCES) == set(SAGEMAKER_INSTANCES) == set(COMMERCIAL)


@pytest.mark.parametrize("region", COMMERCIAL)
def test_batchs_default_types_are_those_that_the_region_offers(region: str) -> None:
    there = offered("aws_ec2_instance").get(region, set())
    cheap = tuple(each for each in BATCH_PREFERENCE[:3] if each in there)
    last = tuple(each for each in BATCH_PREFERENCE if each in there)
    assert BATCH_INSTANCES[region] == (cheap or last)


@pytest.mark.parametrize("region", COMMERCIAL)
def test_an_endpoints_default_type_is_the_cheapest_that_the_region_offers(region: str) -> None:
    there = offered("aws_sagemaker_hosting").get(region, set())
    if "AWS::SageMaker::Endpoint" not in resource_types(region):
        there = set()
    expected = next((each for each in SAGEMAKER_PREFERENCE if each in there), None)
    assert SAGEMAKER_INSTANCES[region] == expected


def test_budgets_are_left_out_exactly_where_cloudformation_has_none() -> None:
    assert {each for each in COMMERCIAL if "AWS::Budgets::Budget" not in resource_types(each)} == (
        WITHOUT_BUDGETS
    )


@pytest.mark.parametrize("region", COMMERCIAL)
def test_no_more_zones_are_used_than_an_account_has(region: str) -> None:
    """New accounts get three of the four zones of ap-northeast-1 and of ca-central-1."""
    there = len(AVAILABILITY_ZONES[region])
    assert zones(region) == (3 if region in ("ap-northeast-1", "ca-central-1") else there)


@pytest.mark.parametrize("region", COMMERCIAL)
def test_every_region_has_the_other_resource_types(region: str, synthesize: Synthesize) -> None:
    used = {
        each["Type"]
        for variant in ("default", "sagemaker", "own", "frankfurt")
        for template in synthesize(variant).stacks.values()
        for each in template["Resources"].values()
        if not each["Type"].startswith("Custom::") and each["Type"] != "AWS::CDK::Metadata"
    }
    left = {each for each in used if each not in resource_types(region)}
    if SAGEMAKER_INSTANCES[region] is None:
        left = {each for each in left if not each.startswith("AWS::SageMaker::")}
    assert left <= {"AWS::Budgets::Budget"}


def test_a_region_without_gpus_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"instance_types: EC2 offers none .* in ca-west-1; list types"):
        _ = settings("ca-west-1").instances
    with pytest.raises(ConfigError, match=r"SageMaker offers none .* in me-central-1"):
        _ = settings("me-central-1", compute="sagemaker").instances


def test_types_that_the_settings_list_are_used_in_any_region() -> None:
    assert settings("ca-west-1", instance_types=["g7.xlarge"]).instances == ("g7.xlarge",)


def test_the_region_comes_from_the_settings_before_the_credentials() -> None:
    environ = {"CDK_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "us-west-2"}
    assert locate(settings("eu-north-1"), environ).region == "eu-north-1"
    assert locate(settings(None), environ).region == "eu-west-1"
    with pytest.raises(ConfigError, match="name a region here, or set AWS_REGION"):
        locate(settings(None), {})


def test_every_default_of_sagemaker_is_served_by_the_image_with_the_new_driver() -> None:
    assert {each.split(".")[1] for each in SAGEMAKER_PREFERENCE} <= set(SAGEMAKER_AMI_FAMILIES)


@pytest.mark.parametrize("region", ["eu-north-1", "ap-southeast-1"])
def test_a_region_that_lacks_something_synthesizes_clean(region: str, synthesize: Synthesize) -> None:
    """All regions and variants: ``python -m benchmarks.regions``."""
    found = synthesize(region)
    assert [str(each) for each in found.open_findings] == []
    assert lint(found) == ""
    for each in found.resources("AWS::Batch::ComputeEnvironment").values():
        assert each["Properties"]["ComputeResources"]["InstanceTypes"] == list(BATCH_INSTANCES[region])
    assert bool(found.resources("AWS::Budgets::Budget")) == (region not in WITHOUT_BUDGETS)


def test_without_a_budget_synthesis_reports_it(synthesize: Synthesize) -> None:
    assert "CloudFormation cannot make a budget in eu-north-1" in warnings(synthesize("eu-north-1"))
    assert "cannot make a budget" not in warnings(synthesize("ap-southeast-1"))


def warnings(found: Synthesized) -> str:
    """What `cdk deploy` prints for each stack, and other notes."""
    return "".join(path.read_text() for path in found.folder.glob("*.metadata.json"))
