"""Runs in a real ZenML server, registered over HTTP by a service account, with artifacts in S3."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from zenml.client import Client

from boxdrop.domain.errors import TrackingError
from boxdrop.store.layout import manifest_key
from boxdrop.store.reports import RunSummary
from boxdrop.tracking.register import Tracker, connect
from boxdrop.tracking.track import Tracking
from tests.integration.tracking.conftest import System, boxdrop
from tests.zenml_server import RunningZenML, watch_lookups

pytestmark = pytest.mark.slow


def find(run_id: str) -> Any:
    """The one run of this name, read back through ZenML's client."""
    found = Client().list_pipeline_runs(name=f"equals:{run_id}", hydrate=True)
    assert found.total == 1
    return Client().get_pipeline_run(found.items[0].id)


def test_figures_of_verified_work_are_added_once_and_follow_what_people_do(
    tracker: Tracker, system: System
) -> None:
    summary = system.run(images=2)
    Tracking(tracker, system.data).track(summary.run_id)
    told = {"review_images": 2, "review_precision": 0.75, "review_precision_by_label": {"apple": 0.75}}
    assert tracker.note(summary.run_id, told)
    assert not tracker.note(summary.run_id, told)
    assert tracker.note(summary.run_id, {**told, "review_images": 3})
    found = find(summary.run_id).run_metadata
    assert (found["review_images"], found["review_precision_by_label"]) == (3, {"apple": 0.75})
    assert found["images"] == summary.images  # what was registered stays
    assert not tracker.note("20200101T000000Z-00000000", told)


def seconds(time: datetime) -> datetime:
    """UTC, as ZenML has times."""
    return time.astimezone(UTC).replace(tzinfo=None)


def assert_complete(summary: RunSummary) -> None:
    """The run is there once, with all of its steps, artifacts and metadata."""
    run = find(summary.run_id)
    assert run.status == "completed"
    assert {name: step.status for name, step in run.steps.items()} == {
        "dataset": "completed",
        "load_and_predict": "completed",
        "sync": "completed",
    }
    assert [len(run.steps[name].outputs) for name in ("dataset", "load_and_predict", "sync")] == [2, 3, 0]
    assert run.run_metadata["images"] == summary.images
    versions = Client().list_artifact_versions(version=summary.run_id)
    assert versions.total == 5


def test_a_run_reads_back_with_times_metadata_artifacts_and_model(
    zenml: RunningZenML, tracker: Tracker, system: System
) -> None:
    summary = system.run(images=5)
    registered = Tracking(tracker, system.data).track(summary.run_id)
    assert registered.created

    run = find(summary.run_id)
    assert run.id == UUID(registered.id)
    assert registered.url == f"{zenml.url}/projects/default/runs/{run.id}"
    assert run.pipeline.name == "boxdrop/fruit"
    assert {tag.name for tag in run.tags} == {"fruit"}
    assert run.stack.name == system.data.name

    dataset, predict, sync = (run.steps[name] for name in ("dataset", "load_and_predict", "sync"))
    assert dataset.end_time == seconds(summary.created_at)
    assert predict.start_time == seconds(summary.started_at)
    assert predict.end_time == run.end_time == seconds(summary.finished_at)
    assert run.start_time == dataset.start_time < dataset.end_time < predict.start_time
    assert [parent.name for parent in Client().list_run_steps(pipeline_run_id=run.id).items] == [
        "dataset",
        "load_and_predict",
        "sync",
    ]
    assert set(sync.inputs) == {"predictions"}

    metadata = run.run_metadata
    expected = {
        "project": "fruit",
        "images": 5,
        "predicted": 5,
        "failed": 0,
        "boxes": summary.boxes,
        "boxes_by_label": dict(summary.boxes_by_label),
        "model_version": system.model_version,
        "bundle_digest": system.pin.digest,
        "precision": summary.bundle.precision,
        "provider": "CPUExecutionProvider",
        "launcher": "local",
        "jobs": ["job-1"],
    }
    assert {name: metadata[name] for name in expected} == expected
    assert metadata["images_per_s"] > 0
    assert metadata["seconds_by_stage"]["detect"] > 0
    assert metadata["processor_seconds"] == pytest.approx(summary.gpu_seconds, abs=0.06)
    assert metadata["estimated_cost_usd"] == summary.estimated_cost_usd > 0  # type: ignore[operator]

    manifest, labels = (dataset.outputs[name][0].load() for name in ("manifest", "labels"))
    stored = system.data.get(manifest_key(summary.run_id))
    assert stored is not None
    assert manifest == stored.body
    assert b"pineapple" in labels
    predictions = json.loads(predict.outputs["predictions"][0].load())
    assert (predictions["run_id"], predictions["boxes"]) == (summary.run_id, summary.boxes)
    samples = predict.outputs["samples"][0].load()
    assert samples.count("<figure>") == samples.count("data:image/jpeg;base64,") == 5
    assert predict.outputs["scores"][0].load().count('class="score"') == 3

    model = run.model_version
    assert (model.model.name, model.name) == ("demo", system.pin.digest[:16])
    assert model.run_metadata["digest"] == system.pin.digest
    links = Client().list_model_version_pipeline_run_links(model_version_id=model.id)
    assert run.id in {link.pipeline_run.id for link in links.items}


