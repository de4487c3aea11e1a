"""Two detectors in one run: the job finds what `annotate` finds, and labels.yaml names them."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from boxdrop.cli import boxdrop
from boxdrop.detect.bundle import Contract
from boxdrop.domain.errors import BundleError, LabelSetError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Failure
from boxdrop.pipeline.findings import doubts
from boxdrop.pipeline.labels import check_detector
from boxdrop.store.bundles import describe, list_bundles, push, resolve, use
from boxdrop.store.labelsets import write_label_set
from boxdrop.store.manifests import PinnedBundle
from tests.fixed_bundle import write_fixed_bundle

from .conftest import SCENE_FILES, System, records_of, summary_of

LABELS = """
detectors: [closed, demo]
labels: [pineapple, {name: creature, classes: [dog]}, banana, apple]
"""


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    contract = Contract("images", "boxes", "scores", "xyxy", "pixel", "probability", nms_iou=0.5)
    outputs = {
        "boxes": np.array([[4, 4, 30, 30], [30, 30, 60, 60]], np.float32),
        "scores": np.array([[0.9], [0.2]], np.float32),
    }
    return write_fixed_bundle(tmp_path / "closed", outputs, contract, ("dog",), name="closed", floor=0.02)


def test_a_run_with_two_detectors_gives_what_annotate_gives(
    system: System, closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(system.data, closed)
    labels = LabelSet.from_yaml(LABELS)
    assert labels.detector is not None
    ref = resolve(system.data, labels.detector)
    check_detector(ref, labels)
    assert describe(system.data, ref.name, ref.digest) == ref
    version = f"{ref.name}@{labels.digest(ref.digest)[:8]}"
    run_id = system.plan(
        [system.put(f"fruit/{file.name}", file.read_bytes()) for file in SCENE_FILES[:5]],
        labels=write_label_set(system.data, labels),
        bundle=PinnedBundle(ref.name, ref.digest),
        model_version=version,
    )
    system.job().work(run_id)
    summary = summary_of(system, run_id)
    assert (summary.bundle.name, summary.bundle.family) == ("closed+demo", "fixed-classes+owlvit")
    of_job = {}
    for record in records_of(system, run_id):
        assert not isinstance(record, Failure)
        assert record.model_version == version
        of_job[Path(record.image).name] = [(each.label, each.score, each.xyxy) for each in record.boxes]

    for file in SCENE_FILES[:5]:
        (tmp_path / "scenes").mkdir(exist_ok=True)
        (tmp_path / "scenes" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "labels.yaml").write_text(LABELS)
    monkeypatch.chdir(tmp_path)
    command = [
        "annotate",
        "scenes",
        "--labels-file",
        "labels.yaml",
        "--detector",
        f"{closed}+demo",
        "--out",
        "out",
    ]
    ran = CliRunner().invoke(boxdrop, command)
    assert ran.exit_code == 0, ran.output
    assert "closed looks for creature" in ran.output
    assert "demo looks for pineapple, banana, apple" in ran.output
    records = [json.loads(line) for line in Path("out/predictions.jsonl").read_text().splitlines()]
    assert len(records) == len(of_job)
    for record in records:
        boxes = of_job[record["image"]]
        assert [each["label"] for each in record["boxes"]] == [label for label, _, _ in boxes]
        for each, (_, score, xyxy) in zip(record["boxes"], boxes, strict=True):
            assert each["score"] == pytest.approx(score, abs=1e-4)  # the job has one thread here
            assert each["xyxy"] == pytest.approx(xyxy, abs=0.01)
    assert {record["model_version"] for record in records} == {version}
    found = {label for boxes in of_job.values() for label, _, _ in boxes}
    assert found == {"creature", "pineapple", "banana", "apple"}


def test_two_detectors_can_be_the_default_and_are_said_with_their_digests(
    system: System, closed: Path
) -> None:
    push(system.data, closed)
    ref = use(system.data, "closed + demo")
    assert resolve(system.data, None) == ref
    assert {each.bundle.name for each in list_bundles(system.data) if each.default} == {"closed", "demo"}
    pinned = f"closed@{ref.parts[0].digest[:16]}+demo@{ref.parts[1].digest[:16]}"
    assert resolve(system.data, pinned) == ref


def test_what_is_missing_or_has_no_label_is_said_before_a_run(system: System, closed: Path) -> None:
    push(system.data, closed)
    with pytest.raises(BundleError, match="there is no detector absent"):
        resolve(system.data, "closed+absent")
    turned = LabelSet.from_yaml("{detectors: [demo, closed], labels: [dog]}")
    with pytest.raises(LabelSetError, match="put the one with fixed classes first"):
        check_detector(resolve(system.data, turned.detector), turned)
    [doubt] = doubts(system.data, LabelSet.from_yaml("{detectors: [closed, demo], labels: [dog, forklift]}"))
    assert "the detector demo does not know forklift" in doubt
    assert "dog" not in doubt
