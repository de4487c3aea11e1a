"""Every format in every orientation, as a browser shows it: tasks of a bucket, uploads, and the page.

What Chromium shows at each place is compared, pixel by pixel, with what the detector saw.
"""

import base64
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page

from boxdrop.annotate.run import AnnotateRun
from boxdrop.detect import Detector
from boxdrop.domain.images import Image, decode
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Prediction
from boxdrop.job.detectors import Detectors
from boxdrop.job.host import Host
from boxdrop.job.job import Job
from boxdrop.labelstudio.connection import Connection
from boxdrop.ledger import Ledger, create_table
from boxdrop.pipeline.parts import publish_part
from boxdrop.services import Services
from boxdrop.sources import open_source
from boxdrop.store.parts import list_parts
from tests.integration.pipeline.world import World
from tests.moto_server import MakeClient, aws, endpoint
from tests.web_images import crop_avif, gif_frame, write_gif

__all__ = ["aws", "endpoint"]

pytestmark = pytest.mark.slow
ROWS, COLUMNS = np.mgrid[:32, :48]
PICTURE = np.stack([5 * COLUMNS, 8 * ROWS, 250 - 4 * COLUMNS - ROWS], axis=2).clip(0, 255).astype(np.uint8)
ALPHA = np.rint(np.linspace(0, 255, 48 * 32).reshape(32, 48)).astype(np.uint8)
TURNED = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "avif": "AVIF", "tif": "TIFF", "heic": "HEIF"}
"""Formats that say which way up their picture is, with Pillow's names of them."""

LOSSY: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "HEIF": {"quality": 100},
}
READ_BACK = """async (image) => {
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  context.fillStyle = "#f0f"; context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return [canvas.width, canvas.height, btoa(Array.from(data, (b) => String.fromCharCode(b)).join(""))];
}"""
"""What an element shows, on magenta: a transparent pixel differs from any page's background that we know."""

READ_TASKS = f"""(tasks) => {{
  const read = {READ_BACK};
  return Promise.all(tasks.map(async ([name, source]) => {{
    const image = new Image();
    image.crossOrigin = "anonymous";
    image.src = source;
    return [name, ...await read(image).catch(() => [0, 0, ""])];
  }}));
}}"""

READ_PAGE = f"""async () => {{
  const read = {READ_BACK};
  const found = [];
  document.querySelector(".card").click();
  for (;;) {{
    const original = document.getElementById("viewer-original").href;
    const probe = new Image();
    probe.src = original;
    await probe.decode().catch(() => null);  // the viewer began to decode it before
    await new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(then)));
    const image = document.querySelector("#viewer-pic img");
    const name = document.getElementById("viewer-name").textContent;
    found.push([name, ...await read(image), image.src === original]);
    if (document.getElementById("next").disabled) return found;
    document.getElementById("next").click();
  }}
}}"""


def encoded(form: str, orientation: int = 1, pixels: NDArray[Any] = PICTURE, **options: Any) -> bytes:
    exif = PIL.Image.Exif()
    if form != "TIFF":
        exif[0x0112] = orientation
    file = BytesIO()
    tags = {"tiffinfo": {274: orientation}} if form == "TIFF" else {"exif": exif}
    PIL.Image.fromarray(pixels).save(file, form, **tags, **LOSSY.get(form, {}), **options)
    return file.getvalue()


