"""What a module can reach by its imports, wherever in its code they stand."""

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = ("boxdrop", "functions", "model_export")


def imported_by(file: Path) -> set[str]:
    """Names of the modules, and of what is taken out of them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def file_of(module: str) -> Path | None:
    """The file of one of our modules."""
    path = ROOT / module.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def reached_from(files: Iterable[Path]) -> tuple[set[str], set[str]]:
    """Follow the imports of files through our packages.

    Returns:
        our files, as paths from the root of the repository, and the names of packages of others.
    """
    waiting = [*files]
    seen: set[Path] = set()
    outside: set[str] = set()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in imported_by(file):
            parts = name.split(".")
            if parts[0] in OURS:
                for length in range(1, len(parts) + 1):  # importing a module imports its parents
                    found = file_of(".".join(parts[:length]))
                    if found:
                        waiting.append(found)
            elif parts[0] not in sys.stdlib_module_names:
                outside.add(parts[0])
    return {str(file.relative_to(ROOT)) for file in seen}, outside
