"""Export of detectors with fixed classes, small and made from configurations: parity with transformers."""

import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from boxdrop.detect import Bundle, Detector
from boxdrop.detect.contract import FIXED
from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.labels import LabelSet
from model_export import exporter
from model_export.__main__ import main
from model_export.errors import ExportError
from model_export.exporter import Choices, export
from model_export.families.fixed import FIXED_FAMILIES, FixedModel
from model_export.fixed_stand_ins import TINY_FIXED, make_fixed
from model_export.parity import TOLERANCE, compare
from model_export.pictures import draw
from model_export.source import WITHOUT_WORDS, resolve

CHOICES = Choices(threads=1, portable=True)
CHOOSING = {"rt_detr", "rt_detr_v2", "d_fine", "deimv2", "lw_detr", "rf_detr"}


@pytest.fixture(autouse=True)
def quick_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The export compares two pictures of different shapes; the tests add others."""
    monkeypatch.setattr(exporter, "compare", partial(compare, pictures=("wide", "small")))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for name, settings in TINY_FIXED.items():
        make_fixed(folder / name, name, settings)
    return folder


def test_every_family_is_known_everywhere() -> None:
    assert set(FIXED_FAMILIES) == set(WITHOUT_WORDS) == set(TINY_FIXED)


@pytest.mark.parametrize("name", TINY_FIXED)
def test_a_bundle_gives_what_transformers_gives(sources: Path, tmp_path: Path, name: str) -> None:
    """At two shapes in the export's own comparison, and at a third by transformers' post-processing."""
    bundle = export(str(sources / name), tmp_path / name, CHOICES)
    parity = Bundle.load(bundle.path, verify=True).parity
    assert (bundle.family, bundle.text) == (FIXED, None)
    assert bundle.classes[-1] == ""  # "N/A" in the configuration
    assert parity["passed"]
    assert (parity["unmatched"], parity["largest"]["swapped"]) == (0, 0)
    for part in ("score", "box", "level", "place"):
        assert parity["largest"][part] <= getattr(TOLERANCE, part)
    assert {row["labels"] for row in parity["rows"]} == {1, 3, 11}
    assert all(row["detections"] >= 20 for row in parity["rows"])
    assert any(row["chosen"] for row in parity["rows"]) == (name in CHOOSING)

    picture = draw("tall")
    loaded = FIXED_FAMILIES[name].load(resolve(str(sources / name)))
    with torch.inference_mode():
        outputs = loaded.model(**_pixels(loaded, picture))
    assert outputs.logits.std(1).mean() > 0.1  # queries that all see the same would prove little
    assert outputs.pred_boxes.std(1).mean() > 0.01
    (theirs,) = loaded.processor.post_process_object_detection(
        outputs, threshold=0.1, target_sizes=[(picture.height, picture.width)]
    )
    detector = Detector.load(bundle, threads=1)
    labels = LabelSet.from_short_form(", ".join(bundle.classes[:-1]))
    twice = [detector.preprocess(np.asarray(picture))] * 2  # a batch of equal sizes
    ours, again = detector.candidates(twice, [picture.size] * 2, labels, limit=10**9)
    np.testing.assert_allclose(ours.boxes, again.boxes, atol=1e-3)
    edges = np.array([picture.width, picture.height] * 2)
    compared = 0
    for score, label, box in zip(theirs["scores"], theirs["labels"], theirs["boxes"], strict=True):
        clipped = box.numpy().clip(0, edges)
        if int(label) == len(labels) or (clipped[2:] - clipped[:2]).min() < 0.1:
            continue
        same = np.flatnonzero(ours.labels == int(label))
        gaps = np.abs(ours.boxes[same] - clipped).max(axis=1) + 1e3 * np.abs(ours.scores[same] - float(score))
        assert gaps.min() < 0.1
        compared += 1
    assert compared >= 10


def _pixels(loaded: FixedModel, picture: Any) -> dict[str, Any]:
    return {"pixel_values": loaded.processor(images=picture, return_tensors="pt")["pixel_values"]}


def test_int8_keeps_its_boxes_and_its_words(sources: Path, tmp_path: Path) -> None:
    bundle = export(str(sources / "detr"), tmp_path / "detr", Choices(threads=1, precision="int8"))
    assert bundle.parity["drift"]["kept"] >= 0.9 * bundle.parity["drift"]["boxes"]
    with pytest.raises(LabelSetError, match="no class 'cats'"):
        Detector.load(bundle, threads=1).embed(LabelSet.from_short_form("cats"))


def test_parity_sees_a_softmax_taken_for_sigmoids(sources: Path, tmp_path: Path) -> None:
    class Wrong(FixedModel):
        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            self.contract = type(self.contract)(
                "pixel_values", "boxes", "logits", "cxcywh", "fraction", "logit", no_object="last"
            )

        def reference(self, image: Any, texts: list[str]) -> Any:
            right = FixedModel(self.family, self.origin, self.model, self.processor)
            return right.reference(image, texts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model_export.families.fixed.FixedModel", Wrong)
        patch.setattr(exporter, "FixedModel", FixedModel)
        with pytest.raises(ExportError, match="results differ from transformers'"):
            export(str(sources / "detr"), tmp_path / "wrong", CHOICES)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused_at_once(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="fixed classes and reads no words"):
        export(str(sources / "detr"), tmp_path / "out", Choices(template="a {}"))
    lacking = tmp_path / "lacking"
    shutil.copytree(sources / "yolos", lacking)
    settings = json.loads((lacking / "preprocessor_config.json").read_text())
    (lacking / "preprocessor_config.json").write_text(json.dumps(settings | {"resample": 3}))
    done = CliRunner().invoke(main, [str(lacking), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "steps that a bundle cannot represent" in done.output
    (lacking / "preprocessor_config.json").unlink()
    done = CliRunner().invoke(main, [str(lacking), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "has no preprocessor_config.json" in done.output
