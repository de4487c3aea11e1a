"""The CDK app, synthesized once for each variant, without packages, credentials or Docker."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import pytest

from infra.config import Environment, load
from tests.infra.deployed import happened

__all__ = ["happened"]

REPOSITORY: Final = Path(__file__).parents[2]
CONTEXT: Final[Mapping[str, Any]] = json.loads((REPOSITORY / "cdk.json").read_text())["context"]

ACCOUNT: Final = "123456789012"
_KEY: Final = f"arn:aws:kms:us-west-2:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
VARIANTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {"label_studio_url": "https://label-studio.example.com", "region": "us-east-1"},
    "sagemaker": {
        "label_studio_url": "https://label-studio.example.com",
        "account": ACCOUNT,
        "region": "us-east-1",
        "compute": "sagemaker",
        "zenml_url": "https://zenml.example.com",
        "alarms": {"email": "someone@example.com"},
    },
    "own": {
        "label_studio_url": "https://label-studio.example.com",
        "account": ACCOUNT,
        "region": "us-west-2",
        "image_bucket": "acme-images",
        "kms_key_arn": _KEY,
        "image_bucket_key_arn": _KEY.replace("1111", "9999"),
        "network": {
            "vpc_id": "vpc-0123456789abcdef0",
            "subnet_ids": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
            "availability_zones": ["us-west-2a", "us-west-2b"],
        },
        "functions_network": {
            "vpc_id": "vpc-0123456789abcdef0",
            "subnet_ids": ["subnet-0123456789abcdef2", "subnet-0123456789abcdef3"],
            "route_table_ids": ["rtb-0123456789abcdef0"],
        },
        "permissions_boundary_arn": f"arn:aws:iam::{ACCOUNT}:policy/Boundary",
        "tags": {"cost-centre": "4711"},
        "image_uri": f"{ACCOUNT}.dkr.ecr.us-west-2.amazonaws.com/acme/boxdrop:1.0",
        "label_studio_role_arn": f"arn:aws:iam::{ACCOUNT}:role/label-studio",
        "access_log_bucket": "acme-logs",
        "alarms": {"topic_arn": f"arn:aws:sns:us-west-2:{ACCOUNT}:acme-alarms"},
        "monthly_budget_usd": None,
        "spot": False,
    },
    "frankfurt": {
        "label_studio_url": "https://label-studio.example.com",
        "account": ACCOUNT,
        "region": "eu-central-1",
        "private_network": True,
        "cost_tag_active": True,
        "removal_policy": "destroy",
    },
}
"""What every test of the templates goes through."""

_REGIONS: Final = ("eu-north-1", "ap-southeast-1")
"""The default settings there, by the region's name: one without budgets, one with a single GPU type."""


@dataclass(frozen=True)
class Synthesized:
    """One variant.

    Attributes:
        stacks: CloudFormation templates by ``data``, ``compute``, ``pipeline``, ``monitoring``.
        open_findings: of cdk-nag, which nobody acknowledged.
        findings: all of them.
    """

    environment: Environment
    folder: Path
    stacks: Mapping[str, Mapping[str, Any]]
    findings: tuple[Any, ...]
    open_findings: tuple[Any, ...]

    def resources(self, type_: str, stack: str | None = None) -> dict[str, dict[str, Any]]:
        """Resources of a type by logical id, of one stack or of all."""
        return {
            f"{name}/{id_}": resource
            for name, template in self.stacks.items()
            if stack in (None, name)
            for id_, resource in template["Resources"].items()
            if resource["Type"] == type_
        }

    @property
    def detector(self) -> dict[str, Any]:
        """Properties of the detector's job definition."""
        (found,) = (
            each["Properties"]
            for each in self.resources("AWS::Batch::JobDefinition").values()
            if each["Properties"]["JobDefinitionName"] == self.environment.prefix
        )
        return dict(found)


class Synthesize(Protocol):
    """Synthesizes a variant; `changed` holds other settings, as JSON."""

    def __call__(self, variant: str, changed: str = "{}") -> Synthesized: ...


@pytest.fixture(scope="session")
def synthesize(tmp_path_factory: pytest.TempPathFactory) -> Synthesize:
    """Synthesizes a variant, on its first use."""

    @cache
    def make(variant: str, changed: str = "{}") -> Synthesized:
        from aws_cdk import App

        from infra.app import BUNDLING_STACKS, make_app
        from infra.findings import ACKNOWLEDGED, findings

        settings = {**VARIANTS["default"], "region": variant} if variant in _REGIONS else VARIANTS[variant]
        environment = load({variant: {**settings, **json.loads(changed)}}, None)
        folder = tmp_path_factory.mktemp(f"cdk-{variant}")
        app = App(outdir=str(folder), context={**CONTEXT, BUNDLING_STACKS: []})
        stacks = make_app(app, environment)
        app.synth()
        found = tuple(findings(app))
        return Synthesized(
            environment,
            folder,
            {name: read_template(folder, stack.stack_name) for name, stack in stacks.items()},
            found,
            tuple(each for each in found if not any(known.covers(each) for known in ACKNOWLEDGED)),
        )

    return make


def lint(found: Synthesized) -> str:
    """What cfn-lint says of a variant, for its region."""
    templates = sorted(str(path) for path in found.folder.glob("*.template.json"))
    command = [str(Path(sys.executable).parent / "cfn-lint"), "-r", found.environment.chosen_region, "--"]
    done = subprocess.run([*command, *templates], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode in (0, 2, 4, 6, 8), done.stderr
    return done.stdout


def read_template(folder: Path, stack: str) -> Mapping[str, Any]:
    """A stack's template in a cloud assembly."""
    template: Mapping[str, Any] = json.loads((folder / f"{stack}.template.json").read_text())
    return template


@pytest.fixture(params=VARIANTS, scope="session")
def variant(request: pytest.FixtureRequest, synthesize: Synthesize) -> Synthesized:
    """Each variant."""
    return synthesize(request.param)


@pytest.fixture(scope="session")
def default(synthesize: Synthesize) -> Synthesized:
    """What somebody gets who sets nothing but Label Studio's address."""
    return synthesize("default")
