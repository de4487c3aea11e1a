"""The gain of tiling for small objects, and its cost.

    python -m benchmarks.tiling [--columns 6] [--rows 6] [--width 160]

It arranges small copies of the sample scenes side by side in large images, with their ground truth. A
detector sees the whole image at its own size (224×224 for the demo detector), so an object 30 pixels wide
shrinks to a few pixels. Recall is the share of objects of the three fruits that a box of their label matches
with an IoU of 0.5, at the detector's own threshold; precision is the share of boxes that match one.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from boxdrop.demo import BUNDLE, SCENES
from boxdrop.detect import Detector
from boxdrop.detect.stream import Found, Stream
from boxdrop.domain.detections import iou, select
from boxdrop.domain.labels import LabelSet, Tiling

FRUIT = LabelSet.from_short_form("pineapple, banana, apple")
SMALL = 32  # pixels of the longer side


@dataclass(frozen=True)
class Picture:
    """A PNG, and for each object its label's number and box, xyxy."""

    png: bytes
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]


@click.command()
@click.option("--columns", default=6, show_default=True)
@click.option("--rows", default=6, show_default=True)
@click.option("--width", default=160, show_default=True, help="Width of each scene in pixels.")
@click.option("--pictures", default=6, show_default=True)
def main(columns: int, rows: int, width: int, pictures: int) -> None:
    """Print one table."""
    detector = Detector.load(BUNDLE)
    drawn = [draw(columns, rows, width, seed) for seed in range(pictures)]
    sides = np.concatenate([(each.boxes[:, 2:] - each.boxes[:, :2]).max(axis=1) for each in drawn])
    click.echo(
        f"{pictures} pictures of {columns * width}×{rows * width * 3 // 4} pixels, {len(sides)} fruits, "
        f"{int((sides < SMALL).sum())} of them under {SMALL} pixels"
    )
    click.echo(
        f"{'tiling':24s}{'recall':>8s}{f'< {SMALL} px':>9s}{'precision':>11s}{'views':>7s}"
        f"{'s a picture':>13s}"
    )
    for tiling in (
        Tiling(),
        Tiling("auto"),
        Tiling("fixed", detector.bundle.preprocess.width, 0.2),
        Tiling("fixed", 3 * width // 4, 0.2),
    ):
        show(detector, drawn, tiling)


def show(detector: Detector, drawn: list[Picture], tiling: Tiling) -> None:
    """Print the row of one tiling."""
    from boxdrop.detect.tiles import plan

    label_set = replace(FRUIT, tiling=tiling)
    fetch: Callable[[Picture], bytes] = lambda picture: picture.png  # noqa: E731
    stream: Stream[Picture] = Stream(detector, label_set, fetch)
    thresholds = detector.thresholds(label_set)
    hits: list[bool] = []
    small: list[bool] = []
    right = shown = views = 0
    started = time.perf_counter()
    for outcome in stream.outcomes(drawn):
        assert isinstance(outcome, Found), outcome
        views += len(plan(outcome.width, outcome.height, tiling, detector.bundle.preprocess))
        found, truth = select(outcome.candidates, thresholds), outcome.item
        shown += len(found)
        for box, label in zip(found.boxes, found.labels, strict=True):
            right += bool((iou(box, truth.boxes[truth.labels == label]) >= 0.5).any())
        for box, label in zip(truth.boxes, truth.labels, strict=True):
            hits.append(bool((iou(box, found.boxes[found.labels == label]) >= 0.5).any()))
            small.append(float((box[2:] - box[:2]).max()) < SMALL)
    seconds = (time.perf_counter() - started) / len(drawn)
    name = {"off": "off", "auto": "auto", "fixed": f"size {tiling.size}, overlap {tiling.overlap:g}"}
    of_small = np.mean([hit for hit, little in zip(hits, small, strict=True) if little])
    click.echo(
        f"{name[tiling.mode]:24s}{np.mean(hits):8.3f}{of_small:9.3f}{right / max(1, shown):11.3f}"
        f"{views / len(drawn):7.1f}{seconds:13.2f}"
    )


def draw(columns: int, rows: int, width: int, seed: int) -> Picture:
    """Put small scenes side by side in a random order."""
    truth = json.loads((SCENES / "truth.json").read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in truth["categories"]}
    height = width * 3 // 4
    canvas = Image.new("RGB", (columns * width, rows * height))
    labels: list[int] = []
    boxes: list[tuple[float, float, float, float]] = []
    random = np.random.default_rng(seed)
    for cell in range(columns * rows):
        entry = truth["images"][int(random.integers(len(truth["images"])))]
        left, top = cell % columns * width, cell // columns * height
        with Image.open(SCENES / entry["file_name"]) as scene:
            small = scene.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        canvas.paste(small, (left, top))
        across, down = width / entry["width"], height / entry["height"]
        for each in truth["annotations"]:
            name = names[each["category_id"]]
            if each["image_id"] == entry["id"] and name in FRUIT:
                x, y, w, h = each["bbox"]
                labels.append(FRUIT.names.index(name))
                boxes.append(
                    (left + x * across, top + y * down, left + (x + w) * across, top + (y + h) * down)
                )
    out = BytesIO()
    canvas.save(out, "PNG")
    return Picture(out.getvalue(), np.array(labels, np.int64), np.array(boxes, np.float32))


if __name__ == "__main__":
    main()
