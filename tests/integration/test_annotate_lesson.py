"""`boxdrop annotate --lesson`: a lesson's file on a folder, without any server."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from boxdrop import Detector, LabelSet, Prediction, read_predictions
from boxdrop.cli import boxdrop
from boxdrop.demo import BUNDLE
from boxdrop.lessons import write_lesson_text
from boxdrop.teach.teaching import Example, examine, teach
from tests.shape_scenes import draw_shapes

LABELS = "labels:\n  - {name: badge, examples: only}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lesson's file, labels, and four scenes with a star."""
    made = tmp_path_factory.mktemp("badges")
    detector, label_set = Detector.load(BUNDLE, threads=1), LabelSet.from_yaml(LABELS)
    examples = []
    for seed in range(16):
        scene = draw_shapes(seed)
        labels = np.zeros(len(scene.stars), np.int64)
        nothing = np.zeros((0, 4), np.float32)
        examples.append(Example(f"{seed:032x}", "v", scene.pixels, scene.stars, labels, nothing))
    seen = examine(detector, label_set, examples)
    lesson = teach(detector, label_set, seen, project="badges", made_at=datetime.now(UTC))
    (made / "badge.lesson.json").write_bytes(write_lesson_text(lesson))
    (made / "labels.yaml").write_text(LABELS)
    (made / "scenes").mkdir()
    for seed in [each for each in range(100, 140) if len(draw_shapes(each).stars)][:4]:
        (made / "scenes" / f"{seed}.jpg").write_bytes(draw_shapes(seed).jpeg())
    return made


def annotate(folder: Path, *options: str) -> Result:
    out = str(folder / "out")
    return CliRunner().invoke(boxdrop, ["annotate", str(folder / "scenes"), "--out", out, *options])


def predictions(folder: Path) -> list[Prediction]:
    found = read_predictions(folder / "out" / "predictions.jsonl")
    return [each for each in found if isinstance(each, Prediction)]


def test_a_lesson_finds_what_the_words_do_not_and_the_folder_knows_both(folder: Path) -> None:
    labels = ("--labels-file", str(folder / "labels.yaml"))
    assert annotate(folder, *labels).exit_code == 0
    words = predictions(folder)
    assert not any(each.boxes for each in words)
    said = annotate(folder, *labels, "--lesson", str(folder / "badge.lesson.json"))
    assert said.exit_code == 0, said.output
    taught = predictions(folder)
    assert len(taught) == len(words) == 4
    assert sum(bool(each.boxes) for each in taught) >= 3
    assert {each.model_version for each in taught}.isdisjoint({each.model_version for each in words})
    assert "4 computed now" in said.output
    again = annotate(folder, *labels, "--lesson", str(folder / "badge.lesson.json"))
    assert "computed now" not in again.output  # the lesson is part of the version: nothing runs twice


def test_a_lesson_for_other_labels_or_none_at_all_is_said(folder: Path) -> None:
    lesson = str(folder / "badge.lesson.json")
    said = annotate(folder, "--labels", "banana", "--lesson", lesson)
    assert said.exit_code == 1
    assert "teaches badge, and none of these labels" in said.output
    said = annotate(folder, "--labels", "banana", "--lesson", str(folder / "labels.yaml"))
    assert "labels.yaml: this is not JSON" in said.output
    missing = annotate(folder, "--labels", "banana", "--lesson", str(folder / "none.json"))
    assert "none.json: no such file; `boxdrop teach PROJECT --out FILE` writes lessons" in missing.output
