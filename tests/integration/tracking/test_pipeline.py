"""The job as a ZenML pipeline, run for real: local orchestrator, demo detector, Label Studio."""

from pathlib import Path
from typing import Any

import pytest
from zenml.client import Client

from boxdrop.demo import SCENES
from boxdrop.labelstudio.connection import Connection
from boxdrop.local.label_studio import Server
from boxdrop.predictions import Prediction, read_jsonl
from boxdrop.tracking.register import Tracker
from tests.integration.tracking.conftest import System

pytestmark = pytest.mark.slow


def run_pipeline(images: str, **options: Any) -> Any:
    from boxdrop.tracking.pipeline import boxes_for_images

    run = boxes_for_images(images=images, labels="pineapple, banana, apple", **options)
    assert run is not None
    return Client().get_pipeline_run(run.id)


def test_the_pipeline_brings_a_buckets_images_into_label_studio(
    tracker: Tracker,
    system: System,
    server: Server,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Client().activate_stack("default")
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.token)
    system.put_scenes(3, "fruit")
    system.put_scenes(1, "other")
    run = run_pipeline(f"s3://{system.images.name}/fruit/", title="fruit baskets")
    assert run.status == "completed"
    assert list(run.steps) == ["get_or_create_dataset", "load_images", "predict", "sync"]
    listed = run.steps["load_images"].outputs["images"][0].load()
    assert [image["name"] for image in listed] == [
        f"s3://{system.images.name}/fruit/{n:03}.jpg" for n in range(3)
    ]
    predictions: Path = run.steps["predict"].outputs["predictions"][0].load()
    records = list(read_jsonl(predictions))
    assert all(isinstance(record, Prediction) and record.boxes for record in records)
    assert run.steps["sync"].outputs["tasks"][0].load() == {"created": 3, "replaced": 0, "unchanged": 0}
    project = run.steps["get_or_create_dataset"].run_metadata["label_studio_project"]
    tasks = list(connection.sdk.tasks.list(project=project, fields="all"))
    assert {task.data["image_id"] for task in tasks} == {image["image_id"] for image in listed}
    assert all(len(task.predictions) == 1 for task in tasks)

    again = run_pipeline(f"s3://{system.images.name}/fruit/", title="fruit baskets")
    assert again.steps["predict"].status == "cached"  # nothing new came
    assert again.steps["sync"].outputs["tasks"][0].load() == {"created": 0, "replaced": 0, "unchanged": 3}


def test_images_of_a_caption_are_retrieved_and_without_label_studio_predictions_are_the_end(
    tracker: Tracker, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    Client().activate_stack("default")
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    picked = f"s3://{system.images.name}/picked/"
    run = run_pipeline(picked, caption="banana", count=2, collection=str(SCENES))
    listed = run.steps["load_images"].outputs["images"][0].load()
    assert len(listed) == 2
    assert all(image["name"].startswith(picked) for image in listed)
    records = list(read_jsonl(run.steps["predict"].outputs["predictions"][0].load()))
    assert all(
        isinstance(record, Prediction) and "banana" in {box.label for box in record.boxes}
        for record in records
    )
    assert "<figure>" in run.steps["predict"].outputs["samples"][0].load()
    assert run.steps["sync"].outputs["tasks"][0].load() == {}
