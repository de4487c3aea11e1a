"""`boxdrop detectors get owlvit` in full size, from a mirror of the hub on this machine.

    python -m benchmarks.getting [--python PYTHON] [--keep FOLDER]

The mirror serves an OWL-ViT B/32 of full size with random weights (613 MB) at --rate. One line per case:

- whole: from nothing to the bundle, and then `annotate`;
- killed in the download: ``kill -9`` after half of the weights, and the same command again;
- killed in the export: ``kill -9`` while the graphs are written, and again;
- damaged: the last byte of the weights is another one;
- full disk: of the hub's cache during the download, and of boxdrop's home during the export (root only);
- the environment (with --python, a Python with boxdrop and without PyTorch): its making is part of `whole`.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from tests.hub_mirror import hub_mirror

MODEL = "google/owlvit-base-patch32"
WEIGHTS = "model.safetensors"


@dataclass
class Workplace:
    """Where the command runs: folders of its own, a mirror, a Python."""

    python: str
    root: Path
    address: str

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def cache(self) -> Path:
        return self.root / "hf"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        own = self.python != sys.executable  # it has a boxdrop of its own
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("HF_") and not (own and key == "PYTHONPATH")
        }
        environment |= {
            "BOXDROP_HOME": str(self.home),
            "HF_HOME": str(self.cache),
            "HF_ENDPOINT": self.address,
        }
        command = [self.python, "-m", "boxdrop", *arguments]
        return subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def run(self, *arguments: str) -> tuple[float, int, str]:
        """Seconds, exit code, last line."""
        began = time.monotonic()
        process = self.start(*arguments)
        said, _ = process.communicate()
        lines = [line for line in said.splitlines() if line.strip()] or [""]
        return time.monotonic() - began, process.returncode, lines[-1]

    def kill_when(self, reached: Callable[[], bool]) -> float:
        """Start the command, kill it as soon as it has come so far; seconds until then."""
        began = time.monotonic()
        process = self.start("detectors", "get", "owlvit")
        while not reached():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return time.monotonic() - began

    def forget(self) -> None:
        shutil.rmtree(self.home / "known-detectors", ignore_errors=True)
        shutil.rmtree(self.cache, ignore_errors=True)


@dataclass(frozen=True)
class Study:
    """What the cases share."""

    python: str
    scratch: Path
    model: Path
    rate: float
    photos: Path

    def workplace(self, address: str) -> Workplace:
        root = self.scratch / "work"
        root.mkdir(exist_ok=True)
        return Workplace(self.python, root, address)


def megabytes(*folders: Path) -> float:
    files = [
        file for folder in folders for file in folder.rglob("*") if file.is_file() and not file.is_symlink()
    ]
    return sum(file.stat().st_blocks * 512 for file in files) / 1e6


def at_work(place: Workplace) -> list[int]:
    """Exports that run for a workplace, once those that were asked to end had five seconds for it."""
    time.sleep(5)
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and str(place.home) in (entry / "cmdline").read_bytes().decode(
                errors="replace"
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[None]:
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@click.command()
@click.option("--python", default=sys.executable, help="That runs boxdrop; one without PyTorch gets it.")
@click.option("--model", type=click.Path(path_type=Path), help="The model's folder; made if it is missing.")
@click.option("--rate", default=50.0, show_default=True, help="Of the mirror, MB/s.")
@click.option("--only", multiple=True, help="Only these cases.")
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
def main(python: str, model: Path | None, rate: float, only: Sequence[str], photos: Path) -> None:
    """Print one line per case; PHOTOS are what `annotate` gets."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = model or Path(scratch) / "model"
        if not folder.exists():
            from model_export.stand_ins import FULL_SIZE, make

            make(folder, "owlvit", FULL_SIZE["owlvit"])
        study = Study(python, Path(scratch), folder, rate * 1e6, photos)
        cases = {
            "whole": whole,
            "killed in the download": killed_in_the_download,
            "killed in the export": killed_in_the_export,
            "damaged": damaged,
            "full disk": full_disk,
        }
        for name, case in cases.items():
            if not only or name in only:
                click.echo(f"{name}:")
                for line in case(study):
                    click.echo(f"  {line}")


