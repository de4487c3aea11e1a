"""``boxdrop doctor``: list what a deployment still needs."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import say
from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    from boxdrop.doctor import Line


@click.command()
@system_option
@click.option(
    "--compute",
    type=click.Choice(["batch", "sagemaker"]),
    default="batch",
    show_default=True,
    help="The service that will run the detector; its quotas are checked before a deployment.",
)
@click.option(
    "--no-docker", is_flag=True, help="The job's image is already in ECR (`image_uri`): Docker is not needed."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def doctor(system: str | None, compute: str, no_docker: bool, as_json: bool) -> None:
    """List what a deployment needs: ok, or what to do.

    \b
      boxdrop doctor                before: tools here, account, quotas
      boxdrop doctor --system prod  after: Label Studio, buckets, projects

    Changes nothing. Exits with 1 if something is missing.
    """
    bad = 0
    lines = _system_lines(system) if system else _lines_before(compute, not no_docker)
    if as_json:
        found = list(lines)
        say(json.dumps([asdict(line) for line in found], indent=1))
        sys.exit(0 if all(line.ok for line in found) else 1)
    for line in lines:
        click.secho("ok  " if line.ok else "do  ", fg="green" if line.ok else "red", nl=False)
        say(f"{line.name}: {line.text}")
        bad += not line.ok
    if bad:
        say(f"{bad} to do." if system else f"{bad} to do; then: npx cdk deploy --all")
        sys.exit(1)
    say("All is well." if system else "Ready: npx cdk deploy --all")


def _lines_before(compute: str, needs_docker: bool) -> "Iterator[Line]":
    from boxdrop.doctor import look_at_account, look_at_machine

    yield from look_at_machine(Path.cwd(), needs_docker=needs_docker)
    yield from look_at_account(_client, compute=compute)


def _system_lines(name: str) -> "Iterator[Line]":
    from boxdrop.doctor import look_at_system
    from boxdrop.home import home

    found = open_system(name)
    return look_at_system(found, _client, home() / "bundles", description=_description(name))


def _description(name: str) -> dict[str, Any]:
    """The full description of a deployment; the local system has no more than `System`."""
    from boxdrop.system import LOCAL, parameter_name

    if name == LOCAL:
        return {}
    answer = _client("ssm").get_parameter(Name=parameter_name(name))
    described: dict[str, Any] = json.loads(answer["Parameter"]["Value"])
    return described


def _client(service: str) -> Any:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise BoxdropError("doctor needs boto3: pip install 'boxdrop[functions]'") from None
    config = Config(retries={"mode": "standard", "max_attempts": 2}, connect_timeout=5, read_timeout=20)
    try:
        return boto3.client(service, config=config)
    except BotoCoreError as error:
        raise BoxdropError(f"cannot reach AWS: {error}; set AWS_PROFILE and AWS_REGION") from None
