"""`annotate` on real files with the real demo detector: every image once, whatever happens on the way."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from boxdrop.annotate.run import AnnotateRun, Summary
from boxdrop.demo import SCENES
from boxdrop.detect import Detector
from boxdrop.domain.detections import iou
from boxdrop.domain.errors import BoxdropError, LabelSetError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Failure, Prediction, Record
from boxdrop.sources import open_source
from tests.conftest import HostileFiles

FRUIT = LabelSet.from_short_form("pineapple, banana, apple")


def draw_images(folder: Path, count: int, size: tuple[int, int] = (320, 240)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(7).integers(0, 255, (8, 8, 3), np.uint8)
    for number in range(count):
        picture = Image.fromarray(np.roll(noise, number, axis=1)).resize(size)
        picture.save(folder / f"{number:04}.jpg", quality=70)


def run(
    source: Path, out: Path, detector: Detector, labels: LabelSet = FRUIT, limit: int | None = None
) -> Summary:
    return AnnotateRun(open_source(str(source)), labels, detector, out).run(limit=limit)


def records(out: Path) -> list[Record]:
    from boxdrop.domain.predictions import read_jsonl

    return list(read_jsonl(out / "predictions.jsonl"))


def start_program(source: Path, out: Path) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable,
        "-m",
        "boxdrop",
        "annotate",
        str(source),
        "--labels",
        "banana",
        "--out",
        str(out),
    ]
    return subprocess.Popen(
        [*command, "--batch-size", "4"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def test_most_of_the_fruit_in_the_sample_scenes_is_found(tmp_path: Path, demo_detector: Detector) -> None:
    summary = run(SCENES, tmp_path, demo_detector)
    truth = json.loads((SCENES / "truth.json").read_text())
    names = {category["id"]: category["name"] for category in truth["categories"]}
    files = {image["id"]: image["file_name"] for image in truth["images"]}
    fruit = [
        (files[each["image_id"]], names[each["category_id"]], each["bbox"])
        for each in truth["annotations"]
        if names[each["category_id"]] in FRUIT
    ]
    boxes = {record.image: record.boxes for record in records(tmp_path) if isinstance(record, Prediction)}
    right = 0
    for image, name, (left, top, width, height) in fruit:
        there = np.array([left, top, left + width, top + height], np.float32)
        found = np.array([box.xyxy for box in boxes[image] if box.label == name], np.float32)
        right += bool((iou(there, found.reshape(-1, 4)) >= 0.5).any())
    assert summary.images == len(files)
    assert summary.failures == 0
    assert right / len(fruit) >= 0.9
    assert right / summary.boxes >= 0.92
    for name in ("predictions.jsonl", "label-studio.json", "coco.json", "failures.tsv", "index.html"):
        assert (tmp_path / name).stat().st_size > 0


def test_a_second_run_computes_nothing_and_changes_nothing(tmp_path: Path, demo_detector: Detector) -> None:
    draw_images(tmp_path / "in", 9)
    first = run(tmp_path / "in", tmp_path / "out", demo_detector)
    before = (tmp_path / "out" / "predictions.jsonl").read_bytes()
    second = run(tmp_path / "in", tmp_path / "out", demo_detector)
    assert (first.computed, second.computed, second.resumed) == (9, 0, 9)
    assert (tmp_path / "out" / "predictions.jsonl").read_bytes() == before


def test_an_output_folder_keeps_the_class_ids_that_an_earlier_version_gave(
    tmp_path: Path, demo_detector: Detector
) -> None:
    draw_images(tmp_path / "in", 2)
    run(tmp_path / "in", tmp_path / "out", demo_detector)

    def ids() -> dict[str, int]:
        coco = json.loads((tmp_path / "out" / "coco.json").read_text())
        return {category["name"]: category["id"] for category in coco["categories"]}

    assert sorted(ids().values()) == [1, 2, 3]
    before = json.loads((tmp_path / "out" / "run.json").read_text())
    del before["label_ids"]  # as versions wrote it that numbered from 0
    from_0 = LabelSet(tuple(replace(label, id=label.id - 1) for label in FRUIT))
    before["labels"] = from_0.to_yaml()
    (tmp_path / "out" / "run.json").write_text(json.dumps(before))
    grown = LabelSet.from_short_form(f"kiwi, {', '.join(FRUIT.names)}")
    for labels in (grown, FRUIT, grown):
        run(tmp_path / "in", tmp_path / "out", demo_detector, labels)
    assert ids() == {label.name: label.id for label in from_0} | {"kiwi": 3}


def test_a_killed_run_resumes_and_has_every_image_once(tmp_path: Path) -> None:
    draw_images(tmp_path / "in", 500)
    out = tmp_path / "out"
    log = out / "predictions.jsonl"
    kept = 0
    for wanted in (60, 240):
        program = start_program(tmp_path / "in", out)
        while program.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < wanted):
            time.sleep(0.01)
        assert program.poll() is None, program.communicate()[1].decode()
        program.send_signal(signal.SIGKILL)
        program.wait()
        kept = log.read_bytes().count(b"\n")
        assert wanted <= kept < 500
        with log.open("ab") as file:  # the kill may as well have come in the middle of a line
            file.write(b'{"format":"boxdrop-pred')
    last = start_program(tmp_path / "in", out)
    _, errors = last.communicate()
    assert last.returncode == 0, errors.decode()
    names = [record.image for record in records(out)]
    assert names == [f"{number:04}.jpg" for number in range(500)]
    summary = json.loads((out / "run.json").read_text())["summary"]
    assert (summary["resumed"], summary["computed"]) == (kept, 500 - kept)
    assert {"fetch", "decode", "preprocess", "detect", "postprocess", "write"} <= set(summary["stages"])


def test_one_bad_file_stops_nothing(tmp_path: Path, demo_detector: Detector) -> None:
    draw_images(tmp_path / "in", 5)
    (tmp_path / "in" / "0002.jpg").write_bytes((tmp_path / "in" / "0002.jpg").read_bytes()[:900])
    (tmp_path / "in" / "page\t<b>.png").write_text("<html>404</html>")
    summary = run(tmp_path / "in", tmp_path / "out", demo_detector)
    assert (summary.images, summary.failures) == (6, 2)
    bad = [record for record in records(tmp_path / "out") if isinstance(record, Failure)]
    assert {failure.image for failure in bad} == {"0002.jpg", "page\t<b>.png"}
    assert len((tmp_path / "out" / "failures.tsv").read_text().splitlines()) == 3


def test_an_image_with_damaged_metadata_is_noted(tmp_path: Path, demo_detector: Detector) -> None:
    draw_images(tmp_path / "in", 1)
    reports = Path(__file__).parents[1] / "data" / "reports"
    shutil.copy(reports / "png_gama_bad.png", tmp_path / "in")
    summary = run(tmp_path / "in", tmp_path / "out", demo_detector)
    assert (summary.images, summary.damaged, summary.failures) == (2, 1, 0)
    noted = {
        record.image: record.damaged for record in records(tmp_path / "out") if isinstance(record, Prediction)
    }
    assert noted == {"0000.jpg": (), "png_gama_bad.png": ("gAMA",)}


def test_failures_are_tried_again_only_when_asked(tmp_path: Path, demo_detector: Detector) -> None:
    draw_images(tmp_path / "in", 1)
    (tmp_path / "in" / "bad.jpg").write_bytes(b"not an image")
    run(tmp_path / "in", tmp_path / "out", demo_detector)
    assert run(tmp_path / "in", tmp_path / "out", demo_detector).computed == 0
    again = AnnotateRun(open_source(str(tmp_path / "in")), FRUIT, demo_detector, tmp_path / "out")
    assert again.run(retry_failures=True).computed == 1
    assert len(records(tmp_path / "out")) == 2


def test_a_changed_file_or_prompt_is_detected_again_and_a_changed_threshold_is_not(
    tmp_path: Path, demo_detector: Detector
) -> None:
    (tmp_path / "in").mkdir()
    for number, scene in enumerate(sorted(SCENES.glob("*.jpg"))[:4]):
        shutil.copy(scene, tmp_path / "in" / f"{number:04}.jpg")
    out = tmp_path / "out"
    run(tmp_path / "in", out, demo_detector)
    assert run(tmp_path / "in", out, demo_detector, FRUIT.with_threshold(0.9)).computed == 0
    floor = demo_detector.bundle.defaults.floor
    low = run(tmp_path / "in", out, demo_detector, FRUIT.with_threshold(floor))
    assert low.computed == 0
    kept = sum(len(record.candidates) for record in records(out) if isinstance(record, Prediction))
    assert 0 < low.boxes <= kept

    picture = tmp_path / "in" / "0001.jpg"
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert run(tmp_path / "in", out, demo_detector).computed == 1
    other = LabelSet.from_short_form("pineapple, banana, cherry")
    assert run(tmp_path / "in", out, demo_detector, other).computed == 4
    assert len(records(out)) == 4
    assert {record.model_version for record in records(out)} == {demo_detector.model_version(other)}


def test_images_that_went_away_leave_the_results(tmp_path: Path, demo_detector: Detector) -> None:
    draw_images(tmp_path / "in", 3)
    run(tmp_path / "in", tmp_path / "out", demo_detector)
    (tmp_path / "in" / "0001.jpg").unlink()
    assert run(tmp_path / "in", tmp_path / "out", demo_detector).images == 2


def test_a_limit_keeps_earlier_results(tmp_path: Path, demo_detector: Detector) -> None:
    draw_images(tmp_path / "in", 6)
    assert run(tmp_path / "in", tmp_path / "out", demo_detector, limit=2).images == 2
    run(tmp_path / "in", tmp_path / "out", demo_detector)
    assert run(tmp_path / "in", tmp_path / "out", demo_detector, limit=2).images == 6


def test_boxes_lie_in_upright_pixels(tmp_path: Path, demo_detector: Detector) -> None:
    """A portrait photo that is stored lying down gives the boxes of the same photo stored upright."""
    (tmp_path / "in").mkdir()
    scene = Image.open(next(iter(sorted(SCENES.glob("*.jpg"))))).convert("RGB")
    scene.save(tmp_path / "in" / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown, turn it by 90° clockwise
    scene.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "in" / "b.png", exif=exif)
    run(tmp_path / "in", tmp_path / "out", demo_detector)
    upright, turned = records(tmp_path / "out")
    assert isinstance(upright, Prediction)
    assert isinstance(turned, Prediction)
    assert (turned.width, turned.height) == scene.size
    assert turned.boxes == upright.boxes


def test_a_folder_of_another_source_is_not_overwritten(tmp_path: Path, demo_detector: Detector) -> None:
    draw_images(tmp_path / "a", 1)
    draw_images(tmp_path / "b", 1)
    run(tmp_path / "a", tmp_path / "out", demo_detector)
    with pytest.raises(BoxdropError, match=r"holds the results of .*/a; give another --out"):
        run(tmp_path / "b", tmp_path / "out", demo_detector)


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path, demo_detector: Detector) -> None:
    draw_images(tmp_path / "in", 2)
    source = open_source(str(tmp_path / "in"))
    second = AnnotateRun(source, FRUIT, demo_detector, tmp_path / "out")

    def start_second(_: Summary) -> None:
        with pytest.raises(BoxdropError, match="another boxdrop is writing"):
            second.run()

    AnnotateRun(source, FRUIT, demo_detector, tmp_path / "out").run(start_second)


def test_an_empty_folder_is_a_clear_error(tmp_path: Path, demo_detector: Detector) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(BoxdropError, match="no images here"):
        run(tmp_path / "in", tmp_path / "out", demo_detector)


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path, demo_detector: Detector) -> None:
    draw_images(tmp_path / "in", 1)
    (tmp_path / "file").touch()
    with pytest.raises(BoxdropError, match="cannot be written"):
        run(tmp_path / "in", tmp_path / "file" / "out", demo_detector)


def test_a_threshold_below_the_floor_is_refused_before_the_work(
    tmp_path: Path, demo_detector: Detector
) -> None:
    with pytest.raises(LabelSetError, match="floor"):
        AnnotateRun(open_source(str(tmp_path)), FRUIT.with_threshold(1e-4), demo_detector, tmp_path / "out")


def test_every_hostile_file_becomes_one_line(
    tmp_path: Path, demo_detector: Detector, hostile: HostileFiles
) -> None:
    files = hostile.files
    summary = run(files, tmp_path, demo_detector)
    assert sorted(record.image for record in records(tmp_path)) == sorted(
        path.name for path in files.iterdir()
    )
    verdicts = {row["file"]: row["good_system"] for row in hostile.rows}
    for record in records(tmp_path):
        verdict = verdicts[record.image]
        if verdict.startswith("ACCEPT"):
            assert isinstance(record, Prediction), record
            assert f"{record.width}x{record.height}" in verdict
        elif verdict.startswith("REJECT"):
            assert isinstance(record, Failure), record
    assert summary.failures == sum(summary.failures_by_reason.values()) > 0


def test_an_import_by_hand_leaves_out_what_it_could_only_show_wrong(
    demo_detector: Detector, tmp_path: Path
) -> None:
    """Label Studio can serve a copy below its document root, the folder's parent, and nowhere else."""
    draw_images(tmp_path / "root" / "photos", 2)
    Image.open(tmp_path / "root" / "photos" / "0001.jpg").save(tmp_path / "root" / "photos" / "scan.tif")
    elsewhere, beside = tmp_path / "out", tmp_path / "root" / "photos-boxes"
    assert run(tmp_path / "root" / "photos", elsewhere, demo_detector).not_importable == 1
    assert run(tmp_path / "root" / "photos", beside, demo_detector).not_importable == 0
    for out, addresses in ((elsewhere, 2), (beside, 3)):
        tasks = json.loads((out / "label-studio.json").read_text())
        shown = {task["data"]["file_name"]: task["data"]["image"] for task in tasks}
        assert len(shown) == addresses
        assert shown["0000.jpg"] == "/data/local-files/?d=photos/0000.jpg"
    [record] = [each for each in records(beside) if each.image == "scan.tif"]
    assert isinstance(record, Prediction)
    assert record.display is not None
    assert shown["scan.tif"] == f"/data/local-files/?d=photos-boxes/{record.display}"
    assert (beside / record.display).is_file()
