"""The workflow for GitHub Actions stores no keys, and deploys nothing from a pull request."""

import json
from typing import Any

import pytest
import yaml

from tests.infra.conftest import REPOSITORY

FOLDER = REPOSITORY / "examples" / "delivery"
TEXT = (FOLDER / "deploy.yml").read_text()
WORKFLOW: dict[Any, Any] = yaml.safe_load(TEXT)


def commands(job: str) -> str:
    return "\n".join(step.get("run", "") for step in WORKFLOW["jobs"][job]["steps"])


def test_it_exchanges_githubs_token_and_stores_no_key() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read", "id-token": "write"}
    assert "secrets." not in TEXT
    assert "aws-access-key-id" not in TEXT
    for job in WORKFLOW["jobs"].values():
        (login,) = (each for each in job["steps"] if "configure-aws-credentials" in each.get("uses", ""))
        assert set(login["with"]) == {"role-to-assume", "aws-region"}


def test_a_pull_request_sees_the_difference_and_a_tag_deploys() -> None:
    on = WORKFLOW[True]  # YAML 1.1 reads `on` as true
    assert set(on) == {"pull_request", "push"}
    assert on["push"] == {"tags": ["v*"]}
    assert WORKFLOW["jobs"]["diff"]["if"] == "github.event_name == 'pull_request'"
    assert WORKFLOW["jobs"]["deploy"]["if"] == "github.event_name == 'push'"
    assert "cdk diff" in commands("diff")
    assert "cdk deploy" not in commands("diff")
    assert "cdk deploy --all --require-approval never" in commands("deploy")


def test_what_an_outsider_writes_reaches_no_shell() -> None:
    for job in ("diff", "deploy"):
        assert "${{" not in commands(job)


def test_the_role_is_for_one_repository_and_what_cdk_bootstrap_made() -> None:
    (trust,) = json.loads((FOLDER / "trust-policy.json").read_text())["Statement"]
    about = trust["Condition"]["StringEquals"]
    assert about["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
    assert "*" not in about["token.actions.githubusercontent.com:sub"]
    (allowed,) = json.loads((FOLDER / "permissions.json").read_text())["Statement"]
    assert allowed["Action"] == "sts:AssumeRole"
    assert allowed["Resource"] == "arn:aws:iam::ACCOUNT:role/cdk-hnb659fds-*-role-ACCOUNT-REGION"


@pytest.mark.parametrize("name", ["deploy.yml", "trust-policy.json", "permissions.json"])
def test_the_documentation_leads_to_it(name: str) -> None:
    assert f"examples/delivery/{name}" in (REPOSITORY / "docs" / "deploy.md").read_text()
