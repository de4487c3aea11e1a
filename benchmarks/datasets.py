"""Peak memory and speed of an export of few and of many images, and after kill -9 in the middle.

    python -m benchmarks.datasets [--few 1000] [--many 100000] [--format coco]

Items with five boxes come from memory and images from one JPEG, so it measures only the export, not S3 or the
ledger. Each export runs in a process of its own, whose peak memory the kernel reports. The last column
compares with writing the same bytes to as many files.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

PROGRAM = """
import hashlib, resource, sys, time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from boxdrop.datasets.export import export
from boxdrop.datasets.formats import FORMATS
from boxdrop.datasets.identifiers import box_number, image_number
from boxdrop.datasets.items import Box, ClassName, Item
from boxdrop.datasets.splits import Splits
from boxdrop.demo import SCENES
from boxdrop.domain.images import probe

count, format, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
body = sorted(SCENES.glob("*.jpg"))[0].read_bytes()
header = probe(body)
splits = Splits.parse("train=80,val=10,test=10")

class Stored:
    classes = (ClassName(1, "apple"),)
    splits = splits.names
    dropped_boxes = Counter()
    predictions = False
    def __iter__(self):
        for number in range(count):
            key = f"{number:032x}"
            boxes = tuple(
                Box(box_number(key, f"r{i}"), "apple", 1, (i, i, i + 50.0, i + 40.0), f"r{i}", "kept")
                for i in range(5)
            )
            yield Item(image_number(key), key, "b", f"p/{number}.jpg", "v", header.width, header.height,
                       splits.of(key), datetime(2026, 1, 1, tzinfo=UTC), 1, "demo@1", boxes)

class Store:
    def read_version(self, key, version, max_bytes):
        return body

began = time.monotonic()
summary = export("p", Stored(), FORMATS[format], folder, lambda _: Store())
took = time.monotonic() - began
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, took, summary.kept, len(body))
"""


@click.command()
@click.option("--few", default=1_000, show_default=True)
@click.option("--many", default=100_000, show_default=True)
@click.option("--format", default="coco", show_default=True)
def main(few: int, many: int, format: str) -> None:
    """Print one table."""
    with tempfile.TemporaryDirectory() as scratch:
        click.echo(f"{'images':>10s}{'peak MB':>10s}{'seconds':>10s}{'images/s':>10s}{'copying':>10s}")
        peaks = []
        for count in (few, many):
            peak, seconds, _, size = _run(count, format, Path(scratch) / f"out-{count}")
            plain = _copy(count, int(size), Path(scratch) / f"plain-{count}")
            peaks.append(peak)
            speeds = f"{count / seconds:10,.0f}{count / plain:10,.0f}"
            click.echo(f"{count:10,d}{peak:10.1f}{seconds:10.1f}{speeds}")
        click.echo(f"ratio of peaks {peaks[1] / peaks[0]:.3f}")
        folder = Path(scratch) / "killed"
        process = subprocess.Popen(_command(few, format, folder))
        while sum(1 for _ in (folder / "images").rglob("*.jpg")) < few // 2:
            time.sleep(0.01)
        process.kill()
        process.wait()
        _, _, kept, _ = _run(few, format, folder)
        same = (folder / "manifest.tsv").read_bytes() == (
            Path(scratch) / f"out-{few}/manifest.tsv"
        ).read_bytes()
        click.echo(f"killed and called again: {kept:,.0f} images kept, the manifest is the same: {same}")


def _command(count: int, format: str, folder: Path) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(count), format, str(folder)]


def _run(count: int, format: str, folder: Path) -> list[float]:
    done = subprocess.run(_command(count, format, folder), check=True, capture_output=True, text=True)
    return [float(each) for each in done.stdout.split()]


def _copy(count: int, size: int, folder: Path) -> float:
    """Seconds to write the same number of files and bytes."""
    folder.mkdir()
    body = b"x" * size
    began = time.monotonic()
    for number in range(count):
        (folder / str(number)).write_bytes(body)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
