"""The whole loop, small: `make loop` with few images and epochs, as one command in a process of its own.

How much work it saves takes more images than there is time for here: see docs/own-detector.md.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")

REPOSITORY = Path(__file__).parents[3]


def test_a_trained_detector_is_promoted_by_the_comparison_and_looks_at_the_remaining_images(
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
    assert words["ap50"] < 0.05
    assert own["ap50"] > 0.15, done.stdout[-4000:]
    assert result["promoted"], done.stdout[-4000:]
    assert [each.partition("@")[0] for each in result["detected"]["model_versions"]] == ["mine"]
