"""Boxes that exist come in, people verify them in a browser, and what leaves is what the screen showed."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from playwright.sync_api import Page, sync_playwright
from pycocotools.coco import COCO

from boxdrop.aws.s3 import Bucket
from boxdrop.cli import boxdrop
from boxdrop.demo import SCENES
from boxdrop.domain.identity import image_id
from boxdrop.labelstudio.connection import connect
from boxdrop.ledger import Image, Ledger, State
from boxdrop.local.stack import Running
from tests.chromium import FLAGS, find_chromium
from tests.conftest import SHARED_DATA
from tests.local_system import local_system

__all__ = ["local_system"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="needs Chromium: scripts/install_chromium.sh"),
]
PATIENCE_S = 240
Shown = list[tuple[str, tuple[float, ...]]]

READ_SCREEN = """() => Htx.annotationStore.selected.regionStore.regions.map(region => {
  const image = region.parent, box = region.bboxCoordsCanvas;
  const across = image.naturalWidth / image.stageWidth, down = image.naturalHeight / image.stageHeight;
  return [region.labels[0], [box.left * across, box.top * down, box.right * across, box.bottom * down]];
})"""
"""Where the browser draws each region, in pixels of the image that it shows."""

MOVE = """([x, y, width, height, rotation]) =>
  Htx.annotationStore.selected.regionStore.regions[0].setPositionInternal(x, y, width, height, rotation)"""
DELETE = """count => { const selected = Htx.annotationStore.selected;
  selected.regionStore.regions.slice(0, count).forEach(region => selected.deleteRegion(region)); }"""
READY = """([task, count]) => { const selected = window.Htx?.annotationStore?.selected;
  return window.Htx?.task?.id == task && selected?.regionStore?.regions?.length === count
    && selected.objects.some(each => each.type === 'image' && each.naturalWidth > 1 && each.stageWidth > 1);
}"""


class Desk:
    """The running system, and an annotator's browser."""

    def __init__(self, running: Running, page: Page) -> None:
        self.running, self.page = running, page
        self.ledger = Ledger(running.system.table, workers=4)
        self.images = Bucket(running.system.image_bucket)
        self.connection = connect(running.label_studio.url, running.label_studio.token)

    def row(self, key: str) -> Image | None:
        return self.ledger.image(image_id(self.images.name, key))

    def wait_for(self, key: str, *states: State) -> Image:
        def look() -> Image | None:
            row = self.row(key)
            return row if row is not None and row.state in states else None

        row: Image = eventually(look)
        return row

    def open(self, key: str, regions: int) -> Shown:
        """Open the task of an image; returns what the screen shows."""
        row = self.wait_for(key, State.TASKED, State.VERIFIED)
        project = self.ledger.project(row.project)
        assert project is not None
        self.page.goto(f"{self.connection.url}/projects/{project.label_studio_id}/data?task={row.task_id}")
        self.page.wait_for_function(READY, arg=[row.task_id, regions])
        return self.screen()

    def screen(self) -> Shown:
        return [(label, tuple(corners)) for label, corners in self.page.evaluate(READ_SCREEN)]

    def end(self, skip: bool = False) -> Shown:
        """Submit or skip; returns what the screen showed. Only the label stream has a button for skipping."""
        shown = self.screen()
        with self.page.expect_response(
            lambda answer: "/annotations" in answer.url and answer.request.method == "POST"
        ) as sent:
            if skip:
                self.page.evaluate("() => { Htx.skipTask({}) }")
            else:
                self.page.get_by_role("button", name="submit").first.click()
        assert sent.value.status == 201, sent.value.text()
        return shown

    def add(self, hotkey: str) -> None:
        """Draw a box of a label with the mouse, in a corner of the image."""
        box = self.page.locator("canvas").last.bounding_box()
        assert box is not None
        self.page.keyboard.press("Escape")
        self.page.keyboard.press(hotkey)
        self.page.mouse.move(box["x"] + 4, box["y"] + 4)
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + 40, box["y"] + 30, steps=4)
        self.page.mouse.move(box["x"] + 64, box["y"] + 44, steps=4)
        self.page.mouse.up()


def eventually(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.2)
    return found


