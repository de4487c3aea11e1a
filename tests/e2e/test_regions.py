"""What a person sees: each region on the pixels of its object, whichever way up the file is stored."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page

from boxdrop.domain.identity import image_id
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, Prediction
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import ensure_project
from boxdrop.labelstudio.publishing import publish
from boxdrop.labelstudio.uploads import Uploads

LABELS = LabelSet.from_yaml(
    """
labels:
- {name: thing, color: '#ff00ff'}
- {name: other, color: '#00aa00'}
"""
)
SIZE = (1280, 960)  # more than the screen has room for
THING = (192.0, 96.0, 576.0, 336.0)
OTHER = (800.0, 600.0, 1200.0, 900.0)
STROKE = 3

STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright image lies in a file of each EXIF orientation."""


def photo(orientation: int) -> bytes:
    """A white object at `THING` on black, stored in one of the eight ways."""
    image = Image.new("RGB", SIZE, "black")
    left, top, right, bottom = map(int, THING)
    image.paste("white", (left, top, right, bottom))
    turn = STORED_AS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = BytesIO()
    (image if turn is None else image.transpose(turn)).save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


def prediction(orientation: int) -> Prediction:
    name = f"orientation {orientation}.jpg"
    boxes = (Box("thing", 0.9, THING, "thing"), Box("other", 0.5, OTHER, "other"))
    return Prediction(name, image_id("", name), "v1", "demo@1", *SIZE, boxes)


@pytest.fixture(scope="module")
def tasks(connection: Connection) -> dict[str, int]:
    """Task numbers by file name, and the project's under the empty name."""
    project = ensure_project(connection, LABELS, "orientations", key="orientations")
    uploads = Uploads(connection, project, lambda each: photo(int(each.image.split()[1][0])))
    summary = publish(connection, project, [prediction(each) for each in STORED_AS], LABELS, uploads.urls)
    assert summary.created == len(STORED_AS)
    found = connection.sdk.tasks.list(project=project.id, fields="task_only")
    return {"": project.id} | {task.data["file_name"]: task.id for task in found}


def shown(page: Page, regions: int) -> NDArray[np.int64]:
    """The image with its regions as the screen shows it, once it stands still: [height, width, 3], RGB."""
    page.wait_for_function(
        f"window.Htx?.annotationStore?.selected?.regionStore?.regions?.length === {regions}"
    )
    canvas = page.locator("canvas").last
    canvas.wait_for(state="visible")
    before: Any = None
    for _ in range(100):
        after = Image.open(BytesIO(canvas.screenshot())).convert("RGB")
        if before is not None and after.tobytes() == before.tobytes() and outline(np.asarray(after)).any():
            return np.asarray(after).astype(np.int64)
        before = after
        page.wait_for_timeout(200)
    raise AssertionError("the picture never stood still")


def outline(screen: NDArray[Any]) -> NDArray[np.bool_]:
    red, green, blue = (screen[:, :, i].astype(int) for i in range(3))
    mask: NDArray[np.bool_] = (red > 170) & (green < 110) & (blue > 170)
    return mask


@pytest.mark.slow
@pytest.mark.parametrize("orientation", STORED_AS)
def test_the_region_covers_its_object(
    page: Page, connection: Connection, tasks: dict[str, int], orientation: int
) -> None:
    number = tasks[f"orientation {orientation}.jpg"]
    page.goto(f"{connection.url}/projects/{tasks['']}/data?task={number}")
    screen = shown(page, regions=2)
    scale = screen.shape[1] / SIZE[0]
    assert screen.shape[0] == pytest.approx(SIZE[1] * scale, abs=1)  # all of the image, upright
    rows, columns = np.nonzero(outline(screen))
    half = STROKE / 2
    drawn = (columns.min() + half, rows.min() + half, columns.max() + 1 - half, rows.max() + 1 - half)
    assert drawn == pytest.approx([value * scale for value in THING], abs=2)

    left, top, right, bottom = (round(value) for value in drawn)
    gray = screen[:, :, 1]
    for inside, outside in (
        (gray[top + 5 : bottom - 5, left + 4], gray[top:bottom, left - 4]),
        (gray[top + 5 : bottom - 5, right - 5], gray[top:bottom, right + 4]),
        (gray[top + 4, left + 5 : right - 5], gray[top - 4, left:right]),
        (gray[bottom - 5, left + 5 : right - 5], gray[bottom + 4, left:right]),
    ):
        assert inside.min() > 150
        assert outside.max() < 100
