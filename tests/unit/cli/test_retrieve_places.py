"""Where images are retrieved from and to, and whose credits are meant."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from boxdrop.cli import boxdrop
from boxdrop.demo import SCENES
from boxdrop.retrieve.licenses import UNKNOWN, read_license

TERMS = "https://creativecommons.org/licenses"


@pytest.mark.parametrize("into", ["archive", "archive/", "./archive", "archive/picked", "."])
def test_an_archive_is_not_copied_into_itself(
    into: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "archive").mkdir()
    scene = sorted(SCENES.glob("*.jpg"))[0]
    (tmp_path / "archive" / scene.name).write_bytes(scene.read_bytes())
    done = CliRunner().invoke(boxdrop, ["retrieve", "fruit", "--from", "archive", "--into", into, "-n", "1"])
    assert done.exit_code == 1
    assert "give an --into outside of it" in done.output
    assert [path.name for path in (tmp_path / "archive").iterdir()] == [scene.name]


def test_a_prefix_is_not_copied_into_itself() -> None:
    arguments = ["retrieve", "fruit", "--from", "s3://b/archive", "--into", "s3://b/archive/picked/"]
    done = CliRunner().invoke(boxdrop, arguments, env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert "give an --into outside of it" in done.output


def test_credits_of_a_folder_without_sources_say_what_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BOXDROP_SYSTEM", raising=False)
    (tmp_path / "fruit").mkdir()
    done = CliRunner().invoke(boxdrop, ["credits", "fruit"])
    assert done.exit_code == 1
    assert "fruit: no sources.jsonl here" in done.output
    assert "which system?" in done.output


@pytest.mark.parametrize(
    ("text", "version", "url"),
    [
        ("CC BY-SA 3.0", "", f"{TERMS}/by-sa/4.0/"),
        ("by-sa", "2.0", f"{TERMS}/by-sa/4.0/"),
        ("CC BY 2.0", "4.0", ""),
    ],
)
def test_versions_that_disagree_make_a_licence_unknown(text: str, version: str, url: str) -> None:
    assert read_license(text, version, url).code == UNKNOWN


def test_versions_that_agree_are_one() -> None:
    assert read_license("CC BY-SA 4.0", "4.0", f"{TERMS}/by-sa/4.0/deed.en").version == "4.0"
