"""The Python that exports and trains detectors: this one if it has PyTorch, or an environment of its own.

The environment is in boxdrop's home. It holds PyTorch and what else is needed; boxdrop itself is taken from
where this program runs.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path
from typing import Final, Literal

import boxdrop
from boxdrop.domain.errors import BoxdropError
from boxdrop.folders import exclusive
from boxdrop.home import home

_NEEDED: Final = {
    "export": ("torch", "transformers", "onnx", "safetensors", "scipy"),
    "train": ("torch", "transformers", "onnx", "safetensors", "scipy", "accelerate"),
}
"""Modules by boxdrop's extra that brings them."""

_DISK_MB: Final = 6_500
"""Measured with pip, which brings PyTorch with CUDA: 6,283 MB; `uv` brings the build for this machine."""

_MARK: Final = "boxdrop-complete"
_LINES_SHOWN: Final = 8
_ERROR: Final = "Error: "  # click's
_TIE: Final = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"  # 1: PR_SET_PDEATHSIG
    "if os.getppid() == int(sys.argv[1]): os.execvp(sys.argv[2], sys.argv[2:])"
)


def run_export(
    source: str, out: Path, name: str, precision: str, say: Callable[[str], None] = lambda _: None
) -> None:
    """Export a model, see `model_export`; settings of the hub (``HF_ENDPOINT``, ``HF_TOKEN``) hold.

    Args:
        source: a hub id, or a folder.
        out: the bundle's folder.
        name: the bundle's.
        precision: of the weights.
        say: called with each step.

    Raises:
        BoxdropError: the environment cannot be made, or the export failed; with its last lines.
    """
    python = python_with_torch(say)
    command = [
        python,
        "-m",
        "model_export",
        source,
        "--out",
        str(out),
        "--name",
        name,
        "--precision",
        precision,
    ]
    run_program(command, f"{name} cannot be exported", say, with_boxdrop())


def with_boxdrop() -> dict[str, str]:
    """This process's environment, in which another Python finds boxdrop."""
    root = str(Path(boxdrop.__file__).parents[1])
    paths = os.pathsep.join(path for path in (root, os.environ.get("PYTHONPATH", "")) if path)
    return os.environ | {"PYTHONPATH": paths}


def python_with_torch(say: Callable[[str], None], extra: Literal["export", "train"] = "export") -> str:
    """A Python that has what one of boxdrop's extras brings; its environment is made if it is missing.

    Raises:
        BoxdropError: the environment cannot be made.
    """
    if all(importlib.util.find_spec(module) for module in _NEEDED[extra]):
        return sys.executable
    folder = home() / f"{extra}-environment"
    python = folder / "bin" / "python"
    if (folder / _MARK).is_file() and python.exists():
        return str(python)
    taken = f"{folder}: another process installs PyTorch here; wait for it"
    with exclusive(folder.parent / f".{folder.name}.lock", taken):
        if not ((folder / _MARK).is_file() and python.exists()):  # it may have ended just now
            _make(folder, extra, say)
    return str(python)


def _make(folder: Path, extra: Literal["export", "train"], say: Callable[[str], None]) -> None:
    python = folder / "bin" / "python"
    free = shutil.disk_usage(folder.parent).free // 10**6
    if free < _DISK_MB:
        raise BoxdropError(
            f"{folder}: {free:,} MB of the disk are free, but PyTorch takes up to {_DISK_MB:,}; free some "
            "space, or set BOXDROP_HOME to another disk"
        )
    shutil.rmtree(folder, ignore_errors=True)
    say(f"installing PyTorch and transformers into {folder}, once: up to {_DISK_MB:,} MB of disk")
    failed = "PyTorch cannot be installed"
    try:
        uv = shutil.which("uv") or _uv_of_python()
        if uv is None:
            run_program([sys.executable, "-m", "venv", str(folder)], failed, say)
            run_program(
                [str(python), "-m", "pip", "install", "--no-input", *_requirements(extra)], failed, say
            )
        else:
            run_program([uv, "venv", "--no-project", "--python", sys.executable, str(folder)], failed, say)
            install = [uv, "pip", "install", "--torch-backend", "auto", "--python", str(python)]
            run_program([*install, *_requirements(extra)], failed, say)
        (folder / _MARK).touch()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _uv_of_python() -> str | None:
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        return None


def _requirements(wanted: str) -> list[str]:
    """What boxdrop and one of its extras require."""
    extras = {"export", wanted}
    found = []
    for line in requires("boxdrop") or []:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        if (extra is None or extra[1] in extras) and not requirement.startswith("boxdrop"):
            found.append(requirement.strip())
    return found


def run_program(
    command: list[str], failed: str, say: Callable[[str], None], environment: dict[str, str] | None = None
) -> None:
    """Run a program to its end; its lines go to `say`."""
    process = subprocess.Popen(
        tied(command),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                lines = [*lines[-40:], line.rstrip()]
                if not line.startswith(_ERROR):  # the exception says it
                    say(line.strip()[:200])
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code:
        raise BoxdropError(f"{failed}: {last_words(lines)}")


def tied(command: list[str]) -> list[str]:
    """A command that is asked to end (SIGTERM) when this process ends, however it does, also by ``kill -9``.

    Otherwise a download or an export goes on without anyone waiting for it, beside the next attempt. Linux
    only; elsewhere the command as it is. A function for `subprocess` to call before the program would not be
    safe: other threads may hold locks (https://docs.python.org/3/library/subprocess.html).
    """
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command]


def last_words(lines: list[str]) -> str:
    """What a program that failed said: its errors, or its last lines."""
    said = [line for line in lines if line.startswith(_ERROR)] or lines[-_LINES_SHOWN:]
    return "\n".join(said).removeprefix(_ERROR)
