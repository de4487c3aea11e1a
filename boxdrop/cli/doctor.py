"""``boxdrop doctor``: list what a deployment still needs."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxdrop.cli.aws import client
from boxdrop.cli.system import describe, open_system, system_option
from boxdrop.cli.terminal import say

if TYPE_CHECKING:
    from boxdrop.doctor import Line


@click.command()
@system_option
@click.option(
    "--env",
    metavar="NAME",
    help="The environment of cdk.json that will be deployed; needed only where there are several.",
)
@click.option(
    "--compute",
    type=click.Choice(["batch", "sagemaker"]),
    help="What will run the detector, if not as cdk.json says; its quotas are checked before a deployment.",
)
@click.option(
    "--no-docker", is_flag=True, help="The job's image is already in ECR (`image_uri`): Docker is not needed."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def doctor(system: str | None, env: str | None, compute: str | None, no_docker: bool, as_json: bool) -> None:
    """List what a deployment needs: ok, or what to do.

    \b
      boxdrop doctor                before: tools here, account, region, quotas
      boxdrop doctor --system prod  after: Label Studio, buckets, projects

    Changes nothing. Exits with 1 if something is missing.
    """
    bad = 0
    lines = _system_lines(system) if system else _lines_before(env, compute, no_docker)
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


def _lines_before(env: str | None, compute: str | None, no_docker: bool) -> "Iterator[Line]":
    from boxdrop.doctor import look_at_account, look_at_machine, read_plan

    plan = read_plan(Path.cwd(), env, compute)
    yield from look_at_machine(Path.cwd(), needs_docker=not (no_docker or plan.image_uri))
    yield from look_at_account(client, plan)


def _system_lines(name: str) -> "Iterator[Line]":
    from boxdrop.doctor import look_at_system
    from boxdrop.home import home

    found = open_system(name)
    return look_at_system(found, client, home() / "bundles", description=describe(name))
