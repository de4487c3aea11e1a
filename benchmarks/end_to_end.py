"""The whole program compared with the bare model: files on disk to predictions.jsonl, against `session.run`.

    python -m benchmarks.end_to_end [--family owlvit] [--precision fp32] [--images 24] [--rounds 5]

In each round, in turn: `boxdrop annotate`'s own `AnnotateRun` over a folder of JPEGs (reading, decoding,
resizing, detecting, thumbnails, records, all output files), and ONNX Runtime's session over as many ready
tensors, in batches of the same size, with all cores and nothing else to do. The ratio is the share of the
model's own speed that is left; 1 would mean a program without any cost. Processes are started and bundles
opened before both.
"""

import os
import statistics
import tempfile
from pathlib import Path

import click
import numpy as np
import onnxruntime
from PIL import Image

from benchmarks.full_size import TITLES, Stopwatch, as_if_trained, bundle, names, pictures
from boxdrop.annotate.run import AnnotateRun
from boxdrop.detect import Detector
from boxdrop.detect.stream import Stream
from boxdrop.sources import open_source


@click.command()
@click.option("--family", type=click.Choice(list(TITLES)), default="owlvit", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True)
@click.option("--labels", default=3, show_default=True)
@click.option("--images", default=24, show_default=True, help="Files per round.")
@click.option("--megapixels", default=0.8, show_default=True, help="Megapixels per file; a camera has 12.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--batch-size", type=int)
@click.option(
    "--bundles", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True
)
def main(
    family: str,
    precision: str,
    labels: int,
    images: int,
    megapixels: float,
    rounds: int,
    batch_size: int | None,
    bundles: Path,
) -> None:
    """Print one table."""
    label_set = names(labels)
    drawn = pictures(family)
    opened = as_if_trained(bundle(bundles, family, precision), label_set, drawn)
    detector = Detector.load(opened)
    stream: Stream[str] = Stream(detector, label_set, lambda _: b"", batch_size=batch_size)
    size = stream.batch_size
    images -= images % size  # whole batches only, for both
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "in"
        folder.mkdir()
        width = round((megapixels * 1e6 * 4 / 3) ** 0.5 / 8) * 8
        noise = np.random.default_rng(0)
        for number in range(images):
            large = Image.fromarray(drawn[number % len(drawn)]).resize((width, width * 3 // 32 * 8))
            grain = noise.normal(0, 6, (*large.size[::-1], 3))
            photo = np.clip(np.asarray(large) + grain, 0, 255).astype(np.uint8)
            Image.fromarray(photo).save(folder / f"{number:04}.jpg", quality=90)
        ready = np.stack([detector.preprocess(drawn[number % len(drawn)]) for number in range(size)])
        session = detector._image_session
        feed = {**detector._family.images(ready), **detector.embed(label_set)[0].inputs}
        bare: list[Stopwatch] = []
        whole: list[Stopwatch] = []
        stages: dict[str, float] = {}
        for number in range(rounds + 1):
            with Stopwatch() as model:
                for _ in range(images // size):
                    session.run(list(detector.outputs), feed)
            out = Path(scratch) / f"out-{number}"
            with Stopwatch() as program:
                source = open_source(str(folder))
                summary = AnnotateRun(source, label_set, detector, out, batch_size=batch_size).run()
            if summary.failures or summary.computed != images:
                raise click.ClickException(f"{summary.failures} of {images} images failed")
            if number:  # the first one is for warm-up
                bare.append(model)
                whole.append(program)
                stages = summary.stages
    click.echo(
        f"{TITLES[family]} {precision}, {labels} labels, {images} JPEGs of {megapixels:g} megapixels, "
        f"batches of {size}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"ONNX Runtime {onnxruntime.__version__}"
    )
    click.echo(f"{'':24s}{'ms an image':>12s}{'least':>9s}{'most':>9s}{'processor ms':>14s}")
    for name, watches in (("bare session.run", bare), ("files to predictions", whole)):
        wall = [1e3 * watch.wall / images for watch in watches]
        work = statistics.median(1e3 * watch.work / images for watch in watches)
        click.echo(f"{name:24s}{statistics.median(wall):12.1f}{min(wall):9.1f}{max(wall):9.1f}{work:14.1f}")
    for what in ("wall", "work"):
        ratios = sorted(getattr(m, what) / getattr(p, what) for m, p in zip(bare, whole, strict=True))
        click.echo(
            f"ratio of {what:4s} {statistics.median(ratios):.3f}, from {ratios[0]:.3f} to {ratios[-1]:.3f}"
        )
    click.echo(
        "work by stage of the last round, ms an image: "
        + ", ".join(f"{name} {1e3 * seconds / images:.1f}" for name, seconds in stages.items())
    )


if __name__ == "__main__":
    main()
