"""A GPU in one command: the bare model, the whole program, PyTorch and transformers' pipeline, and the price.

    python -m benchmarks.gpu [--family owlvit --family owlv2 --family grounding-dino] [--price 0.21]

For each family: images per second of the bare graph by batch size, with bound inputs; of the whole stream,
from JPEGs on disk to boxes; of PyTorch in 16 bits, eager and compiled, with all labels in one pass; and of
transformers' pipeline. GPU utilisation comes from nvidia-smi during the stream. The price of 1,000 images
follows the formula in docs/performance.md. Needs onnxruntime-gpu, and a PyTorch with CUDA.

    python -m benchmarks.gpu --provider cpu --precision fp32 --images 16 --batch 1 --batch 2

does the same on a CPU: it tests the program without a GPU, and its figures say nothing about a GPU.
"""

import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from benchmarks.full_size import TITLES, as_if_trained, bundle, names, pictures, source
from boxdrop.detect import Bundle, Detector
from boxdrop.detect.binding import DeviceInputs
from boxdrop.detect.stream import Found, Stream
from boxdrop.domain.labels import LabelSet

COLD_SECONDS = 240.0  # from a submitted job to its first image, including the start of an instance
RUN_IMAGES = 10_000


@click.command()
@click.option("--family", "families", type=click.Choice(list(TITLES)), multiple=True, default=list(TITLES))
@click.option("--provider", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--precision", type=click.Choice(["fp16", "fp32", "int8"]), default="fp16", show_default=True)
@click.option("--labels", default=3, show_default=True)
@click.option("--images", default=512, show_default=True, help="Images per measurement.")
@click.option("--batch", "batches", type=int, multiple=True, default=[1, 2, 4, 8, 16, 32])
@click.option("--price", default=0.21, show_default=True, help="Price of the instance per hour, in dollars.")
@click.option("--torch/--no-torch", "with_torch", default=True, help="Also measure PyTorch and the pipeline.")
@click.option(
    "--bundles", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True
)
def main(
    families: tuple[str, ...],
    provider: Literal["cuda", "cpu"],
    precision: str,
    labels: int,
    images: int,
    batches: tuple[int, ...],
    price: float,
    with_torch: bool,
    bundles: Path,
) -> None:
    """Print one table for each family."""
    if provider == "cpu":
        click.echo("On the CPU: this tests the program, and its figures say nothing about a GPU.")
    else:
        click.echo(_query("name,memory.total,driver_version"))
    label_set = names(labels)
    for family in families:
        drawn = pictures(family)
        exact = as_if_trained(bundle(bundles, family, "fp32"), label_set, drawn)
        opened = bundle(bundles, family, precision)
        click.echo(
            f"\n{TITLES[family]} {precision}, {labels} labels, ONNX Runtime {onnxruntime.__version__}, "
            f"{images} images per measurement"
        )
        detector = Detector.load(_with_defaults(opened, exact), provider)
        best = 0.0
        for size in batches:
            rate = bare(detector, label_set, drawn, size, images)
            best = max(best, rate)
            _row(f"bare model, batches of {size}", rate)
        size = max(batches)
        rate, used = whole(detector, label_set, drawn, size, images)
        _row(
            f"files to boxes, batches of {size}", rate, f"{rate / best:.2f} of the bare model's best; {used}"
        )
        cost = price / 3600 * (1000 / rate + 1000 * COLD_SECONDS / RUN_IMAGES) + 0.01
        click.echo(f"  ${cost:.3f} for 1,000 images, in runs of {RUN_IMAGES:,} at ${price}/h")
        if with_torch:
            for name, rate in beside(family, bundles, label_set, drawn, provider, images):
                _row(name, rate)


def _row(name: str, rate: float, note: str = "") -> None:
    click.echo(f"  {name:36s}{rate:10.2f} images/s  {note}")


def _with_defaults(opened: Bundle, like: Bundle) -> Bundle:
    from dataclasses import replace

    return replace(opened, defaults=like.defaults)


def bare(
    detector: Detector, label_set: LabelSet, drawn: list[NDArray[np.uint8]], size: int, images: int
) -> float:
    """Images per second of the image graph alone; inputs are copied to the device, as every program must
    do."""
    inputs = DeviceInputs(detector._image_session, detector.provider)
    (words,) = detector.embed(label_set)
    ready = detector._family.images(
        np.stack([detector.preprocess(drawn[number % len(drawn)]) for number in range(size)])
    )
    return _rate(lambda: inputs.run(detector.outputs, ready, words), size, images)


def whole(
    detector: Detector, label_set: LabelSet, drawn: list[NDArray[np.uint8]], size: int, images: int
) -> tuple[float, str]:
    """Images per second from files to boxes, and the GPU's utilisation."""
    with tempfile.TemporaryDirectory() as scratch:
        files = []
        for number, image in enumerate(drawn):
            files.append(Path(scratch) / f"{number}.jpg")
            Image.fromarray(image).save(files[-1], quality=90)
        stream: Stream[Path] = Stream(detector, label_set, Path.read_bytes, batch_size=size)
        list(stream.outcomes(files[number % len(files)] for number in range(2 * size)))
        with _utilisation(detector.provider) as used:
            started = time.perf_counter()
            found = stream.outcomes(files[number % len(files)] for number in range(images))
            count = sum(isinstance(outcome, Found) for outcome in found)
            seconds = time.perf_counter() - started
    assert count == images
    return images / seconds, f"GPU busy {statistics.mean(used):.0f} %" if used else "no GPU"


def beside(
    family: str,
    bundles: Path,
    label_set: LabelSet,
    drawn: list[NDArray[np.uint8]],
    provider: str,
    images: int,
) -> Iterator[tuple[str, float]]:
    """PyTorch with all labels in one pass, eager and compiled, and the pipeline: images to boxes."""
    import torch
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor, pipeline

    model = str(source(bundles, family))
    kind = torch.float16 if provider == "cuda" else torch.float32
    processor = AutoProcessor.from_pretrained(model)
    network = AutoModelForZeroShotObjectDetection.from_pretrained(model, dtype=kind).eval().to(provider)
    photos = [Image.fromarray(image) for image in drawn]
    size = len(photos)
    if family == "grounding-dino":
        text: object = [". ".join(label_set.names) + "."] * size
    else:
        text = [[f"a photo of a {name}" for name in label_set.names]] * size

    def joint(run: Callable[..., object]) -> Callable[[], object]:
        def once() -> object:
            with torch.inference_mode():
                inputs = processor(images=photos, text=text, return_tensors="pt").to(provider)
                inputs["pixel_values"] = inputs["pixel_values"].to(kind)
                return processor.post_process_grounded_object_detection(
                    run(**inputs), threshold=0.3, target_sizes=[photo.size[::-1] for photo in photos]
                )

        return once

    yield "PyTorch, eager", _rate(joint(network), size, images)
    if provider == "cuda":
        yield "PyTorch, compiled", _rate(joint(torch.compile(network)), size, images)
    device = 0 if provider == "cuda" else -1
    detect = pipeline("zero-shot-object-detection", model=model, device=device, dtype=kind)
    names_asked = [f"a photo of a {name}" for name in label_set.names]
    few = max(size, images // 8)
    yield (
        "transformers' pipeline",
        _rate(
            lambda: [detect(photo, candidate_labels=names_asked, threshold=0.3) for photo in photos],
            size,
            few,
        ),
    )


def _rate(once: Callable[[], object], size: int, images: int) -> float:
    once()
    times = max(1, images // size)
    started = time.perf_counter()
    for _ in range(times):
        once()
    return times * size / (time.perf_counter() - started)


@contextmanager
def _utilisation(provider: str) -> Iterator[list[float]]:
    """Percent of the time in which a kernel ran, sampled twice a second while the block runs."""
    samples: list[float] = []
    if provider != "cuda":
        yield samples
        return
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.5):
            samples.append(float(_query("utilization.gpu").split()[0]))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def _query(fields: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
