"""Optional packages: the extra of boxdrop that installs each, and the message if one is missing."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Final

PACKAGES: Final[Mapping[str, str]] = {
    "boto3": "s3",
    "botocore": "s3",
    "label_studio_sdk": "labelstudio",
    "requests": "labelstudio",
    "uv": "labelstudio",
    "aws_lambda_powertools": "functions",
    "pillow_heif": "heic",
    "zenml": "tracking",
    "s3fs": "tracking",
    "httpx": "retrieve",
    "imagehash": "retrieve",
    "torch": "export",
    "transformers": "export",
    "onnx": "export",
    "accelerate": "train",
}
"""The smallest extra that installs an optional package, by import name."""

_COMMANDS: Final[Mapping[str, str]] = {
    "retrieve": "retrieve",
    "track": "tracking",
    "runs": "s3",
    "bundle": "s3",
    "credits": "s3",
    "export": "s3",
    "report": "s3",
    "compare": "s3",
    "dataset": "s3",
    "train": "s3",
    **dict.fromkeys(
        ("new", "drop", "backfill", "status", "apply", "retry", "sync", "teach", "doctor", "local"),
        "functions",
    ),
}
"""The extra with everything that a command needs, so that one installation is enough."""


def require(package: str) -> None:
    """Check that an optional package is installed, without importing it.

    Raises:
        ModuleNotFoundError: it is not.
    """
    if find_spec(package) is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def explain(error: BaseException, command: str | None) -> str | None:
    """One line that names the missing package and the extra to install; None if `error` has another reason.

    Args:
        error: an ImportError, or an error that was raised because of one.
        command: the command of `boxdrop` that was called, where there is one.
    """
    for cause in _causes(error):
        if isinstance(cause, ImportError) and cause.name:
            package = cause.name.partition(".")[0]
            if package in PACKAGES:
                extra = _COMMANDS.get(command or "", PACKAGES[package])
                caller = f"boxdrop {command}" if command else "this"
                return f"`{caller}` needs {package}, which is not installed: pip install 'boxdrop[{extra}]'"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
