"""The detector runs where neither torch nor transformers nor boto3 is installed."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import boxdrop
from tests.imports import reached_from

PACKAGE = Path(boxdrop.__file__).parent
ALLOWED = {"numpy", "onnxruntime", "tokenizers", "PIL", "pillow_heif", "yaml"}
"""The domain reads YAML, and HEIC photos with pillow_heif, which is an extra."""


def test_nothing_but_the_runtime_can_be_reached_by_imports() -> None:
    reached, outside = reached_from((PACKAGE / "detect").rglob("*.py"))
    assert outside == ALLOWED
    ours = {Path(file).relative_to("boxdrop").parts[0] for file in reached}
    assert ours == {"__init__.py", "detect", "documents.py", "domain"}  # documents: JSON, of the domain alone


def test_the_domain_knows_nothing_but_itself() -> None:
    reached, outside = reached_from((PACKAGE / "domain").rglob("*.py"))
    assert {Path(file).relative_to("boxdrop").parts[0] for file in reached} == {"__init__.py", "domain"}
    assert outside <= {"numpy", "PIL", "pillow_heif", "yaml"}


def modules_after(code: str) -> set[str]:
    program = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_a_detection_loads_no_torch_transformers_or_boto3(toy: Callable[..., Path]) -> None:
    code = f"""
import importlib, pkgutil
import numpy as np
import boxdrop.detect
for module in pkgutil.walk_packages(boxdrop.detect.__path__, "boxdrop.detect."):
    importlib.import_module(module.name)
from boxdrop.domain.labels import LabelSet
detector = boxdrop.detect.Detector.load({str(toy())!r})
image = np.full((20, 30, 3), (255, 0, 0), np.uint8)
assert len(detector.detect([image], LabelSet.from_short_form("red"))[0])
"""
    loaded = modules_after(code)
    assert "onnxruntime" in loaded
    assert not loaded & {
        "pillow_heif",
        "torch",
        "transformers",
        "boto3",
        "botocore",
        "onnx",
        "scipy",
        "model_export",
        "pydantic",
    }


def test_importing_the_package_costs_nothing() -> None:
    loaded = modules_after("import boxdrop.detect")
    assert not loaded & {"numpy", "onnxruntime", "tokenizers", "PIL", "yaml"}


def test_the_package_lists_its_names() -> None:
    import pytest

    import boxdrop.detect

    assert boxdrop.detect.Detector.__name__ in boxdrop.detect.__all__
    with pytest.raises(AttributeError, match="has no attribute 'Detecter'"):
        boxdrop.detect.Detecter  # noqa: B018
