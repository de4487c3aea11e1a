"""`boxdrop train` whole: small detectors with random weights, trained for real, killed for real, exported."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from click.testing import CliRunner, Result

pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")

from benchmarks.loop_scenes import NAMES, draw_scene
from boxdrop.cli import boxdrop
from boxdrop.datasets.frozen import open_frozen
from boxdrop.detect import Bundle
from boxdrop.detect.bundle import CARD, Trained
from boxdrop.domain.annotations import DrawnBox
from boxdrop.job.stop import Stop
from boxdrop.ledger import Ledger
from boxdrop.pipeline.labels import apply_labels
from boxdrop.system import System
from boxdrop.training.folder import CHECKPOINT, TrainingFolder, TrainingImage
from boxdrop.training.plan import Plan
from model_export.fixed_stand_ins import TINY_FIXED, make_fixed
from model_export.training.trainer import train
from tests.integration.datasets.conftest import Verified
from tests.integration.pipeline.conftest import client, ledger, unique
from tests.integration.pipeline.world import World
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "client", "endpoint", "ledger"]

LONG_S = 240


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums of floats depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny D-FINE, as `save_pretrained` writes it, with classes of its own."""
    settings = {**TINY_FIXED["d_fine"], "num_denoising": 10}
    return make_fixed(tmp_path_factory.mktemp("start") / "tiny", "d_fine", settings)


@pytest.fixture
def folder(start: Path, tmp_path: Path) -> TrainingFolder:
    """Eight images to learn from and two to watch."""
    made = TrainingFolder(tmp_path / "training")
    plan = Plan("mine", "things", "v1", "d" * 16, str(start), NAMES)
    made.write_plan(
        replace(plan, side=128, epochs=2, batch=4, rate=1e-3, device="cpu", threads=1, save_every_s=0)
    )
    made.images.mkdir()
    images = []
    for number in range(10):
        scene = draw_scene(number)
        (made.images / f"{number}.jpg").write_bytes(scene.jpeg())
        height, width = scene.pixels.shape[:2]
        boxes = tuple(tuple(map(float, box)) for box in scene.boxes)
        split = "val" if number > 7 else "train"
        labels = tuple(map(int, scene.labels))
        images.append(TrainingImage(f"{number}.jpg", f"{number:032x}", split, width, height, boxes, labels))  # type: ignore[arg-type]
    made.list_images(images)
    return made


def begin(folder: TrainingFolder) -> "subprocess.Popen[str]":
    """The training as another process."""
    command = [sys.executable, "-m", "model_export.training", str(folder.path)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for_step(folder: TrainingFolder, least: int, process: "subprocess.Popen[str]") -> int:
    """Wait until a checkpoint of this step or a later one is complete; returns its step."""
    until = time.monotonic() + LONG_S
    while time.monotonic() < until:
        found = folder.checkpoint()
        if found is not None and (step := int(found.name.removeprefix(CHECKPOINT))) >= least:
            return step
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.02)
    raise TimeoutError("no checkpoint")


def weights(folder: TrainingFolder) -> str:
    return hashlib.sha256((folder.best / "model.safetensors").read_bytes()).hexdigest()


def test_a_killed_training_ends_with_the_weights_of_one_that_nobody_killed(
    folder: TrainingFolder, tmp_path: Path
) -> None:
    """Once by force, once asked as a Spot machine is; a checkpoint is saved after each step."""
    whole = TrainingFolder(tmp_path / "whole")
    whole.write_plan(folder.plan())
    whole.images.symlink_to(folder.images)
    whole.list_images(folder.read_images())
    train(whole, Stop(), lambda _: None)

    first = begin(folder)
    killed_at = wait_for_step(folder, 1, first)
    first.kill()
    first.communicate()
    assert folder.ended() is None
    (folder.path / "unfinished" / "checkpoint-99").mkdir(parents=True)  # a kill in the middle of one
    second = begin(folder)
    wait_for_step(folder, killed_at + 1, second)
    second.send_signal(signal.SIGTERM)
    said, _ = second.communicate(timeout=LONG_S)
    assert (second.returncode, folder.ended() is None) in ((75, True), (0, False)), said
    assert "going on from step" in said
    lines: list[str] = []
    ended = folder.ended() or train(folder, Stop(), lines.append)

    assert [each.step for each in folder.epochs()] == [2, 4]
    assert [(each.loss > 0, each.ap) for each in folder.epochs()][-1] == (True, whole.epochs()[-1].ap)
    assert weights(folder) == weights(whole)
    assert ended.epoch == whole.ended().epoch  # type: ignore[union-attr]
    assert [each.name for each in folder.checkpoints.iterdir()] == [
        each.name for each in whole.checkpoints.iterdir()
    ]


