"""What a newcomer does: the samples, one more image with the AWS command line, a verified task; and again."""

import io
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import requests
from click.testing import CliRunner, Result
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Locator

from boxdrop.aws.s3 import Bucket
from boxdrop.cli import boxdrop
from boxdrop.demo import SCENES
from boxdrop.detect.bundle import Contract
from boxdrop.domain.detections import iou
from boxdrop.domain.identity import image_id
from boxdrop.labelstudio.connection import Connection, connect
from boxdrop.ledger import Image, Ledger, State
from boxdrop.local.photos import PHOTOS
from boxdrop.local.recovery import settle
from boxdrop.local.samples import PROJECT
from boxdrop.local.stack import Running, Stack
from boxdrop.store.bundles import resolve
from boxdrop.store.layout import annotation_key
from tests.e2e import aws_cli
from tests.e2e.conftest import logged_in
from tests.e2e.test_regions import STORED_AS
from tests.fixed_bundle import write_fixed_bundle
from tests.label_studio_server import quiet
from tests.local_system import local_system
from tests.shape_scenes import draw_shapes

__all__ = ["local_system"]

pytestmark = pytest.mark.slow
PATIENCE_S = 120


def call(*arguments: str) -> Result:
    result: Result = CliRunner().invoke(boxdrop, arguments, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    return result


def eventually(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.1)
    return found


class System:
    """The running system, and what is in it."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.ledger = Ledger(running.system.table, workers=4)
        self.data = Bucket(running.system.data_bucket)

    @property
    def label_studio(self) -> Connection:
        return connect(self.running.label_studio.url, self.running.label_studio.token)

    def drop(self, key: str) -> None:
        """Upload a scene with fruit."""
        scene = (SCENES / "fruit-basket-01.jpg").read_bytes()
        Bucket(self.running.system.image_bucket).put(key, scene, "image/jpeg")

    def row(self, key: str) -> Image | None:
        return self.ledger.image(image_id(self.running.system.image_bucket, key))

    def tasked(self, key: str) -> Image:
        def look() -> Image | None:
            row = self.row(key)
            return row if row is not None and row.state == State.TASKED else None

        row: Image = eventually(look)
        return row


@pytest.fixture(scope="module")
def system(local_system: Running) -> Iterator[System]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOXDROP_GET_DETECTORS", "never")  # the demo downloads nothing
        said = call("local", "demo").output
        assert "Photographs are not shown: BOXDROP_GET_DETECTORS is `never`" in said
        yield System(local_system)


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that finds one cat, in the same place of every image."""
    contract = Contract("images", "boxes", "scores", "xyxy", "pixel", "probability", nms_iou=0.5)
    outputs = {"boxes": np.array([[8, 8, 40, 40]], np.float32), "scores": np.array([[0.9]], np.float32)}
    folder = tmp_path_factory.mktemp("detectors") / "square"
    return write_fixed_bundle(folder, outputs, contract, ("cat",), name="square")


def test_the_demo_shows_photographs_with_the_boxes_of_another_detector_and_credits_them(
    system: System, square: Path
) -> None:
    pytest.importorskip("skimage")
    said = call("local", "demo", "--detector", str(square)).output
    assert "and photographs (`boxdrop credits` names who took them)" in said
    row = system.tasked("photos-square/coffee.png")
    task = system.label_studio.sdk.tasks.get(str(row.task_id))
    assert [each["value"]["rectanglelabels"] for each in task.predictions[0].result] == [["cat"]]
    assert "Rachel Michetti" in str(task.data)
    credits = call("credits", "photos-square").output
    assert all(f"`{photo.name}`" in credits for photo in PHOTOS)
    assert "· NASA ·" in credits


def test_without_npm_the_demo_shows_the_fruit_and_says_why_there_are_no_photographs(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BOXDROP_GET_DETECTORS")
    monkeypatch.setenv("PATH", str(tmp_path))
    said = call("local", "demo").output
    assert "20 images of fruit baskets are in Label Studio" in said
    assert "Photographs are not shown: npm is not installed" in said


def test_new_and_up_take_a_detector_and_push_what_the_system_lacks(
    system: System, square: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pets"
    call("new", "pets", "--labels", "cat, banana", "--dir", str(folder), "--detector", f"{square}+demo")
    assert "detector: square+demo" in (folder / "labels.yaml").read_text()
    system.drop("pets/one.jpg")
    task = system.label_studio.sdk.tasks.get(str(system.tasked("pets/one.jpg").task_id))
    labels = [each["value"]["rectanglelabels"] for each in task.predictions[0].result]
    assert labels.count(["cat"]) == 1
    assert labels.count(["banana"]) >= 1
    refused = CliRunner().invoke(boxdrop, ["new", "more", "--labels", "cat", "--detector", "absent"])
    assert refused.exit_code == 1
    assert "there is no detector absent; there are:" in refused.output
    try:
        assert "Detector: square@" in call("local", "up", "--detector", "square").output
        assert resolve(system.data, None).name == "square"
    finally:
        call("local", "up", "--detector", "demo")
    assert resolve(system.data, None).name == "demo"


def test_the_demo_prints_the_address_and_a_second_one_is_quick(system: System) -> None:
    said = call("local", "demo").output
    assert "20 images of fruit baskets are in Label Studio" in said
    assert re.search(rf"{system.running.label_studio.url}/projects/\d+/data", said)
    assert system.running.label_studio.password in said
    assert system.ledger.count_images(PROJECT)[State.TASKED] == 20


def test_the_line_that_the_demo_prints_copies_one_more_image_and_its_task_has_boxes(
    system: System, tmp_path: Path
) -> None:
    said = call("local", "demo").output
    line = next(line.strip() for line in said.splitlines() if " s3 cp " in line)
    aws_cli.run(line, tmp_path)
    row = system.tasked(f"{PROJECT}/one-more.jpg")
    task = system.label_studio.sdk.tasks.get(str(row.task_id))
    assert task.predictions[0].result, "it has no boxes"


def test_the_browser_may_read_the_image(system: System) -> None:
    show_image(system)


QUADRANTS = ((220, 30, 30), (30, 160, 60), (40, 60, 220), (230, 200, 40))
"""Colours of a picture's quarters: left and right above, left and right below."""


def quadrants(form: str, orientation: int) -> bytes:
    """A picture of four colours, which lies in its file as the orientation says."""
    upright = np.repeat(np.repeat(np.array(QUADRANTS, np.uint8).reshape(2, 2, 3), 240, 0), 320, 1)
    picture = PIL.Image.fromarray(upright)
    turn = STORED_AS[orientation]
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    (picture if turn is None else picture.transpose(turn)).save(file, form, exif=exif)
    return file.getvalue()


def test_people_see_a_scan_and_a_turned_picture_as_the_detector_did(system: System) -> None:
    files = {f"{PROJECT}/scan.tif": ("TIFF", 1), f"{PROJECT}/turned.webp": ("WEBP", 6)}
    images = Bucket(system.running.system.image_bucket)
    for key, (form, orientation) in files.items():
        images.put(key, quadrants(form, orientation), "application/octet-stream")
    numbers = [system.tasked(key).task_id for key in files]
    project = system.ledger.project(PROJECT)
    assert project is not None
    with logged_in(system.running.label_studio) as page:
        for number in numbers:
            page.goto(f"{system.label_studio.url}/projects/{project.label_studio_id}/data?task={number}")
            canvas = page.locator("canvas").last
            canvas.wait_for(state="visible")

            def shows_all_colours(canvas: Locator = canvas) -> bool:
                try:
                    taken = canvas.screenshot()
                except PlaywrightError:  # the editor makes its canvas anew as the image arrives
                    return False
                screen = np.asarray(PIL.Image.open(io.BytesIO(taken)).convert("RGB"))
                height, width = screen.shape[:2]
                places = ((y * height // 8, x * width // 8) for y in (2, 6) for x in (2, 6))
                seen = [screen[place].astype(int) for place in places]
                upright = abs(width / height - 640 / 480) < 0.02
                return upright and all(
                    np.abs(one - other).max() < 50 for one, other in zip(seen, QUADRANTS, strict=True)
                )

            eventually(shows_all_colours)


def show_image(system: System) -> None:
    """Do what the browser does."""
    row = system.tasked(f"{PROJECT}/fruit-basket-02.jpg")
    server = system.running.label_studio
    headers = {"Authorization": f"Token {server.token}"}
    shown = system.label_studio.request("open", "GET", f"/api/tasks/{row.task_id}/")["data"]["image"]
    hop = requests.get(server.url + shown, headers=headers, allow_redirects=False, timeout=60)
    image = requests.get(hop.headers["Location"], headers={"Origin": server.url}, timeout=60)
    assert image.content == (SCENES / "fruit-basket-02.jpg").read_bytes()
    assert image.headers["Content-Type"] == "image/jpeg"
    assert image.headers["Access-Control-Allow-Origin"] in ("*", server.url)


def test_what_a_person_submits_comes_into_the_data_bucket(system: System) -> None:
    key = f"{PROJECT}/fruit-basket-03.jpg"
    verify(system, key)
    row = system.row(key)
    assert row is not None
    stored = system.data.get(annotation_key(PROJECT, row.image_id))
    assert stored is not None
    assert b"pineapple" in stored.body


def verify(system: System, key: str) -> None:
    """Do what a person does, and wait until the ledger knows by the webhook."""
    row = system.tasked(key)
    value = {"x": 1, "y": 1, "width": 9, "height": 9, "rotation": 0, "rectanglelabels": ["pineapple"]}
    region = {"type": "rectanglelabels", "from_name": "label", "to_name": "image", "value": value, "id": "r"}
    system.label_studio.sdk.annotations.create(row.task_id, result=[region])
    eventually(lambda: (found := system.row(key)) is not None and found.state == State.VERIFIED)


BADGES = "caption: badges\nlabels:\n  - {name: badge, examples: only}\n  - banana\n"
STARS = [seed for seed in range(130) if len(draw_shapes(seed).stars)][:60]


def test_twenty_verified_images_of_a_thing_without_a_name_find_it_on_the_other_forty(system: System) -> None:
    """Sixty scenes with stars, which the detector has no word for; people draw the boxes on twenty."""
    images = Bucket(system.running.system.image_bucket)
    images.put("badges/labels.yaml", BADGES.encode())
    for seed in STARS:
        images.put(f"badges/{seed}.jpg", draw_shapes(seed).jpeg(), "image/jpeg")
    counts = system.ledger.count_images
    eventually(lambda: counts("badges")[State.TASKED] == len(STARS))
    tasks = {seed: system.tasked(f"badges/{seed}.jpg") for seed in STARS}
    drawn, others = STARS[:20], STARS[20:]
    assert found_stars(system, others) == 0
    for seed in drawn:
        system.label_studio.sdk.annotations.create(tasks[seed].task_id, result=regions_of(seed))
    eventually(lambda: counts("badges")[State.VERIFIED] == len(drawn))
    verified = {seed: answers_of(system, tasks[seed].task_id) for seed in drawn}

    said = call("teach", "badges", "--yes").output
    assert re.search(r"badge: recall 0.00 → (0\.[789]|1\.0)", said), said
    project = system.ledger.project("badges")
    assert project is not None
    assert project.generation == 2

    def published() -> bool:
        rows = system.ledger.list_images("badges", State.TASKED).rows
        return len(rows) == len(others) and {row.generation for row in rows} == {project.generation}

    eventually(published)
    stars = sum(len(draw_shapes(seed).stars) for seed in others)
    assert found_stars(system, others) >= 0.8 * stars
    assert {seed: answers_of(system, tasks[seed].task_id) for seed in drawn} == verified
    assert counts("badges")[State.VERIFIED] == len(drawn)

    assert "Back from lesson" in call("teach", "badges", "--back", "--yes").output
    assert "lesson" not in call("labels", "badges").output


def regions_of(seed: int) -> list[dict[str, Any]]:
    """What a person draws: a box around every star."""
    scene = draw_shapes(seed)
    height, width = scene.pixels.shape[:2]
    found = []
    for number, (left, top, right, bottom) in enumerate(scene.stars.tolist()):
        value = {
            "x": 100 * left / width,
            "y": 100 * top / height,
            "width": 100 * (right - left) / width,
            "height": 100 * (bottom - top) / height,
            "rotation": 0,
            "rectanglelabels": ["badge"],
        }
        place = {"original_width": width, "original_height": height, "image_rotation": 0}
        kind = {"type": "rectanglelabels", "from_name": "label", "to_name": "image"}
        found.append({**kind, **place, "value": value, "id": f"r{number}"})
    return found


def answers_of(system: System, task_id: int | None) -> list[dict[str, Any]]:
    """Everything that people and detectors said about a task."""
    task = system.label_studio.request("read", "GET", f"/api/tasks/{task_id}/")
    answers = [*task["annotations"], *task["predictions"]]
    return [{key: value for key, value in each.items() if key != "created_ago"} for each in answers]


def found_stars(system: System, seeds: list[int]) -> int:
    """Stars that the predictions in Label Studio show, at an IoU of 0.5."""
    project = system.ledger.project("badges")
    assert project is not None
    tasks = system.label_studio.sdk.tasks.list(project=project.label_studio_id, fields="all")
    shown = {task.id: task.predictions for task in tasks}
    found = 0
    for seed in seeds:
        row = system.row(f"badges/{seed}.jpg")
        assert row is not None
        scene = draw_shapes(seed)
        height, width = scene.pixels.shape[:2]
        for prediction in shown[row.task_id]:
            for region in prediction.result or []:
                value = region["value"]
                left, top = value["x"] * width / 100, value["y"] * height / 100
                right, bottom = left + value["width"] * width / 100, top + value["height"] * height / 100
                box = np.array([left, top, right, bottom], np.float32)
                found += value["rectanglelabels"] == ["badge"] and bool((iou(box, scene.stars) >= 0.5).any())
    return found


def test_the_status_names_every_part(system: System) -> None:
    said = call("local", "status").output
    running = system.running
    for each in (running.label_studio.url, running.aws.url, f"process {running.pump}"):
        assert each in said
    assert '"service": "pump"' in call("local", "logs", "--json").output
    assert " pump      started webhook_url=http" in call("local", "logs").output
    assert "fruit-baskets" in call("status").output


def test_everything_survives_down_and_up(system: System) -> None:
    before = {row.key: row for row in rows(system)}
    annotations = [listed.key for listed in system.data.list("annotations/")]
    assert "all data stays in" in call("local", "down").output
    assert CliRunner().invoke(boxdrop, ["local", "status"]).exit_code == 3
    assert "boxdrop local up" in CliRunner().invoke(boxdrop, ["status"]).output
    system.running = up()
    assert not system.running.crashed
    assert {row.key: row for row in rows(system)} == before
    assert [listed.key for listed in system.data.list("annotations/")] == annotations
    tasks = number_of_tasks(system)
    assert tasks == len(before)


def test_after_a_crash_of_aws_and_all_rows_lost_nothing_that_people_made_is(system: System) -> None:
    verified = f"{PROJECT}/fruit-basket-04.jpg"
    verify(system, verified)
    before = number_of_tasks(system)
    stack = Stack()
    os.kill(system.running.aws.pid, signal.SIGKILL)
    for state in (stack.aws.data / "state").glob("*.json"):
        state.unlink()  # as if it had never been stopped in order
    running = up()
    assert running.crashed
    said: list[str] = []
    settle(stack, running, said.append)
    assert "images and" in said[-1]
    system.running = running
    eventually(lambda: not undone(system))
    row = system.row(verified)
    assert row is not None
    assert row.state == State.VERIFIED
    assert number_of_tasks(system) == before
    show_image(system)
    assert not up().crashed


def rows(system: System) -> list[Image]:
    return [row for state in State for row in system.ledger.list_images(PROJECT, state).rows]


def undone(system: System) -> int:
    counts = system.ledger.count_images(PROJECT, (State.WAITING, State.WANTED, State.RUNNING))
    return sum(counts.values())


def number_of_tasks(system: System) -> int:
    project = system.ledger.project(PROJECT)
    assert project is not None
    listed = system.label_studio.sdk.tasks.list(project=project.label_studio_id, fields="task_only")
    return len(list(listed))


def up() -> Running:
    return Stack().up(say=quiet)
