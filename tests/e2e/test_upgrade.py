"""The present version goes on with a system that version 0.1 made: nothing is repeated, nothing is lost."""

import json
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from boxdrop.cli import boxdrop
from boxdrop.demo import BUNDLE, SCENES
from boxdrop.domain.annotations import Annotation, from_json
from boxdrop.domain.identity import image_id
from boxdrop.labelstudio.connection import connect
from boxdrop.ledger import Ledger, State
from boxdrop.local.aws import Aws
from boxdrop.local.label_studio import LabelStudio
from boxdrop.local.recovery import settle
from boxdrop.local.resources import client
from boxdrop.local.stack import Running, Stack
from tests.label_studio_server import SHARED_HOME, quiet, with_shared_venv

pytestmark = pytest.mark.slow

ARCHIVE = Path(__file__).parents[1] / "data" / "upgrade" / "system-0.1.tar.xz"
OBJECTS = Path("aws/data/s3/000000000000")
PATIENCE_S = 240


def eventually(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home as version 0.1 left it, with this checkout's environments."""
    folder = tmp_path_factory.mktemp("upgrade") / "home"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    (bundle,) = (folder / OBJECTS / "boxdrop-data" / "bundles" / "demo").glob("*/bundle.json")
    for graph in ("image.onnx", "text.onnx"):
        shutil.copyfile(BUNDLE / graph, bundle.parent / graph)
    studio = with_shared_venv(folder / "studio-only")
    (folder / "label-studio" / "venv").symlink_to((studio.folder / "venv").resolve())
    shared = Aws(SHARED_HOME / "aws")
    with shared._only_one(quiet):
        shared.install(quiet)
    (folder / "aws" / "venv").symlink_to(shared.environment.path.resolve())
    assert isinstance(studio, LabelStudio)
    return folder


@pytest.fixture(scope="module")
def running(home: Path) -> Iterator[Running]:
    """The present version on it, up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOXDROP_HOME", str(home))
        for name in ("BOXDROP_SYSTEM", "BOXDROP_TABLE", "BOXDROP_DATA_BUCKET", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        stack = Stack(home)
        running = stack.up(say=quiet)
        settle(stack, running, quiet)
        for name, value in running.system.environment().items():
            patch.setenv(name, value)
        yield running
        stack.down(quiet)


def objects(home: Path, folder: str) -> dict[str, bytes]:
    """Objects of the data bucket below a folder, by key."""
    root = home / OBJECTS / "boxdrop-data"
    files = (path for path in (root / folder).rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in files
        if not path.name.endswith(".meta.json")
    }


def test_an_upgraded_system_continues_and_repeats_nothing(home: Path, running: Running) -> None:
    before = {folder: objects(home, folder) for folder in ("runs", "predictions", "annotations", "labelsets")}
    ledger = Ledger(running.system.table, workers=4)
    project = ledger.project("fruit")
    assert project is not None
    assert project.label_ids == {"pineapple": 0, "banana": 1, "apple": 2}  # as they were; new ones begin at 1
    counts = {state: count for state, count in ledger.count_images("fruit").items() if count}
    assert counts == {State.TASKED: 3, State.VERIFIED: 1, State.FAILED: 1}
    studio = connect(running.label_studio.url, running.label_studio.token)
    tasks = {task.id: task.data for task in studio.sdk.tasks.list(project=project.label_studio_id)}
    assert len(tasks) == 4

    # A new image: its own run, its own task.
    s3 = client("s3", running.system.endpoint_url or "", running.system.region)
    scene = sorted(SCENES.glob("*.jpg"))[4]
    s3.put_object(Bucket=running.system.image_bucket, Key="fruit/new.jpg", Body=scene.read_bytes())
    new = image_id(running.system.image_bucket, "fruit/new.jpg")
    eventually(lambda: (row := ledger.image(new)) is not None and row.state == State.TASKED)
    runs = ledger.list_runs("fruit")
    assert sorted(run.images for run in runs) == [1, 5]

    # A person goes on with an old task, through the webhook that the old version set up.
    unverified = min(
        number
        for number, data in tasks.items()
        if ledger.images([data["image_id"]])[data["image_id"]].state == State.TASKED
    )
    result = studio.sdk.tasks.get(id=str(unverified)).predictions[0].result
    studio.sdk.annotations.create(id=unverified, result=result, lead_time=2.0)
    row = eventually(
        lambda: (
            (image := ledger.image(tasks[unverified]["image_id"])) is not None
            and image.state == State.VERIFIED
            and image
        )
    )

    now = {task.id: task.data for task in studio.sdk.tasks.list(project=project.label_studio_id)}
    assert tasks.keys() < now.keys()
    assert len(now) == 5
    identities = ("image_id", "version", "prediction_id", "model_version", "image")
    for number, data in tasks.items():
        assert [now[number][name] for name in identities] == [data[name] for name in identities]
    for folder, content in before.items():
        later = objects(home, folder)
        assert {key: later[key] for key in content} == content, folder
    documents = objects(home, "annotations")
    assert len(documents) == 2
    read = [from_json(body, key) for key, body in documents.items()]
    assert all(isinstance(document, Annotation) and document.boxes for document in read)
    assert row.image_id in {document.image_id for document in read}


COMMANDS = [
    ["status"],
    ["status", "fruit", "--failures"],
    ["runs"],
    ["sync", "fruit", "--label-studio", "local"],
    ["doctor", "--system", "local"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_understand_it(running: Running, command: list[str]) -> None:
    done = CliRunner().invoke(boxdrop, command, env={"COLUMNS": "200"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    assert "Traceback" not in done.output
    assert command[0] == "doctor" or done.exit_code == 0, done.output


def test_its_description_is_read(home: Path, running: Running) -> None:
    assert json.loads((home / "system.json").read_text())["table"] == running.system.table
