"""Importing ``label-studio.json`` by hand, step by step as docs/predictions.md says, into a real server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import requests

from boxdrop.annotate.run import AnnotateRun
from boxdrop.demo import BUNDLE
from boxdrop.detect import Detector
from boxdrop.domain.images import decode
from boxdrop.domain.labels import LabelSet
from boxdrop.labelstudio.connection import Connection, connect
from boxdrop.labelstudio.project import ensure_project
from boxdrop.local import label_studio
from boxdrop.sources import open_source
from tests.label_studio_server import quiet, with_empty_database
from tests.ports import free_port

DOCS = (Path(__file__).parents[3] / "docs" / "predictions.md").read_text()
SCENE = next(iter(sorted((Path(BUNDLE).parent / "scenes").glob("*.jpg"))))
NAMES = ("we+ird #1 100%.jpg", "deeper/a&b=ä?.jpg")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "root" / "my photos"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(SCENE.read_bytes())
    return folder


@pytest.fixture
def serving(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """A Label Studio that was started with the variables that the page names."""
    wanted = dict(re.findall(r"`(LABEL_STUDIO_LOCAL_FILES_\w+)=([^`]+)`", DOCS))
    assert wanted["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"] == "/home/me"
    wanted["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"] = str(photos.parent)
    made = label_studio._environment
    monkeypatch.setattr(label_studio, "_environment", lambda login: made(login) | wanted)
    studio = with_empty_database(tmp_path / "label-studio")
    running = studio.up(free_port(), quiet)
    yield connect(running.url, running.token)
    studio.down(quiet)


def test_the_documented_steps_show_every_image(serving: Connection, photos: Path, tmp_path: Path) -> None:
    labels = LabelSet.from_short_form("pineapple, banana, apple")
    PIL.Image.open(SCENE).save(photos / "scan.tif")
    out = photos.with_name("my photos-boxes")
    run = AnnotateRun(open_source(str(photos)), labels, Detector.load(BUNDLE), out)
    run.run()
    config = (out / "label-studio.xml").read_text()
    tasks = json.loads((out / "label-studio.json").read_text())
    project = serving.sdk.projects.create(title="by hand", label_config=config)
    for path in (photos, out / "display"):
        serving.sdk.import_storage.local.create(project=project.id, path=str(path), use_blob_urls=True)
    serving.sdk.projects.import_tasks(project.id, request=tasks)

    listed = list(serving.sdk.tasks.list(project=project.id, fields="all"))
    assert [len(task.predictions) for task in listed] == [1, 1, 1]
    assert all(task.predictions[0].result for task in listed)
    for task in listed:
        answer = requests.get(serving.url + (task.data or {})["image"], headers=_header(serving), timeout=30)
        assert answer.status_code == 200, (task.data or {})["image"]
        if (task.data or {})["file_name"] == "scan.tif":  # a browser is shown a copy
            assert answer.headers["Content-Type"] == "image/jpeg"
            shown, seen = (decode(data).pixels.astype(int) for data in (answer.content, SCENE.read_bytes()))
            assert np.abs(shown - seen).mean() < 2
        else:
            assert answer.content == SCENE.read_bytes()
    # The configuration carries the project's mark, so that a later --label-studio goes on here.
    assert ensure_project(serving, labels, "by hand", key=run.source.location).id == project.id


def _header(connection: Connection) -> dict[str, str]:
    request = requests.Request("GET", connection.url, auth=connection._session.auth).prepare()
    return {"Authorization": request.headers["Authorization"]}
