"""`boxdrop local down` ends what runs, whatever state the files of the home are in."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from boxdrop.cli import boxdrop

TORN = [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"webhook": 3}', b'{"pid": 999999, "port": "x"}']


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("BOXDROP_HOME", str(folder))
    return folder


def ends_with(said: str, *command: str, code: int = 0) -> None:
    done = CliRunner().invoke(boxdrop, ["local", *command])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == code, done.output
    assert said in done.output


@pytest.mark.parametrize("content", TORN)
def test_torn_files_do_not_keep_the_system_from_being_stopped(home: Path, content: bytes) -> None:
    for name in (
        "pump.json",
        "system.json",
        "label-studio/server.json",
        "aws/server.json",
    ):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    ends_with("is not running", "status", code=3)
    ends_with("nothing was running", "down")
    ends_with("Label Studio was not running", "down", "--only", "label-studio")


@pytest.mark.parametrize("missing", [".", "aws", "label-studio"])
def test_a_missing_folder_is_a_system_that_does_not_run(home: Path, missing: str) -> None:
    for part in ("aws", "label-studio"):
        (home / part).mkdir(parents=True)
    shutil.rmtree(home / missing)
    ends_with("nothing was running", "down")


def test_a_home_that_is_a_file_is_reported(home: Path) -> None:
    home.write_text("not a folder")
    ends_with("cannot be written", "down", code=1)
