"""Cold start to the first boxes: a bundle on ONNX Runtime, compared with the same checkpoint on transformers
and torch.

    python benchmarks/cold_start.py [BUNDLE] [--source CHECKPOINT] [--image FILE] [--rounds 7]

Each round starts one fresh process of each kind, in turn, so other load affects both; it prints medians. The
files are in the page cache after the first round, which is not counted. Both read the same JPEG and detect
the same three labels. "Installed size" is the size of the detector's and its dependencies' files, as recorded
by each distribution.
"""

import importlib.metadata
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click

LABELS = "pineapple, banana, apple"

BOXDROP = """
import time; start = time.perf_counter()
import sys, json, resource
import numpy as np
from PIL import Image
from boxdrop.detect import Detector
from boxdrop.domain.labels import LabelSet
import onnxruntime, boxdrop.detect.detector
imported = time.perf_counter()
detector = Detector.load(sys.argv[1])
loaded = time.perf_counter()
image = np.asarray(Image.open(sys.argv[2]).convert("RGB"))
found = detector.detect([image], LabelSet.from_short_form(sys.argv[3]))
first = time.perf_counter()
detector.detect([image], LabelSet.from_short_form(sys.argv[3]))
second = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([imported - start, loaded - imported, first - loaded, first - start, second - first, peak]))
"""

TRANSFORMERS = """
import time; start = time.perf_counter()
import sys, json, resource
import torch
from PIL import Image
from model_export.families import FAMILIES
from model_export.source import resolve
imported = time.perf_counter()
origin = resolve(sys.argv[1])
loaded_model = FAMILIES[origin.model_type].load(origin)
model, processor = loaded_model.model, loaded_model.processor
loaded = time.perf_counter()
image = Image.open(sys.argv[2]).convert("RGB")
texts = [[f"a photo of a {name.strip()}" for name in sys.argv[3].split(",")]]
def detect():
    with torch.inference_mode():
        inputs = processor(text=texts, images=image, max_length=16, return_tensors="pt")
        return processor.post_process_grounded_object_detection(
            model(**inputs), threshold=0.1, target_sizes=[image.size[::-1]])
detect()
first = time.perf_counter()
detect()
second = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([imported - start, loaded - imported, first - loaded, first - start, second - first, peak]))
"""

COLUMNS = ("import", "open", "first image", "all of it", "next image", "peak MB")


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--source", type=click.Path(path_type=Path), help="The bundle's source checkpoint.")
@click.option(
    "--image", type=click.Path(path_type=Path, exists=True), help="Default: a drawn picture of 640×640."
)
@click.option("--rounds", default=7, show_default=True, help="Counted processes of each kind.")
def main(bundle: Path | None, source: Path | None, image: Path | None, rounds: int) -> None:
    """Print one table of medians."""
    if bundle is None:
        from boxdrop.demo import BUNDLE

        bundle = BUNDLE
    with tempfile.TemporaryDirectory() as scratch:
        if image is None:
            from model_export.pictures import draw

            image = Path(scratch) / "picture.jpg"
            draw("square").save(image, quality=90)
        jobs = {"boxdrop (ONNX Runtime)": (BOXDROP, bundle)}
        if source is not None:
            jobs["transformers + torch"] = (TRANSFORMERS, source)
        timings: dict[str, list[list[float]]] = {name: [] for name in jobs}
        for number in range(rounds + 1):
            for name, (program, model) in jobs.items():
                timing = measure(program, str(model), str(image))
                if number:
                    timings[name].append(timing)
    sizes = {
        "boxdrop (ONNX Runtime)": installed_megabytes(["boxdrop"]),
        "transformers + torch": installed_megabytes(["transformers", "torch", "scipy", "pillow"]),
    }
    click.echo(
        f"medians of {rounds} processes each, seconds; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    click.echo(f"{'':24s}" + "".join(f"{column:>13s}" for column in COLUMNS) + f"{'installed MB':>14s}")
    for name, rows in timings.items():
        *seconds, peak = (statistics.median(column) for column in zip(*rows, strict=True))
        click.echo(
            f"{name:24s}"
            + "".join(f"{value:13.3f}" for value in seconds)
            + f"{peak:13.0f}{sizes[name]:14.0f}"
        )
        spread = sorted(row[3] for row in rows)
        click.echo(f"{'':24s}all of it, from {spread[0]:.3f} to {spread[-1]:.3f}")


def measure(program: str, model: str, image: str) -> list[float]:
    """Run one fresh process; see `COLUMNS` for what it measures."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONPATH": "."}
    run = subprocess.run(
        [sys.executable, "-c", program, model, image, LABELS],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if run.returncode:
        raise click.ClickException(f"{model}: {run.stderr.strip().splitlines()[-1]}")
    timing: list[float] = json.loads(run.stdout.splitlines()[-1])
    return timing


def installed_megabytes(names: list[str]) -> float:
    """Size on disk of distributions with their dependencies, without extras."""
    waiting, seen, total = list(names), set[str](), 0
    while waiting:
        name = re.split(r"[\s\[<>=!~;(]", waiting.pop(), maxsplit=1)[0].lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # needed on other systems only
        waiting += [need for need in distribution.requires or [] if "extra ==" not in need]
        if name != "boxdrop":  # its own code is the same for both
            for file in distribution.files or []:
                path = Path(str(distribution.locate_file(file)))
                total += path.stat().st_size if path.is_file() else 0
    return total / 1e6


if __name__ == "__main__":
    main()
