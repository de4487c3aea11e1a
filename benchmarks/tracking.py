"""The cost of tracking a run, and how lists look with many runs: a real ZenML server, with artifacts on
moto's S3.

    python -m benchmarks.tracking --runs 200 [--images docs/images]

The demo detector does one real run on the sample scenes; it is then registered many times under other ids,
mostly in one project. With --images, it takes screenshots of the dashboard.
"""

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import psutil
from playwright.sync_api import Page, sync_playwright

from boxdrop.aws.s3 import Bucket
from boxdrop.demo import BUNDLE, SCENES
from boxdrop.domain.identity import image_id, new_run_id, object_version
from boxdrop.domain.labels import LabelSet
from boxdrop.job.detectors import Detectors
from boxdrop.job.host import Host
from boxdrop.job.job import Job
from boxdrop.servers import processes
from boxdrop.store import bundles
from boxdrop.store.labelsets import write_label_set
from boxdrop.store.layout import manifest_key, run_prefix, summary_key
from boxdrop.store.manifests import ManifestHeader, ManifestImage, PinnedBundle, read_manifest, write_manifest
from boxdrop.store.reports import RunSummary, read_summary, write_summary
from boxdrop.tracking.register import connect
from boxdrop.tracking.server import skip_survey
from boxdrop.tracking.track import Tracking
from tests.chromium import FLAGS, find_chromium
from tests.gated_aws import GatedAws
from tests.zenml_server import PASSWORD, RunningZenML, running, with_empty_database