@pytest.fixture
def things(
    aws: MakeClient,
    ledger: Ledger,
    endpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Verified:
    """Twenty-four scenes, verified as they were drawn; a local system that is up."""
    made = Verified(World(unique(request), aws, ledger, versioned=True))
    made.world.dispatch(made.world.labels("fruit", f"labels: [{', '.join(NAMES)}]"))
    made.world.ledger.freeze_labels("fruit", {name: 11 + number for number, name in enumerate(NAMES)})
    apply_labels(made.world.services, "fruit", limit=None)
    for number in range(24):
        add_scene(made, number)
    world = made.world
    described = System(
        "local", "us-east-1", ledger._table.name, world.images.name, world.data.name, endpoint_url=endpoint
    )
    (tmp_path / "home").mkdir()
    (tmp_path / "home/system.json").write_text(described.to_json())
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path / "home"))
    for name, value in described.environment().items():
        monkeypatch.setenv(name, value)
    return made


def add_scene(made: Verified, seed: int) -> None:
    scene = draw_scene(seed)
    height, width = scene.pixels.shape[:2]
    boxes = [
        DrawnBox(NAMES[label], tuple(map(float, xyxy)), f"r{place}")  # type: ignore[arg-type]
        for place, (label, xyxy) in enumerate(zip(scene.labels, scene.boxes, strict=True))
    ]
    made.verify(f"{seed}.jpg", boxes, size=(width, height), body=scene.jpeg())


def call(*arguments: str | Path) -> Result:
    result: Result = CliRunner().invoke(boxdrop, [*map(str, arguments)])
    return result


def test_a_data_set_becomes_a_detector_that_is_never_judged_by_what_it_learned(
    things: Verified, start: Path
) -> None:
    splits = ("--split", "train=60,val=20,test=20", "--near-duplicates", "ignore")
    assert "no frozen data set" in call("train", "fruit").output
    assert call("dataset", "freeze", "fruit", "v1", *splits).exit_code == 0
    settings = ("--name", "mine", "--from", start, "--side", "128", "--epochs", "1", "--threads", "1")
    done = call("train", "fruit", "v1", *settings, "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    said: dict[str, Any] = json.loads(done.stdout)
    bundle = Bundle.load(said["bundle"]["path"], verify=True)

    assert bundle.parity["passed"]
    assert bundle.classes == NAMES
    assert bundle.trained is not None
    assert (bundle.trained.dataset, bundle.trained.digest) == ("v1", said["dataset"]["digest"])
    assert bundle.trained.splits == ("train", "val")
    test = said["figures"]["test"]
    assert 0 < bundle.trained.held_out <= test["images"]
    truth = [draw_scene(number) for number in range(24)]
    images = {split: each["images"] for split, each in said["figures"].items()}
    assert sum(images.values()) < 24
    boxes = sum(sum(each["boxes"] for each in split["labels"]) for split in said["figures"].values())
    assert boxes < sum(len(each.labels) for each in truth)
    card = (bundle.path / "README.md").read_text(encoding="utf-8")
    assert f"`{bundle.trained.digest}`" in card
    assert "| **mean** |" in card
    assert "## Curve" in card

    again = call("train", "fruit", "v1", *settings, "--device", "cpu", "--json")
    assert json.loads(again.stdout) == said  # nothing is done twice
    other = call("train", "fruit", "v1", *settings, "--seed", "5")
    assert "another seed" in other.output

    add_scene(things, 100)
    compared = call("compare", "fruit", "now", "mine", "--json")
    assert compared.exit_code == 0, compared.output
    found = json.loads(compared.stdout)
    assert found["images"] == test["images"] + 1
    assert found["trained_on"] == 24 - test["images"]
    assert call("bundle", "use", "mine").exit_code == 0

    assert call("dataset", "freeze", "fruit", "all", "--split", "train=100", *splits[2:]).exit_code == 0
    header = open_frozen(things.world.data, "fruit", "all").header
    seen_all = Trained("fruit", "all", header.digest, ("train", "val"), held_out=0)
    (bundle.path / CARD).write_text(replace(bundle, name="unmeasured", trained=seen_all).to_json())
    assert call("bundle", "push", bundle.path).exit_code == 0
    assert "were used to train" in call("compare", "fruit", "now", "unmeasured").output
    assert "never measured on images" in call("bundle", "use", "unmeasured").output
    assert call("bundle", "use", "demo").exit_code == 0  # a canary must be another detector than the default
    assert call("bundle", "use", "unmeasured", "--canary", "5%").exit_code == 0
    assert call("bundle", "use", "--promote").exit_code == 0
    lost = replace(seen_all, digest="0" * 16)
    (bundle.path / CARD).write_text(replace(bundle, name="lost", trained=lost).to_json())
    assert "is another one" in call("compare", "fruit", "now", bundle.path).output
