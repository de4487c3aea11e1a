"""Exports read back by the tools that the formats are for, in a venv of their own: the same boxes and ids."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from boxdrop.datasets.items import Item
from boxdrop.servers.environment import Environment
from tests.label_studio_server import SHARED_HOME, quiet

from .conftest import Verified, box, jpeg
from .test_export import items, write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python() -> Path:
    """Of the judges' venv; installed once (0.8 GB), beside the servers' venvs."""
    environment = Environment(
        SHARED_HOME / "dataset-judges" / "venv",
        Path(__file__).with_name("judges-requirements.txt"),
        "the readers of data sets",
        1_500_000_000,
    )
    environment.path.parent.mkdir(parents=True, exist_ok=True)
    environment.install(quiet)
    return environment.python


def judge(python: Path, tool: str, folder: Path) -> dict[str, Any]:
    said = run_judge(python, Path(__file__).with_name("judge.py"), tool, folder)
    read: dict[str, Any] = json.loads(said.splitlines()[-1])
    return read


def run_judge(python: Path, *command: str | Path) -> str:
    """Run a program in the judges' venv, offline."""
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HOME": str(Path(command[-1]).parent),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([python, *command], capture_output=True, text=True, timeout=300, env=offline)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def verified(fruit: Verified) -> dict[str, Item]:
    """Two images of one name, fractions of a pixel, the image's edges, a turned photo, a negative."""
    fruit.verify("a.jpg", [box("apple", 1.25, 2, 30.5, 40), box("banana", 0, 0, 64, 48, region="r2")])
    fruit.verify("cam2/a.jpg", [box("pineapple", 10.4, 11.5, 20.6, 31.5)])
    fruit.verify("turned.jpg", [box("apple", 3, 5, 20, 60)], size=(48, 64), body=jpeg(64, 48, orientation=6))
    fruit.verify("empty.jpg")
    return {item.stem: item for item in items(fruit).values()}


@pytest.mark.parametrize(
    ("tool", "within"),
    [
        ("faster_coco_eval_coco", 0.001),
        ("supervision_coco", 0.001),
        ("datumaro_coco", 0.01),
        ("supervision_yolo", 0.001),
        ("datumaro_yolo", 0.01),
        ("supervision_voc", 0.5),
        ("datumaro_voc", 0.5),
        ("datasets_huggingface", 0.001),
    ],
)
def test_a_tool_reads_what_people_verified(
    fruit: Verified, verified: dict[str, Item], python: Path, tmp_path: Path, tool: str, within: float
) -> None:
    """Same images, labels, boxes after the format's own rounding and, where the format keeps them, ids."""
    compare(fruit, verified, python, tmp_path, tool, within)


@pytest.mark.parametrize(
    ("tool", "within"),
    [
        ("torchvision_voc", 0.5),
        ("ultralytics_yolo", 0.001),
        ("fiftyone_coco", 0.001),
        ("fiftyone_yolo", 0.001),
        ("fiftyone_voc", 0.5),
    ],
)
def test_a_tool_that_is_too_heavy_for_the_gate_reads_it_too(
    fruit: Verified, verified: dict[str, Item], tmp_path: Path, tool: str, within: float
) -> None:
    """Run by hand: ``BOXDROP_READERS`` names the Python of an environment that has them."""
    readers = os.environ.get("BOXDROP_READERS")
    package = tool.partition("_")[0]
    if readers is None or subprocess.run([readers, "-c", f"import {package}"], check=False).returncode:
        pytest.skip(f"needs {package}: docs/datasets.md")
    compare(fruit, verified, Path(readers), tmp_path, tool, within)


def compare(
    fruit: Verified, verified: dict[str, Item], python: Path, tmp_path: Path, tool: str, within: float
) -> None:
    """Export, let the tool read it, and compare with what was verified."""
    write(fruit, tmp_path / "out", tool.rpartition("_")[2])
    read = judge(python, tool, tmp_path / "out")
    found = {name.rpartition(".")[0]: boxes for name, boxes in read["boxes"].items()}
    assert found.keys() == verified.keys()
    for stem, item in verified.items():
        expected = sorted((each.label, *each.xyxy) for each in item.boxes)
        assert [each[0] for each in sorted(found[stem])] == [each[0] for each in expected]
        for one, other in zip(sorted(found[stem]), expected, strict=True):
            assert one[1:] == pytest.approx(other[1:], abs=within), (tool, stem)
    if "ids" in read:
        assert read["ids"] == {
            str(item.number): sorted(each.number for each in item.boxes) for item in verified.values()
        }