PROJECT = "fruit-baskets"
OTHERS = ("street/cars", "blood-cells")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--images", type=Path, help="folder for screenshots of the dashboard")
    options = parser.parse_args()
    aws = GatedAws()
    os.environ |= {
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    with tempfile.TemporaryDirectory() as folder:
        with running(with_empty_database(Path(folder) / "server" / "zenml"), {}) as zenml:
            os.environ["BOXDROP_HOME"] = f"{folder}/home"
            measure(zenml, Path(folder), options.runs, options.images)
        aws.close()


def measure(zenml: RunningZenML, folder: Path, runs: int, images: Path | None) -> None:
    s3 = boto3.client("s3")
    photos, data = Bucket("photos", client=s3), Bucket("boxdrop-data", client=s3)
    for bucket in (photos, data):
        s3.create_bucket(Bucket=bucket.name)
    summary = do_run(photos, data, folder)
    begin = time.monotonic()
    tracking = Tracking(connect(zenml.store, data.name), data)
    print(f"connecting, with the import of zenml: {time.monotonic() - begin:.1f} s", flush=True)
    seconds = []
    url = ""
    server = psutil.Process(processes.find(["--port", zenml.url.rpartition(":")[2]])[0])
    ours, theirs = time.process_time(), sum(server.cpu_times()[:2])
    for number in range(runs):
        project = PROJECT if number % 10 else OTHERS[number // 10 % 2]
        run_id = copy_run(data, summary, project, timedelta(hours=5) * number)
        begin = time.monotonic()
        registered = tracking.track(run_id)
        seconds.append(time.monotonic() - begin)
        url = registered.url or url if project == PROJECT else url
    ours, theirs = time.process_time() - ours, sum(server.cpu_times()[:2]) - theirs
    print(
        f"processor time a run: {ours / runs:.2f} s here (ZenML's client, and the S3 emulator), "
        f"{theirs / runs:.2f} s in the server"
    )
    rest = seconds[1:] or seconds
    print(
        f"{runs} runs of {summary.images} images: the first {seconds[0]:.2f} s, then median "
        f"{statistics.median(rest):.2f} s, 95 % below {sorted(rest)[int(0.95 * len(rest))]:.2f} s, "
        f"the last ten {statistics.mean(seconds[-10:]):.2f} s"
    )
    begin = time.monotonic()
    assert tracking.untracked() == []
    print(f"nothing to do for `track sync`: {time.monotonic() - begin:.2f} s")
    from zenml.client import Client

    begin = time.monotonic()
    page = Client().list_pipeline_runs(tags=[PROJECT], size=20)
    print(f"a page of the {page.total} runs of {PROJECT} by tag: {time.monotonic() - begin:.2f} s")
    if images is not None:
        take_pictures(zenml, url, images)


def do_run(photos: Bucket, data: Bucket, folder: Path) -> RunSummary:
    """The sample scenes through the job."""
    lines = []
    for file in sorted(SCENES.glob("*.jpg")):
        key, body = f"{PROJECT}/{file.name}", file.read_bytes()
        answer = boto3.client("s3").put_object(Bucket=photos.name, Key=key, Body=body)
        version = object_version(None, answer["ETag"], len(body)) or ""
        lines.append(ManifestImage(image_id(photos.name, key), key, version))
    ref = bundles.push(data, BUNDLE)
    label_set = LabelSet.from_file(SCENES / "labels.yaml")
    now = datetime.now(UTC)
    header = ManifestHeader(
        run_id=new_run_id(now - timedelta(days=60)),
        project=PROJECT,
        bucket=photos.name,
        generation=1,
        labels=write_label_set(data, label_set),
        bundle=PinnedBundle(ref.name, ref.digest),
        model_version=f"{ref.name}@{label_set.digest(ref.digest)[:8]}",
        images=len(lines),
        created_at=now - timedelta(days=60, seconds=-4),
    )
    write_manifest(data, header, lines)
    host = Host(device="this processor", launcher="local", job_id="job-1", usd_per_hour=0.21)
    Job(data, lambda _: photos, Detectors(data, folder / "bundles"), host).work(header.run_id)
    summary = read_summary(data, header.run_id)
    assert summary is not None
    boto3.client("s3").delete_object(Bucket=data.name, Key=summary_key(header.run_id))
    boto3.client("s3").delete_object(Bucket=data.name, Key=manifest_key(header.run_id))
    for listed in list(data.list(run_prefix(header.run_id))):
        boto3.client("s3").delete_object(Bucket=data.name, Key=listed.key)
    _manifests[header.run_id] = (header, lines)
    return summary


_manifests: dict[str, tuple[ManifestHeader, list[ManifestImage]]] = {}


def copy_run(data: Bucket, summary: RunSummary, project: str, later: timedelta) -> str:
    """The same run again, under another id, at another time."""
    header, lines = _manifests[summary.run_id]
    began = datetime.now(UTC) - timedelta(days=60) + later
    shift = began + timedelta(seconds=90) - summary.started_at
    run_id = new_run_id(began)
    created = began + timedelta(seconds=4)
    write_manifest(data, replace(header, run_id=run_id, project=project, created_at=created), lines)
    write_summary(
        data,
        replace(
            summary,
            run_id=run_id,
            project=project,
            created_at=created,
            started_at=summary.started_at + shift,
            finished_at=summary.finished_at + shift,
        ),
    )
    assert read_manifest(data, run_id).header.images == len(lines)
    return run_id


def take_pictures(zenml: RunningZenML, run: str, images: Path) -> None:
    skip_survey(zenml.url, zenml.token)
    chromium = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, "--disable-3d-apis"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(f"{zenml.url}/login")
        page.fill("input[name=username]", "default")
        page.fill("input[name=password]", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/login" not in url)
        page.goto(f"{run.partition('/runs/')[0]}/runs")
        page.get_by_text(f"boxdrop/{PROJECT}").first.wait_for()
        save(page, images / "zenml-runs.png")
        page.goto(f"{run}?tab=metadata")
        page.get_by_text("samples", exact=True).first.wait_for()
        page.get_by_text("images_per_s", exact=True).first.wait_for()
        save(page, images / "zenml-run.png")
        for artifact in ("samples", "scores"):
            page.get_by_text(artifact, exact=True).first.click()
            page.get_by_role("tab", name="Visualization").last.click()
            page.get_by_role("button", name="Load Preview").click()
            page.frame_locator("iframe[title='Secure HTML Content']").locator("h1").wait_for()
            save(page, images / f"zenml-{artifact}.png")
            page.keyboard.press("Escape")
        browser.close()


def save(page: Page, path: Path) -> None:
    """Take a picture once two in a row are the same."""
    before, after = b"", page.screenshot()
    while after != before:
        page.wait_for_timeout(500)
        before, after = after, page.screenshot()
    path.write_bytes(after)
    print(path, flush=True)


if __name__ == "__main__":
    main()
