"""The page of ``boxdrop shadow`` in a real browser, opened from ``file://``, with hostile names."""

from pathlib import Path

import pytest

from boxdrop.aws.s3 import Bucket
from boxdrop.demo import SCENES
from boxdrop.domain.predictions import Box
from boxdrop.review.shadow import compare_boxes, summarise
from boxdrop.review.shadow_page import render
from tests.chromium import FLAGS, find_chromium
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "endpoint"]

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")

LABEL = "<b onclick=alert(1)>apple & pear</b>"
KEY = "fruit/<img src=x onerror=alert(1)>\"'.jpg"


def box(label: str, left: int) -> Box:
    return Box(label, 0.5, (float(left), 10.0, left + 90.0, 90.0), label)


def test_each_box_is_drawn_where_it_is_in_the_colour_of_its_fate(aws: MakeClient, tmp_path: Path) -> None:
    client = aws("s3")
    client.create_bucket(Bucket="shadow-page")
    client.put_bucket_versioning(Bucket="shadow-page", VersioningConfiguration={"Status": "Enabled"})
    images = Bucket("shadow-page", client=client)
    client.put_object(Bucket="shadow-page", Key=KEY, Body=(SCENES / "fruit-basket-01.jpg").read_bytes())
    now = (box(LABEL, 10), box("pear", 200), box("banana", 400))
    new = (box(LABEL, 12), box("plum", 200))
    seen = compare_boxes(KEY, images.version(KEY) or "", now, new)
    lost = compare_boxes("fruit/gone.jpg", "1", now, ())
    names = (LABEL, "pear", "banana", "plum")
    found = summarise(("demo@1", "mine@2"), (0.1, 0.2), [seen, lost], names, trained_on=0, unread=0, reused=0)
    page = tmp_path / "shadow.html"
    page.write_text(render("fruit <i>", "mine", found, images), encoding="utf-8")

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        problems: list[str] = []
        for width in (1300, 420):
            tab = browser.new_page(viewport={"width": width, "height": 900})
            tab.on("pageerror", lambda error: problems.append(str(error)))
            tab.on("dialog", lambda dialog: problems.append(dialog.message))
            tab.on(
                "request",
                lambda asked: (
                    None if asked.url.startswith(("file:", "data:")) else problems.append(asked.url)
                ),
            )
            tab.goto(page.as_uri())
            tab.wait_for_selector(".pair")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            assert tab.locator("h1").inner_text() == "fruit <i>: what mine would change"
            assert KEY in tab.locator(".pair h3").inner_text()
            assert LABEL in tab.locator("td").first.inner_text()
            assert "fruit/gone.jpg: the image can no longer be read." in tab.inner_text("main")
            kinds = [
                [each.get_attribute("class") for each in figure.locator("rect:not(.halo)").all()]
                for figure in tab.locator("figure").all()
            ]
            assert kinds == [["after", "before", "only"], ["after", "before"]]
            drawn = tab.locator("rect.only").bounding_box()
            picture = tab.locator("figure svg").first.bounding_box()
            scale = picture["width"] / 640
            assert drawn["x"] - picture["x"] == pytest.approx(400 * scale, abs=4)
            assert drawn["width"] == pytest.approx(90 * scale, abs=6)
        browser.close()
    assert not problems
