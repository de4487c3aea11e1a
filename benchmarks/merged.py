"""Memory and speed of `boxdrop annotate` with two detectors, beside each of them alone.

    python -m benchmarks.merged PHOTOS [--first nanodet-coco] [--second FOLDER]

Each run is a process of its own, whose peak memory the kernel reports; its seconds are those of the images
alone, without the loading. The labels of the first detector are three of its classes; the second gets three
words that are none of them. Without --second, it is an OWL-ViT B/32 of full size with random weights,
exported once into --keep (minutes); see `benchmarks.full_size`.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click

PROGRAM = """
import json, resource, sys, time
from pathlib import Path
from boxdrop.annotate.run import AnnotateRun
from boxdrop.detect import Detector
from boxdrop.detect.merged import merge
from boxdrop.domain.labels import LabelSet
from boxdrop.sources import open_source
source, out, labels, *bundles = sys.argv[1:]
detector = merge([Detector.load(each) for each in bundles])
began = time.process_time()
summary = AnnotateRun(open_source(source), LabelSet.from_short_form(labels), detector, Path(out)).run()
assert summary.failures == 0, summary
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
work = time.process_time() - began
print(json.dumps([summary.images, summary.boxes, summary.seconds, work, peak]))
"""
OTHER_WORDS = ("wooden crate", "street lamp", "door handle")


@click.command()
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.option("--first", default="nanodet-coco", show_default=True, help="A detector with fixed classes.")
@click.option("--second", help="A detector that reads words. Default: OWL-ViT B/32, random weights.")
@click.option("--keep", type=click.Path(path_type=Path), help="Where the default of --second is kept.")
def main(photos: Path, first: str, second: str | None, keep: Path | None) -> None:
    """Print one table."""
    from boxdrop.cli.console import Console
    from boxdrop.cli.detectors import locate
    from boxdrop.detect import Bundle

    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as scratch:
        closed = locate(first, console)
        reads_words = locate(second, console) if second else owlvit(keep or Path(scratch))
        classes = [each for each in Bundle.load(closed).classes if each][:3]
        known, others = ", ".join(classes), ", ".join(OTHER_WORDS)
        runs = (
            (Bundle.load(closed).name, known, [closed]),
            (Bundle.load(reads_words).name, others, [reads_words]),
            ("both", f"{known}, {others}", [closed, reads_words]),
        )
        row = "{:24s}{:>8s}{:>8s}{:>10s}{:>10s}{:>10s}"
        click.echo(row.format("detector", "images", "boxes", "s/image", "CPU s", "peak MB"))
        for number, (name, labels, bundles) in enumerate(runs):
            out = Path(scratch) / f"out-{number}"
            images, boxes, seconds, work, peak = measure(photos, out, labels, bundles)
            times = f"{seconds / images:.3f}", f"{work / images:.3f}"
            click.echo(row.format(name, f"{images:.0f}", f"{boxes:.0f}", *times, f"{peak:.0f}"))


def owlvit(folder: Path) -> Path:
    """A full-size OWL-ViT whose threshold and floor are as those of a trained one."""
    from benchmarks.full_size import as_if_trained, bundle, names, pictures

    made = bundle(folder, "owlvit", "fp32")
    fair = as_if_trained(made, names(3), pictures("owlvit"))
    (made.path / "bundle.json").write_text(replace(made, defaults=fair.defaults).to_json(), encoding="utf-8")
    return made.path


def measure(photos: Path, out: Path, labels: str, bundles: list[Path]) -> tuple[float, ...]:
    """Run one process; returns images, boxes, elapsed and CPU seconds, and peak memory in MB."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(photos), str(out), labels, *map(str, bundles)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": "."},
    )
    numbers: list[float] = json.loads(run.stdout.splitlines()[-1])
    return tuple(numbers)


if __name__ == "__main__":
    main()
