"""The app in `cdk.json`: reads the configuration and creates four stacks."""

import os
import sys
from typing import Any, Final

from aws_cdk import App, CrossStackReferences, PermissionsBoundary, ReferenceStrength, Stack, Tags
from aws_cdk import Environment as Target
from aws_cdk import aws_lambda as lambda_

from boxdrop.domain.errors import BoxdropError
from boxdrop.topology import Package
from infra import bundling
from infra.config import COST_TAG, Environment, load, locate
from infra.findings import open_findings
from infra.stacks.compute import Compute
from infra.stacks.data import Data
from infra.stacks.monitoring import Monitoring
from infra.stacks.pipeline import MakeCode, Pipeline

BUNDLING_STACKS: Final = "aws:cdk:bundling-stacks"
"""The CDK command line sets this context key: packages are built for these stacks only, and for none when it
lists or destroys."""


def make_app(app: App, environment: Environment, make_code: MakeCode | None = None) -> dict[str, Stack]:
    """Add the stacks of one environment to an app.

    Args:
        make_code: returns the functions' packages. Default: the ones to deploy.

    Returns:
        The stacks by name: ``data``, ``compute``, ``pipeline``, ``monitoring``.

    Raises:
        ConfigError: the region is unknown, or has no default instance type.
    """
    # An export in use can be neither changed nor removed. Consumers read plain outputs instead; exports of
    # earlier versions stay, until no deployed stack imports them any more.
    CrossStackReferences.of(app).consume(ReferenceStrength.BOTH)
    prefix = environment.prefix
    target = Target(account=environment.account, region=environment.region)
    options: dict[str, Any] = {"env": target}
    if environment.permissions_boundary_arn:
        options["permissions_boundary"] = PermissionsBoundary.from_arn(environment.permissions_boundary_arn)
    data = Data(
        app, f"{prefix}-data", environment=environment,
        description="boxdrop: buckets, table and secrets; all data that must be kept", **options,
    )  # fmt: skip
    compute = Compute(
        app, f"{prefix}-compute", environment=environment, data=data,
        description="boxdrop: what runs the detector", **options,
    )  # fmt: skip
    pipeline = Pipeline(
        app, f"{prefix}-pipeline", environment=environment, data=data,
        make_code=make_code or _code_maker(app, prefix),
        description="boxdrop: queues, functions and rules", **options,
    )  # fmt: skip
    if environment.compute == "sagemaker":
        pipeline.add_stack_dependency(compute)  # it subscribes to a topic there
    monitoring = Monitoring(
        app, f"{prefix}-monitoring", environment=environment, pipeline=pipeline,
        description="boxdrop: dashboard, alarms, budget", **options,
    )  # fmt: skip
    monitoring.add_stack_dependency(pipeline)  # whose names it knows without a lookup
    Tags.of(app).add(COST_TAG, environment.name)
    for name, value in sorted(environment.tags.items()):
        Tags.of(app).add(name, value)
    return {"data": data, "compute": compute, "pipeline": pipeline, "monitoring": monitoring}


def _code_maker(app: App, prefix: str) -> MakeCode:
    """Full packages if the pipeline is deployed, else only the handlers."""
    stacks = app.node.try_get_context(BUNDLING_STACKS)
    wanted = stacks is None or any(each in ("**", "*", f"{prefix}-pipeline") for each in stacks)

    def make(package: Package) -> lambda_.Code:
        folder = bundling.build(package) if wanted else bundling.sources_only()
        return lambda_.Code.from_asset(str(folder))

    return make


def main() -> None:
    """Synthesize the environment that ``-c env=NAME`` names."""
    app = App()
    try:
        environment = load(app.node.try_get_context("environments"), app.node.try_get_context("env"))
        make_app(app, locate(environment, os.environ))
    except BoxdropError as error:
        sys.exit(f"boxdrop: {error}")
    app.synth()
    left = [str(finding) for finding in open_findings(app)]
    if left:
        sys.exit("\n".join(("boxdrop: cdk-nag has found:", *left)))


if __name__ == "__main__":
    main()
