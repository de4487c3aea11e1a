"""The whole loop, small: `make loop` with few images and epochs, as one command in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")

REPOSITORY = Path(__file__).parents[3]


def test_a_detector_of_ones_own_is_promoted_and_leaves_less_to_correct_in_the_remaining_images(
    tmp_path: Path,
) -> None:
    """The demo detector finds nothing in these drawings."""
    sizes = ("--verified", "90", "--remaining", "20", "--epochs", "12", "--seed", "7", "--no-teach")
    places = ("--out", tmp_path / "home", "--json", tmp_path / "result.json")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.loop", *sizes, *places],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    result: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
    words, own = result["rows"]
    assert words["name"] == "demo, words"
    assert own["changes"] < words["changes"]
    assert result["promoted"], done.stdout[-4000:]
    detected = result["detected"]
    assert [each.partition("@")[0] for each in detected["model_versions"]] == ["mine"]
    assert detected["changes"] < words["changes"]
