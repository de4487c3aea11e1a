"""Screenshots of ZenML's dashboard: a run, its sample images, the list of runs."""

import re
from io import BytesIO
from typing import Final

from PIL import Image
from playwright.sync_api import Route

from scripts.camera import Camera

_DIVIDER_X: Final = 580
_PADDING: Final = 14
_PLAIN: Final = '<svg xmlns="http://www.w3.org/2000/svg" style="background:#ece7dd"/>'


class ZenMLPictures:
    """Takes screenshots of one dashboard.

    Args:
        camera: takes the screenshots.
        url: of ZenML's server, which asks for no log-in.
    """

    def __init__(self, camera: Camera, url: str) -> None:
        self._camera, self._page, self._url = camera, camera.page, url
        # The browser has no access to other machines: without this, the project's image would be broken.
        self._page.route(re.compile(r"^https://[^/]+/projects/\d+\.jpg$"), _show_plain)
        self._open_runs()
        self._close_banner()

    def take_runs(self, count: int) -> None:
        """The list of this many runs."""
        self._camera.resize(1480, 345 + 65 * count)
        self._open_runs()
        self._page.get_by_role("row").nth(count).wait_for()
        self._camera.save("zenml-runs.png", self._camera.look())

    def take_run(self, run_id: str) -> None:
        """A run's steps and metadata."""
        self._camera.resize(1480, 900)
        self._open_run(run_id)
        self._widen_insights()
        self._page.get_by_role("tab", name="Metadata").click()
        self._page.get_by_text("bundle_digest").wait_for()
        self._camera.save("zenml-run.png", self._camera.look())

    def take_samples(self, run_id: str) -> None:
        """A run's sample images with their boxes."""
        self._camera.resize(1760, 760)
        self._open_run(run_id)
        self._page.get_by_text("samples", exact=True).first.click()
        self._page.get_by_role("tab", name="Visualization").last.click()
        self._page.get_by_role("button", name="Load Preview").click()
        sheet = self._page.frame_locator("iframe[title='Secure HTML Content']")
        sheet.locator("figure").first.wait_for()
        # Right of the run that is dimmed.
        box = self._page.locator("iframe[title='Secure HTML Content']").bounding_box()
        assert box is not None, "there is no sheet"
        window = Image.open(BytesIO(self._camera.look()))
        file = BytesIO()
        window.crop((int(box["x"]) - _PADDING, 0, window.width, window.height)).save(file, "PNG")
        self._camera.save("zenml-samples.png", file.getvalue())

    def _widen_insights(self) -> None:
        """Give the right panel room for a whole digest, and let the steps fit into the rest."""
        box = self._page.get_by_role("separator").bounding_box()
        assert box is not None, "there is no divider"
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        mouse = self._page.mouse
        mouse.move(x, y)
        mouse.down()
        mouse.move(_DIVIDER_X, y, steps=10)
        mouse.up()
        self._page.get_by_label("Fit View").or_(self._page.get_by_title("Fit View")).first.click()
        mouse.move(_DIVIDER_X / 2, y)

    def _open_runs(self) -> None:
        self._page.goto(f"{self._url}/projects/default/runs")

    def _close_banner(self) -> None:
        """Close the banner about local servers; the dashboard remembers that."""
        banner = self._page.get_by_text("You are running a local version of ZenML.")
        banner.wait_for()
        banner.locator("xpath=ancestor::*[.//button][1]").get_by_role("button").last.click()
        banner.wait_for(state="hidden")

    def _open_run(self, run_id: str) -> None:
        self._open_runs()
        self._page.get_by_role("link", name=run_id).first.click()
        self._page.get_by_text("load_and_predict", exact=True).wait_for()


def _show_plain(route: Route) -> None:
    route.fulfill(content_type="image/svg+xml", body=_PLAIN)
