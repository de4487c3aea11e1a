"""Deployment packages of the functions: boxdrop, the handlers and their imports, built without Docker.

`uv pip install --target --python-platform` takes wheels for Lambda's Linux on any machine. There are two or
three packages, each shared by the functions that need the same: their requirements are compiled and pinned by
hash in `requirements/`. What no handler imports is left out, since a package may have at most 250 MB
unzipped: Label Studio's SDK depends on OpenCV, a code generator and a formatter; botocore contains 400
services.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from boxdrop.domain.errors import BoxdropError
from boxdrop.topology import Package

REPOSITORY: Final = Path(__file__).parents[1]
RUNTIME_PYTHON: Final = "3.13"
"""The newest for which all packages have wheels, see `infra.constructs.function.RUNTIME`."""

PLATFORM: Final = "x86_64-manylinux_2_28"
"""Lambda's Amazon Linux 2023 has glibc 2.34. manylinux2014 (2.17) no longer has wheels of pandas."""

LIMIT_MB: Final = 250
"""Lambda's limit for an unzipped package."""

_SERVICES: Final = (
    "batch", "dynamodb", "s3", "sagemaker-runtime", "secretsmanager", "sqs", "sts",
)  # fmt: skip
"""The services that `boxdrop` calls; botocore's other service descriptions take 20 MB."""

_NEVER_IMPORTED: Final = (
    "**/tests",
    "**/test",
    "**/__pycache__",
    "numpy/f2py",
    "bin",
    "include",
    "share",
    "*.dist-info/RECORD",  # lists scripts with this machine's paths
    "*.dist-info/direct_url.json",
)

_KEPT: Final = 3
"""How many packages of earlier sources are kept on disk."""

_SOURCES: Final = ("boxdrop", "functions")
_NOT_DEPLOYED: Final = ("boxdrop/demo", "boxdrop/cli", "functions/job")


class BundlingError(BoxdropError):
    """A package cannot be built; the message says what is missing."""


def requirements(package: Package) -> Path:
    """Its compiled requirements."""
    return REPOSITORY / "requirements" / f"functions-{package}.txt"


def digest(package: Package, python: str = RUNTIME_PYTHON) -> str:
    """Hash of all inputs of a package."""
    hashed = hashlib.sha256(f"{package} {python} {PLATFORM}".encode())
    for path in (requirements(package), Path(__file__), *_source_files()):
        hashed.update(str(path.relative_to(REPOSITORY)).encode() + b"\0" + path.read_bytes() + b"\0")
    return hashed.hexdigest()[:16]


def build(
    package: Package,
    *,
    into: Path = REPOSITORY / "build" / "functions",
    python: str = RUNTIME_PYTHON,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> Path:
    """Build a package, or find the one built from the same files.

    Args:
        python: version of the wheels; Lambda's, or in tests the one that runs them.
        say: called with a message if it takes a while.

    Returns:
        The folder to be zipped.

    Raises:
        BundlingError: uv is not installed, or a package index cannot be reached.
    """
    made = into / f"{package}-{digest(package, python)}"
    if made.is_dir():
        return made
    say(f"Packing the functions ({package}) …")
    partial = made.with_name(f"{made.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _install(package, partial, python)
    _strip(partial)
    copy_sources(partial)
    _settle(partial, made)
    _forget(into.glob(f"{package}-*"))
    return made


def sources_only(into: Path = REPOSITORY / "build" / "functions") -> Path:
    """The handlers without their imports: for synthesis without a deployment, such as in tests."""
    hashed = hashlib.sha256()
    for path in _source_files():
        hashed.update(str(path.relative_to(REPOSITORY)).encode() + b"\0" + path.read_bytes() + b"\0")
    made = into / f"sources-{hashed.hexdigest()[:16]}"
    if not made.is_dir():
        partial = made.with_name(f"{made.name}.partial-{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        copy_sources(partial)
        _settle(partial, made)
    return made


def _settle(partial: Path, made: Path) -> None:
    """Rename a finished folder, unless another process made the same one first."""
    try:
        partial.rename(made)
    except OSError:
        shutil.rmtree(partial)
        if not made.is_dir():
            raise


def size_mb(folder: Path) -> float:
    """A package's unzipped size in bytes, as Lambda counts it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def copy_sources(into: Path) -> None:
    """boxdrop and the handlers, as they are in the repository."""
    for path in _source_files():
        target = into / path.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _source_files() -> list[Path]:
    excluded = [REPOSITORY / each for each in _NOT_DEPLOYED]
    return sorted(
        path
        for folder in _SOURCES
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file()
        and path.suffix in (".py", ".typed", ".json", ".yaml", ".html", ".css", ".js")
        and not any(path.is_relative_to(each) for each in excluded)
    )


def _install(package: Package, target: Path, python: str) -> None:
    command = [
        _uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes",
        "--target", str(target), "--python-version", python, "--python-platform", PLATFORM,
        "--only-binary", ":all:", "--link-mode", "copy", "-r", str(requirements(package)),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BundlingError(f"the functions ({package}) cannot be packed: {done.stderr.strip()}")


def _uv() -> str:
    try:
        from uv import find_uv_bin

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
        if found is None:
            raise BundlingError("packing the functions needs uv: pip install uv") from None
        return found


def _strip(folder: Path) -> None:
    for pattern in _NEVER_IMPORTED:
        _remove(folder.glob(pattern))
    descriptions = folder / "botocore" / "data"
    _remove(each for each in descriptions.iterdir() if each.is_dir() and each.name not in _SERVICES)
    for resources in (folder / "boto3" / "data", folder / "boto3" / "examples"):
        if resources.is_dir():
            _remove(each for each in resources.iterdir() if each.is_dir() and each.name not in _SERVICES)


def _forget(made: Iterable[Path]) -> None:
    """Remove packages of earlier sources, but for the newest."""
    _remove(sorted(made, key=lambda path: path.stat().st_mtime)[:-_KEPT])


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
