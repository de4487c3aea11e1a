"""What a training leaves in the data bucket: its last checkpoint, and how far it is."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from boxdrop.cli import boxdrop
from boxdrop.domain.annotations import DrawnBox
from boxdrop.job.stop import StoppedError
from boxdrop.store.trainings import read_trainings
from boxdrop.training.checkpoints import restore_checkpoint, save_checkpoint
from boxdrop.training.folder import TrainingFolder
from boxdrop.training.follower import Follower
from boxdrop.training.plan import Epoch, Plan, TrainingError
from tests.integration.datasets.conftest import Verified, aws, client, endpoint, fruit, ledger, system

__all__ = ["aws", "client", "endpoint", "fruit", "ledger", "system"]

PLAN = Plan("mine", "fruit", "v1", "d" * 16, "small", ("apple",))


def files(folder: TrainingFolder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder.path)): path.read_bytes()
        for path in folder.path.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def begun(tmp_path: Path) -> TrainingFolder:
    """A training with a checkpoint."""
    folder = TrainingFolder(tmp_path / "begun")
    folder.write_plan(PLAN)
    for path in (folder.checkpoints / "step-20", folder.best):
        path.mkdir(parents=True)
        (path / "model.safetensors").write_bytes(path.name.encode())
    folder.write_epochs([Epoch(1, 10, 9.0, 0.3, 0.2, 5.0), Epoch(2, 20, 8.0, 0.5, 0.3, 9.0)])
    return folder


def test_another_machine_goes_on_from_the_checkpoint_in_the_bucket(
    fruit: Verified, begun: TrainingFolder, tmp_path: Path
) -> None:
    data = fruit.world.data
    other = TrainingFolder(tmp_path / "other")
    other.write_plan(replace(PLAN, device="cuda"))
    assert not restore_checkpoint(other, data)
    save_checkpoint(begun, data)
    (begun.checkpoints / "step-20").rename(begun.checkpoints / "step-30")
    save_checkpoint(begun, data)

    assert restore_checkpoint(other, data)
    mine, theirs = files(begun), files(other)
    assert mine.keys() == theirs.keys()
    assert {name for name in mine if mine[name] != theirs[name]} == {"plan.json"}  # another device
    assert other.checkpoint() == other.checkpoints / "step-30"
    assert not restore_checkpoint(other, data)  # its own is there

    differs = TrainingFolder(tmp_path / "differs")
    differs.write_plan(replace(PLAN, seed=5))
    with pytest.raises(TrainingError, match="another seed"):
        restore_checkpoint(differs, data)


def test_a_data_set_that_cannot_be_trained_on_is_refused_at_once(fruit: Verified, system: None) -> None:
    fruit.label("labels: [apple, none]")
    fruit.world.ledger.freeze_labels("fruit", {"pineapple": 1, "banana": 2, "apple": 3, "none": 4})
    fruit.verify("1.jpg", [DrawnBox("none", (1.0, 2.0, 20.0, 30.0), "r1")])

    def call(*arguments: str) -> str:
        return CliRunner().invoke(boxdrop, [*arguments]).output

    for name, splits in {"whole": "train=100", "other": "learn=100", "empty": "train=0.001,test=99"}.items():
        call("dataset", "freeze", "fruit", name, "--split", splits, "--near-duplicates", "ignore")
    assert "cannot have a class 'none'" in call("train", "fruit", "whole")
    assert "has the splits learn; training needs train" in call("train", "fruit", "other")
    assert "has no box to learn from" in call("train", "fruit", "empty")
    assert "there are: " in call("train", "fruit", "nothing")
    fruit.verify("2.jpg", [DrawnBox("apple", (1.0, 2.0, 20.0, 30.0), "r2")])
    call("dataset", "freeze", "fruit", "apples", "--labels", "apple")
    assert "must be a multiple of 32" in call("train", "fruit", "apples", "--side", "100")


def test_status_shows_how_far_a_training_is(fruit: Verified, system: None, begun: TrainingFolder) -> None:
    fruit.verify("1.jpg", [DrawnBox("apple", (1.0, 2.0, 20.0, 30.0), "r1")])
    world = fruit.world

    def stop_early() -> None:
        with Follower(world.data, begun, lambda: datetime(2026, 11, 28, 12, tzinfo=UTC)) as follower:
            follower.hear(lambda _: None)("epoch 2 of 60: loss 8.00")
            (running,) = read_trainings(world.data, "fruit")
            assert (running.state, running.epoch, running.ap50) == ("running", 2, 0.5)
            raise StoppedError("asked to end")

    with pytest.raises(StoppedError):
        stop_early()
    said = CliRunner().invoke(boxdrop, ["status", "fruit"])
    assert "training mine was stopped at epoch 2 of 60, AP50 0.500" in said.output.replace("\n", " ")
    (shown,) = json.loads(CliRunner().invoke(boxdrop, ["status", "--json"]).stdout)["projects"][0][
        "trainings"
    ]
    assert (shown["state"], shown["dataset"]) == ("stopped", "v1")

    with pytest.raises(TrainingError), Follower(world.data, begun, lambda: datetime.now(UTC)):
        raise TrainingError("the disk is full")
    assert read_trainings(world.data, "fruit")[0].why == "the disk is full"
