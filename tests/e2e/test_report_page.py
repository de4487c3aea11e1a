"""The page in a real browser, opened from ``file://``."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from boxdrop.annotate.page import ReportWriter
from boxdrop.annotate.thumbnails import make_thumbnail, thumbnail_path
from boxdrop.domain.identity import image_id
from boxdrop.domain.images import Image, decode
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, Failure, Prediction, Record
from tests.chromium import FLAGS, find_chromium

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")

LABELS = LabelSet.from_yaml(
    "caption: fruit baskets\nlabels:\n- {name: pineapple, color: '#ff0000'}\n- "
    "{name: banana, prompts: [banana, bunch of bananas], color: '#00ff00'}\n- "
    "{name: apple, color: '#0000ff'}\n"
)
SIZE = (640, 480)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A tab; the test fails on any script error, and on any request that leaves this machine's files."""
    page = browser.new_page(viewport={"width": 1400, "height": 950})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "data:")) else problems.append(f"request: {request.url}")
        ),
    )
    yield page
    page.close()
    assert not problems


class Folder:
    """An output folder being made, and the originals beside it."""

    def __init__(self, path: Path) -> None:
        self.out, self.photos = path / "out", path / "photos"
        self.photos.mkdir(parents=True)
        self.records: list[Record] = []

    def add(self, name: str, *boxes: Box, size: tuple[int, int] = SIZE, original: bool = True) -> None:
        """A black picture with its boxes filled white."""
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        for box in boxes:
            left, top, right, bottom = (round(value) for value in box.xyxy)
            pixels[top:bottom, left:right] = 255
        if original:
            path = self.photos / name
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(pixels).save(path, "PNG")
        identity = image_id("", name)
        thumbnail = self.out / thumbnail_path(identity)
        thumbnail.parent.mkdir(parents=True, exist_ok=True)
        thumbnail.write_bytes(make_thumbnail(Image(pixels, "png", pixels.shape[1], pixels.shape[0])))
        self.records.append(Prediction(name, identity, "v", "demo@0123", *size, boxes))

    def fail(self, name: str, reason: str, message: str) -> None:
        self.records.append(Failure(name, image_id("", name), "v", "demo@0123", reason, message))

    def open(self, page: Any, **options: Any) -> None:
        with ReportWriter(self.out, LABELS, originals=self.photos, source="photos", **options) as report:
            for record in self.records:
                report.add(record)
        page.goto((self.out / "index.html").as_uri())
        page.wait_for_selector("body[data-loaded]")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def found(label: str, score: float, xyxy: tuple[float, float, float, float] = (100, 80, 300, 400)) -> Box:
    return Box(label, score, xyxy, label)


def fruit(folder: Folder) -> None:
    folder.add("b/two.jpg", found("banana", 0.9), found("apple", 0.3, (400, 100, 500, 200)))
    folder.add("a/one.jpg", found("apple", 0.6))
    folder.add("c/none.jpg")
    folder.fail("d/broken.jpg", "truncated", "the file ends before the image does: copy or upload it again")


def names(page: Any) -> list[str]:
    titles: list[str] = page.eval_on_selector_all(".card", "cards => cards.map(card => card.title)")
    return titles


def set_score(page: Any, value: float) -> None:
    page.eval_on_selector(
        "#score",
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')) }",
        value,
    )


def expect(page: Any, selector: str, text: str) -> None:
    playwright.expect(page.locator(selector)).to_have_text(text)


def test_images_counts_and_failures_are_shown(page: Any, folder: Folder) -> None:
    fruit(folder)
    folder.open(page, notice="the demo detector", model_version="demo@0123")
    expect(page, "#counts", "images4with boxes2boxes3failed1")
    expect(page, "#shown", "4 images, 3 boxes")
    expect(page, "#notice", "the demo detector")
    assert names(page) == ["b/two.jpg", "a/one.jpg", "c/none.jpg", "d/broken.jpg"]
    assert page.locator(".label em").all_inner_texts() == ["0", "1", "2"]


def test_filters_choose_images(page: Any, folder: Folder) -> None:
    fruit(folder)
    folder.open(page)
    page.get_by_role("button", name="With boxes").click()
    expect(page, "#shown", "2 images, 3 boxes")
    page.get_by_role("button", name="Without", exact=False).click()
    expect(page, "#shown", "1 image, 0 boxes")
    assert names(page) == ["c/none.jpg"]
    page.get_by_text("Clear filters").click()
    page.locator(".label", has_text="banana").click()
    expect(page, "#shown", "1 image, 1 box")
    assert page.locator(".card g").count() == 1
    page.locator(".label", has_text="apple").nth(1).click()  # pineapple is the other
    expect(page, "#shown", "2 images, 3 boxes")
    page.get_by_text("Clear filters").click()
    page.fill("#search", "A/ONE")
    expect(page, "#shown", "1 image, 1 box")
    page.fill("#search", "nowhere")
    expect(page, "#empty h2", "Nothing matches")


