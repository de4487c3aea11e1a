"""The job's settings."""

from pathlib import Path

import pytest

from boxdrop.domain.errors import BoxdropError
from functions.job.environment import Environment


def test_only_the_bucket_must_be_given() -> None:
    environment = Environment.read(
        {"BOXDROP_DATA_BUCKET": "data", "BOXDROP_BATCH_SIZE": "", "AWS_BATCH_JOB_ID": " "}
    )
    assert environment == Environment(data_bucket="data", bundle_cache=environment.bundle_cache)
    assert environment.bundle_cache.name == "boxdrop-bundles"


def test_batch_provides_the_job_and_the_shard() -> None:
    environment = Environment.read(
        {
            "BOXDROP_DATA_BUCKET": "data",
            "BOXDROP_BUNDLE_CACHE": "/var/cache/boxdrop",
            "BOXDROP_PROVIDER": "cuda",
            "BOXDROP_SERVE_ADDRESS": "0.0.0.0:8080",
            "BOXDROP_GRACE_S": "0",
            "BOXDROP_USD_PER_HOUR": "0.21",
            "AWS_BATCH_JOB_ID": "4f1:0",
            "AWS_BATCH_JOB_ARRAY_INDEX": "0",
        }
    )
    assert (environment.launcher, environment.job_id, environment.array_index) == ("batch", "4f1:0", 0)
    assert (environment.provider, environment.bundle_cache) == ("cuda", Path("/var/cache/boxdrop"))
    assert (environment.address, environment.grace_s, environment.usd_per_hour) == (
        ("0.0.0.0", 8080),
        0,
        0.21,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BOXDROP_PROVIDER", "gpu"),
        ("BOXDROP_LAUNCHER", "ecs"),
        ("BOXDROP_BATCH_SIZE", "0"),
        ("BOXDROP_BATCH_SIZE", "many"),
        ("BOXDROP_GRACE_S", "-1"),
        ("BOXDROP_JOB_TIMEOUT_S", "inf"),
        ("BOXDROP_SERVE_ADDRESS", "8080"),
        ("AWS_BATCH_JOB_ARRAY_INDEX", "-1"),
        ("BOXDROP_DATA_BUCKET", ""),
    ],
)
def test_what_makes_no_sense_is_named(name: str, value: str) -> None:
    with pytest.raises(BoxdropError, match=name):
        Environment.read({"BOXDROP_DATA_BUCKET": "data", name: value})