def call(*arguments: str | Path) -> str:
    result = CliRunner().invoke(boxdrop, [str(each) for each in arguments], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def desk(local_system: Running) -> Iterator[Desk]:
    server = local_system.label_studio
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(PATIENCE_S * 1000)
        page.goto(f"{server.url}/user/login/")
        page.fill("input[name=email]", server.email)
        page.fill("input[name=password]", server.password)
        page.click("button[type=submit]")
        page.wait_for_url(f"{server.url}/**")
        yield Desk(local_system, page)
        browser.close()


def truth(path: Path) -> dict[str, Shown]:
    """The boxes of a COCO file by file name, cut off at the image."""
    document = json.loads(path.read_text())
    names = {each["id"]: each["name"] for each in document["categories"]}
    found = {}
    for image in document["images"]:
        boxes: Shown = []
        for each in document["annotations"]:
            if each["image_id"] == image["id"]:
                left, top, width, height = each["bbox"]
                corners = max(0, left), max(0, top), left + width, top + height
                right, bottom = min(corners[2], image["width"]), min(corners[3], image["height"])
                boxes.append((names[each["category_id"]], (*corners[:2], right, bottom)))
        found[image["file_name"]] = boxes
    return found


def same(one: Shown, other: Shown, within: float = 0.5) -> bool:
    """Whether two lists hold the same labels at the same pixels."""
    pairs = zip(sorted(one), sorted(other), strict=False)
    return len(one) == len(other) and all(
        a == b and corners == pytest.approx(others, abs=within) for (a, corners), (b, others) in pairs
    )


def test_coco_photos_with_boxes_show_them_at_the_right_pixels(desk: Desk) -> None:
    """33 photos with 246 boxes of 44 classes. Takes minutes; outsiders have the next test instead."""
    source = SHARED_DATA / "coco33"
    if not source.is_dir():
        pytest.skip("needs the shared data")
    said = call("drop", source / "images", "coco", "--boxes", source / "annotations.json")
    assert "246 boxes for 33 images" in said
    expected = truth(source / "annotations.json")
    shown = {name: desk.open(f"coco/{name}", len(boxes)) for name, boxes in expected.items()}
    assert sum(map(len, shown.values())) == 246
    assert [name for name in expected if not same(shown[name], expected[name])] == []


KEYS = ("kept", "moved", "deleted", "added", "turned", "skipped", "emptied", "overwritten", "removed")


def test_what_people_verify_leaves_as_the_screen_showed_it(desk: Desk, tmp_path: Path) -> None:
    names = [f"fruit-basket-{number:02}.jpg" for number in range(1, len(KEYS) + 1)]
    folder, fruit = tmp_path / "photos", ("pineapple", "banana", "apple")
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes((SCENES / name).read_bytes())
    (folder / "labels.yaml").write_bytes((SCENES / "labels.yaml").read_bytes())
    said = call(
        "drop", folder, "fruit", "--boxes", SCENES / "truth.json", "--left-out", tmp_path / "left-out.tsv"
    )
    assert "for 9 images as truth.json@" in said
    assert "box of the unknown class 'basket'" in (tmp_path / "left-out.tsv").read_text()
    dropped = {
        name: [box for box in boxes if box[0] in fruit]
        for name, boxes in truth(SCENES / "truth.json").items()
    }
    screens: dict[str, Shown] = {}
    for what, name in zip(KEYS, names, strict=True):
        key = f"fruit/{name}"
        assert same(desk.open(key, len(dropped[name])), dropped[name]), name
        if what == "moved":
            desk.page.evaluate(MOVE, [20, 25, 30, 35, 0])
        elif what == "turned":
            desk.page.evaluate(MOVE, [40, 40, 20, 10, 30])
        elif what in ("deleted", "emptied"):
            desk.page.evaluate(DELETE, 1 if what == "deleted" else len(dropped[name]))
        elif what == "added":
            desk.add("1")
        screens[what] = desk.end(skip=what == "skipped")
        if what != "skipped":
            desk.wait_for(key, State.VERIFIED)
    assert len(screens["added"]) == len(dropped[names[3]]) + 1
    assert len(screens["deleted"]) == len(dropped[names[2]]) - 1
    assert not same(screens["moved"], dropped[names[1]])

    overwritten, removed = (f"fruit/{names[KEYS.index(each)]}" for each in ("overwritten", "removed"))
    desk.images.put(overwritten, (SCENES / "fruit-basket-20.jpg").read_bytes(), "image/jpeg")
    desk.images.delete_all([removed])
    desk.wait_for(overwritten, State.STALE)
    desk.wait_for(removed, State.GONE)
    eventually(lambda: "skipped" in _reasons(tmp_path))

    coco = COCO(str(tmp_path / "out/annotations/instances_train.json"))
    written = {}
    for image in coco.loadImgs(coco.getImgIds()):
        found: Shown = []
        for each in coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]])):
            left, top, width, height = each["bbox"]
            (category,) = coco.loadCats([each["category_id"]])
            found.append((category["name"], (left, top, left + width, top + height)))
        written[KEYS[names.index(image["key"].removeprefix("fruit/"))]] = found
    assert set(written) == {"kept", "moved", "deleted", "added", "turned", "emptied"}
    assert [what for what, boxes in written.items() if not same(boxes, screens[what])] == []
    assert written["emptied"] == []
    assert _reasons(tmp_path) == {
        "skipped": "skipped",
        "overwritten": "overwritten since it was verified",
        "removed": "deleted from the bucket",
    }


def _reasons(folder: Path) -> dict[str, str]:
    """Export, and read what was left out and why."""
    call("export", "fruit", "--format", "coco", "--out", folder / "out")
    rows = (line.split("\t") for line in (folder / "out/left-out.tsv").read_text().splitlines()[1:])
    return {KEYS[int(row[0][-6:-4]) - 1]: row[1] for row in rows}
