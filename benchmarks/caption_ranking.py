"""How well the detector ranks an archive by a caption: average precision, compared with random order.

    python benchmarks/caption_ranking.py [--scenes 300] [--detector BUNDLE] [--icons FOLDER]

Scenes are drawn with known contents, as `model_export.demo` draws them for its own figures (seeds that
training never saw), stored as JPEG in a folder, and ranked by `boxdrop.retrieve.archive.rank`, as `boxdrop
retrieve --from FOLDER` does. An image matches a caption if it contains one of the caption's objects. Random
order is the mean of 200 shuffles. The icons are fetched once with ``python -m model_export.demo fetch``.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from boxdrop.demo import BUNDLE
from boxdrop.detect import Detector
from boxdrop.retrieve.archive import rank
from boxdrop.sources import FolderSource
from model_export.demo.art import TRAINED_STYLES, cache_folder
from model_export.demo.evaluate import draw_set
from model_export.demo.names import names
from model_export.demo.scenes import EVALUATION, EVALUATION_PHOTOS, load_art

SEED = 6_400_000
CAPTIONS = {
    "pineapple": ["pineapple"],
    "a ripe banana": ["banana"],
    "red apples": ["apple"],
    "grapes": ["grapes"],
    "a photo of a cat": ["cat"],
    "dogs": ["dog"],
    "bunny": ["rabbit"],
    "slice of pizza": ["pizza"],
    "a cup of coffee": ["coffee"],
    "lemon": ["lemon"],
    "an elephant": ["elephant"],
    "yellow sunflower": ["sunflower"],
    "a wicker basket": ["basket"],
    # Several objects, and words on which the demo detector was not trained.
    "bananas and apples": ["banana", "apple"],
    "fruit": [name.text for name in names() if name.group == "fruit"],
    "animals": [name.text for name in names() if name.group == "animal"],
}


def average_precision(relevant: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Mean of the precision at each relevant position of a ranking; NaN if nothing is relevant."""
    hits = np.asarray(relevant, bool)
    if not hits.any():
        return float("nan")
    return float((np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)).mean())


def random_order(relevant: NDArray[np.bool_], shuffles: int = 200) -> float:
    """Mean average precision of random orders."""
    rng = np.random.default_rng(0)
    return float(np.mean([average_precision(rng.permutation(relevant)) for _ in range(shuffles)]))


@click.command()
@click.option("--scenes", default=300, show_default=True)
@click.option("--detector", default=str(BUNDLE), help="A bundle.")
@click.option(
    "--icons", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Default: the cache."
)
def main(scenes: int, detector: str, icons: Path | None) -> None:
    """Draw, rank, and print the table of docs/retrieve.md."""
    loaded = Detector.load(detector)
    art = load_art(icons or cache_folder(), TRAINED_STYLES, EVALUATION_PHOTOS, 256)
    number_of = {name.text: number for number, name in enumerate(names())}
    contents: dict[str, set[int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, scene in enumerate(draw_set(art, EVALUATION, SEED, scenes)):
            file = f"{number:05d}.jpg"
            Image.fromarray(scene.image).save(Path(folder) / file, quality=90)
            contents[file] = set(scene.labels.tolist())
        print(f"{scenes} scenes, detector {loaded.bundle.name}")
        print(
            "| caption | images that fit | average precision | random order |\n| --- | ---: | ---: | ---: |"
        )
        rows = []
        for caption, things in CAPTIONS.items():
            wanted = {number_of[thing] for thing in things}
            ranked = rank(FolderSource(Path(folder)), loaded, caption, top=scenes)
            fits = np.array([bool(contents[image.name] & wanted) for _, image in ranked])
            rows.append((average_precision(fits), random_order(fits)))
            print(f"| {caption} | {fits.sum()} | {rows[-1][0]:.3f} | {rows[-1][1]:.3f} |", flush=True)
        means = np.nanmean(np.array(rows), axis=0)
        print(f"| *mean* | | {means[0]:.3f} | {means[1]:.3f} |")


if __name__ == "__main__":
    main()
