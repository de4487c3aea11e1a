"""The folder of this machine's boxdrop is found from where a command runs, as git finds its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from boxdrop.cli.annotate import annotate
from boxdrop.cli.system import enter_system_of
from boxdrop.demo import SCENES
from boxdrop.domain.errors import BoxdropError, LabelStudioError, LocalError
from boxdrop.home import home, is_own_folder
from boxdrop.local.stack import Stack
from boxdrop.servers.processes import other_homes
from boxdrop.system import System, find_system


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own home folder, without any variable of boxdrop's."""
    for name in ("BOXDROP_HOME", "BOXDROP_SYSTEM"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def other_system(tmp_path: Path) -> Iterator[Path]:
    """A stand-in for the pump of a system that runs from another folder, which has a space in its name."""
    folder = tmp_path / "my checkout" / ".boxdrop"
    folder.mkdir(parents=True)
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    pump = subprocess.Popen([*command, "--home", folder, "--boxdrop-pump"], stdout=subprocess.PIPE)
    with pump:
        assert pump.stdout is not None
        pump.stdout.readline()
        yield folder
        pump.kill()


def test_the_nearest_folder_above_is_used(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = user / "checkout" / "photos" / "2026"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert home() == user / ".boxdrop"
    (user / "checkout" / ".boxdrop").mkdir()
    assert home() == user / "checkout" / ".boxdrop"
    (deep / ".boxdrop").write_text("a file is no folder")
    assert home() == user / "checkout" / ".boxdrop"


def test_the_variable_wins(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (user / ".boxdrop").mkdir()
    monkeypatch.setenv("BOXDROP_HOME", "~/elsewhere")
    assert home() == user / "elsewhere"
    monkeypatch.setenv("BOXDROP_HOME", "")
    assert home() == user / ".boxdrop"


def test_another_users_folder_is_passed_over(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (user / ".boxdrop").mkdir()
    assert is_own_folder(user / ".boxdrop")
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert not is_own_folder(user / ".boxdrop")


def test_a_deleted_current_folder_causes_no_error(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = user / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert home() == user / ".boxdrop"
    monkeypatch.chdir(user)


def test_a_second_system_is_not_started_by_accident(user: Path, other_system: Path) -> None:
    with pytest.raises(LocalError, match=r"a system is already running from .*start a second one with"):
        Stack().up()
    assert not (user / ".boxdrop").exists()


def test_the_question_which_system_names_one_that_runs_elsewhere(other_system: Path) -> None:
    with pytest.raises(BoxdropError, match=r"One runs from .*set BOXDROP_HOME="):
        find_system()


def test_systems_are_identified_by_their_folders(user: Path, other_system: Path) -> None:
    assert str(other_system) in other_homes(user / ".boxdrop")
    assert str(other_system) not in other_homes(other_system)


def test_a_torn_description_does_not_keep_a_system_from_starting(tmp_path: Path) -> None:
    (tmp_path / "system.json").write_text('{"name": "loc')
    (tmp_path / "pump.json").write_text('{"webhook": 5}')
    stack = Stack(tmp_path)
    assert not stack._serves(1, System("local", "r", "t", "i", "d"))
    assert stack._remembered() == {}


def test_images_in_a_bucket_of_the_local_system_are_read_with_its_credentials(
    user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in System("local", "r", "t", "i", "d", endpoint_url="http://x").environment():
        monkeypatch.setenv(name, "")  # what `enter` sets is taken back after the test
    monkeypatch.setenv("AWS_PROFILE", "work")
    (user / ".boxdrop").mkdir()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        system = System("local", "us-east-1", "t", "images", "data", endpoint_url=url)
        (user / ".boxdrop" / "system.json").write_text(system.to_json())
        for other in ("images", "s3://elsewhere/fruit/"):
            enter_system_of(other, None)
            assert os.environ["AWS_ENDPOINT_URL"] == ""
        enter_system_of("s3://images/fruit/", None)
    assert os.environ["AWS_ENDPOINT_URL"] == url
    assert "AWS_PROFILE" not in os.environ


def test_label_studio_is_asked_before_the_detector_works(user: Path) -> None:
    run = CliRunner().invoke(
        annotate,
        [str(SCENES), "--labels", "banana", "--label-studio", "http://127.0.0.1:9"],
        env={"LABEL_STUDIO_API_KEY": "token"},
    )
    assert isinstance(run.exception, LabelStudioError)
    assert "Detecting" not in run.output
    assert list(user.iterdir()) == []
