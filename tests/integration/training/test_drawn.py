"""The training of the start `drawn-s`, for a few steps on a few pictures."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from benchmarks.loop_scenes import draw_scene
from model_export.demo.pools import IMAGE_SIZE, MOST_OBJECTS, shard_files
from model_export.training import drawn
from model_export.training.augmentation import Example, resize
from model_export.training.drawn import DrawnTraining


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Eight pictures to train on and two that measure, in the place of the demo detector's scenes."""
    monkeypatch.setattr(drawn, "_MEASURED", 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of floats depend on it
    pixels = np.zeros((10, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    boxes = np.zeros((10, MOST_OBJECTS, 4), np.float32)
    labels = np.full((10, MOST_OBJECTS), -1, np.int16)
    for number in range(10):
        scene = draw_scene(number)
        example = resize(Example(scene.pixels, scene.boxes, scene.labels), IMAGE_SIZE, IMAGE_SIZE)
        pixels[number] = example.pixels
        boxes[number, : len(example.boxes)] = example.boxes
        labels[number, : len(example.boxes)] = example.labels
    picture_file, answer_file = shard_files(tmp_path, 0)
    picture_file.parent.mkdir()
    np.save(picture_file, pixels)
    np.savez(answer_file, boxes=boxes, labels=labels)
    yield tmp_path
    torch.set_num_threads(threads)


def test_an_interrupted_training_ends_with_the_weights_of_a_whole_one(folder: Path, tmp_path: Path) -> None:
    whole = DrawnTraining(folder, steps=3, seed=5)
    whole.run(lambda _: None, save_every_s=1e9)
    (folder / "drawn-s.pt").unlink()

    first = DrawnTraining(folder, steps=3, seed=5)
    first.train_step()
    first.save()
    first.train_step()  # lost
    second = DrawnTraining(folder, steps=3, seed=5)
    second.resume()
    assert second.step == 1
    second.run(lambda _: None)
    for name, value in whole.averaged.items():
        assert torch.equal(value, second.averaged[name]), name

    second.write(tmp_path / "start")
    written = transformers.AutoModelForObjectDetection.from_pretrained(tmp_path / "start")
    for name, value in written.state_dict().items():
        torch.testing.assert_close(value.float(), second.averaged[name].float(), rtol=2e-3, atol=1e-3)
    assert 0 <= second.measure().ap <= second.measure().ap50 <= 1
