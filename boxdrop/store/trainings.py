"""How far the trainings of a project are: one object per training, written again as it goes on."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

from boxdrop.aws.s3 import Bucket
from boxdrop.documents import DocumentError, from_json, to_json
from boxdrop.store.layout import training_key, trainings_prefix

State = Literal["running", "stopped", "failed", "finished"]


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """A training, as `boxdrop status` shows it.

    Attributes:
        name: of the detector.
        dataset: name of the frozen data set.
        state: ``stopped`` goes on when the same command is called again.
        began_at, at: when it began, and when this was written.
        epoch, epochs: done so far, and at most.
        ap50: best so far on validation images; None if there are none yet.
        test_ap50: on held-out images, once it is finished.
        bundle: ``NAME@DIGEST16``, once it is finished.
        why: of a failure, or how it ended.
        pushed: whether the bundle is in the data bucket.
    """

    name: str
    dataset: str
    state: State
    began_at: datetime
    at: datetime
    epoch: int
    epochs: int
    ap50: float | None = None
    test_ap50: float | None = None
    bundle: str | None = None
    why: str = ""
    pushed: bool = False


def write_training(bucket: Bucket, project: str, record: TrainingRecord) -> None:
    """Store it, in place of what was known before."""
    bucket.put(training_key(project, record.name), to_json(record).encode())


def read_trainings(bucket: Bucket, project: str) -> tuple[TrainingRecord, ...]:
    """All trainings of a project, the last one last, without those that another version of boxdrop wrote.

    Raises:
        BoxdropError: the bucket cannot be read.
    """
    found = []
    for name in bucket.list_folders(trainings_prefix(project)):
        stored = bucket.get(training_key(project, name))
        if stored is None:
            continue
        try:
            found.append(from_json(TrainingRecord, stored.body))
        except DocumentError:
            continue
    return tuple(sorted(found, key=lambda each: each.at))


_SAID: Final = {"stopped": "was stopped", "failed": "failed", "running": "is"}


def sentence_of(record: TrainingRecord) -> str:
    """``training mine: is at epoch 5 of 60, AP50 0.431 on validation images``."""
    ap = "" if record.ap50 is None else f", AP50 {record.ap50:.3f} on validation images"
    if record.state == "finished":
        test = "" if record.test_ap50 is None else f", {record.test_ap50:.3f} on test images"
        return f"trained {record.bundle or record.name} on {record.dataset}{ap}{test}"
    why = f": {record.why}" if record.why else ""
    return f"training {record.name} {_SAID[record.state]} at epoch {record.epoch} of {record.epochs}{ap}{why}"


def fields_of(record: TrainingRecord) -> dict[str, Any]:
    """A training as JSON fields."""
    return {**asdict(record), "began_at": record.began_at.isoformat(), "at": record.at.isoformat()}
