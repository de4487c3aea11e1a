"""Peak memory of `boxdrop annotate` for few and for many images: it must not grow with their number.

    python -m benchmarks.memory [--few 100] [--many 10000] [--bundle FOLDER]

It uses the same JPEGs under many names. Each run is a process of its own, whose peak memory the kernel
reports. All output files are written, including thumbnails. The default is the demo detector, since only the
program around it could grow.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from PIL import Image

LABELS = "pineapple, banana, apple"


@click.command()
@click.option("--few", default=100, show_default=True)
@click.option("--many", default=10_000, show_default=True)
@click.option("--bundle", type=click.Path(exists=True, path_type=Path), help="Default: the demo detector.")
@click.option("--side", default=640, show_default=True, help="Width of the images in pixels.")
def main(few: int, many: int, bundle: Path | None, side: int) -> None:
    """Print one table."""
    from boxdrop.demo import SCENES

    drawn = sorted(SCENES.glob("*.jpg"))
    with tempfile.TemporaryDirectory() as scratch:
        kinds = []
        for number, scene in enumerate(drawn):
            kinds.append(Path(scratch) / f"kind-{number}.jpg")
            with Image.open(scene) as picture:
                picture.convert("RGB").resize((side, side * 3 // 4)).save(kinds[-1], quality=85)
        rows = []
        for count in (few, many):
            folder = Path(scratch) / f"in-{count}"
            for number in range(count):
                place = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(kinds[number % len(kinds)], place)
            rows.append((count, *measure(folder, Path(scratch) / f"out-{count}", bundle)))
    click.echo(f"{'images':>10s}{'peak MB':>10s}{'seconds':>10s}{'images/s':>10s}")
    for count, peak, seconds in rows:
        click.echo(f"{count:10,d}{peak:10.1f}{seconds:10.1f}{count / seconds:10.1f}")
    click.echo(f"ratio of peaks {rows[1][1] / rows[0][1]:.3f}")


PROGRAM = """
import resource, sys
from pathlib import Path
from boxdrop.annotate.run import AnnotateRun
from boxdrop.demo import BUNDLE
from boxdrop.detect import Detector
from boxdrop.domain.labels import LabelSet
from boxdrop.sources import open_source
source, out, labels, bundle = sys.argv[1:]
detector = Detector.load(bundle or BUNDLE)
summary = AnnotateRun(open_source(source), LabelSet.from_short_form(labels), detector, Path(out)).run()
assert summary.failures == 0, summary
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measure(folder: Path, out: Path, bundle: Path | None) -> tuple[float, float]:
    """Run one process; returns its peak memory in MB and its duration in seconds."""
    started = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(out), LABELS, str(bundle or "")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": "."},
    )
    return int(run.stdout.split()[-1]) / 1024, time.monotonic() - started


if __name__ == "__main__":
    main()
