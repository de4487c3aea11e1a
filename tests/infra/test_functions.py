"""Functions are told what they read, and nothing else."""

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from boxdrop.topology import FUNCTIONS
from tests.infra.conftest import REPOSITORY, Synthesize, Synthesized

_POWERTOOLS = {"POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL"}
_OF_A_LAUNCHER = {
    "batch": {"BOXDROP_JOB_QUEUE", "BOXDROP_JOB_DEFINITION"},
    "sagemaker": {"BOXDROP_ENDPOINT"},
}


def variables(variant: Synthesized) -> dict[str, dict[str, Any]]:
    """What each function is told, by its name."""
    return {
        each["Properties"]["FunctionName"].removeprefix(f"{variant.environment.prefix}-"): each["Properties"][
            "Environment"
        ]["Variables"]
        for each in variant.resources("AWS::Lambda::Function", "pipeline").values()
    }


def test_each_function_gets_exactly_the_variables_it_reads(variant: Synthesized) -> None:
    told = variables(variant)
    compute = variant.environment.compute
    others = {name for kind, names in _OF_A_LAUNCHER.items() if kind != compute for name in names}
    if compute == "sagemaker" and variant.environment.long_jobs is None:
        others.add("BOXDROP_TEACHING")  # nothing there can teach
    assert ("track" in told) == (variant.environment.zenml_url is not None)
    for name, given in told.items():
        assert set(given) - _POWERTOOLS == set(FUNCTIONS[name].reads) - others, name
        assert set(given) >= _POWERTOOLS


def test_every_handler_is_deployed(synthesize: Synthesize) -> None:
    handlers = {path.parent.name for path in (REPOSITORY / "functions").glob("*/handler.py")}
    assert handlers == set(FUNCTIONS) == set(variables(synthesize("sagemaker")))


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_no_handler_reads_a_variable_that_its_table_does_not_name(name: str) -> None:
    """Names of variables in the sources that a handler imports, against what it says that it needs."""
    program = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import functions.{name}.handler; "
        "print('\\n'.join(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in ('boxdrop', "
        "'functions') and getattr(m, '__file__', None)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    read: set[str] = set()
    for path in done.stdout.splitlines():
        for node in ast.walk(ast.parse(Path(path).read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
                argument = node.args[0]
                if isinstance(argument, ast.Constant):
                    read.add(str(argument.value))
            if (
                isinstance(node, ast.Subscript)
                and ast.unparse(node.value) == "os.environ"
                and isinstance(node.slice, ast.Constant)
                and isinstance(node.ctx, ast.Load)
            ):
                read.add(str(node.slice.value))
    known = set(FUNCTIONS[name].reads) | _POWERTOOLS | OF_A_MACHINE
    assert read <= known, f"{name} reads {sorted(read - known)}"


OF_A_MACHINE = {
    # of the system on one machine and of the command line; in AWS they are not there, and need not be
    "BOXDROP_HOME",
    "BOXDROP_SYSTEM",
    "BOXDROP_PRESIGN_ACCESS_KEY_ID",
    "BOXDROP_PRESIGN_SECRET_ACCESS_KEY",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    *(name for name in os.environ if name.startswith("ZENML_")),
}


def test_the_jobs_container_gets_the_variables_it_needs(default: Synthesized) -> None:
    told = {each["Name"] for each in default.detector["ContainerProperties"]["Environment"]}
    assert told == {
        "BOXDROP_DATA_BUCKET",
        "BOXDROP_JOB_TIMEOUT_S",
        "BOXDROP_LAUNCHER",
        "BOXDROP_PROVIDER",
        "BOXDROP_USD_PER_HOUR",
        "POWERTOOLS_METRICS_NAMESPACE",
    }
