"""Every example runs and prints what it promises."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from boxdrop.demo import SCENES
from boxdrop.domain.predictions import Prediction, read_jsonl
from tests.integration.datasets.conftest import (
    Verified,
    aws,
    box,
    client,
    endpoint,
    fruit,
    jpeg,
    ledger,
    system,
)
from tests.integration.datasets.test_export import write
from tests.integration.datasets.test_judges import python, run_judge

__all__ = ["aws", "client", "endpoint", "fruit", "ledger", "python", "system"]

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
FRUIT = "pineapple, banana, apple"


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("examples") / "out"
    run("-m", "boxdrop", "annotate", SCENES, "--labels", FRUIT, "--out", out)
    return out / "predictions.jsonl"


def run(*command: str | Path, home: Path | None = None) -> str:
    variables = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    if home is not None:
        variables |= {"BOXDROP_HOME": str(home), "ZENML_ANALYTICS_OPT_IN": "false"}
    done = subprocess.run(
        [sys.executable, *command], env=variables, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def boxes_in(predictions: Path) -> int:
    return sum(len(record.boxes) for record in read_jsonl(predictions) if isinstance(record, Prediction))


def test_find_boxes_prints_the_boxes_that_annotate_finds(predictions: Path) -> None:
    lines = run(EXAMPLES / "find_boxes.py", SCENES, FRUIT).splitlines()
    assert sum(line.startswith("  ") for line in lines) == boxes_in(predictions) > 20


def test_read_predictions_counts_every_box(predictions: Path) -> None:
    shown = run(EXAMPLES / "read_predictions.py", predictions)
    counts = re.findall(r"^(\w+): (\d+) boxes$", shown, re.MULTILINE)
    assert {label for label, _ in counts} == set(FRUIT.split(", "))
    assert sum(int(count) for _, count in counts) == boxes_in(predictions)


def test_a_higher_threshold_keeps_fewer_boxes(predictions: Path) -> None:
    shown = run(EXAMPLES / "choose_threshold.py", predictions, FRUIT)
    counts: Sequence[int] = [int(count) for count in re.findall(r": (\d+) boxes", shown)]
    assert len(counts) == 9
    assert counts[0] > counts[-1]
    assert list(counts) == sorted(counts, reverse=True)


@pytest.mark.usefixtures("system")
def test_the_torch_data_set_has_the_verified_images_and_boxes(fruit: Verified) -> None:
    verify_three(fruit)
    shown = run(EXAMPLES / "torch_dataset.py", "fruit")
    assert sorted(re.findall(r"  (.*)", shown)) == [
        "(3, 48, 64): 0 boxes",
        "(3, 48, 64): 2 boxes",
        "(3, 64, 48): 1 boxes",
    ]
    assert sum(map(int, re.findall(r"^\w+: (\d+) images$", shown, re.MULTILINE))) == 3


@pytest.mark.slow
def test_the_hugging_face_data_set_has_the_verified_images_and_boxes(
    fruit: Verified, python: Path, tmp_path: Path
) -> None:
    verify_three(fruit)
    write(fruit, tmp_path / "out", "huggingface")
    shown = run_judge(python, EXAMPLES / "huggingface_dataset.py", tmp_path / "out")
    assert sorted(re.findall(r"  (.*)", shown)) == [
        "(48, 64): 1 boxes of ['banana']",
        "(64, 48): 0 boxes of []",
        "(64, 48): 2 boxes of ['apple']",
    ]


def verify_three(fruit: Verified) -> None:
    fruit.verify("a.jpg", [box("apple", 1, 2, 30, 40), box("apple", 5, 2, 30, 40, region="r2")])
    fruit.verify("turned.jpg", [box("banana", 1, 2, 30, 40)], size=(48, 64), body=jpeg(64, 48, orientation=6))
    fruit.verify("empty.jpg")


@pytest.mark.slow
def test_the_nightly_pipeline_runs_now(tmp_path: Path) -> None:
    run(EXAMPLES / "zenml_nightly.py", SCENES, "--now", home=tmp_path)


def test_every_example_has_a_test_and_a_line_in_the_list() -> None:
    tested = set(re.findall(r'EXAMPLES / "(\w+\.py)"', Path(__file__).read_text()))
    listed = set(re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text()))
    assert tested == listed == {path.name for path in EXAMPLES.glob("*.py")}
