"""The seed's whole story in one line: a caption becomes images with boxes and credits in Label Studio."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result

from boxdrop.cli import boxdrop
from boxdrop.demo import SCENES
from boxdrop.labelstudio.connection import connect
from boxdrop.ledger import Ledger, State
from boxdrop.local.stack import Running
from tests.collection_servers import LOOPBACK, OpenverseServer, entry, image, served
from tests.local_system import local_system

__all__ = ["local_system"]

pytestmark = pytest.mark.slow
PATIENCE_S = 120
PROJECT = "fruit-baskets"
WANTED = 6


def call(*arguments: str) -> Result:
    result: Result = CliRunner().invoke(boxdrop, arguments, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    return result


def eventually(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def openverse() -> Iterator[OpenverseServer]:
    """A collection of drawn fruit baskets, with an image that may not be used and a copy among them."""
    server = OpenverseServer([])
    paths = [server.serve(f"/{path.name}", image(path.read_bytes())) for path in sorted(SCENES.glob("*.jpg"))]
    server.results = [entry(url, number) for number, url in enumerate(paths)]
    server.results.insert(1, entry(f"{paths[0]}?copy", 100))
    server.results.insert(2, entry("http://169.254.169.254/latest/meta-data/", 101))
    with served(server):
        yield server


@pytest.fixture(scope="module")
def retrieved(
    local_system: Running, openverse: OpenverseServer, tmp_path_factory: pytest.TempPathFactory
) -> Running:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        patch.setenv("BOXDROP_OPENVERSE_URL", openverse.url)
        about = ["--caption", "fruit baskets", "--labels", "pineapple, banana, apple"]
        said = call("new", PROJECT, *about, "--retrieve", str(WANTED), "--allow-network", LOOPBACK).output
    assert f"{WANTED} new images" in said
    ledger = Ledger(local_system.system.table, workers=4)
    eventually(lambda: ledger.count_images(PROJECT)[State.TASKED] == WANTED)
    return local_system


def test_tasks_carry_boxes_and_credits(retrieved: Running) -> None:
    connection = connect(retrieved.label_studio.url, retrieved.label_studio.token)
    number = Ledger(retrieved.system.table).project(PROJECT)
    assert number is not None

    tasks = connection.request(
        "list tasks", "GET", "/api/tasks/", params={"project": number.label_studio_id, "fields": "all"}
    )["tasks"]

    assert len(tasks) == WANTED
    for task in tasks:
        assert task["predictions"][0]["result"], "no boxes"
        data = task["data"]
        assert data["credit"].startswith('"Fruit basket ')
        assert data["license"] == "CC BY 2.0"
        assert data["license_url"] == "https://creativecommons.org/licenses/by/2.0/"
        assert data["landing_page"].startswith("https://stocksnap.example/photo/")
        assert data["source"] == "openverse/stocksnap"
        assert data["caption"] == "fruit baskets"


def test_label_studio_shows_the_image_itself(retrieved: Running) -> None:
    connection = connect(retrieved.label_studio.url, retrieved.label_studio.token)
    project = Ledger(retrieved.system.table).project(PROJECT)
    assert project is not None
    tasks = connection.request(
        "list tasks", "GET", "/api/tasks/", params={"project": project.label_studio_id, "fields": "all"}
    )["tasks"]

    address = retrieved.label_studio.url + tasks[0]["data"]["image"]
    headers = {"Authorization": f"Token {retrieved.label_studio.token}"}
    signed = requests.get(address, headers=headers, allow_redirects=False, timeout=60).headers["Location"]
    shown = requests.get(signed, timeout=60)

    assert shown.status_code == 200, shown.text
    assert shown.headers["Content-Type"] == "image/jpeg"
    assert shown.content in {path.read_bytes() for path in SCENES.glob("*.jpg")}


def test_the_project_s_credits_are_a_page(retrieved: Running, tmp_path: Path) -> None:
    page = tmp_path / "credits.html"

    call("credits", PROJECT, "--out", str(page))

    assert page.read_text().count("<li>") == WANTED
    assert call("credits", PROJECT).output.startswith(
        f"# Credits: {PROJECT}\n\n{WANTED} images: 6 CC BY 2.0."
    )


def test_the_same_line_again_changes_nothing(
    retrieved: Running, openverse: OpenverseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOXDROP_OPENVERSE_URL", openverse.url)
    before = len(openverse.requests)

    about = ["--caption", "fruit baskets", "--labels", "pineapple, banana, apple"]
    said = call("new", PROJECT, *about, "--retrieve", str(WANTED), "--allow-network", LOOPBACK).output

    assert "0 new images" in said
    assert f"{WANTED} in all" in said
    assert len(openverse.requests) == before
