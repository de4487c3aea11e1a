"""The configuration reference, generated from the typed configuration.

python -m infra.reference        writes docs/configuration.md
"""

import types
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from infra.config import Environment
from infra.settings import Adopt, Alarms, FunctionsNetwork, LongJobs, Network

TARGET: Final = Path(__file__).parents[1] / "docs" / "configuration.md"

_HEAD: Final = """# Configuration

Generated from `infra/environment.py` by `python -m infra.reference`.

The settings of a deployment are in `cdk.json`, below `context.environments.NAME`; `-c env=NAME` selects one.
They are checked before anything is synthesized. For an unknown key or an invalid value, the error names the
allowed ones. [How to deploy](deploy.md) · [what it costs](costs.md)

"""


def reference() -> str:
    """The page."""
    parts = [_HEAD, _table("An environment", Environment, without=("name",))]
    parts.append(_table("`alarms`", Alarms))
    parts.append(_table("`long_jobs`", LongJobs))
    parts.append(_table("`network`", Network))
    parts.append(_table("`functions_network`", FunctionsNetwork))
    parts.append(_table("`adopt`", Adopt))
    return "\n".join(parts)


def _table(title: str, model: type[BaseModel], without: tuple[str, ...] = ()) -> str:
    rows = [f"## {title}", "", "| key | allowed values | default | description |"]
    rows.append("| --- | --- | --- | --- |")
    for name, field in model.model_fields.items():
        if name in without:
            continue
        kind = _kind(field).replace("|", "\\|")
        rows.append(f"| `{name}` | {kind} | {_default(field)} | {field.description} |")
    return "\n".join([*rows, ""])


def _kind(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    if get_origin(annotation) is types.UnionType:
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "object, see below"
    origin = get_origin(annotation)
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in get_args(annotation))
    names = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    said = names.get(annotation) or ("object of texts" if origin is dict else "list of texts")
    bounds = [_bound(each) for each in field.metadata]
    return ", ".join([said, *filter(None, bounds)])


def _bound(limit: Any) -> str:
    if isinstance(limit, Ge):
        return f"{limit.ge:,} or more"
    if isinstance(limit, Le):
        return f"at most {limit.le:,}"
    if isinstance(limit, Gt):
        return f"above {limit.gt:,}"
    if isinstance(limit, Lt):
        return f"below {limit.lt:,}"
    return "not empty" if isinstance(limit, MinLen) else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**must be given**"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return "as below"
    if default is None or default in ((), {}):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:,}`" if isinstance(default, int | float) else f"`{default}`"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
