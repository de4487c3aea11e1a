"""A deployed stack can be updated: by this version, and by changed settings.

CloudFormation refuses to change or remove an export that another stack imports, and replaces a resource whose
logical id or immutable property changes. `tests/data/deployed_before.json` holds what the version before
deployed for each variant: imports, and logical ids with immutable properties of what must not be replaced.
"""

import json
import re
from typing import Any

import pytest

from tests.infra.conftest import REPOSITORY, VARIANTS, Synthesize, Synthesized

BEFORE: dict[str, dict[str, dict[str, Any]]] = json.loads(
    (REPOSITORY / "tests" / "data" / "deployed_before.json").read_text()
)


def exports(found: Synthesized) -> set[str]:
    return {
        output["Export"]["Name"]
        for template in found.stacks.values()
        for output in template.get("Outputs", {}).values()
        if "Export" in output
    }


def outputs(found: Synthesized) -> set[tuple[str, str]]:
    """Each as stack and name."""
    return {
        (f"{found.environment.prefix}-{stack}", name)
        for stack, template in found.stacks.items()
        for name in template.get("Outputs", {})
    }


def read_outputs(template: Any) -> set[tuple[str, str]]:
    """Outputs of other stacks that a template reads."""
    if isinstance(template, dict):
        if "Fn::GetStackOutput" in template:
            about = template["Fn::GetStackOutput"]
            return {(about["StackName"], about["OutputName"])}
        return set().union(*map(read_outputs, template.values()))
    return set().union(*map(read_outputs, template)) if isinstance(template, list) else set()


def test_no_export_that_the_version_before_imports_is_removed(variant: Synthesized) -> None:
    imported = {name for stack in BEFORE[variant.environment.name].values() for name in stack["imports"]}
    assert imported
    assert imported <= exports(variant)


def test_nothing_is_imported_any_more_so_every_export_can_go(variant: Synthesized) -> None:
    assert "Fn::ImportValue" not in json.dumps(list(variant.stacks.values()))


def test_every_output_that_a_stack_reads_is_there(variant: Synthesized) -> None:
    read = set().union(*map(read_outputs, variant.stacks.values()))
    assert read
    assert read <= outputs(variant)


@pytest.mark.parametrize(
    "changed",
    [
        {"image_bucket": "acme-images"},
        {"zenml_url": "https://zenml.example.com"},
        {"compute": "sagemaker"},
        {"private_network": True},
        {
            "functions_network": {
                "vpc_id": "vpc-0123456789abcdef0",
                "subnet_ids": ["subnet-0123456789abcdef0"],
            }
        },
        {"monthly_budget_usd": None},
        {"label_studio_role_arn": "arn:aws:iam::123456789012:role/label-studio"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_setting_can_be_changed_and_changed_back(
    changed: dict[str, Any], synthesize: Synthesize, default: Synthesized
) -> None:
    """Neither direction removes an export that a stack deployed before it imports."""
    after = synthesize("default", json.dumps(changed))
    for before, then in ((default, after), (after, default)):
        used = set(re.findall(r'"Fn::ImportValue": "([^"]+)"', json.dumps(list(before.stacks.values()))))
        assert used <= exports(then)
        needed = set().union(*map(read_outputs, then.stacks.values()))
        assert needed <= outputs(then)


@pytest.mark.parametrize("name", VARIANTS)
def test_what_was_deployed_keeps_its_logical_id_and_what_cannot_be_changed(
    name: str, synthesize: Synthesize
) -> None:
    variant = synthesize(name)
    replaced = []
    for stack, about in BEFORE[name].items():
        for id_, before in about["resources"].items():
            now = variant.stacks[stack]["Resources"].get(id_)
            if now is None or now["Type"] != before["Type"]:
                replaced.append(f"{stack}/{id_}")
                continue
            fixed = {key: now["Properties"].get(key) for key in before if key != "Type"}
            if fixed != {key: value for key, value in before.items() if key != "Type"}:
                replaced.append(f"{stack}/{id_}: {fixed}")
            # A generated name stays generated: a name given now would be that of a new resource.
            generated = {"AWS::S3::Bucket": "BucketName", "AWS::DynamoDB::Table": "TableName"}.get(
                now["Type"]
            )
            assert generated is None or generated in before or generated not in now["Properties"]
    assert replaced == []


def test_adopted_buckets_and_ledger_are_named_and_kept(synthesize: Synthesize) -> None:
    """CloudFormation imports what has a literal name, and is retained."""
    adopted = synthesize("default", json.dumps({"adopt": ADOPTED}))
    buckets = {
        each["Properties"]["BucketName"]: each["DeletionPolicy"]
        for each in adopted.resources("AWS::S3::Bucket").values()
    }
    assert buckets == dict.fromkeys(("old-data", "old-images"), "RetainExceptOnCreate")
    (table,) = adopted.resources("AWS::DynamoDB::Table").values()
    assert (table["Properties"]["TableName"], table["DeletionPolicy"]) == ("old-ledger", "Retain")
    assert not adopted.resources("AWS::SecretsManager::Secret")
    said = json.dumps(list(adopted.stacks["pipeline"]["Resources"].values()))
    assert "secret:boxdrop-default/label-studio-??????" in said
    assert '"BOXDROP_WEBHOOK_SECRET_ID": "boxdrop-default/webhook"' in said


ADOPTED = {"data_bucket": "old-data", "image_bucket": "old-images", "table": "old-ledger"}