def test_the_slider_hides_boxes_of_lower_scores(page: Any, folder: Folder) -> None:
    fruit(folder)
    folder.open(page)
    assert page.locator(".card g").count() == 3
    expect(page, "#score-value", "0.30")
    set_score(page, 0.31)
    expect(page, "#shown", "4 images, 2 boxes")
    assert page.locator(".card g").count() == 2
    assert page.locator(".label em").all_inner_texts() == ["0", "1", "1"]
    set_score(page, 0.6)  # equal is enough, as for thresholds
    expect(page, "#shown", "4 images, 2 boxes")
    set_score(page, 0.95)
    expect(page, "#shown", "4 images, 0 boxes")


def test_images_are_sorted(page: Any, folder: Folder) -> None:
    fruit(folder)
    folder.open(page)
    wanted = {
        "name": ["a/one.jpg", "b/two.jpg", "c/none.jpg", "d/broken.jpg"],
        "most": ["b/two.jpg", "a/one.jpg", "c/none.jpg", "d/broken.jpg"],
        "unsure": ["b/two.jpg", "a/one.jpg", "c/none.jpg", "d/broken.jpg"],
        "fewest": ["c/none.jpg", "d/broken.jpg", "a/one.jpg", "b/two.jpg"],
    }
    for order, expected in wanted.items():
        page.select_option("#sort", order)
        page.wait_for_function(
            "expected => [...document.querySelectorAll('.card')].map(card => card.title).join() === expected",
            arg=",".join(expected),
        )


def test_failures_are_a_table_with_the_fix(page: Any, folder: Folder) -> None:
    fruit(folder)
    folder.open(page)
    page.locator("#modes button", has_text="Failed").click()
    row = page.locator("#failure-rows tr")
    playwright.expect(row).to_have_count(1)
    assert row.locator("td").all_inner_texts() == [
        *("d/broken.jpg", "truncated", "the file ends before the image does: copy or upload it again", "–"),
    ]


@pytest.mark.parametrize("size", [(640, 480), (3000, 200), (200, 3000), (40, 60)])
def test_boxes_lie_on_their_objects(page: Any, folder: Folder, size: tuple[int, int]) -> None:
    """The object is white on black: its edges in the screenshot are those of the drawn box."""
    width, height = size
    xyxy = (width * 0.25, height * 0.25, width * 0.75, height * 0.5)
    folder.add("a.jpg", found("pineapple", 0.9, xyxy), size=size)
    folder.open(page)
    page.wait_for_function("document.querySelector('.card img').complete")
    picture = page.locator(".card .pic").bounding_box()
    drawn = page.locator(".card rect:not(.halo)").bounding_box()
    expected = [
        picture["x"] + picture["width"] * 0.25,
        picture["y"] + picture["height"] * 0.25,
        picture["width"] * 0.5,
        picture["height"] * 0.25,
    ]
    stroke = 2.0
    assert [drawn[key] for key in ("x", "y", "width", "height")] == pytest.approx(expected, abs=2 + stroke)
    page.add_style_tag(content=".pic svg, .tag { display: none !important }")
    shot = decode(page.screenshot()).pixels
    left, top, wide, high = expected
    across = shot[round(top + high / 2), :, 0]
    inside = np.flatnonzero(across[round(picture["x"]) : round(picture["x"] + picture["width"])] > 128)
    assert inside[0] + picture["x"] == pytest.approx(left, abs=2)
    assert inside[-1] + 1 + picture["x"] == pytest.approx(left + wide, abs=2)
    down = shot[:, round(left + wide / 2), 0]
    inside = np.flatnonzero(down[round(picture["y"]) : round(picture["y"] + picture["height"])] > 128)
    assert inside[0] + picture["y"] == pytest.approx(top, abs=2)
    assert inside[-1] + 1 + picture["y"] == pytest.approx(top + high, abs=2)


def test_boxes_have_the_colour_of_their_label(page: Any, folder: Folder) -> None:
    folder.add("a.jpg", found("banana", 0.9))
    folder.open(page)
    colour = page.eval_on_selector(".card rect:not(.halo)", "rect => getComputedStyle(rect).stroke")
    assert colour == "rgb(0, 255, 0)"


