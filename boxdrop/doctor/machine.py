"""What `cdk deploy` needs on this machine: Node.js, the CDK command line, Docker."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from boxdrop.doctor.lines import Line, NotOkError, look_at_each

OLDEST_NODE: Final = 22
"""Node.js 20 has reached its end of life, and CDK no longer supports it."""

_TOOL_S: Final = 60.0


def look_at_machine(folder: Path, *, needs_docker: bool = True) -> Iterator[Line]:
    """Check what `cdk deploy` needs on this machine.

    Args:
        folder: the checkout, with ``package.json``.
        needs_docker: whether the job's image is built here, instead of given as ``image_uri``.
    """
    looks: list[tuple[str, Callable[[], str]]] = [
        ("Node.js", _node),
        ("CDK", lambda: _cdk(folder)),
    ]
    if needs_docker:
        looks.append(("Docker", _docker))
    return look_at_each(looks)


def _node() -> str:
    version = _run("node", "--version", install="install Node.js 22 or newer")
    number = re.match(r"v(\d+)\.", version)
    if number is None or int(number[1]) < OLDEST_NODE:
        raise NotOkError(f"it is {version}; install Node.js 22 or newer")
    return version


def _cdk(folder: Path) -> str:
    try:
        wanted = json.loads((folder / "package.json").read_text())["devDependencies"]["aws-cdk"]
    except (OSError, ValueError, KeyError):
        raise NotOkError(f"{folder} is not a checkout of boxdrop; change to one") from None
    try:
        there = json.loads((folder / "node_modules" / "aws-cdk" / "package.json").read_text())["version"]
    except (OSError, ValueError, KeyError):
        raise NotOkError("it is not installed here; run: npm ci") from None
    if there != wanted:
        raise NotOkError(f"it is {there}, but aws-cdk-lib needs {wanted}; run: npm ci")
    return str(there)


def _docker() -> str:
    version = _run(
        "docker", "version", "--format", "{{.Server.Version}}",
        install="start Docker, or set image_uri to an image in ECR",
    )  # fmt: skip
    return f"server {version}"


def _run(*command: str, install: str) -> str:
    if shutil.which(command[0]) is None:
        raise NotOkError(f"there is none; {install}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_S)
    except subprocess.TimeoutExpired:
        raise NotOkError(f"it does not respond; {install}") from None
    if done.returncode:
        raise NotOkError(f"it does not work; {install}")
    return done.stdout.strip()
