"""The folder of a training: its plan, its images, its checkpoints and what came of it.

plan.json              see `Plan`
images.jsonl           one line per image, see `TrainingImage`; written last, once the images are there
images/                the image files, byte for byte
checkpoints/step-N/    complete checkpoints; unfinished ones have other names
progress.jsonl         one line per epoch, see `Epoch`
best/                  the model of the best epoch, as ``save_pretrained`` writes it
ended.json             why the training ended; then it is over
bundle/                the exported detector, with its card
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from boxdrop.annotate.exports import AtomicFile
from boxdrop.documents import from_json, to_json
from boxdrop.training.plan import FORMAT, Epoch, Plan, TrainingError

CHECKPOINT: Final = "step-"


@dataclass(frozen=True, slots=True)
class TrainingImage:
    """An image of the data set.

    Attributes:
        file: its name below ``images/``.
        split: its split.
        width, height: upright, pixels.
        boxes: xyxy, upright pixels.
        labels: the number of each box's class.
    """

    file: str
    image_id: str
    split: str
    width: int
    height: int
    boxes: tuple[tuple[float, float, float, float], ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a training ended.

    Attributes:
        why: a sentence.
        epoch: the best one, whose model is in ``best/``.
        device: what it ran on, in words.
    """

    why: str
    epoch: int
    device: str


class TrainingFolder:
    """See the module.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images = path / "images"
        self.checkpoints = path / "checkpoints"
        self.best = path / "best"
        self.bundle = path / "bundle"
        self.curve = path / "progress.jsonl"
        self._plan = path / "plan.json"
        self._listed = path / "images.jsonl"
        self._ended = path / "ended.json"

    @property
    def is_planned(self) -> bool:
        """Whether a training began here."""
        return self._plan.is_file()

    @property
    def is_filled(self) -> bool:
        """Whether all images are there."""
        return self._listed.is_file()

    def plan(self) -> Plan:
        """The plan.

        Raises:
            TrainingError: there is none, or it cannot be read.
        """
        try:
            text = self._plan.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise TrainingError(f"{self.path}: has no plan.json, so it is no training") from None
        return from_json(Plan, text, format=FORMAT, where=str(self._plan), error=TrainingError)

    def write_plan(self, plan: Plan) -> None:
        """Begin a training."""
        self.path.mkdir(parents=True, exist_ok=True)
        with AtomicFile(self._plan) as file:
            file.write(to_json(plan, format=FORMAT) + "\n")

    def list_images(self, images: Iterable[TrainingImage]) -> None:
        """Say that all images are there."""
        with AtomicFile(self._listed) as file:
            file.writelines(to_json(each) + "\n" for each in images)

    def read_images(self) -> Iterator[TrainingImage]:
        """The images, in the order of the data set."""
        with self._listed.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                where = f"{self._listed}: line {number}"
                yield from_json(TrainingImage, line, where=where, error=TrainingError)

    def epochs(self) -> list[Epoch]:
        """What is known of each epoch that is over; a torn last line counts as not written."""
        try:
            lines = self.curve.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return [from_json(Epoch, line, where=str(self.curve), error=TrainingError) for line in lines]

    def write_epochs(self, epochs: Iterable[Epoch]) -> None:
        """Write all of them again."""
        with AtomicFile(self.curve) as file:
            file.writelines(to_json(each) + "\n" for each in epochs)

    def checkpoint(self) -> Path | None:
        """The newest complete checkpoint."""
        found = [each for each in self.checkpoints.glob(f"{CHECKPOINT}*") if each.is_dir()]
        return max(found, key=lambda each: int(each.name.removeprefix(CHECKPOINT)), default=None)

    def ended(self) -> Ended | None:
        """How it ended; None if it has not."""
        try:
            return from_json(Ended, self._ended.read_text(encoding="utf-8"), error=TrainingError)
        except FileNotFoundError:
            return None

    def write_ended(self, ended: Ended) -> None:
        """Say that the training is over."""
        with AtomicFile(self._ended) as file:
            file.write(to_json(ended) + "\n")

    def seen(self) -> dict[str, tuple[str, ...]]:
        """The image_ids of each split, sorted."""
        found: dict[str, list[str]] = {}
        for each in self.read_images():
            found.setdefault(each.split, []).append(each.image_id)
        return {split: tuple(sorted(ids)) for split, ids in found.items()}


def same_training(one: Plan, other: Plan) -> list[str]:
    """Settings in which two plans differ so that one cannot go on with the other's checkpoint."""
    passed_over = {"device", "threads", "save_every_s"}
    fields = [json.loads(to_json(each)) for each in (one, other)]
    return [name for name in fields[0] if name not in passed_over and fields[0][name] != fields[1][name]]


def file_name(image_id: str, body: bytes) -> str:
    """Name of an image's file: of its content, since an image may change."""
    return f"{image_id[:16]}-{hashlib.sha256(body).hexdigest()[:16]}"