def test_the_viewer_shows_the_original_with_scores_and_rivals(page: Any, folder: Folder) -> None:
    folder.add("one.jpg", Box("banana", 0.91, (100, 80, 300, 400), "bunch of bananas", (("apple", 0.4),)))
    folder.add("two.jpg", found("apple", 0.5), found("apple", 0.45, (10, 10, 60, 60)))
    folder.add("three.jpg", original=False)
    folder.open(page)
    page.locator(".card").first.click()
    expect(page, "#viewer-name", "one.jpg")
    expect(page, "#viewer-place", "1 of 3")
    expect(page, "#viewer-found", "banana0.91found as “bunch of bananas”also apple 0.40")
    expect(page, "#viewer .tag", "banana 0.91")
    page.wait_for_function("document.querySelector('#viewer img').src.endsWith('/photos/one.jpg')")
    page.keyboard.press("ArrowRight")
    expect(page, "#viewer-name", "two.jpg")
    assert page.locator("#viewer g").count() == 2
    page.locator("#viewer-found li").first.hover()
    assert page.locator("#viewer g.hot").count() == 1
    page.keyboard.press("ArrowRight")
    expect(page, "#viewer-found", "No boxes in this image.")
    assert "thumbnails/" in page.locator("#viewer img").get_attribute("src")
    assert page.locator("#next").is_disabled()
    page.keyboard.press("ArrowRight")
    expect(page, "#viewer-name", "three.jpg")
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#viewer")).not_to_be_visible()
    # The browser itself first gives the focus back to the card that opened the viewer; ours follows.
    page.wait_for_function("document.activeElement.title === 'three.jpg'")


def test_an_original_in_another_size_does_not_replace_the_thumbnail(page: Any, folder: Folder) -> None:
    """Such as a photo whose orientation the browser does not apply."""
    folder.add("a.jpg", found("apple", 0.5))
    PIL.Image.new("RGB", (480, 640)).save(folder.photos / "a.jpg", "PNG")
    folder.open(page)
    page.locator(".card").first.click()
    page.wait_for_load_state("networkidle")
    assert "thumbnails/" in page.locator("#viewer img").get_attribute("src")


HOSTILE_NAMES = [
    "<script>document.title='broken'</script>.png",
    "<img src=x onerror=document.title='broken'>.png",
    'quote\'s "double" & co.png',
    "50%25 off #1? a+b;c,d.png",
    "ünïcödé 🍍.png",
    os.fsdecode(b"latin \xe9\xff.png"),
    "back\\slash\nline.png",
]


def test_hostile_names_are_shown_and_their_originals_found(page: Any, folder: Folder) -> None:
    for name in HOSTILE_NAMES:
        folder.add(name.replace("/", "∕"), found("apple", 0.5))
    folder.fail(HOSTILE_NAMES[0], "corrupt", HOSTILE_NAMES[1])
    folder.open(page, title=HOSTILE_NAMES[0], notice=HOSTILE_NAMES[1])
    assert page.title() == f"{HOSTILE_NAMES[0]} · boxdrop"
    assert len(names(page)) == len(HOSTILE_NAMES) + 1
    page.locator(".card").first.click()
    for number in range(len(HOSTILE_NAMES)):
        expect(page, "#viewer-place", f"{number + 1} of {len(HOSTILE_NAMES) + 1}")
        page.wait_for_function("document.querySelector('#viewer img').src.includes('/photos/')")
        page.keyboard.press("ArrowRight")
    assert page.locator("img[src=x]").count() == 0


def test_the_keyboard_moves_over_the_grid(page: Any, folder: Folder) -> None:
    for number in range(60):
        folder.add(f"{number:02}.jpg", found("apple", 0.5), original=False)
    folder.open(page)
    page.locator(".card").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.title") == "01.jpg"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.title") == "59.jpg"
    page.keyboard.press("ArrowUp")
    assert page.evaluate("Number(document.activeElement.dataset.at)") < 59
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page, "#viewer-name", "00.jpg")


def test_twenty_thousand_images_keep_the_page_small(page: Any, folder: Folder) -> None:
    folder.add("first.jpg", found("apple", 0.5))
    first = folder.records[0]
    folder.records += [
        Prediction(f"{i}.jpg", first.image_id, "v", "demo@0123", 400 + i % 300, 400, (found("apple", 0.5),))
        for i in range(20_000)
    ]
    folder.open(page)
    expect(page, "#shown", "20,001 images, 20,001 boxes")
    assert page.locator(".card").count() < 150
    page.keyboard.press("End")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator('.card[title="19999.jpg"]').wait_for()
    assert page.locator(".card").count() < 150
    set_score(page, 0.9)
    expect(page, "#shown", "20,001 images, 0 boxes")


def test_an_empty_run_says_so(page: Any, folder: Folder) -> None:
    folder.open(page)
    expect(page, "#empty h2", "No images")


@pytest.mark.parametrize("width", [1400, 420])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(page: Any, folder: Folder, width: int, scheme: str) -> None:
    fruit(folder)
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    folder.open(page, notice="the demo detector", title="a long title " * 8)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(15, 18, 22)") == (scheme == "dark")


def test_printing_shows_the_first_images(page: Any, folder: Folder) -> None:
    for number in range(80):
        folder.add(f"{number:02}.jpg", found("apple", 0.5), original=False)
    folder.open(page)
    before = page.locator(".card").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".card").count() == 80 > before
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".card").count() == before
