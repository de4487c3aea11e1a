"""Read the settings of a deployment, and check them before anything is synthesized.

`cdk.json` holds ``environments``, each a name with its settings; ``-c env=NAME`` selects one. The reference
in docs/configuration.md is generated from the descriptions of `infra.environment` (`python -m
infra.reference`).
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from infra.environment import COST_TAG, VCPUS, Environment
from infra.settings import Adopt, Alarms, ConfigError, FunctionsNetwork, LongJobs, Network

__all__ = ["COST_TAG", "VCPUS", "ConfigError", "Environment", "load", "locate"]

_REGION_VARIABLES: Final = ("CDK_DEFAULT_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")

_GROUPS: Final[Mapping[str, Any]] = {
    "adopt": Adopt,
    "alarms": Alarms,
    "functions_network": FunctionsNetwork,
    "long_jobs": LongJobs,
    "network": Network,
}


def load(context: Mapping[str, Any], name: str | None) -> Environment:
    """Return the environment named by ``-c env=NAME``; without a name, the only one.

    Args:
        context: the value of ``environments`` in `cdk.json`.

    Raises:
        ConfigError: one line per problem, each with its key and the allowed values.
    """
    if not isinstance(context, Mapping) or not context:
        raise ConfigError("cdk.json: context.environments must hold one environment at least")
    if name is None:
        if len(context) > 1:
            raise ConfigError(f"which environment? Say -c env=NAME; there are {', '.join(context)}")
        (name,) = context
    if name not in context:
        raise ConfigError(f"cdk.json has no environment {name!r}; there are {', '.join(context)}")
    settings = context[name]
    if not isinstance(settings, Mapping):
        raise ConfigError(f"cdk.json: environments.{name} must be an object")
    if "name" in settings:
        raise ConfigError(f"environments.{name}.name: the name is the key itself; remove it")
    try:
        return Environment.model_validate({"name": name, **settings})
    except ValidationError as error:
        raise ConfigError("\n".join(_sentence(name, each) for each in error.errors())) from None


def locate(environment: Environment, environ: Mapping[str, str]) -> Environment:
    """Return the environment with a region: its own, or that of the credentials.

    Args:
        environ: of the process; the CDK command line puts the credentials' region there.

    Raises:
        ConfigError: neither names a region.
    """
    found = environment.region or next(filter(None, map(environ.get, _REGION_VARIABLES)), None)
    located = environment.model_copy(update={"region": found})
    _ = located.chosen_region
    return located


def _sentence(name: str, problem: Any) -> str:
    """Write one of pydantic's errors as a line for the user."""
    *parents, last = problem["loc"] or ("",)
    key = ".".join(map(str, ("environments", name, *problem["loc"])))
    if problem["type"] == "extra_forbidden":
        model: Any = Environment
        for parent in parents:
            model = _GROUPS.get(str(parent), model)
        allowed = ", ".join(sorted(field for field in model.model_fields if field != "name"))
        return f"{key}: there is no such key; allowed are {allowed}"
    if last == "name":
        return f"{key}: an environment's name is at most 20 lower-case letters, digits and hyphens"
    said = problem["msg"].removeprefix("Value error, ")
    given = "" if problem["type"] == "missing" else f" (given: {problem['input']!r})"
    if problem["type"] == "value_error" and not problem["loc"]:
        given = ""
    return f"{key}: {said[0].lower()}{said[1:]}{given}"
