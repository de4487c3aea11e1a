"""A browser that takes screenshots of elements, once they no longer change, in full colour."""

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

from boxdrop.domain.errors import BoxdropError
from tests.chromium import FLAGS, find_chromium

MOST_BYTES: Final = 400_000
"""Size limit per screenshot, so documentation pages load quickly."""

_PATIENCE_MS: Final = 120_000
_STILL_MS: Final = 500
_ATTEMPTS: Final = 60

_SHEET: Final = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: white; font: 15px/1.3 "DejaVu Sans", sans-serif; color: #444; }}
#sheet {{ display: grid; gap: 16px; padding: 16px; width: max-content; align-items: start; {style} }}
figure {{ margin: 0; }}
img {{ display: block; width: 100%; border-radius: 6px; outline: 1px solid #d4d8dd; }}
figcaption {{ padding: 0 0 8px; }}
</style><div id="sheet">{figures}</div>"""


class Camera:
    """Takes screenshots in one browser. Lengths are CSS pixels, each one pixel of the image.

    Args:
        page: a page of Chromium.
        folder: for the images.
    """

    def __init__(self, page: Page, folder: Path) -> None:
        self.page = page
        self._folder = folder

    def resize(self, width: int, height: int) -> None:
        """Set the size of the window."""
        self.page.set_viewport_size({"width": width, "height": height})

    def look(self, of: Locator | None = None) -> bytes:
        """Take a screenshot of the window or one element, once two in a row are identical.

        Returns:
            A PNG.

        Raises:
            BoxdropError: the page keeps changing.
        """
        shoot: Callable[[], bytes] = of.screenshot if of is not None else self.page.screenshot
        before = shoot()
        for _ in range(_ATTEMPTS):
            self.page.wait_for_timeout(_STILL_MS)
            after = shoot()
            if after == before:
                return after
            before = after
        raise BoxdropError(f"{self.page.url} keeps changing")

    def save(self, name: str, png: bytes) -> None:
        """Write an image as small as truecolour allows.

        Raises:
            BoxdropError: it is too large for a page of the documentation.
        """
        path = self._folder / name
        Image.open(BytesIO(png)).convert("RGB").save(path, optimize=True)
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise BoxdropError(f"{path} has {size:,} bytes, more than {MOST_BYTES:,}; use a smaller window")
        print(f"{path}  {size:,} bytes", flush=True)

    def arrange(self, figures: list[tuple[str, bytes]], style: str) -> bytes:
        """Arrange images with captions on one sheet.

        Args:
            figures: caption and image of each.
            style: CSS of the grid that they are in.
        """
        laid = "".join(
            f"<figure><figcaption>{escape(caption)}</figcaption><img src='{_data_url(image)}'></figure>"
            for caption, image in figures
        )
        self.page.set_content(_SHEET.format(style=style, figures=laid))
        return self.look(self.page.locator("#sheet"))


def _data_url(image: bytes) -> str:
    kind = (Image.open(BytesIO(image)).format or "png").lower()
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


@contextmanager
def open_camera(folder: Path) -> Iterator[Camera]:
    """Start Chromium, without access to other machines.

    Raises:
        BoxdropError: Chromium is missing; names the script that installs it.
    """
    chromium = find_chromium()
    if chromium is None:
        raise BoxdropError("there is no Chromium; run scripts/install_chromium.sh")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page()
        page.set_default_timeout(_PATIENCE_MS)
        try:
            yield Camera(page, folder)
        finally:
            browser.close()
