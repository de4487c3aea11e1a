"""What is going to be deployed, as far as the doctor has to know: read from `cdk.json` without the CDK
app."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from boxdrop.domain.errors import BoxdropError

GPU_INSTANCES: Final = ("g4dn.xlarge", "g6.xlarge", "g5.xlarge")
"""Of which the region's are Batch's default; see `infra.regions`."""


class PlanError(BoxdropError):
    """`cdk.json` cannot be read, or there is no such environment in it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of an environment, before it is deployed; see docs/configuration.md.

    Attributes:
        name: of the environment; empty if none is known.
        instance_types: named in the settings; empty for the region's default.
    """

    name: str = ""
    compute: str = "batch"
    instance_types: tuple[str, ...] = ()
    image_uri: str | None = None
    image_bucket: str | None = None
    lambda_concurrency: int = 1000
    tracked: bool = False
    adopts: bool = False

    @property
    def endpoint_type(self) -> str:
        """The instance type of a SageMaker endpoint."""
        return self.instance_types[0] if self.instance_types else "ml.g4dn.xlarge"


def read_plan(folder: Path, name: str | None = None, compute: str | None = None) -> Plan:
    """Read an environment of the checkout's `cdk.json`; what is invalid, `cdk synth` names.

    Args:
        name: of the environment; the only one if there is only one.
        compute: instead of what the settings say.

    Raises:
        PlanError: there is no environment of this name.
    """
    try:
        found = json.loads((folder / "cdk.json").read_text(encoding="utf-8"))["context"]["environments"]
    except (OSError, ValueError, KeyError, TypeError):
        found = {}
    if name is not None and name not in found:
        raise PlanError(f"cdk.json has no environment {name!r}; there are {', '.join(found) or 'none'}")
    chosen = name or (next(iter(found)) if len(found) == 1 else "")
    settings: Mapping[str, Any] = found.get(chosen) or {}
    return Plan(
        name=chosen,
        compute=compute or settings.get("compute", "batch"),
        instance_types=tuple(settings.get("instance_types") or ()),
        image_uri=settings.get("image_uri"),
        image_bucket=settings.get("image_bucket"),
        lambda_concurrency=int(settings.get("lambda_concurrency", 1000)),
        tracked=bool(settings.get("zenml_url")),
        adopts=bool(settings.get("adopt")),
    )
