"""``boxdrop detectors get owlvit``: a model of the hub, from a mirror or a folder, used by its name."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from boxdrop.cli import boxdrop
from boxdrop.detect import Bundle
from model_export.pictures import draw
from model_export.stand_ins import TINY, make
from tests.hub_mirror import COMMIT, hub_mirror

MODEL = "google/owlvit-base-patch32"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("hub") / "owlvit", "owlvit", TINY["owlvit"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders for boxdrop and the hub's client, which may use the network."""
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "home"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(boxdrop, list(arguments))


def left_in(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "known-detectors").iterdir() if path.suffix != ".lock")


def test_a_mirrors_model_is_exported_and_used_by_its_name(
    home: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_mirror(MODEL, model) as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address)
        done = call("detectors", "get", "owlvit", "--precision", "int8")
        assert done.exit_code == 0, done.output
        assert "a download of 620 MB; 3,000 MB of disk while it is made" in done.output
        assert any(path.endswith("/model.safetensors") for path in asked)
    bundle = Bundle.load(home / "known-detectors" / "owlvit", verify=True)
    assert (bundle.name, bundle.precision) == ("owlvit", "int8")
    assert (bundle.source.id, bundle.source.revision) == (MODEL, COMMIT)
    assert bundle.parity["passed"]
    draw("small").save(tmp_path / "a.png")
    used = call(
        "annotate",
        str(tmp_path / "a.png"),
        "--labels",
        "ant, bee",
        "--detector",
        "owlvit",
        "--out",
        str(tmp_path / "out"),
    )
    assert used.exit_code == 0, used.output
    assert "Getting" not in used.output


def test_a_damaged_download_is_named_and_the_next_attempt_repairs_it(
    home: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next attempt survives a connection that breaks off, too."""
    with hub_mirror(MODEL, model, damaged="model.safetensors") as (address, _):
        monkeypatch.setenv("HF_ENDPOINT", address)
        done = call("detectors", "get", "owlvit")
    assert done.exit_code == 1
    assert "model.safetensors is damaged: its sha256 is not the one that the hub states" in done.output
    assert left_in(home) == []
    with hub_mirror(MODEL, model, broken_off="model.safetensors") as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address)
        done = call("detectors", "get", "owlvit")
    assert done.exit_code == 0, done.output
    assert sum(path.endswith("/model.safetensors") for path in asked) > 2  # asked about, begun, repeated
    assert left_in(home) == ["owlvit"]


def test_a_disk_that_fills_up_during_the_download_is_said(
    home: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be made by root only")
    try:
        monkeypatch.setenv("HF_HOME", str(small))
        with hub_mirror(MODEL, model) as (address, _):
            monkeypatch.setenv("HF_ENDPOINT", address)
            done = call("detectors", "get", "owlvit")
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert done.exit_code == 1
    assert "the disk is full where the hub's files are downloaded to" in done.output
    assert left_in(home) == []


def test_without_the_hub_the_ways_out_are_named_and_a_folder_works(
    home: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = call("detectors", "get", "owlvit")
    assert done.exit_code == 1
    assert "owlvit cannot be exported: " in done.output
    assert "set HF_ENDPOINT to a mirror, or give a folder" in done.output
    assert left_in(home) == []
    assert call("detectors", "get", "owlvit", "--from", str(model)).exit_code == 0
    assert left_in(home) == ["owlvit"]


def test_an_interrupted_export_leaves_nothing(home: Path, model: Path) -> None:
    command = [sys.executable, "-m", "boxdrop", "detectors", "get", "owlvit", "--from", str(model)]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE)
    while not list(home.glob("known-detectors/.owlvit.making-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()
    assert process.returncode != 0
    assert left_in(home) == []


def test_a_precision_is_for_what_is_exported(home: Path) -> None:
    done = call("detectors", "get", "nanodet-coco", "--precision", "int8")
    assert done.exit_code == 1
    assert "is not exported, and has one precision" in done.output
