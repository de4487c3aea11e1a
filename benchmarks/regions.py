"""Synthesize every variant in every commercial region; run cfn-lint and cdk-nag over each.

    python -m benchmarks.regions [REGION …]

Takes some minutes, so the gate does it for two regions that lack something, and compares the tables of the
rest (tests/infra/test_regions.py). A region that has no GPU type, or no SageMaker endpoint, has to be
refused.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from aws_cdk import App

from infra.app import BUNDLING_STACKS, make_app
from infra.config import load
from infra.findings import open_findings
from infra.regions import BATCH_INSTANCES, SAGEMAKER_INSTANCES
from infra.settings import ConfigError
from tests.infra.conftest import CONTEXT, VARIANTS

_LINT: Final = Path(sys.executable).parent / "cfn-lint"


def settings_in(variant: str, region: str) -> dict[str, Any]:
    """A variant's settings, moved to a region."""

    def move(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("us-west-2", region)
        if isinstance(value, dict):
            return {key: move(each) for key, each in value.items()}
        return [move(each) for each in value] if isinstance(value, list) else value

    moved: dict[str, Any] = move(dict(VARIANTS[variant]))
    return moved | {"region": region}


def check(variant: str, region: str, folder: Path) -> str:
    """Synthesize one variant: ``clean``, ``refused`` with the reason, or what was found."""
    app = App(outdir=str(folder), context={**CONTEXT, BUNDLING_STACKS: []})
    try:
        make_app(app, load({variant: settings_in(variant, region)}, None))
    except ConfigError as error:
        return f"refused: {error}"
    app.synth()
    found = [str(each) for each in open_findings(app)]
    templates = sorted(map(str, folder.glob("*.template.json")))
    done = subprocess.run([_LINT, "-r", region, "--", *templates], capture_output=True, text=True)
    if done.returncode:
        found.append(done.stdout or done.stderr)
    return "\n".join(found) or "clean"


def main(regions: list[str]) -> int:
    """Print a line for each region and variant; returns how many were not as they should be."""
    wrong, started = 0, time.monotonic()
    for region in regions or sorted(BATCH_INSTANCES):
        for variant, about in VARIANTS.items():
            sagemaker = about.get("compute") == "sagemaker"
            possible = SAGEMAKER_INSTANCES[region] if sagemaker else BATCH_INSTANCES[region]
            with tempfile.TemporaryDirectory() as folder:
                result = check(variant, region, Path(folder))
            good = result == "clean" if possible else result.startswith("refused: ")
            wrong += not good
            print(f"{'ok ' if good else 'BAD'} {region:16} {variant:10} {result}", flush=True)
    print(f"{wrong} wrong, {time.monotonic() - started:.0f} s")
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) > 0)
