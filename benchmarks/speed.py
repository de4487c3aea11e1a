"""From an image in memory to its final boxes: boxdrop compared with the alternatives.

    python -m benchmarks.speed --family owlvit [--labels 80] [--bundles FOLDER] [--rounds 9] [--peers PYTHON]

Contestants, in turn in each round, so other load affects all:

- ``pipeline``: transformers' zero-shot-object-detection pipeline, one forward pass a label and image.
- ``joint``: transformers' processor, one forward pass for all labels, post-processing.
- ``autodistill``: its OWL-ViT or OWLv2 wrapper, in the Python given with --peers (docs/performance.md says
  what to install there). Only for 3 labels.
- ``boxdrop fp32`` and ``int8``: pre-processing, model, suppression, selection; nothing overlaps here.

Only boxdrop caches text embeddings; the others cannot. It prints medians and ranges; the ratio is the median
of the rounds' ratios. Full-size models with random weights (`benchmarks.full_size`).
"""

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.full_size import TITLES, Stopwatch, as_if_trained, bundle, names, pictures, source
from boxdrop.detect import Detector
from boxdrop.domain.labels import LabelSet

Contestant = Callable[[int], object]
"""Called with the number of the image."""


@click.command()
@click.option("--family", type=click.Choice(list(TITLES)), default="owlvit", show_default=True)
@click.option("--labels", default=3, show_default=True)
@click.option(
    "--bundles",
    type=click.Path(path_type=Path),
    default=Path("build/benchmarks"),
    show_default=True,
    help="Folder of models and bundles.",
)
@click.option("--rounds", default=7, show_default=True)
@click.option("--slow-rounds", default=3, show_default=True, help="Rounds that include transformers.")
@click.option("--peers", type=click.Path(exists=True), help="Python of an environment with autodistill.")
def main(family: str, labels: int, bundles: Path, rounds: int, slow_rounds: int, peers: str | None) -> None:
    """Print one table."""
    label_set = names(labels)
    images = pictures(family)
    found = as_if_trained(bundle(bundles, family, "fp32"), label_set, images)
    contestants: dict[str, Contestant] = {}
    model = str(source(bundles, family))
    contestants["pipeline"] = pipeline(model, label_set, images, found.defaults.threshold)
    contestants["joint PyTorch"] = joint(family, model, label_set, images, found.defaults.threshold)
    if peers and labels == 3:
        contestants["autodistill"] = autodistill(peers, family, model, label_set, images)
    for precision in ("fp32", "int8"):
        exported = bundle(bundles, family, precision)
        defaults = as_if_trained(exported, label_set, images).defaults
        contestants[f"boxdrop {precision}"] = ours(Detector.load(exported), defaults, label_set, images)
    timings: dict[str, list[Stopwatch]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, contestant in contestants.items():
            if number > slow_rounds and not name.startswith("boxdrop"):
                continue
            with Stopwatch() as watch:
                contestant(number % len(images))
            if number:  # the first one warms up
                timings[name].append(watch)
    show(f"{TITLES[family]}, {labels} labels", timings, "pipeline")


def show(title: str, timings: dict[str, list[Stopwatch]], base: str) -> None:
    """Print medians, spreads, and ratios to `base`, the spread from each round's own."""
    click.echo(f"{title}: seconds per image; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    click.echo(
        f"{'':16s}{'median':>9s}{'least':>9s}{'most':>9s}{'times faster':>16s}{'from':>8s}{'to':>8s}"
        f"{'processor s':>13s}{'times less':>12s}"
    )
    least = statistics.median(watch.wall for watch in timings[base])
    cheapest = statistics.median(watch.work for watch in timings[base])
    for name, watches in timings.items():
        if not watches:
            continue
        seconds = [watch.wall for watch in watches]
        work = statistics.median(watch.work for watch in watches)
        pairs = zip(timings[base], watches, strict=False)
        ratios = sorted(slow.wall / fast.wall for slow, fast in pairs)
        click.echo(
            f"{name:16s}{statistics.median(seconds):9.3f}{min(seconds):9.3f}{max(seconds):9.3f}"
            f"{least / statistics.median(seconds):16.1f}{ratios[0]:8.1f}{ratios[-1]:8.1f}"
            + ("" if name == "autodistill" else f"{work:13.3f}{cheapest / work:12.1f}")  # its own process
        )


def ours(
    detector: Detector, defaults: Any, label_set: LabelSet, images: list[NDArray[np.uint8]]
) -> Contestant:
    """boxdrop: every step in turn, in this thread."""
    from boxdrop.domain.detections import select

    thresholds = [defaults.threshold] * len(label_set)
    detector.embed(label_set)

    def run(number: int) -> object:
        image = images[number]
        answer = detector.infer(detector.preprocess(image)[None], label_set)
        (kept,) = detector.read(answer, [(image.shape[1], image.shape[0])], label_set, floor=defaults.floor)
        return select(kept, thresholds)

    return run


def pipeline(
    model: str, label_set: LabelSet, images: list[NDArray[np.uint8]], threshold: float
) -> Contestant:
    """transformers' own."""
    from transformers import pipeline as make

    detector = make("zero-shot-object-detection", model=model, device=-1)
    drawn = [Image.fromarray(image) for image in images]
    labels = [f"a photo of a {name}" for name in label_set.names]
    return lambda number: detector(drawn[number], candidate_labels=labels, threshold=threshold)


def joint(
    family: str, model: str, label_set: LabelSet, images: list[NDArray[np.uint8]], threshold: float
) -> Contestant:
    """Code as in transformers' documentation of the model: one pass for all labels."""
    import torch
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    processor = AutoProcessor.from_pretrained(model)
    network = AutoModelForZeroShotObjectDetection.from_pretrained(model).eval()
    drawn = [Image.fromarray(image) for image in images]
    if family == "grounding-dino":
        text: Any = ". ".join(label_set.names) + "."
    else:
        text = [[f"a photo of a {name}" for name in label_set.names]]

    def run(number: int) -> object:
        image = drawn[number]
        with torch.inference_mode():
            inputs = processor(images=image, text=text, return_tensors="pt")
            outputs = network(**inputs)
            found: object = processor.post_process_grounded_object_detection(
                outputs, threshold=threshold, target_sizes=[image.size[::-1]]
            )
        return found

    return run


AUTODISTILL = """
import importlib, json, os, sys, time
from pathlib import Path
family, images = sys.argv[1], json.loads(sys.argv[2])
wrapper = {"owlvit": ("autodistill_owl_vit", "OWLViT"), "owlv2": ("autodistill_owlv2", "OWLv2")}[family]
import transformers
for processor in (transformers.OwlViTProcessor, transformers.Owlv2Processor):
    # The name that it had in transformers 4, for which the wrappers are written.
    processor.post_process_object_detection = (
        lambda self, outputs, threshold=0.1, target_sizes=None:
        self.post_process_grounded_object_detection(outputs, threshold=threshold, target_sizes=target_sizes))
from autodistill.detection import CaptionOntology
said, sys.stdout = sys.stdout, open(os.devnull, "w")  # it prints every score
made = getattr(importlib.import_module(wrapper[0]), wrapper[1])(CaptionOntology(json.loads(sys.argv[3])))
import torch
for line in sys.stdin:
    with torch.no_grad():
        made.predict(images[int(line)])
    print("done", file=said, flush=True)
"""


def autodistill(
    python: str, family: str, model: str, label_set: LabelSet, images: list[NDArray[np.uint8]]
) -> Contestant:
    """autodistill's wrapper, which loads its model from the hub: here a cache holds the stand-in."""
    hub = {"owlvit": "google/owlvit-base-patch32", "owlv2": "google/owlv2-base-patch16-ensemble"}[family]
    home = Path(tempfile.mkdtemp(prefix="boxdrop-hub-"))
    cache = home / "hub" / f"models--{hub.replace('/', '--')}"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40)
    (cache / "snapshots").mkdir()
    (cache / "snapshots" / ("0" * 40)).symlink_to(Path(model).resolve())
    files = []
    for number, image in enumerate(images):
        files.append(str(home / f"{number}.png"))
        Image.fromarray(image).save(files[-1])
    ontology = {f"a photo of a {name}": name for name in label_set.names}
    process = subprocess.Popen(
        [python, "-c", AUTODISTILL, family, json.dumps(files), json.dumps(ontology)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
    )

    def run(number: int) -> object:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        if process.stdout.readline() != "done\n":
            raise click.ClickException("autodistill's wrapper failed; see above")
        return None

    return run


if __name__ == "__main__":
    main()
