"""The folder of a training: what a kill leaves is not taken for what is complete."""

from dataclasses import replace
from pathlib import Path

import pytest

from boxdrop.training.folder import TrainingFolder, same_training
from boxdrop.training.plan import Epoch, Plan, TrainingError

PLAN = Plan("mine", "fruit", "v1", "d" * 16, "small", ("apple", "pear"))


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "new")
    with pytest.raises(TrainingError, match="it is no training"):
        folder.plan()
    folder.write_plan(replace(PLAN, side=160, mirror=False))
    assert folder.plan() == replace(PLAN, side=160, mirror=False)


def test_only_what_changes_the_result_makes_another_training() -> None:
    assert same_training(PLAN, replace(PLAN, threads=1, device="cpu", save_every_s=1)) == []
    assert same_training(PLAN, replace(PLAN, seed=1, digest="e" * 16)) == ["digest", "seed"]


def test_the_newest_checkpoint_is_that_of_the_latest_step(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path)
    assert folder.checkpoint() is None
    for step in (9, 10, 8):
        (folder.checkpoints / f"step-{step}").mkdir(parents=True)
    (folder.checkpoints / ".step-11").mkdir()
    found = folder.checkpoint()
    assert found is not None
    assert found.name == "step-10"


def test_a_torn_line_of_the_curve_counts_as_not_written(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path)
    epochs = [Epoch(1, 10, 3.5, 0.2, 0.1, 4.0), Epoch(2, 20, 3.0, None, None, 8.0)]
    folder.write_epochs(epochs)
    assert folder.epochs() == epochs
    folder.curve.write_bytes(folder.curve.read_bytes()[:-7])
    assert folder.epochs() == epochs[:1]


@pytest.mark.parametrize(("change", "said"), [({"side": 100}, "multiple of 32"), ({"rate": 0.0}, "above 0")])
def test_settings_that_cannot_be_are_refused(change: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(PLAN, **change)  # type: ignore[arg-type]
