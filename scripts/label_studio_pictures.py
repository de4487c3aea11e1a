"""Screenshots of Label Studio: the Data Manager, a task before and after, a credit, and the EXIF
orientations."""

from io import BytesIO
from pathlib import PurePosixPath
from typing import Final

from PIL import Image

from boxdrop.demo import BUNDLE, SCENES
from boxdrop.detect import Detector
from boxdrop.domain.identity import image_id
from boxdrop.domain.images import decode
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Prediction, candidates_of, select_boxes
from boxdrop.labelstudio.connection import Connection, connect
from boxdrop.labelstudio.project import ensure_project
from boxdrop.labelstudio.publishing import publish
from boxdrop.labelstudio.uploads import Uploads
from boxdrop.local.label_studio import Server
from boxdrop.local.photos import find_photos
from scripts.camera import Camera
from tests.e2e.test_regions import STORED_AS

HERO: Final = "astronaut.png"  # NASA, in the public domain; see boxdrop.local.photos
TURNED: Final = SCENES / "fruit-basket-08.jpg"

# Thumbnails and the task's image, not people's avatars.
_IMAGES_SHOWN: Final = """(() => {
    const images = [...document.images].filter(image => /upload|resolve/.test(image.src));
    return images.length > 0 && images.every(image => image.complete && image.naturalWidth > 0);
})()"""
_REGIONS_SHOWN: Final = "window.Htx?.annotationStore?.selected?.regionStore?.regions?.length > 0"


class LabelStudioPictures:
    """Takes screenshots of one server.

    Args:
        camera: takes the screenshots.
        server: Label Studio, running.
    """

    def __init__(self, camera: Camera, server: Server) -> None:
        self._camera, self._page, self._url = camera, camera.page, server.url
        self._connection: Connection = connect(server.url, server.token)
        self._page.goto(f"{server.url}/user/login/")
        self._page.fill("input[name=email]", server.email)
        self._page.fill("input[name=password]", server.password)
        self._page.click("button[type=submit]")
        self._page.wait_for_url(lambda url: "/user/login" not in url)

    def take_list(self, project: int) -> None:
        """The Data Manager with its tabs and columns."""
        self._camera.resize(1456, 783)
        self._page.goto(f"{self._url}/projects/{project}/data")
        self._page.wait_for_function(_IMAGES_SHOWN)
        self._camera.save("label-studio-list.png", self._camera.look())

    def take_before_and_after(self, project: int) -> None:
        """A photograph as uploaded, and as shown to its annotator."""
        self._camera.resize(1160, 831)
        self._open(project, self._tasks(project)[HERO])
        after = self._camera.look()
        figures = [
            (f"You drop {HERO} …", (find_photos() / HERO).read_bytes()),
            ("… and verify its boxes in Label Studio", after),
        ]
        self._camera.resize(1500, 900)
        sheet = self._camera.arrange(figures, "grid-template-columns: 300px 720px")
        self._camera.save("before-and-after.png", sheet)

    def take_credit(self, project: int) -> None:
        """A retrieved image with the credit below it."""
        self._camera.resize(1160, 891)
        tasks = self._tasks(project)
        self._open(project, tasks[min(tasks)])
        self._camera.save("label-studio-credit.png", self._camera.look())

    def take_orientations(self) -> None:
        """One scene, stored in the eight EXIF orientations."""
        detector, labels = Detector.load(BUNDLE), LabelSet.from_short_form("pineapple, banana, apple")
        project = ensure_project(self._connection, labels, "orientations", key="orientations of a scene")
        uploads = Uploads(self._connection, project, lambda each: _stored(int(each.image[-5])))
        found = [_detect(detector, labels, orientation) for orientation in STORED_AS]
        publish(self._connection, project, found, project.label_set, uploads.urls)
        self._camera.resize(1400, 900)
        tasks = self._tasks(project.id)
        figures = [
            (f"EXIF orientation {orientation}", self._photograph_image(project.id, tasks[_name(orientation)]))
            for orientation in STORED_AS
        ]
        sheet = self._camera.arrange(figures, "grid-template-columns: repeat(4, 230px)")
        self._camera.save("orientations.png", sheet)

    def _tasks(self, project: int) -> dict[str, int]:
        """Numbers of tasks by the name of the file, without its folder."""
        listed = self._connection.sdk.tasks.list(project=project, fields="task_only")
        return {PurePosixPath(task.data["file_name"]).name: int(task.id) for task in listed}

    def _open(self, project: int, task: int) -> None:
        self._page.goto(f"{self._url}/projects/{project}/data?task={task}")
        self._page.wait_for_function(_REGIONS_SHOWN)
        self._page.wait_for_function(_IMAGES_SHOWN)

    def _photograph_image(self, project: int, task: int) -> bytes:
        """Only the image with its regions."""
        self._open(project, task)
        canvas = self._page.locator("canvas").last
        canvas.wait_for(state="visible")
        screen = Image.open(BytesIO(self._camera.look(canvas))).convert("RGB")
        # The canvas is larger than the image, which is at its top left. Below is the page's own near white.
        dark = screen.convert("L").point(lambda level: 255 * (level < 245)).getbbox()
        assert dark is not None, "nothing is shown"
        scene = Image.open(TURNED)
        file = BytesIO()
        screen.crop((0, 0, round(dark[3] * scene.width / scene.height), dark[3])).save(file, "PNG")
        return file.getvalue()


def _name(orientation: int) -> str:
    return f"orientation-{orientation}.jpg"


def _stored(orientation: int) -> bytes:
    """The scene, as stored by a camera in that orientation."""
    upright = Image.open(TURNED).convert("RGB")
    turn = STORED_AS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = BytesIO()
    (upright if turn is None else upright.transpose(turn)).save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


def _detect(detector: Detector, labels: LabelSet, orientation: int) -> Prediction:
    """The detector's boxes for the file."""
    image = decode(_stored(orientation))
    size = image.width, image.height
    (found,) = detector.candidates(detector.preprocess(image.pixels)[None], [size], labels)
    candidates = candidates_of(found, labels)
    boxes = select_boxes(candidates, labels, detector.bundle.defaults.threshold)
    name = _name(orientation)
    version = detector.model_version(labels)
    return Prediction(name, image_id("", name), "v1", version, *size, boxes, candidates)
