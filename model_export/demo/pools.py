"""Training scenes drawn ahead of time: uint8 arrays on disk, memory-mapped, a shard a seed.

Drawing costs about 13 ms a scene, a training step about 20 ms a scene on the same cores: drawing once and
showing each scene a few times (mirrored, with other exposure) buys more steps in the same time.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_export.demo.art import TRAINED_STYLES
from model_export.demo.scenes import TRAINING, TRAINING_PHOTOS, draw_training_scene, load_art

MOST_OBJECTS = 16
IMAGE_SIZE = 224
SCENES_A_SHARD = 4500


@dataclass(frozen=True)
class Pool:
    """All shards together."""

    images: list[NDArray[np.uint8]]
    """One memory map a shard, uint8 [SCENES_A_SHARD, 224, 224, 3]."""
    boxes: NDArray[np.float32]
    """float32 [N, MOST_OBJECTS, 4], xyxy, pixels of 224."""
    labels: NDArray[np.int16]
    """int16 [N, MOST_OBJECTS], class ids, -1 where there is no object."""

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> NDArray[np.uint8]:
        """uint8 [224, 224, 3] of the scene at an index."""
        per_shard = len(self.images[0])
        return self.images[index // per_shard][index % per_shard]


def keep_first_names(pool: Pool, count: int) -> Pool:
    """The same scenes, with answers for the first `count` names only: others become unlabelled company."""
    kept = (pool.labels >= 0) & (pool.labels < count)
    order = np.argsort(~kept, axis=1, kind="stable")  # drawing order stays; what is kept comes first
    labels = np.take_along_axis(np.where(kept, pool.labels, -1), order, axis=1)
    return Pool(pool.images, np.take_along_axis(pool.boxes, order[..., None], axis=1), labels)


def shard_files(folder: Path, shard: int) -> tuple[Path, Path]:
    """Pixels and answers of a shard."""
    return folder / "pool" / f"shard-{shard:02d}.npy", folder / "pool" / f"shard-{shard:02d}.npz"


def draw_shard(folder: Path, seed: int, shard: int, count: int = SCENES_A_SHARD) -> Path:
    """Draw one shard if it is not there yet; the answers are written last, so their presence means it is
    whole.
    """
    pixels_file, answers_file = shard_files(folder, shard)
    if answers_file.exists():
        return pixels_file
    pixels_file.parent.mkdir(parents=True, exist_ok=True)
    art = load_art(folder, TRAINED_STYLES, TRAINING_PHOTOS)
    pixels = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        pixels_file, mode="w+", dtype=np.uint8, shape=(count, IMAGE_SIZE, IMAGE_SIZE, 3)
    )
    boxes = np.zeros((count, MOST_OBJECTS, 4), np.float32)
    labels = np.full((count, MOST_OBJECTS), -1, np.int16)
    for index in range(count):
        scene = draw_training_scene([seed, shard, index], art, TRAINING, IMAGE_SIZE)
        pixels[index] = scene.image
        objects = len(scene.labels)
        boxes[index, :objects], labels[index, :objects] = scene.boxes, scene.labels
    pixels.flush()
    np.savez(answers_file, boxes=boxes, labels=labels)
    return pixels_file


def draw_pool(folder: Path, seed: int, shards: int, processes: int) -> None:
    """Draw shards 0 … shards-1, those already there skipped, with several processes."""
    with multiprocessing.get_context("spawn").Pool(processes) as workers:
        workers.starmap(draw_shard, [(folder, seed, shard) for shard in range(shards)], chunksize=1)


def open_pool(folder: Path) -> Pool:
    """All whole shards in order; FileNotFoundError says what to run if there is none."""
    images, boxes, labels = [], [], []
    shard = 0
    while shard_files(folder, shard)[1].exists():
        pixels_file, answers_file = shard_files(folder, shard)
        images.append(np.load(pixels_file, mmap_mode="r"))
        with np.load(answers_file) as answers:
            boxes.append(answers["boxes"])
            labels.append(answers["labels"])
        shard += 1
    if not images:
        raise FileNotFoundError(
            f"no training scenes in {folder / 'pool'}: run `python -m model_export.demo draw`"
        )
    return Pool(images, np.concatenate(boxes), np.concatenate(labels))
