"""Detection as a ZenML pipeline, run for real: local orchestrator, demo detector, Label Studio."""

import json
import shutil
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from zenml.client import Client

from boxdrop.demo import BUNDLE, SCENES
from boxdrop.domain.predictions import Prediction, read_jsonl
from boxdrop.labelstudio.connection import Connection
from boxdrop.local.label_studio import Server
from boxdrop.sources import S3Source
from boxdrop.tracking.register import Tracker
from tests.integration.tracking.conftest import System

pytestmark = pytest.mark.slow


def run_pipeline(images: str, **options: Any) -> Any:
    from boxdrop.tracking.pipeline import boxes_for_images

    run = boxes_for_images(images=images, labels="pineapple, banana, apple", **options)
    assert run is not None
    return Client().get_pipeline_run(run.id)


def test_the_pipeline_publishes_a_buckets_images_to_label_studio(
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


def test_a_detector_that_was_edited_in_place_is_not_served_from_the_cache(
    tracker: Tracker, system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest of a bundle does not cover its default threshold, and the cache must."""
    Client().activate_stack("default")
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    system.put_scenes(2, "fruit")
    images, bundle = f"s3://{system.images.name}/fruit/", tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle)
    card = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))

    first = run_pipeline(images, detector=str(bundle))
    assert run_pipeline(images, detector=str(bundle)).steps["predict"].status == "cached"
    card["defaults"]["threshold"] = 0.05
    (bundle / "bundle.json").write_text(json.dumps(card), encoding="utf-8")
    edited = run_pipeline(images, detector=str(bundle))
    assert edited.steps["predict"].status == "completed"
    assert edited.run_metadata["boxes"] > first.run_metadata["boxes"]
    card["defaults"]["floor"] = 0.04
    (bundle / "bundle.json").write_text(json.dumps(card), encoding="utf-8")
    other = run_pipeline(images, detector=str(bundle))
    assert other.steps["predict"].status == "completed"
    assert other.run_metadata["bundle_digest"] != edited.run_metadata["bundle_digest"]
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]  # no temporary folder is left


def test_a_run_carries_model_tags_metadata_and_a_picture_as_tracked_runs_do(
    tracker: Tracker, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    Client().activate_stack("default")
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    system.s3.put_bucket_versioning(Bucket=system.images.name, VersioningConfiguration={"Status": "Enabled"})
    system.put_scenes(2, "fruit")
    images = f"s3://{system.images.name}/fruit/"
    run_pipeline(images)
    run = run_pipeline(images)
    predict = run.steps["predict"]
    assert predict.status == "cached"  # what a run carries does not depend on it
    records = list(read_jsonl(predict.outputs["predictions"][0].load()))
    listed = list(S3Source(images).images())
    assert [(record.image_id, record.version) for record in records] == [
        (image.image_id, image.version) for image in listed
    ]
    assert all(image.former_version for image in listed)  # they are version-ids

    version = Client().get_model_version("demo", system.pin.digest[:16])
    linked = Client().list_pipeline_runs(linked_to_model_version_id=version.id)
    assert run.id in {each.id for each in linked}
    assert version.run_metadata["digest"] == system.pin.digest
    assert {tag.name for tag in run.tags} == {"annotate/fruit"}
    boxes = sum(len(record.boxes) for record in records if isinstance(record, Prediction))
    assert run.run_metadata["boxes"] == boxes > 0
    assert run.run_metadata["model_version"] == system.model_version
    assert predict.outputs["scores"][0].load().count('class="score"') == 3
    [shown] = predict.outputs["predictions"][0].visualizations
    assert str(shown.type) == "image"
    with PIL.Image.open(BytesIO(Path(shown.uri).read_bytes())) as opened:
        assert len(opened.convert("RGB").getcolors(1 << 24) or []) > 100


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