def whole(study: Study) -> Iterator[str]:
    with hub_mirror(MODEL, study.model, rate=study.rate) as (address, _):
        place = study.workplace(address)
        began = time.monotonic()
        process = place.start("detectors", "get", "owlvit")
        most = 0.0
        steps: dict[str, float] = {}
        while process.poll() is None:
            most = max(most, megabytes(place.home / "known-detectors"))
            mark = place.home / "export-environment" / "boxdrop-complete"
            for step, there in (
                ("environment", mark.exists()),
                ("download", any(place.cache.rglob(WEIGHTS))),
                ("export and parity", (place.home / "known-detectors" / "owlvit").exists()),
            ):
                if there:
                    steps.setdefault(step, time.monotonic() - began)
            time.sleep(0.5)
        said = process.communicate()[0]
        seconds, last = time.monotonic() - began, said.splitlines()[-1]
        yield f"get: {seconds:.0f} s, exit code {process.returncode}, {last}"
        yield ", ".join(f"{step} done after {at:.0f} s" for step, at in steps.items())
        environment, after = (
            megabytes(place.home / each) for each in ("export-environment", "known-detectors")
        )
        yield (
            f"disk: at most {most:,.0f} MB beside {megabytes(place.cache):,.0f} MB of the hub's cache and "
            f"{environment:,.0f} MB of environment; {after:,.0f} MB afterwards"
        )
        out = study.scratch / "out"
        arguments = (
            "annotate",
            str(study.photos),
            "--labels",
            "dog, person",
            "--detector",
            "owlvit",
            "--out",
            str(out),
        )
        seconds, code, last = place.run(*arguments)
        yield f"annotate: {seconds:.1f} s, exit code {code}, {last}"


def killed_in_the_download(study: Study) -> Iterator[str]:
    size = (study.model / WEIGHTS).stat().st_size
    with hub_mirror(MODEL, study.model, rate=study.rate) as (address, asked):
        place = study.workplace(address)
        place.forget()

        def half() -> bool:
            parts = list(place.cache.rglob("*.incomplete"))
            return any(part.stat().st_size > size / 2 for part in parts)

        yield f"killed after {place.kill_when(half):.0f} s; still at work: {len(at_work(place))}"
        before = len(asked)
        seconds, code, last = place.run("detectors", "get", "owlvit")
        again = [each.rpartition("/")[2] for each in asked[before:] if WEIGHTS in each]
        yield f"again: {seconds:.0f} s, exit code {code}, asked for {', '.join(again)}; {last}"


def killed_in_the_export(study: Study) -> Iterator[str]:
    with hub_mirror(MODEL, study.model, rate=study.rate) as (address, asked):
        place = study.workplace(address)
        shutil.rmtree(place.home / "known-detectors", ignore_errors=True)

        def writing() -> bool:
            return any((place.home / "known-detectors").rglob("image*.onnx*"))

        yield f"killed after {place.kill_when(writing):.0f} s; still at work: {len(at_work(place))}"
        left = sorted(path.name for path in (place.home / "known-detectors").iterdir())
        yield f"left behind: {', '.join(left)}, {megabytes(place.home / 'known-detectors'):,.0f} MB"
        before = len(asked)
        seconds, code, last = place.run("detectors", "get", "owlvit")
        left = sorted(path.name for path in (place.home / "known-detectors").iterdir())
        bodies = [each for each in asked[before:] if WEIGHTS in each]
        yield f"again: {seconds:.0f} s, exit code {code}, {len(bodies)} requests for the weights; {last}"
        yield f"afterwards: {', '.join(left)}"


def damaged(study: Study) -> Iterator[str]:
    with hub_mirror(MODEL, study.model, damaged=WEIGHTS, rate=study.rate) as (address, _):
        place = study.workplace(address)
        place.forget()
        seconds, code, last = place.run("detectors", "get", "owlvit")
        yield f"get: {seconds:.0f} s, exit code {code}, {last}"
    with hub_mirror(MODEL, study.model, rate=study.rate) as (address, _):
        place.address = address
        seconds, code, last = place.run("detectors", "get", "owlvit")
        yield f"again: {seconds:.0f} s, exit code {code}, {last}"


def full_disk(study: Study) -> Iterator[str]:
    with hub_mirror(MODEL, study.model, rate=study.rate) as (address, _):
        place = study.workplace(address)
        place.forget()
        with small_disk(place.cache, 300):
            seconds, code, last = place.run("detectors", "get", "owlvit")
            yield f"cache of 300 MB: {seconds:.0f} s, exit code {code}, {last}"
        place.forget()
        shelf = place.home / "known-detectors"
        with small_disk(shelf, 500):
            seconds, code, last = place.run("detectors", "get", "owlvit")
            yield f"home of 500 MB: {seconds:.0f} s, exit code {code}, {last}"
        shelf.rmdir()
        with small_disk(shelf, 3_100):
            process = place.start("detectors", "get", "owlvit")
            while not any(shelf.rglob("text*.onnx*")) and process.poll() is None:
                time.sleep(0.05)
            free = shutil.disk_usage(shelf).free - 200_000_000
            subprocess.run(["fallocate", "-l", str(free), str(shelf / "filler")], check=True)
            said = process.communicate()[0]
            left = sorted(path.name for path in shelf.iterdir())
            yield f"filled up in the export: exit code {process.returncode}, {said.splitlines()[-1]}"
            yield f"left behind: {', '.join(left)}"


if __name__ == "__main__":
    main()
