"""A run of `annotate` is listed with the system's runs, and registered in ZenML like them."""

import os
from pathlib import Path
from typing import Any

import pytest
from zenml.client import Client

from boxdrop.domain.predictions import read_jsonl
from boxdrop.store.history import compare, finished, list_runs
from boxdrop.store.labelsets import read_label_set
from boxdrop.store.manifests import read_manifest
from boxdrop.system import System as Description
from boxdrop.tracking.register import Tracker
from boxdrop.tracking.track import Tracking
from tests.integration.tracking.conftest import FRUIT, SCENE_FILES, System, boxdrop


def annotate(system: System, home: Path, source: str, out: Path, *options: str) -> str:
    """Run the command with a local system that is up; returns what it printed."""
    description = Description(
        "local",
        "us-east-1",
        system.table,
        system.images.name,
        system.data.name,
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
    )
    (home / "system.json").write_text(description.to_json(), encoding="utf-8")
    process = boxdrop("annotate", source, "--labels", ", ".join(FRUIT.names), "--out", str(out), *options)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number, file in enumerate(SCENE_FILES[:3]):
        (folder / "sub" / f"{number}.jpg").write_bytes(file.read_bytes())
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def test_a_tracked_folder_is_a_run_like_others(
    system: System, tracker: Tracker, home: Path, photos: Path, tmp_path: Path
) -> None:
    said = annotate(system, home, str(photos), tmp_path / "out", "--track")
    [run] = list_runs(system.data)
    assert f"Recorded as run {run.run_id}" in said
    records = list(read_jsonl(tmp_path / "out" / "predictions.jsonl"))
    summary = finished(system.data, run.run_id)
    assert (summary.project, summary.launcher, summary.bucket) == ("annotate/photos", "annotate", "")
    assert (summary.images, summary.predicted, summary.failed) == (4, 3, 1)
    assert summary.boxes == sum(len(getattr(record, "boxes", ())) for record in records) > 0
    assert {sample.key for sample in summary.samples} == {"sub/0.jpg", "sub/1.jpg", "sub/2.jpg"}
    assert read_label_set(system.data, summary.labels).names == FRUIT.names
    listed = {image.key: image.version for image in read_manifest(system.data, run.run_id).images}
    assert listed == {record.image: record.version for record in records}

    registered = Tracking(tracker, system.data, system.ledger).track(run.run_id)
    in_zenml = Client().get_pipeline_run(registered.id)
    assert in_zenml.pipeline is not None
    assert in_zenml.pipeline.name == "boxdrop/annotate/photos"
    assert {tag.name for tag in in_zenml.tags} == {"annotate/photos", "with-failures"}
    metadata: dict[str, Any] = dict(in_zenml.run_metadata)
    assert metadata["processor_seconds"] > 0
    assert "gpu_seconds" not in metadata
    assert in_zenml.model_version is not None
    assert in_zenml.model_version.model.name == "demo"


def test_the_runs_of_processors_show_no_gpu(system: System, home: Path, photos: Path, tmp_path: Path) -> None:
    annotate(system, home, str(photos), tmp_path / "out", "--track")
    annotate(system, home, str(photos), tmp_path / "again", "--track")
    after, before = (finished(system.data, run.run_id) for run in list_runs(system.data))
    names = [line.name for line in compare(before, after, FRUIT, FRUIT) if line.about == "speed"]
    assert "processor seconds per 1,000" in names
    process = boxdrop("runs", after.run_id)
    shown, _ = process.communicate(timeout=60)
    assert "processor" in shown
    assert "GPU" not in shown


def test_without_track_nothing_is_recorded(system: System, home: Path, photos: Path, tmp_path: Path) -> None:
    annotate(system, home, str(photos), tmp_path / "out")
    assert list(list_runs(system.data)) == []
