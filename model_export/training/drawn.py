"""``python -m model_export.training.drawn``: train the start `drawn-s` on the scenes of the demo detector.

It makes what ``boxdrop train --from drawn-s`` starts from: the small RT-DETRv2, trained to find the 120
things of `model_export.demo.names` in drawn scenes. First draw the scenes:

    python -m model_export.demo fetch
    python -m model_export.demo draw --shards 1
    python -m model_export.training.drawn --threads 1

All chance comes from the seed and the number of the step, so an interrupted training goes on as if nothing
had happened. The learning rate is constant until `_DECAY`, so a training may go on with more steps until
then.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from boxdrop.assessment.evidence import Evidence
from boxdrop.assessment.precision import IOUS, average_precisions
from boxdrop.training.folder import TrainingImage
from model_export.demo.names import names
from model_export.demo.pools import Pool, open_pool
from model_export.training.augmentation import Example, Pixels, augment, resize
from model_export.training.images import evidence_of
from model_export.training.optimizer import MuonAndAdamW
from model_export.training.starts import DRAWN_FOLDER, evaluated, small_model

SIDE: Final = 160
_SIDES: Final = (96, 128, 160)
"""Sides of the squares in which it sees the scenes, pixels: one of them per step, since `--side` is a choice;
without one, `SIDE` it is."""

_NAMES_OF_A_CLASS: Final = 8
"""So many names in a row are one class: 120 classes learn slowly, and a training replaces them anyway."""

_BATCH: Final = 8
_RATE: Final = 1e-3
_WARM_UP: Final = 200
_DECAY: Final = 0.8
"""From this share of the steps on, the learning rate falls to zero."""

_AVERAGED_STEPS: Final = 300
_MOSAIC: Final = 0.25
_MEASURED: Final = 300
"""So many scenes at the end of the pool are not trained on: they measure."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How good the detector is on scenes that it was not trained on: COCO's AP50 and AP."""

    ap50: float
    ap: float