def test_no_image_becomes_an_artifact(tracker: Tracker, system: System) -> None:
    summary = system.run(images=5)
    Tracking(tracker, system.data).track(summary.run_id)
    kept = [each.key for each in system.data.list(f"zenml/boxdrop/fruit/{summary.run_id}/")]
    assert {key.rpartition("/")[2] for key in kept} == {"data.txt", "shown.md", "output.html", "output.json"}
    pictures = [system.images.get(f"fruit/{n:03}.jpg") for n in range(5)]
    sheet = system.data.get(f"zenml/boxdrop/fruit/{summary.run_id}/samples/output.html")
    assert sheet is not None
    assert all(picture and len(sheet.body) < 5 * len(picture.body) for picture in pictures)


def test_without_thumbnails_the_boxes_are_drawn_all_the_same(tracker: Tracker, system: System) -> None:
    summary = system.run(images=2)
    Tracking(tracker, system.data, open_images=None).track(summary.run_id)
    samples = find(summary.run_id).steps["load_and_predict"].outputs["samples"][0].load()
    assert "data:image" not in samples
    assert samples.count("vector-effect") == sum(len(sample.boxes) for sample in summary.samples) > 0


def test_runs_of_one_bundle_are_grouped_and_projects_have_pipelines_and_tags(
    tracker: Tracker, system: System
) -> None:
    runs = [system.run(2, project) for project in ("street/cars", "blood", "blood")]
    tracking = Tracking(tracker, system.data)
    for summary in runs:
        tracking.track(summary.run_id)
    client = Client()
    model = client.get_model_version("demo", system.pin.digest[:16])
    links = client.list_model_version_pipeline_run_links(model_version_id=model.id, size=100)
    assert {summary.run_id for summary in runs} <= {link.pipeline_run.name for link in links.items}
    of_blood = client.list_pipeline_runs(tags=["blood"])
    assert {run.name for run in of_blood.items} == {runs[1].run_id, runs[2].run_id}
    (pipeline,) = client.list_pipelines(name="equals:boxdrop/street/cars").items
    assert [run.name for run in client.list_pipeline_runs(pipeline_id=pipeline.id).items] == [runs[0].run_id]


def test_registering_again_adds_nothing(tracker: Tracker, system: System) -> None:
    summary = system.run(images=2)
    tracking = Tracking(tracker, system.data)
    first = tracking.track(summary.run_id)
    system.s3.delete_object(Bucket=system.data.name, Key=f"tracked/{tracker.store_id}/{summary.run_id}.json")
    before = find(summary.run_id).updated
    again = tracking.track(summary.run_id)
    assert (again.id, again.created) == (first.id, False)
    assert find(summary.run_id).updated == before
    assert_complete(summary)


class Died(BaseException):
    """A process that is gone."""


