"""What Chromium shows of an image that it shows as it is, against what the detector sees."""

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from boxdrop.domain.images import decode
from tests.chromium import FLAGS, find_chromium

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")

REPORTS = Path(__file__).parents[1] / "data" / "reports"
TYPES = {".jpg": "jpeg", ".png": "png", ".gif": "gif"}
READ_BACK = """async (source) => {
  const image = new Image(); image.src = source; await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return [canvas.width, canvas.height, btoa(Array.from(data, (b) => String.fromCharCode(b)).join(""))];
}"""

Show = Callable[[bytes, str], NDArray[np.int64]]


@pytest.fixture(scope="module")
def show() -> Iterator[Show]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page()

        def read_back(data: bytes, kind: str) -> NDArray[np.int64]:
            source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
            width, height, pixels = page.evaluate(READ_BACK, source)
            flat = np.frombuffer(base64.b64decode(pixels), np.uint8)
            return flat.reshape(height, width, 4)[..., :3].astype(np.int64)

        yield read_back
        browser.close()


def seen(data: bytes) -> NDArray[np.int64]:
    return decode(data).pixels.astype(np.int64)


@pytest.mark.parametrize("name", sorted(p.name for p in REPORTS.iterdir() if p.suffix in TYPES))
def test_reported_files_are_seen_as_a_browser_shows_them(show: Show, name: str) -> None:
    data = (REPORTS / name).read_bytes()
    shown = show(data, TYPES[Path(name).suffix])
    assert shown.shape == seen(data).shape
    assert np.abs(shown - seen(data)).max() <= 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("transparent", [False, True])
def test_png_modes_are_seen_as_a_browser_shows_them(show: Show, mode: str, transparent: bool) -> None:
    ramp = np.linspace(0, 255, 48 * 32).reshape(32, 48).astype(np.uint8)
    if mode == "I;16":
        picture = PIL.Image.fromarray(ramp.astype(np.uint16) * 257)
    else:
        picture = PIL.Image.fromarray(np.stack([ramp, ramp[::-1], ramp], axis=2)).convert(mode)
    options = (
        {"transparency": picture.getpixel((20, 20))} if transparent and mode not in ("LA", "RGBA") else {}
    )
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    difference = np.abs(show(file.getvalue(), "png") - seen(file.getvalue()))
    assert difference.max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_orientations_are_seen_as_a_browser_shows_them(show: Show, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    ramp = np.linspace(0, 255, 48 * 32).reshape(32, 48).astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(np.stack([ramp, ramp[::-1], ramp], axis=2)).save(file, "JPEG", exif=exif, quality=95)
    shown = show(file.getvalue(), "jpeg")
    assert shown.shape == seen(file.getvalue()).shape
    assert np.abs(shown - seen(file.getvalue())).max() <= 4
