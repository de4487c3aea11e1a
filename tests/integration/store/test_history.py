"""`boxdrop runs` over a data bucket of moto: 200 runs, one, and two compared; without ZenML."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result

from boxdrop.aws.s3 import Bucket
from boxdrop.cli import boxdrop
from boxdrop.domain.errors import RunError
from boxdrop.domain.labels import LabelSet
from boxdrop.store.history import compare, find_run, list_runs
from boxdrop.store.labelsets import write_label_set
from boxdrop.store.manifests import ManifestHeader, ManifestImage, PinnedBundle, write_manifest
from boxdrop.store.reports import RunSummary, ShardWork, Stages, SummaryBundle, write_summary
from boxdrop.store.tracked import TrackedRun, write_mark
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "endpoint"]

RUNS = 200
FIRST = datetime(2026, 1, 1, 8, tzinfo=UTC)
BEFORE = LabelSet.from_yaml(
    "labels: [pineapple, apple, {name: banana, prompts: [banana], threshold: 0.2}]", "labels.yaml"
)
AFTER = LabelSet.from_yaml(
    "labels: [pineapple, cherry, {name: banana, prompts: [banana, bunch of bananas], threshold: 0.3}]",
    "labels.yaml",
)


def summary(number: int, project: str = "fruit", **changes: Any) -> RunSummary:
    began = FIRST + timedelta(hours=5 * number)
    work = ShardWork(0, began, began + timedelta(seconds=50), 500, 500, 0, 10.0, Stages(detect=40.0), 900.0)
    made = RunSummary(
        run_id=f"{began - timedelta(seconds=90):%Y%m%dT%H%M%SZ}-{number:08x}",
        project=project,
        bucket="photos",
        generation=1,
        labels="0" * 64,
        caption=None,
        model_version="owlv2@12345678",
        bundle=SummaryBundle("owlv2", "a" * 64, "owlv2", "fp16"),
        provider="CUDAExecutionProvider",
        device="Tesla T4",
        images=500,
        predicted=490,
        failed=10,
        superseded=0,
        gone=0,
        boxes=1470,
        boxes_by_label={"banana": 980, "apple": 490},
        score_histograms={"banana": (0,) * 19 + (980,), "apple": (0,) * 19 + (490,)},
        failures_by_reason={"truncated": 10},
        parts=(),
        samples=(),
        launcher="batch",
        job_ids=("job-1",),
        instance_type="g4dn.xlarge",
        spot=True,
        shards=(work,),
        created_at=began - timedelta(seconds=80),
        started_at=began,
        finished_at=began + timedelta(seconds=50),
        seconds=50.0,
        gpu_seconds=50.0,
        estimated_cost_usd=0.0029,
    )
    return replace(made, **changes)


@pytest.fixture(scope="module")
def bucket(aws: MakeClient) -> Bucket:
    """200 finished runs of two projects, and one that is not finished."""
    s3 = aws("s3")
    s3.create_bucket(Bucket="history")
    bucket = Bucket("history", client=s3)
    labels = write_label_set(bucket, BEFORE)
    for number in range(RUNS):
        project = "street/cars" if number % 10 == 0 else "fruit"
        write_summary(bucket, summary(number, project, labels=labels))
    running = summary(RUNS).run_id
    header = ManifestHeader(
        running, "fruit", "photos", 1, "0" * 64, PinnedBundle("owlv2", "a" * 64), "m", 1, FIRST
    )
    write_manifest(bucket, header, [ManifestImage("ab" * 16, "fruit/1.jpg", "v1")])
    return bucket


@pytest.fixture
def command(bucket: Bucket, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "BOXDROP_DATA_BUCKET": bucket.name,
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    return CliRunner()


def said(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_of_200_runs_the_newest_20_are_listed_and_the_rest_is_a_word_away(command: CliRunner) -> None:
    lines = said(command.invoke(boxdrop, ["runs"]))
    runs = [line for line in lines if line.startswith("202")]
    assert len(runs) == 20
    assert runs == sorted(runs, reverse=True)
    assert "not finished" in runs[0]
    assert all(word in runs[1] for word in ("fruit", "owlv2@12345678", "1,470", "10.0", "50 s", "0.0029"))
    assert "… and older ones: --all" in lines[-1]
    assert (
        len([1 for line in said(command.invoke(boxdrop, ["runs", "--all"])) if line.startswith("202")]) == 201
    )


def test_runs_of_one_project_are_found_among_those_of_others(command: CliRunner) -> None:
    lines = said(command.invoke(boxdrop, ["runs", "--project", "street/cars", "-n", "5"]))
    runs = [line for line in lines if line.startswith("202")]
    assert [run.split()[0][-8:] for run in runs] == [f"{number:08x}" for number in (190, 180, 170, 160, 150)]


def test_one_run_is_shown_by_its_id_or_by_a_part_of_it(command: CliRunner, bucket: Bucket) -> None:
    run_id = summary(7).run_id
    whole = said(command.invoke(boxdrop, ["runs", run_id]))
    assert whole == said(command.invoke(boxdrop, ["runs", "show", "00000007"]))
    text = "\n".join(whole)
    assert "g4dn.xlarge Spot" in text
    assert "10 truncated" in text
    result = command.invoke(boxdrop, ["runs", "show", "2026"])
    assert result.exit_code == 1
    assert "201 runs have 2026 in their id" in result.output
    with pytest.raises(RunError, match="there is no run nothing"):
        find_run(bucket, "nothing")


def test_a_comparison_shows_changes_in_labels_model_speed_and_counts() -> None:
    first = summary(1)
    second = summary(
        2,
        bundle=SummaryBundle("owlv2", "b" * 64, "owlv2", "int8"),
        predicted=245,
        failed=5,
        boxes=980,
        boxes_by_label={"banana": 490, "cherry": 490},
        seconds=20.0,
    )
    lines = {(line.about, line.name): line for line in compare(first, second, BEFORE, AFTER)}
    assert lines["labels", "apple"].change == "removed"
    assert lines["labels", "cherry"].change == "added"
    assert lines["labels", "banana"].change == "prompts and threshold"
    assert lines["labels", "banana"].after == "banana, bunch of bananas ≥ 0.3"
    assert ("labels", "pineapple") not in lines
    assert lines["model", "precision"].change == "changed"
    assert lines["model", "model_version"].change == ""
    assert lines["speed", "images/s"].change == "+25 %"
    assert lines["counts", "predicted"].change == "-50 %"
    assert lines["boxes an image", "banana"].change == ""  # half the images, and half the boxes
    assert lines["boxes an image", "cherry"].change == "new"


def test_two_runs_are_compared_from_the_command_line(command: CliRunner) -> None:
    text = "\n".join(said(command.invoke(boxdrop, ["runs", "compare", "00000001", "00000002"])))
    assert summary(1).run_id in text
    assert "boxes an image" in text


def test_a_list_shows_which_runs_zenml_has(command: CliRunner, bucket: Bucket) -> None:
    run_id = summary(RUNS - 1).run_id
    write_mark(bucket, "store-1", TrackedRun(run_id, "1", "http://zenml/runs/1"))
    assert any(run_id in line and "✓" in line for line in said(command.invoke(boxdrop, ["runs"])))
    assert "http://zenml/runs/1" in command.invoke(boxdrop, ["runs", run_id]).output
    assert len(list(list_runs(bucket, limit=3))) == 3


def test_runs_for_programs_are_json(command: CliRunner) -> None:
    listed = json.loads("\n".join(said(command.invoke(boxdrop, ["runs", "-n", "3", "--json"]))))
    assert [run["state"] for run in listed] == ["not finished", "finished", "finished"]
    run_id = listed[1]["run"]
    one = json.loads("\n".join(said(command.invoke(boxdrop, ["runs", run_id[:-3], "--json"]))))
    assert (one["run_id"], one["images"]) == (run_id, 500)


def test_the_beginning_of_an_id_is_enough(command: CliRunner) -> None:
    run_id = summary(7).run_id
    assert said(command.invoke(boxdrop, ["runs", run_id[:-3]])) == said(
        command.invoke(boxdrop, ["runs", run_id])
    )


def test_a_list_fits_into_80_columns_and_a_row_is_one_line(command: CliRunner) -> None:
    lines = command.invoke(boxdrop, ["runs"], env={"COLUMNS": "80"}).output.splitlines()
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith("2026")]) == 20
    assert [line for line in lines[1:-1] if line.startswith(" ")] == []


def test_a_run_on_a_processor_took_no_time_of_a_gpu(bucket: Bucket, command: CliRunner) -> None:
    made = summary(RUNS + 5, provider="CPUExecutionProvider", device="a laptop")
    write_summary(bucket, made)
    lines = said(command.invoke(boxdrop, ["runs", made.run_id]))
    assert not any("GPU" in line for line in lines)
    assert any(line.startswith("processor") for line in lines)
