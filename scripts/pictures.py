"""Make all images in docs/images: `make pictures`.

Starts a system of its own, in a temporary folder and on free ports, uploads the sample images and takes
screenshots in Chromium: of Label Studio, ZenML's dashboard, and the page that `boxdrop annotate` writes. It
also draws the two SVGs. Other systems on this machine are left alone. It takes a few minutes, and npm for the
detector of the photographs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from boxdrop.demo import SCENES
from boxdrop.domain.errors import BoxdropError
from boxdrop.ledger import Ledger, State
from boxdrop.local import photos
from boxdrop.local.samples import PHOTOS, PROJECT
from boxdrop.local.stack import Running
from boxdrop.tracking.server import ZenMLServer, skip_survey
from scripts import draw_architecture, draw_status
from scripts.camera import Camera, open_camera
from scripts.label_studio_pictures import LabelStudioPictures
from scripts.zenml_pictures import ZenMLPictures
from tests import zenml_server
from tests.collection_servers import LOOPBACK, OpenverseServer, entry, image, served
from tests.local_system import fresh_stack
from tests.ports import free_port

REPOSITORY: Final = Path(__file__).parents[1]
OUT: Final = REPOSITORY / "docs" / "images"
LABELS: Final = "pineapple, banana, apple"

_RETRIEVED, _ORCHARD = "retrieved-fruit", "orchard"
_RETRIEVED_IMAGES: Final = 10
_PAGE_WIDTH: Final = 880
_PATIENCE_S: Final = 300


@dataclass(frozen=True)
class Scene:
    """The system for the screenshots.

    Attributes:
        folder: the working directory of its commands.
        running: the running system.
        variables: of the commands' environment.
        ledger: its ledger.
    """

    folder: Path
    running: Running
    variables: Mapping[str, str]
    ledger: Ledger

    def call(self, *arguments: str, **more: str) -> str:
        """Run a command of boxdrop.

        Args:
            arguments: of the command.
            more: further variables of its environment.

        Returns:
            Its standard output.

        Raises:
            BoxdropError: it failed; with its output.
        """
        command = [sys.executable, "-m", "boxdrop", *arguments]
        variables = {**self.variables, **more}
        done = subprocess.run(
            command, cwd=self.folder, env=variables, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BoxdropError(f"boxdrop {' '.join(arguments)} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def wait_for_tasks(self, project: str, images: int) -> int:
        """Wait until all images of a project are in Label Studio.

        Returns:
            The project's number there.
        """
        _wait(lambda: self.ledger.count_images(project)[State.TASKED] == images, f"the tasks of {project}")
        found = self.ledger.project(project)
        if found is None or found.label_studio_id is None:
            raise BoxdropError(f"Label Studio has no project {project}")
        return found.label_studio_id

    def runs(self) -> list[tuple[str, str]]:
        """Project and id of all runs."""
        return [(run["project"], run["run"]) for run in json.loads(self.call("runs", "--json"))]


@contextmanager
def open_scene(folder: Path) -> Iterator[Scene]:
    """A system of its own in `folder`; stopped at the end."""
    home = folder / "home"
    zenml_server.with_shared_venv(home / "zenml")
    os.environ["BOXDROP_HOME"] = str(home)
    for name in ("BOXDROP_SYSTEM", "BOXDROP_TABLE", "BOXDROP_DATA_BUCKET", "ZENML_STORE_URL"):
        os.environ.pop(name, None)
    stack = fresh_stack(home)
    running = stack.up(free_port(), free_port(), _say)
    try:
        running.system.enter()
        variables = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        yield Scene(folder, running, variables, Ledger(running.system.table))
    finally:
        stack.down(_say)


def fill(scene: Scene) -> dict[str, int]:
    """Upload and retrieve images.

    Returns:
        Numbers of the projects in Label Studio.
    """
    paths = sorted(SCENES.glob("*.jpg"))
    shutil.copytree(SCENES, scene.folder / PROJECT)
    numbers = {}
    scene.call("drop", PROJECT, PROJECT)
    numbers[PROJECT] = scene.wait_for_tasks(PROJECT, len(paths))
    scene.call("local", "demo", "--detector", "nanodet-coco")
    numbers[PHOTOS] = scene.wait_for_tasks(PHOTOS, len(photos.PHOTOS))
    scene.call("drop", PROJECT, _ORCHARD, "--labels", "pear, mango, cherries")
    numbers[_ORCHARD] = scene.wait_for_tasks(_ORCHARD, len(paths))
    openverse = OpenverseServer([])
    addresses = [openverse.serve(f"/{path.name}", image(path.read_bytes())) for path in paths]
    openverse.results = [entry(address, number) for number, address in enumerate(addresses, 1)]
    with served(openverse):
        about = ["--caption", "fruit baskets", "--labels", LABELS]
        wanted = ["--retrieve", str(_RETRIEVED_IMAGES), "--allow-network", LOOPBACK]
        scene.call("new", _RETRIEVED, *about, *wanted, BOXDROP_OPENVERSE_URL=openverse.url)
    numbers[_RETRIEVED] = scene.wait_for_tasks(_RETRIEVED, _RETRIEVED_IMAGES)
    return numbers


def take_report_page(camera: Camera, scene: Scene) -> None:
    """The page that `boxdrop annotate` writes, down to its second row of images."""
    scene.call("annotate", PROJECT, "--out", "boxes")
    camera.resize(_PAGE_WIDTH, 900)
    camera.page.goto((scene.folder / "boxes" / "index.html").as_uri())
    # Not the temporary folder of this script.
    camera.page.evaluate(
        "source => document.getElementById('source').textContent = source", f"photos/{PROJECT}"
    )
    second = camera.page.locator(".row").nth(1).bounding_box()
    assert second is not None, "there is no second row"
    camera.resize(_PAGE_WIDTH, int(second["y"] + second["height"]) + 4)
    camera.save("index.png", camera.look())


def take_zenml(camera: Camera, scene: Scene) -> None:
    """ZenML's dashboard with all runs."""
    scene.call("track", "sync")
    runs = scene.runs()
    with ZenMLServer().running(free_port(), _say) as url:
        skip_survey(url)
        pictures = ZenMLPictures(camera, url)
        pictures.take_runs(len(runs))
        shown = dict(runs)[PROJECT]
        pictures.take_run(shown)
        pictures.take_samples(shown)


def main() -> None:
    """Make every image."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, help="default: docs/images")
    out = parser.parse_args().out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "architecture.svg").write_text(draw_architecture.picture(), encoding="utf-8")
    draw_status.draw(out / "status.svg")
    with TemporaryDirectory(prefix="boxdrop-pictures-") as folder, open_scene(Path(folder)) as scene:
        numbers = fill(scene)
        with open_camera(out) as camera:
            take_report_page(camera, scene)
            pictures = LabelStudioPictures(camera, scene.running.label_studio)
            pictures.take_before_and_after(numbers[PHOTOS])
            pictures.take_list(numbers[PROJECT])
            pictures.take_credit(numbers[_RETRIEVED])
            pictures.take_orientations()
            take_zenml(camera, scene)


def _wait(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > until:
            raise BoxdropError(f"waited {_PATIENCE_S} s for {what}")
        time.sleep(0.3)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except BoxdropError as error:
        sys.exit(f"{error}")
