"""The curated names of `boxdrop`, and the examples in their docstrings."""

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import boxdrop

STUB = Path(boxdrop.__file__).with_suffix(".pyi")
WITH_EXAMPLES = sorted({"boxdrop", *(getattr(boxdrop, name).__module__ for name in boxdrop.__all__)})


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_run_as_they_are_written(module: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert failed == 0
    assert tried > 0 or module == "boxdrop.domain.errors"


@pytest.mark.parametrize("name", ["Detector", "LabelSet", "Prediction", "read_predictions"])
def test_each_public_name_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(boxdrop, name).__doc__ or "")


def test_types_and_names_agree() -> None:
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    homes = {
        alias.asname: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert homes == boxdrop._HOMES
    assert set(boxdrop.__all__) <= set(dir(boxdrop))
    with pytest.raises(AttributeError, match="no attribute 'Labels'"):
        _ = boxdrop.Labels  # type: ignore[attr-defined]


def test_importing_boxdrop_imports_nothing_else() -> None:
    code = "import boxdrop, sys; print(*sorted(name for name in sys.modules if name.startswith('boxdrop')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["boxdrop"]
