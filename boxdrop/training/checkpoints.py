"""The last checkpoint of a training in the data bucket, so that another machine can go on from it.

It is one object, so it is always whole: the checkpoint, the curve and the best model.
"""

import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from boxdrop.store.layout import checkpoint_key
from boxdrop.training.folder import TrainingFolder, same_training
from boxdrop.training.plan import TrainingError

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket

_TAR: Final = "copied.tar"


def save_checkpoint(folder: TrainingFolder, data: "Bucket") -> None:
    """Copy the newest checkpoint to the data bucket; nothing if there is none.

    The training may go on meanwhile: files are complete from the moment that they have their names, and what
    disappears is newer in the next copy.
    """
    checkpoint = folder.checkpoint()
    if checkpoint is None:
        return
    plan = folder.plan()
    tar = folder.path / _TAR
    try:
        with tarfile.open(tar, "w") as archive:
            for path in (folder.path / "plan.json", folder.curve, folder.best, checkpoint):
                if path.exists():
                    archive.add(path, path.relative_to(folder.path))
    except FileNotFoundError:
        return
    data.upload(checkpoint_key(plan.project, plan.name), tar)
    tar.unlink()


def restore_checkpoint(folder: TrainingFolder, data: "Bucket") -> bool:
    """Take the checkpoint from the data bucket, if there is none on this machine; returns whether it did.

    Raises:
        TrainingError: that one is of a training with other settings.
    """
    plan = folder.plan()
    key = checkpoint_key(plan.project, plan.name)
    if folder.checkpoint() is not None or folder.ended() is not None or not data.exists(key):
        return False
    tar, there = folder.path / _TAR, folder.path / "restored"
    data.download(key, tar)
    shutil.rmtree(there, ignore_errors=True)
    with tarfile.open(tar) as archive:
        archive.extractall(there, filter="data")
    restored = TrainingFolder(there)
    if other := same_training(restored.plan(), plan):
        raise TrainingError(
            f"s3://{data.name}/{key} is of a training with another {', '.join(other)}: give the same options "
            "to go on, or another --name for a new one"
        )
    for path in (restored.curve, restored.best):
        _put(path, folder.path / path.name)
    _put(restored.checkpoints, folder.checkpoints)  # last: from here on the training goes on from it
    shutil.rmtree(there)
    tar.unlink()
    return True


def _put(path: Path, target: Path) -> None:
    if path.exists():
        if target.is_dir():
            shutil.rmtree(target)
        path.rename(target)