def every_file() -> dict[str, bytes]:
    """Every accepted format in its orientations, and what else a browser may show differently, by name."""
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    imagecodecs = pytest.importorskip("imagecodecs", reason="imagecodecs is not installed")
    pillow_heif.register_heif_opener()
    made = {
        f"turned-{orientation}.{ending}": encoded(form, orientation)
        for ending, form in TURNED.items()
        for orientation in range(1, 9)
    }
    second: dict[str, Any] = {
        "save_all": True,
        "append_images": [PIL.Image.fromarray(255 - PICTURE)],
        "duration": 60,
    }
    clear = np.dstack([PICTURE, ALPHA])
    inks = np.dstack([PICTURE, PICTURE[..., 0] // 3])
    levels = np.arange(256, dtype=np.uint8)
    palette = np.stack([levels, levels[::-1], levels // 2], axis=1).tobytes()
    made |= {
        "plain.gif": encoded("GIF"),
        "plain.bmp": encoded("BMP"),
        "plain.jp2": encoded("JPEG2000"),
        "plain.ico": encoded("ICO", sizes=[(48, 32)]),
        "masked.ico": encoded("ICO", sizes=[(48, 32)], bitmap_format="bmp"),
        "lossless.jpg": imagecodecs.jpeg8_encode(PICTURE, lossless=True),
        "inks.jpg": imagecodecs.jpeg8_encode(inks, 95, colorspace="CMYK", outcolorspace="CMYK"),
        "deep.png": imagecodecs.png_encode(PICTURE.astype(np.uint16) * 257),
        "deep.tif": encoded("TIFF", pixels=PICTURE[..., 0].astype(np.uint16) * 257),
        "cropped.avif": crop_avif(encoded("AVIF"), 24, 16),
        "offset.gif": write_gif((48, 32), [gif_frame(ALPHA[:20, :30], (3, 5))], palette),
        **{f"moving.{form.lower()}": encoded(form, **second) for form in ("GIF", "PNG", "WEBP", "AVIF")},
        **{f"clear.{form.lower()}": encoded(form, pixels=clear) for form in ("PNG", "WEBP", "AVIF")},
    }
    return made


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return every_file()


@pytest.fixture(scope="module")
def seen(files: dict[str, bytes]) -> dict[str, Image]:
    """What the detector sees."""
    return {name: decode(data) for name, data in files.items()}


def pixels(width: int, height: int, flat: str) -> NDArray[np.int64]:
    return np.frombuffer(base64.b64decode(flat), np.uint8).reshape(height, width, 4)[..., :3].astype(np.int64)


def wrong(
    seen: dict[str, Image], shown: dict[str, NDArray[np.int64]], most: int = 48, mean: float = 6
) -> dict[str, str]:
    """Files that are shown differently than the detector saw them, and how much: at most and on average."""
    found = {}
    assert shown.keys() == seen.keys()
    for name, image in seen.items():
        if shown[name].shape != image.pixels.shape:
            found[name] = f"{shown[name].shape} instead of {image.pixels.shape}"
            continue
        difference = np.abs(shown[name] - image.pixels)
        if difference.max() > most or difference.mean() > mean:
            found[name] = f"{difference.max()}, {difference.mean():.1f}"
    return found


@pytest.fixture(scope="module")
def run(
    files: dict[str, bytes], demo_detector: Detector, tmp_path_factory: pytest.TempPathFactory
) -> AnnotateRun:
    """The files as a folder, annotated."""
    folder = tmp_path_factory.mktemp("annotated")
    (folder / "photos").mkdir()
    for name, data in files.items():
        (folder / "photos" / name).write_bytes(data)
    labels = LabelSet.from_short_form("apple")
    made = AnnotateRun(open_source(str(folder / "photos")), labels, demo_detector, folder / "out")
    assert made.run().failures == 0
    return made


@pytest.fixture
def tasks(page: Page, connection: Connection) -> Callable[[int], dict[str, NDArray[np.int64]]]:
    """Reads what the browser shows of a project's tasks, as Label Studio's editor loads it."""

    def read(project: int) -> dict[str, NDArray[np.int64]]:
        page.goto(f"{connection.url}/health")  # small, and of the same origin as the editor
        which = {"project": project, "fields": "task_only", "page_size": 1000}
        listed = connection.request("list", "GET", "/api/tasks/", params=which)["tasks"]
        found = page.evaluate(
            READ_TASKS, [[each["data"]["file_name"], each["data"]["image"]] for each in listed]
        )
        return {name.rpartition("/")[2]: pixels(*read) for name, *read in found}

    return read


def test_tasks_of_a_bucket_show_what_the_detector_saw(
    files: dict[str, bytes],
    seen: dict[str, Image],
    tasks: Callable[[int], dict[str, NDArray[np.int64]]],
    connection: Connection,
    aws: MakeClient,
    endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "BOXDROP_PRESIGN_ACCESS_KEY_ID": "test",
        "BOXDROP_PRESIGN_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    create_table(aws("dynamodb"), "ledger")
    world = World("display", aws, Ledger("ledger", client=aws("dynamodb"), workers=4))
    puts = [world.put(f"fruit/{name}", data) for name, data in files.items()]
    world.dispatch(world.labels("fruit", "labels: [apple]"), *puts)
    (run_id,) = [each.run_id for each in world.launch_all() if each.run_id is not None]
    Job(world.data, lambda _: world.images, Detectors(world.data, tmp_path), Host()).work(run_id)
    services = Services.of(
        world.settings, ledger=world.ledger, images=world.images, data=world.data, label_studio=connection
    )
    for part in list_parts(world.data, "fruit", run_id):
        assert publish_part(services, part).failed == 0
    project = world.ledger.project("fruit")
    assert project is not None
    assert project.label_studio_id is not None
    assert wrong(seen, tasks(project.label_studio_id)) == {}


def test_uploads_show_what_the_detector_saw(
    run: AnnotateRun,
    seen: dict[str, Image],
    tasks: Callable[[int], dict[str, NDArray[np.int64]]],
    connection: Connection,
) -> None:
    project, published = run.publish(connection, "every format")
    assert published.created == len(seen)
    assert wrong(seen, tasks(project.id)) == {}


@pytest.fixture
def site(run: AnnotateRun) -> Iterator[str]:
    """The folder of the run over HTTP: of ``file://``, a script may not read the pixels."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    folder = run.outputs.folder.parent
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_the_page_shows_what_the_detector_saw(
    run: AnnotateRun, seen: dict[str, Image], page: Page, site: str
) -> None:
    assert page.context.browser is not None
    tab = page.context.browser.new_page()
    tab.goto(f"{site}/out/index.html")
    tab.wait_for_selector("body[data-loaded]")
    found = tab.evaluate(READ_PAGE)
    tab.close()
    shown = {name: pixels(*read) for name, *read, _ in found}
    assert wrong(seen, shown) == {}
    originals = {name for name, *_, is_original in found if is_original}
    assert originals == {name for name, image in seen.items() if image.shown_alike}
    records = [each for each in run.records() if isinstance(each, Prediction)]
    assert {each.image for each in records if each.display is None} == originals
