"""The job from outside: what it writes, how it ends, and what it does not do twice."""

import json
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from boxdrop.domain.predictions import Failure
from boxdrop.store.reports import list_reports, read_report
from tests.conftest import HostileFiles
from tests.integration.job.conftest import (
    PATIENCE_S,
    SCENE,
    SCENE_FILES,
    Process,
    System,
    records_of,
    summary_of,
)


def serve(system: System, **environment: str) -> tuple[Process, str]:
    """Start a server; gives it and its address."""
    process = system.start("serve", BOXDROP_SERVE_ADDRESS="127.0.0.1:0", **environment)
    line = process.wait_until_said("server listens")
    return process, f"http://127.0.0.1:{line['port']}"


def call(url: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data, {name.replace("_", "-"): value for name, value in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_the_same_entrypoint_run_three_ways_gives_identical_predictions(system: System) -> None:
    """Plain, as an array of two jobs at the same time, and as SageMaker's server over HTTP."""
    images = system.put_scenes(18)
    images.insert(5, system.put("fruit/broken.jpg", SCENE[:2000]))
    images.insert(11, system.put("fruit/text.jpg", b"not an image"))
    gone = system.put("fruit/gone ü+%25.jpg", SCENE)
    changed = system.put("fruit/changed.jpg", SCENE)
    images[7:7] = [gone, changed]
    system.put("fruit/changed.jpg", SCENE_FILES[1].read_bytes())
    system.s3.delete_object(Bucket=system.images.name, Key=gone.key)
    plan = {"part_images": 4, "shard_images": 12}

    plain = system.plan(images, **plan)
    assert system.start("--run", plain).ended() == 0

    array = system.plan(images, **plan)
    jobs = [
        system.start("--run", array, AWS_BATCH_JOB_ID=f"job:{n}", AWS_BATCH_JOB_ARRAY_INDEX=str(n))
        for n in range(2)
    ]
    assert [job.ended() for job in jobs] == [0, 0]

    served = system.plan(images, **plan)
    server, address = serve(system)
    server.wait_until_said("server is ready")
    for shard in range(2):
        name = {"X_Amzn_SageMaker_Inference_Id": f"request-{shard}"}
        status, report = call(f"{address}/invocations", {"run_id": served, "shard": shard}, **name)
        assert (status, report["format"], report["work"]["index"]) == (200, "boxdrop-shard/1", shard)
    server.send(signal.SIGTERM)
    assert server.ended() == 0

    expected = system.parts(plain)
    assert list(expected) == [f"part-{n:08}-{min(n + 4, 22):08}.jsonl" for n in range(0, 22, 4)]
    assert system.parts(array) == expected
    assert system.parts(served) == expected

    summaries = [summary_of(system, run_id) for run_id in (plain, array, served)]
    assert [summary.launcher for summary in summaries] == ["local", "batch", "sagemaker"]
    assert [summary.job_ids for summary in summaries] == [
        (),
        ("job:0", "job:1"),
        ("request-0", "request-1"),
    ]
    for summary in summaries:
        assert (summary.images, summary.predicted, summary.failed) == (22, 18, 2)
        assert (summary.superseded, summary.gone) == (1, 1)
        assert summary.failures_by_reason == {"truncated": 1, "not_an_image": 1}
        assert summary.provider == "CPUExecutionProvider"
        assert summary.boxes == sum(summary.boxes_by_label.values()) > 18
        assert {
            label: sum(bins) for label, bins in summary.score_histograms.items()
        } == summary.boxes_by_label
        assert len(summary.samples) == 12
        assert summary.samples == summaries[0].samples
        assert [shard.images for shard in summary.shards] == [12, 10]


def test_after_kill_9_only_the_parts_in_flight_are_computed_again(system: System) -> None:
    images = system.put_scenes(32)
    run_id = system.plan(images, part_images=4, shard_images=32)
    with system.gate.holding("/fruit/017.jpg"):  # in the part of lines 16 to 19
        first = system.start("--run", run_id)
        system.gate.wait_for("/fruit/017.jpg")
        wait_for_parts(system, run_id, 4)
        first.kill()
    before = system.parts(run_id)
    assert sorted(before) == [f"part-{n:08}-{n + 4:08}.jsonl" for n in (0, 4, 8, 12)]
    system.gate.forget()

    second = system.start("--run", run_id)
    assert second.ended() == 0
    read = {path.rpartition("/")[2] for path in system.gate.paths("GET", "/fruit/0")}
    assert read == {f"{n:03}.jpg" for n in range(16, 32)}
    after = system.parts(run_id)
    assert len(after) == 8
    assert after | before == after
    report = read_report(system.data, run_id, 0)
    assert report is not None
    assert (report.work.computed, report.work.resumed, report.counts.predicted) == (16, 16, 32)
    summary = summary_of(system, run_id)
    assert summary.predicted == 32
    unbroken = system.plan(images, part_images=4, shard_images=32)
    system.job().work(unbroken)
    assert summary_of(system, unbroken).samples == summary.samples
    assert summary_of(system, unbroken).score_histograms == summary.score_histograms


def wait_for_parts(system: System, run_id: str, count: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while len(system.parts(run_id)) < count:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_sigterm_finishes_the_parts_in_flight_and_asks_to_be_run_again(system: System) -> None:
    run_id = system.plan(system.put_scenes(36), part_images=12, shard_images=36)
    with system.gate.holding("/fruit/013.jpg") as let_go:
        slowly = {"BOXDROP_FETCHERS": "1", "BOXDROP_BATCH_SIZE": "1", "BOXDROP_GRACE_S": "60"}
        job = system.start("--run", run_id, **slowly)
        system.gate.wait_for("/fruit/013.jpg")  # the second part is begun, the third is not
        job.send(signal.SIGTERM)
        job.wait_until_said("asked to stop")
        let_go()
        assert job.ended() == 75
    line = job.said("job stops")
    assert line is not None
    assert "another job continues from here" in line["reason"]
    assert list(system.parts(run_id)) == ["part-00000000-00000012.jsonl", "part-00000012-00000024.jsonl"]
    assert list_reports(system.data, run_id) == []


def test_sigterm_abandons_a_part_that_takes_too_long(system: System) -> None:
    run_id = system.plan(system.put_scenes(8))
    with system.gate.holding("/fruit/002.jpg"):
        job = system.start("--run", run_id, BOXDROP_GRACE_S="0.2")
        system.gate.wait_for("/fruit/002.jpg")
        job.send(signal.SIGTERM)
        assert job.ended() == 75
    assert system.parts(run_id) == {}
    assert list_reports(system.data, run_id) == []


def test_two_jobs_of_one_run_at_once_write_each_part_once(system: System) -> None:
    images = system.put_scenes(24)
    run_id = system.plan(images, part_images=4, shard_images=24)
    system.gate.forget()
    jobs = [system.start("--run", run_id) for _ in range(2)]
    assert [job.ended() for job in jobs] == [0, 0]
    written = system.gate.paths("PUT", f"/{run_id}/", 200)
    assert max(Counter(written).values()) == 1
    assert len(written) == 6 + 1 + 1  # parts, the shard's report, the summary
    assert summary_of(system, run_id).predicted == 24


def test_cuda_that_is_not_there_ends_the_job_before_any_image_is_read(system: System) -> None:
    run_id = system.plan(system.put_scenes(3))
    system.gate.forget()
    job = system.start("--run", run_id, BOXDROP_PROVIDER="cuda")
    assert job.ended() == 1
    line = job.said("job fails")
    assert line is not None
    assert "CUDA was requested" in line["reason"]
    assert not system.gate.paths("GET", "/fruit/0")
    assert system.parts(run_id) == {}


def test_a_server_that_cannot_have_cuda_never_becomes_healthy(system: System) -> None:
    server = system.start("serve", BOXDROP_SERVE_ADDRESS="127.0.0.1:0", BOXDROP_PROVIDER="cuda")
    assert server.ended() == 1
    assert server.said("server is ready") is None


def test_a_ping_is_healthy_once_the_detector_is_loaded_and_while_it_works(
    system: System, tmp_path: Path
) -> None:
    run_id = system.plan(system.put_scenes(3))
    with system.gate.holding("/image.onnx") as let_go:
        server, address = serve(system, BOXDROP_BUNDLE_CACHE=str(tmp_path))
        system.gate.wait_for("/image.onnx")
        assert call(f"{address}/ping")[0] == 503
        let_go()
        server.wait_until_said("server is ready")
    assert call(f"{address}/ping")[0] == 200
    answers: list[tuple[int, dict[str, Any]]] = []
    with system.gate.holding("/fruit/001.jpg"):
        invoke = threading.Thread(
            target=lambda: answers.append(call(f"{address}/invocations", {"run_id": run_id, "shard": 0}))
        )
        invoke.start()
        system.gate.wait_for("/fruit/001.jpg")
        assert call(f"{address}/ping")[0] == 200
    invoke.join()
    assert [status for status, _ in answers] == [200]


def test_the_server_works_on_one_shard_at_a_time(system: System) -> None:
    run_id = system.plan(system.put_scenes(16), part_images=8, shard_images=8)
    server, address = serve(system)
    server.wait_until_said("server is ready")
    system.gate.forget()
    statuses: list[int] = []

    def invoke(shard: int) -> threading.Thread:
        body = {"run_id": run_id, "shard": shard}
        thread = threading.Thread(target=lambda: statuses.append(call(f"{address}/invocations", body)[0]))
        thread.start()
        return thread

    with system.gate.holding("/fruit/003.jpg"):
        first = invoke(0)
        system.gate.wait_for("/fruit/003.jpg")
        second = invoke(1)
        second.join(1)  # a server that did both at once would read its images now
    first.join()
    second.join()
    assert statuses == [200, 200]
    reads = [int(path[-7:-4]) for path in system.gate.paths("GET", "/fruit/")]
    assert max(reads.index(n) for n in range(8)) < min(reads.index(n) for n in range(8, 16))


def test_the_server_distinguishes_invalid_requests_from_failing_runs(system: System) -> None:
    _, address = serve(system)
    url = f"{address}/invocations"
    unknown = "20260101T000000Z-00000000"
    assert call(url, b"{")[0] == 400
    assert call(url, {"run_id": unknown})[0] == 400
    assert call(url, {"run_id": "../../x", "shard": 0})[0] == 400
    assert call(url, {"run_id": unknown, "shard": True})[0] == 400
    status, answer = call(url, {"run_id": unknown, "shard": 0})
    assert (status, "no such manifest" in answer["error"]) == (500, True)
    assert call(url, b" " * 70_000)[0] == 413
    assert call(f"{address}/other")[0] == 404
    run_id = system.plan(system.put_scenes(2))
    assert call(url, {"run_id": run_id, "shard": 7})[0] == 500
    assert call(url, {"run_id": run_id, "shard": 0})[0] == 200


def test_an_invocation_ends_before_its_caller_times_out_and_the_next_one_continues(system: System) -> None:
    run_id = system.plan(system.put_scenes(36), part_images=12, shard_images=36)
    slowly = {"BOXDROP_FETCHERS": "1", "BOXDROP_BATCH_SIZE": "1"}
    server, address = serve(system, BOXDROP_JOB_TIMEOUT_S="5", **slowly)
    server.wait_until_said("server is ready")
    url, body = f"{address}/invocations", {"run_id": run_id, "shard": 0}
    answers: list[tuple[int, dict[str, Any]]] = []
    with system.gate.holding("/fruit/000.jpg"):
        invoke = threading.Thread(target=lambda: answers.append(call(url, body)))
        invoke.start()
        system.gate.wait_for("/fruit/000.jpg")
        invoke.join(5)  # its time passes while it waits for an image
        assert answers == []
    invoke.join()
    assert [status for status, _ in answers] == [503]
    assert list(system.parts(run_id)) == ["part-00000000-00000012.jsonl"]
    end = time.monotonic() + PATIENCE_S
    while call(url, body)[0] != 200:
        assert time.monotonic() < end
    assert summary_of(system, run_id).predicted == 36


def test_a_new_system_without_a_detector_has_a_healthy_server(system: System) -> None:
    system.s3.delete_object(Bucket=system.data.name, Key="bundles/default.json")
    server, address = serve(system)
    server.wait_until_said("server is ready")
    assert call(f"{address}/ping")[0] == 200


def test_every_line_is_json_and_metrics_are_in_the_embedded_format(system: System) -> None:
    images = [*system.put_scenes(6), system.put("fruit/text.jpg", b"no image")]
    run_id = system.plan(images)
    job = system.start("--run", run_id, BOXDROP_USD_PER_HOUR="0.36")
    assert job.ended() == 0
    sums: Counter[str] = Counter()
    for line in job.lines:
        for definition in line.get("_aws", {}).get("CloudWatchMetrics", []):
            assert definition["Namespace"] == "boxdrop"
            for names in definition["Dimensions"]:
                assert all(isinstance(line[name], str) for name in names)
            for metric in definition["Metrics"]:
                sums[metric["Name"]] += line[metric["Name"]]
    assert (sums["ImagesPredicted"], sums["ImagesFailed"], sums["CpuProviderUsed"]) == (6, 1, 1)
    assert sums["ImagesPerSecond"] > 0
    summary = summary_of(system, run_id)
    assert summary.estimated_cost_usd is not None
    assert summary.estimated_cost_usd == pytest.approx(summary.gpu_seconds * 0.36 / 3600, abs=1e-6)
    assert sums["CostPerThousand"] == pytest.approx(1000 * summary.estimated_cost_usd / 7, abs=1e-3)
    [shard] = summary.shards
    assert shard.peak_memory_mb > 50
    assert shard.gpu_utilisation is None
    assert min(shard.stages.fetch, shard.stages.decode, shard.stages.detect, shard.stages.write) > 0
    progress = job.said("shard is done")
    assert progress is not None
    assert progress["run_id"] == run_id


@pytest.mark.slow
def test_hostile_files_are_records_and_the_job_ends_well(system: System, hostile: HostileFiles) -> None:
    """Bombs, truncated and corrupt files, fuzzers' finds, formats of all kinds, among good images."""
    rows = hostile.rows
    images = [system.put(f"fruit/{row['file']}", (hostile.files / row["file"]).read_bytes()) for row in rows]
    run_id = system.plan(images, part_images=16, shard_images=96)
    job = system.start("--run", run_id)
    assert job.ended() == 0
    records = records_of(system, run_id)
    assert [record.image_id for record in records] == [image.image_id for image in images]
    for row, record in zip(rows, records, strict=True):
        wanted = row["good_system"]
        rejected = isinstance(record, Failure)
        assert not (wanted.startswith("ACCEPT") and rejected), (row, record)
        assert not (wanted.startswith("REJECT") and not rejected), (row, record)
        size = re.search(r"(\d+)x(\d+)", wanted)
        if size and not rejected:
            assert (record.width, record.height) == (int(size[1]), int(size[2]))
    summary = summary_of(system, run_id)
    assert (
        summary.failed
        == sum(summary.failures_by_reason.values())
        >= sum(row["good_system"].startswith("REJECT") for row in rows)
    )
    assert summary.shards[0].peak_memory_mb < 1000


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(system: System) -> None:
    images = system.put_scenes(300)
    peaks = []
    for count in (60, 300):
        run_id = system.plan(images[:count], part_images=20, shard_images=300)
        assert system.start("--run", run_id).ended() == 0
        peaks.append(summary_of(system, run_id).shards[0].peak_memory_mb)
    assert peaks[1] < peaks[0] + 15, peaks