class DrawnTraining:
    """A training that can go on from its checkpoint.

    Args:
        folder: of the demo detector's trainings: it has the scenes and gets the checkpoint.
        steps: in all, of eight scenes each.
        seed: of all chance.
    """

    def __init__(self, folder: Path, steps: int, seed: int) -> None:
        self.pool = open_pool(folder)
        self.steps, self.seed = steps, seed
        self._file = folder / "drawn-s.pt"
        torch.manual_seed(seed)
        self.model, self.processor = small_model(_classes(), SIDE)
        self.model.train()
        self.optimizer = MuonAndAdamW(self.model, _RATE)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self.averaged = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.step = 0

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if self._file.is_file():
            saved = torch.load(self._file, weights_only=True)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.averaged, self.step = saved["averaged"], saved["step"]

    def save(self) -> None:
        """Write the checkpoint; it is there whole or not at all."""
        new = self._file.with_suffix(".new")
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "averaged": self.averaged,
                "step": self.step,
            },
            new,
        )
        new.rename(self._file)

    def run(self, say: Callable[[str], None], save_every_s: float = 120.0) -> None:
        """Train to the last step."""
        began = saved = time.monotonic()
        first, losses = self.step, []
        while self.step < self.steps:
            losses.append(self.train_step())
            if self.step % 100 == 0:
                pace = (time.monotonic() - began) / (self.step - first)
                say(
                    f"step {self.step:,} of {self.steps:,}: loss {np.mean(losses):.2f}, {pace:.2f} s per step"
                )
                losses = []
            if time.monotonic() - saved > save_every_s or self.step == self.steps:
                self.save()
                saved = time.monotonic()

    def train_step(self) -> float:
        """One step; returns its loss."""
        rng = np.random.default_rng((self.seed, self.step))
        torch.manual_seed(int(rng.integers(2**31)))
        side = int(rng.choice(_SIDES))
        count = len(self.pool) - _MEASURED
        examples = [
            augment(int(number), count, self.read, (side, side), rng, mirror=True, mosaic=_MOSAIC)
            for number in rng.integers(0, count, _BATCH)
        ]
        pixels = self._prepared([each.pixels for each in examples])
        labels = [
            {"class_labels": torch.from_numpy(each.labels), "boxes": _relative(each, side)}
            for each in examples
        ]
        share = min(1.0, (self.step + 1) / _WARM_UP, (1 - self.step / self.steps) / (1 - _DECAY))
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        loss = self.model(pixel_values=pixels, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self._average()
        return float(loss.detach())

    def _prepared(self, images: list[Pixels]) -> Any:
        """Images of one size as the model takes them, float32 [N, 3, height, width]."""
        return self.processor(images=images, do_resize=False, return_tensors="pt")["pixel_values"]

    @torch.no_grad()
    def _average(self) -> None:
        kept = min(1 - 1 / _AVERAGED_STEPS, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            if value.dtype.is_floating_point:
                self.averaged[name].lerp_(value, 1 - kept)
            else:
                self.averaged[name] = value.clone()

    def read(self, number: int) -> Example:
        """A scene of the pool."""
        return _scene(self.pool, number)

    def measure(self, side: int = SIDE) -> Figures:
        """AP of the averaged weights on the scenes at the end of the pool."""
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.averaged)
        evidence: list[Evidence] = []
        with evaluated(self.model), torch.inference_mode():
            for number in range(len(self.pool) - _MEASURED, len(self.pool)):
                scene = resize(self.read(number), side, side)
                found = self.model(pixel_values=self._prepared([scene.pixels]))
                boxes = tuple(tuple(map(float, box)) for box in scene.boxes)
                image = TrainingImage("", "", "", side, side, boxes, tuple(map(int, scene.labels)))  # type: ignore[arg-type]
                scores = found.logits[0].sigmoid().numpy()
                evidence.append(evidence_of(image, scores, found.pred_boxes[0].numpy()))
        self.model.load_state_dict(own)
        precisions = np.array([average_precisions(evidence, len(_classes()), iou) for iou in IOUS])
        known = ~np.isnan(precisions[0])
        return Figures(float(precisions[0, known].mean()), float(precisions[:, known].mean()))

    def write(self, out: Path) -> None:
        """Write the averaged weights in half precision, as `from_pretrained` reads them."""
        self.model.load_state_dict(self.averaged)
        self.model.save_pretrained(out)
        self.processor.save_pretrained(out)
        file = out / "model.safetensors"
        halved = {
            name: value.half() if value.dtype.is_floating_point else value
            for name, value in load_file(file).items()
        }
        save_file(halved, file, metadata={"format": "pt"})


def _classes() -> list[str]:
    """Names of the classes: each that of its first thing."""
    return [each.text for each in names()[::_NAMES_OF_A_CLASS]]


def _scene(pool: Pool, number: int) -> Example:
    labels = pool.labels[number]
    there = labels >= 0
    return Example(
        np.asarray(pool.image(number)),
        pool.boxes[number][there],
        labels[there].astype(np.int64) // _NAMES_OF_A_CLASS,
    )


def _relative(example: Example, side: int) -> Any:
    """Centres and sides, relative to the image: float32 [N, 4]."""
    boxes = torch.from_numpy(example.boxes / side).float()
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1).reshape(-1, 4)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Has the drawn scenes, gets the checkpoint. Default: $BOXDROP_HOME/demo-training.",
)
@click.option("--steps", default=2000, show_default=True, help="Of eight scenes each.")
@click.option("--seed", default=20261128, show_default=True)
@click.option("--threads", default=os.cpu_count() or 1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=DRAWN_FOLDER, show_default=True)
def main(folder: Path | None, steps: int, seed: int, threads: int, out: Path) -> None:
    """Train the start `drawn-s`, or go on from the checkpoint in FOLDER."""
    from model_export.demo.art import cache_folder

    torch.set_num_threads(threads)
    training = DrawnTraining(folder or cache_folder(), steps, seed)
    training.resume()
    training.run(click.echo)
    figures = training.measure()
    click.echo(
        f"AP50 {figures.ap50:.3f}, AP {figures.ap:.3f} on {_MEASURED} scenes that it was not trained on"
    )
    training.write(out)
    click.echo(f"the start is in {out}")


if __name__ == "__main__":
    main()
