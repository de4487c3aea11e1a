"""A run, its sample sheet and the list of runs, in ZenML's dashboard in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from boxdrop.tracking.register import Tracker
from boxdrop.tracking.server import skip_survey
from boxdrop.tracking.track import Tracking
from tests.chromium import FLAGS, find_chromium
from tests.integration.tracking.conftest import System
from tests.zenml_server import PASSWORD, RunningZenML

pytestmark = pytest.mark.slow

PATIENCE_MS = 120_000


@pytest.fixture
def page(zenml: RunningZenML) -> Iterator[Page]:
    """A browser that is logged in."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("needs Chromium: scripts/install_chromium.sh")
    skip_survey(zenml.url, zenml.token)
    with sync_playwright() as playwright:
        # The log-in page draws with WebGL, which takes minutes without a GPU.
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, "--disable-3d-apis"])
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        page.goto(f"{zenml.url}/login")
        page.fill("input[name=username]", "default")
        page.fill("input[name=password]", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/login" not in url)
        yield page
        browser.close()


def test_the_dashboard_shows_the_run_and_its_sample_images_with_boxes(
    page: Page, tracker: Tracker, system: System
) -> None:
    summary = system.run(images=3)
    registered = Tracking(tracker, system.data).track(summary.run_id)
    assert registered.url is not None
    page.goto(registered.url)
    for step in ("dataset", "load_and_predict", "sync"):
        expect(page.get_by_text(step, exact=True).first).to_be_visible()
    page.get_by_text("samples", exact=True).first.click()
    page.get_by_role("tab", name="Visualization").last.click()
    page.get_by_role("button", name="Load Preview").click()
    sheet = page.frame_locator("iframe[title='Secure HTML Content']")
    expect(sheet.locator("figure")).to_have_count(3)
    expect(sheet.get_by_role("heading", name="fruit")).to_be_visible()
    for picture in sheet.locator("image").all():
        assert picture.bounding_box() is not None
    boxes = sum(len(sample.boxes) for sample in summary.samples)
    expect(sheet.locator("svg rect[vector-effect]")).to_have_count(boxes)

    page.goto(f"{page.url.partition('/runs/')[0]}/runs")
    page.get_by_placeholder("Search").fill(summary.run_id[-8:])
    row = page.get_by_role("row").filter(has_text=summary.run_id)
    expect(row).to_contain_text("boxdrop/fruit")
