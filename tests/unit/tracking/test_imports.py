"""ZenML is an extra: neither the GPU image nor any other function, nor the command line, can reach it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
OTHERS = sorted(
    folder.name
    for folder in (REPOSITORY / "functions").iterdir()
    if folder.is_dir() and folder.name not in ("track", "__pycache__")
)


def imported_by(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def files_of(module: str) -> list[Path]:
    """The files that importing a module of ours runs: its own and its parents'."""
    parts = module.split(".")
    found = []
    for length in range(1, len(parts) + 1):
        path = REPOSITORY.joinpath(*parts[:length])
        found += [each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()]
    return found


def reached_from(files: list[Path]) -> set[str]:
    """All that can be imported from these files, also inside functions and for type checkers."""
    waiting, seen, names = list(files), set[Path](), set[str]()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in imported_by(file):
            names.add(name)
            if name.split(".")[0] in ("boxdrop", "functions"):
                waiting += files_of(name)
    return names


@pytest.mark.parametrize("function", OTHERS)
def test_no_other_function_can_reach_zenml(function: str) -> None:
    names = reached_from(sorted((REPOSITORY / "functions" / function).rglob("*.py")))
    assert not {name for name in names if name.split(".")[0] == "zenml"}
    assert not {name for name in names if name.startswith("boxdrop.tracking")}


def test_the_function_track_can() -> None:
    names = reached_from(sorted((REPOSITORY / "functions" / "track").rglob("*.py")))
    assert "zenml.client" in names


def test_runs_are_listed_without_zenml() -> None:
    names = reached_from([REPOSITORY / "boxdrop" / "cli" / "runs.py"])
    assert "boxdrop.store.history" in names
    assert not {name for name in names if name.split(".")[0] == "zenml"}


def test_a_server_is_checked_before_zenml_is_imported() -> None:
    program = "import boxdrop.tracking.track, boxdrop.cli.track, sys; print('zenml' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
