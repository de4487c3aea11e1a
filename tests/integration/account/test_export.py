"""Exporting a detector in the account: no PyTorch on the user's machine, and a bundle in the data bucket."""

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from boxdrop.aws.s3 import Bucket
from boxdrop.cli import boxdrop
from boxdrop.detectors.catalogue import known_detector
from boxdrop.store.bundles import list_bundles
from boxdrop.store.orders import list_orders
from boxdrop.system import System
from model_export.stand_ins import TINY, make
from tests.hub_mirror import hub_mirror
from tests.integration.aws.test_launchers import batch
from tests.integration.pipeline.conftest import client, data_bucket, ledger, s3
from tests.moto_server import MakeClient, aws, endpoint

from .container import Container, check_access, describe, offers

__all__ = ["aws", "batch", "client", "data_bucket", "endpoint", "ledger", "s3"]


@pytest.fixture
def deployed(
    data_bucket: Bucket, aws: MakeClient, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> System:
    """A system in AWS without a project, with machines for long work."""
    system = System("prod", "us-east-1", "ledger", "images", data_bucket.name, jobs=offers("export"))
    describe(system, aws)
    environment = {
        "BOXDROP_SYSTEM": "prod",
        "BOXDROP_HOME": str(tmp_path / "home"),
        "HF_HOME": str(tmp_path / "hub"),
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return system


def call(*arguments: str) -> Result:
    return CliRunner().invoke(boxdrop, list(arguments))


def test_a_job_exports_a_detector_of_the_hub_into_the_data_bucket(
    deployed: System, data_bucket: Bucket, batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = call("detectors", "get", "owlvit", "--in-account", "--yes", "--at-most", "$1")
    assert said.exit_code == 0, said.output
    assert "owlvit: at most 59 min on g5.xlarge" in said.output
    (order,) = list_orders(data_bucket, "")
    (job,) = batch.describe_jobs(jobs=[order.job_id])["jobs"]
    known = known_detector("owlvit")
    assert known is not None
    with hub_mirror(known.source, make(tmp_path / "owlvit", "owlvit", TINY["owlvit"])) as (address, _):
        monkeypatch.setenv("HF_ENDPOINT", address)
        container = Container(deployed, "export", job, tmp_path / "machine")
        container.finish()
    (listed,) = list_bundles(Bucket(deployed.data_bucket))
    assert (listed.bundle.name, listed.default) == ("owlvit", True)
    assert not os.path.exists(tmp_path / "home" / "known-detectors")
    check_access(container.calls(), "export", deployed)


def test_what_needs_no_export_says_what_to_do_instead(deployed: System, tmp_path: Path) -> None:
    for arguments, said in (
        (
            ("nanodet-coco", "--in-account"),
            "needs no export: upload it with `boxdrop bundle push nanodet-coco`",
        ),
        (("owl", "--in-account"), "there is no detector 'owl'"),
        (("owlv2", "--in-account", "--from", str(tmp_path)), "leave it out with --in-account"),
        (("owlv2", "--at-most", "1h"), "--at-most goes with --in-account"),
        (("owlv2", "--cancel"), "nothing like this was started"),
    ):
        assert said in call("detectors", "get", *arguments).output
