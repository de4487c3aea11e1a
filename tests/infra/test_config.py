"""Settings that make no sense are refused, in words."""

from typing import Any

import pytest

from infra.config import Environment, load
from infra.settings import ConfigError

URL = "https://label-studio.example.com"


def refusal(**settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load({"dev": {"label_studio_url": URL, **settings}}, "dev")
    return str(caught.value)


def test_label_studios_address_is_the_only_required_setting() -> None:
    assert load({"dev": {"label_studio_url": URL}}, None).compute == "batch"


def test_without_label_studios_address_there_is_no_deployment() -> None:
    with pytest.raises(ConfigError, match=r"environments\.dev\.label_studio_url: field required"):
        load({"dev": {}}, "dev")


def test_an_unknown_key_is_named_with_those_that_are_allowed() -> None:
    said = refusal(batching_windw_s=5)
    assert said.startswith(
        "environments.dev.batching_windw_s: there is no such key; allowed are access_log_bucket, acc"
    )
    assert "batching_window_s" in said


def test_an_unknown_key_of_a_group_is_named_with_those_of_the_group() -> None:
    said = refusal(alarms={"mail": "a@b.example"})
    assert said.startswith("environments.dev.alarms.mail: there is no such key; allowed are email, gpu_idle")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"batching_window_s": 901},
            "environments.dev.batching_window_s: input should be less than or equal to 900",
        ),
        ({"compute": "fargate"}, "environments.dev.compute: input should be 'batch' or 'sagemaker'"),
        ({"shard_images": 1000}, "environments.dev.shard_images: must be a multiple of 128"),
        ({"log_retention_days": 31}, "must be one of 1, 3, 5, 7"),
        ({"instance_types": ["m5.large"]}, "'m5.large' is not a GPU instance type"),
        ({"compute": "sagemaker", "instance_types": ["g5.xlarge"]}, "does not fit compute sagemaker"),
        ({"spot": False, "on_demand": False}, "spot and on_demand are both off"),
        ({"upload_patterns": ["photos/**"]}, "with single * in it"),
        (
            {"lambda_concurrency": 10, "zenml_url": "https://zenml.example.com"},
            "lambda_concurrency: 10 calls at once are too few: 12 are needed",
        ),
        ({"adopt": {"table": "t01", "data_bucket": "data"}}, "adopt.image_bucket: name the retained"),
        (
            {
                "adopt": {"table": "t01", "data_bucket": "data", "image_bucket": "img"},
                "removal_policy": "destroy",
            },
            "set removal_policy to retain",
        ),
        ({"max_vcpus": 4}, "allow 8, or turn spot or on_demand off"),
        ({"max_vcpus": 16, "on_demand_vcpus": 16}, "allow 20, or turn spot or on_demand off"),
        (
            {"compute": "sagemaker", "instance_types": ["ml.p3.2xlarge"]},
            "SageMaker has no image with driver 580 for 'ml.p3.2xlarge'",
        ),
        ({"label_studio_url": "label-studio"}, "environments.dev.label_studio_url"),
        ({"image_bucket": "Not A Bucket"}, "environments.dev.image_bucket"),
        ({"kms_key_arn": "alias/mine"}, "environments.dev.kms_key_arn"),
        (
            {"network": {"vpc_id": "vpc-0a", "subnet_ids": ["a", "b"], "availability_zones": ["x"]}},
            "one zone for each of subnet_ids",
        ),
        ({"name": "other"}, "the name is the key itself"),
        ({"image_bucket_key_arn": "arn:aws:kms:us-east-1:123456789012:key/1"}, "name it as image_bucket"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(settings: dict[str, Any], said: str) -> None:
    assert said in refusal(**settings)


@pytest.mark.parametrize(
    ("settings", "ceilings"),
    [
        ({}, {"SPOT": 12, "EC2": 4}),
        ({"max_vcpus": 8}, {"SPOT": 4, "EC2": 4}),
        ({"max_vcpus": 64}, {"SPOT": 48, "EC2": 16}),
        ({"max_vcpus": 64, "on_demand_vcpus": 60}, {"SPOT": 4, "EC2": 60}),
        ({"max_vcpus": 4, "on_demand": False}, {"SPOT": 4}),
        ({"max_vcpus": 4, "spot": False}, {"EC2": 4}),
    ],
)
def test_max_vcpus_is_what_spot_and_on_demand_use_together(
    settings: dict[str, Any], ceilings: dict[str, int]
) -> None:
    chosen = load({"dev": {"label_studio_url": URL, **settings}}, None)
    assert chosen.ceilings == ceilings
    assert sum(ceilings.values()) == chosen.max_vcpus


def test_all_problems_are_reported_at_once() -> None:
    assert len(refusal(batching_window_s=-1, max_vcpus=1, nonsense=1).splitlines()) == 3


def test_of_several_environments_one_has_to_be_named() -> None:
    two = {"dev": {"label_studio_url": URL}, "prod": {"label_studio_url": URL}}
    with pytest.raises(ConfigError, match="Say -c env=NAME; there are dev, prod"):
        load(two, None)
    with pytest.raises(ConfigError, match="no environment 'test'; there are dev, prod"):
        load(two, "test")


def test_an_environments_name_fits_into_all_names() -> None:
    with pytest.raises(ConfigError, match="at most 20 lower-case letters"):
        load({"Much-too-long-a-name-for-a-bucket": {"label_studio_url": URL}}, None)


def test_settings_cannot_be_changed() -> None:
    environment = load({"dev": {"label_studio_url": URL}}, None)
    with pytest.raises(ValueError, match="frozen"):
        environment.max_vcpus = 1


def test_browsers_may_load_images_from_label_studios_origin() -> None:
    settings = {
        "label_studio_url": "https://ls.example.com:8443/studio/",
        "allowed_origins": ["https://b.example"],
    }
    assert load({"dev": settings}, None).origins == ("https://ls.example.com:8443", "https://b.example")


def test_every_setting_is_described() -> None:
    assert [name for name, field in Environment.model_fields.items() if not field.description] == []
