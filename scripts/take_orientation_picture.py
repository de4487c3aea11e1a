"""Take docs/images/orientations.png: one image stored in the eight ways of EXIF, as Label Studio shows it.

    boxdrop local up --only label-studio
    .venv/bin/python -m scripts.take_orientation_picture

Each file is detected in by itself, published, opened in Chromium and photographed. Needs Chromium:
scripts/install_chromium.sh.
"""

import sys
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, sync_playwright

from boxdrop.demo import BUNDLE, SCENES
from boxdrop.detect import Detector
from boxdrop.domain.identity import image_id
from boxdrop.domain.images import decode
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Prediction, candidates_of, select_boxes
from boxdrop.labelstudio.connection import connect
from boxdrop.labelstudio.project import ensure_project
from boxdrop.labelstudio.publishing import publish
from boxdrop.labelstudio.uploads import Uploads
from boxdrop.local.label_studio import LabelStudio
from scripts.take_screenshots import PATIENCE_MS, SIZE, log_in
from tests.chromium import FLAGS, find_chromium
from tests.e2e.test_regions import STORED_AS

SCENE = SCENES / "fruit-basket-08.jpg"
OUT = Path("docs/images/orientations.png")
WIDTH = 340  # of one picture in the montage


def stored(orientation: int) -> bytes:
    """The scene, lying in its file as cameras of this orientation leave it."""
    upright = Image.open(SCENE).convert("RGB")
    turn = STORED_AS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = BytesIO()
    (upright if turn is None else upright.transpose(turn)).save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


def detect(detector: Detector, labels: LabelSet, orientation: int) -> Prediction:
    """What the detector finds in the file."""
    image = decode(stored(orientation))
    size = image.width, image.height
    (found,) = detector.candidates(detector.preprocess(image.pixels)[None], [size], labels)
    candidates = candidates_of(found, labels)
    boxes = select_boxes(candidates, labels, detector.bundle.defaults.threshold)
    name = f"orientation-{orientation}.jpg"
    version = detector.model_version(labels)
    return Prediction(name, image_id("", name), "v1", version, *size, boxes, candidates)


def photograph(page: Page, address: str) -> Image.Image:
    """The image with its regions, once it stands still."""
    page.goto(address)
    page.wait_for_function("window.Htx?.annotationStore?.selected?.regionStore?.regions?.length > 0")
    canvas = page.locator("canvas").last
    canvas.wait_for(state="visible")
    before, after = b"", canvas.screenshot()
    while after != before:
        page.wait_for_timeout(500)
        before, after = after, canvas.screenshot()
    screen = Image.open(BytesIO(after)).convert("RGB")
    # The canvas is larger than the image, which is at its top left; below it is the page's own near white.
    dark = screen.convert("L").point(lambda level: 255 * (level < 245)).getbbox()
    assert dark is not None, "nothing is shown"
    scene = Image.open(SCENE)
    return screen.crop((0, 0, round(dark[3] * scene.width / scene.height), dark[3]))


def montage(pictures: dict[int, Image.Image]) -> Image.Image:
    """Two rows of four, each with its orientation."""
    first = next(iter(pictures.values()))
    height = round(WIDTH * first.height / first.width)
    sheet = Image.new("RGB", (4 * (WIDTH + 8) + 8, 2 * (height + 32) + 8), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for place, (orientation, picture) in enumerate(sorted(pictures.items())):
        left, top = 8 + place % 4 * (WIDTH + 8), 8 + place // 4 * (height + 32)
        sheet.paste(picture.resize((WIDTH, height), Image.Resampling.LANCZOS), (left, top))
        draw.text((left, top + height + 5), f"stored with EXIF orientation {orientation}", "#444", font)
    return sheet


def main() -> None:
    chromium, server = find_chromium(), LabelStudio().running()
    if chromium is None:
        sys.exit("there is no Chromium; run scripts/install_chromium.sh")
    if server is None:
        sys.exit("Label Studio is not running; start it with: boxdrop local up --only label-studio")
    detector, labels = Detector.load(BUNDLE), LabelSet.from_short_form("pineapple, banana, apple")
    connection = connect(server.url, server.token)
    project = ensure_project(connection, labels, "orientations", key="orientations of a scene")
    uploads = Uploads(connection, project, lambda each: stored(int(each.image[-5])))
    found = [detect(detector, labels, orientation) for orientation in STORED_AS]
    publish(connection, project, found, project.label_set, uploads.urls)
    listed = connection.sdk.tasks.list(project=project.id, fields="task_only")
    numbers = {int(task.data["file_name"][-5]): task.id for task in listed}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(PATIENCE_MS)
        log_in(page, server)
        pictures = {
            orientation: photograph(page, f"{server.url}/projects/{project.id}/data?task={number}")
            for orientation, number in numbers.items()
        }
        browser.close()
    montage(pictures).save(OUT, optimize=True)
    print(OUT)


if __name__ == "__main__":
    main()
