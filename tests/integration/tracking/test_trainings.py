"""A finished training in a real ZenML server: once, with its figures, its card and its model version."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from zenml.client import Client

from boxdrop.demo import BUNDLE
from boxdrop.detect import Bundle
from boxdrop.detect.bundle import CARD, Trained
from boxdrop.store.bundles import push
from boxdrop.store.trainings import TrainingRecord, write_training
from boxdrop.tracking.register import Tracker
from boxdrop.tracking.trainings import track_trainings
from tests.integration.tracking.conftest import System

pytestmark = pytest.mark.slow


def test_a_finished_training_is_a_run_and_a_model_version_once(
    tracker: Tracker, system: System, tmp_path: Path
) -> None:
    bundle = Bundle.load(BUNDLE)
    for name in bundle.files:
        (tmp_path / name).write_bytes((BUNDLE / name).read_bytes())
    trained = replace(bundle, name="mine", trained=Trained("fruit", "v1", "d" * 16, ("train", "val"), 9))
    (tmp_path / CARD).write_text(trained.to_json())
    (tmp_path / "README.md").write_text("# mine\n\nAP by label\n")
    ref = push(system.data, tmp_path)
    began = datetime(2026, 11, 28, 10, tzinfo=UTC)
    done = TrainingRecord(
        "mine", "v1", "finished", began, began.replace(hour=12), 30, 60, 0.81, 0.78,
        f"mine@{ref.digest[:16]}", "no better AP for 15 epochs", pushed=True,
    )  # fmt: skip
    write_training(system.data, "fruit/market", done)
    write_training(system.data, "fruit/market", replace(done, name="other", state="running", bundle=None))

    assert track_trainings(tracker, system.data) == [f"training-mine-{ref.digest[:16]}"]
    assert track_trainings(tracker, system.data) == []

    found = Client().list_pipeline_runs(name=f"equals:training-mine-{ref.digest[:16]}", hydrate=True)
    (run,) = found.items
    assert run.status == "completed"
    assert (run.run_metadata["ap50_test"], run.run_metadata["dataset_digest"]) == (0.78, "d" * 16)
    assert {tag.name for tag in run.tags} == {"fruit/market", "training"}
    assert run.model_version is not None
    assert (run.model_version.model.name, run.model_version.name) == ("mine", ref.digest[:16])
    assert run.model_version.run_metadata["trained_on"] == "fruit/market/v1"
    card = Client().get_artifact_version("boxdrop-card", f"training-mine-{ref.digest[:16]}").load()
    assert "AP by label" in str(card)