class DyingStore:
    """A store whose caller dies after so many of its writes."""

    def __init__(self, store: Any, writes: int) -> None:
        self._store = store
        self._left = writes

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        if not name.startswith(("create_", "get_or_create_")):
            return attribute

        def write(*arguments: Any, **options: Any) -> Any:
            done = attribute(*arguments, **options)
            self._left -= 1
            if self._left == 0:
                raise Died
            return done

        return write


@pytest.mark.parametrize("writes", [2, 4, 7, 10])
def test_a_tracker_that_dies_after_any_write_leaves_a_run_that_the_next_one_completes(
    tracker: Tracker, system: System, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    summary = system.run(images=1)
    tracking = Tracking(tracker, system.data)
    with monkeypatch.context() as patch:
        patch.setattr(tracker, "_store", DyingStore(tracker._store, writes))
        with pytest.raises(Died):
            tracking.track(summary.run_id)
    assert tracking.untracked() == [summary.run_id]
    tracking.track(summary.run_id)
    assert tracking.untracked() == []
    assert_complete(summary)


def test_two_trackers_at_once_make_one_run(zenml: RunningZenML, tracker: Tracker, system: System) -> None:
    summaries = [system.run(images=1) for _ in range(2)]
    key = zenml.store.key or ""
    both = [
        boxdrop(
            *("track", "sync", "--data-bucket", system.data.name),
            ZENML_STORE_URL=zenml.url,
            ZENML_STORE_API_KEY=key,
        )
        for _ in range(2)
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    for summary in summaries:
        assert_complete(summary)
    assert Tracking(tracker, system.data).untracked() == []


def test_a_run_deleted_in_zenml_stays_deleted(tracker: Tracker, system: System) -> None:
    summary = system.run(images=1)
    tracking = Tracking(tracker, system.data)
    tracking.track(summary.run_id)
    Client().delete_pipeline_run(summary.run_id)
    assert tracking.sync().registered == ()
    assert Client().list_pipeline_runs(name=f"equals:{summary.run_id}").total == 0


def test_sync_skips_unfinished_runs_and_continues_after_broken_ones(tracker: Tracker, system: System) -> None:
    good = system.run(images=1)
    broken = system.run(images=1)
    system.s3.put_object(Bucket=system.data.name, Key=f"runs/{broken.run_id}/summary.json", Body=b"{}")
    system.plan(system.put_scenes(1))
    done = Tracking(tracker, system.data).sync()
    assert (done.registered, done.unfinished) == ((good.run_id,), 1)
    assert list(done.failed or ()) == [broken.run_id]


def test_a_wrong_key_is_refused_with_the_way_out(zenml: RunningZenML) -> None:
    with pytest.raises(TrackingError, match=r"refused the API key: create one.*track sync"):
        connect(replace(zenml.store, key="ZENKEY_nobody"))
    connect(zenml.store)


def test_neither_side_looks_up_anybody_else(zenml: RunningZenML, system: System, tmp_path: Path) -> None:
    """No analytics host, nor any other. What the server did for the tests before is in its list, too: when
    somebody logs in with a browser, it asks for the list of public suffixes, to compare domains.
    """
    suffixes = {"publicsuffix.org", "raw.githubusercontent.com"}
    system.run(images=1)
    watching, lookups = watch_lookups(tmp_path / "lookups")
    process = boxdrop(
        *("track", "sync", "--data-bucket", system.data.name),
        ZENML_STORE_URL=zenml.url,
        ZENML_STORE_API_KEY=zenml.store.key or "",
        **watching,
    )
    said = process.communicate()[0]
    assert "Runs: 1 registered" in said
    for log, known in ((lookups, set[str]()), (zenml.lookups, suffixes)):
        asked = set(log.read_text().split())
        assert "watching" in asked
        assert asked <= {"watching", "127.0.0.1", "localhost", "None"} | known
    assert "127.0.0.1" in lookups.read_text()  # what is looked up is written down


def test_a_missing_key_is_asked_for_by_the_name_of_its_variable(zenml: RunningZenML) -> None:
    with pytest.raises(TrackingError, match=r"needs an API key and none is set.*ZENML_STORE_API_KEY"):
        connect(replace(zenml.store, key=None))
