"""Runs a training to its end: the folder, the training in a Python with PyTorch, the bundle and its card."""

import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from boxdrop.assessment.evidence import Evidence
from boxdrop.detect.bundle import CARD, Bundle, Trained
from boxdrop.detect.settings import HELD_OUT
from boxdrop.detectors.export_environment import (
    last_words,
    python_with_torch,
    run_program,
    tied,
    with_boxdrop,
)
from boxdrop.folders import clear_disk_errors, exclusive
from boxdrop.job.stop import StoppedError
from boxdrop.training.card import card
from boxdrop.training.figures import SplitFigures, best_threshold, figures_of, find_in
from boxdrop.training.folder import TrainingFolder
from boxdrop.training.plan import LEARNT, WATCHED, Plan, TrainingError

AGAIN: Final = 75
"""The training was asked to end, see `model_export.training.__main__`."""

_FLOOR: Final = 0.02


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a training.

    Attributes:
        bundle: in the training's folder.
        figures: of the watched and the held-out images.
    """

    bundle: Bundle
    figures: tuple[SplitFigures, ...]


def run(
    folder: TrainingFolder,
    say: Callable[[str], None],
    on_checkpoint: Callable[[], None] = lambda: None,
) -> Result:
    """Train, export and measure; what is done already is not done again.

    A SIGTERM or Ctrl-C is passed on: a checkpoint is saved, then it ends.

    Args:
        folder: planned and filled.
        say: called with each line of progress.
        on_checkpoint: called when there is a new checkpoint.

    Raises:
        StoppedError: it was asked to end; the same call goes on from the checkpoint.
        TrainingError: it failed, or another process trains in this folder.
    """
    taken = f"{folder.path}: another process trains here; wait for it, or give another --name"
    with exclusive(folder.path / "lock", taken), clear_disk_errors(folder.path, "give another --folder"):
        plan = folder.plan()
        if folder.ended() is None:
            _train(folder, say, on_checkpoint)
        if not (folder.bundle / CARD).is_file():
            return _export(folder, plan, say)
        bundle = Bundle.load(folder.bundle)
        found = _find(bundle, folder)
        return Result(bundle, _measure(found, plan, bundle.defaults.threshold))


def _train(folder: TrainingFolder, say: Callable[[str], None], on_checkpoint: Callable[[], None]) -> None:
    python = python_with_torch(say, "train")
    environment = with_boxdrop()
    threads = folder.plan().threads
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads)}
    lines: list[str] = []
    with _passing_on_signals() as share:
        process = subprocess.Popen(
            tied([python, "-m", "model_export.training", str(folder.path)]),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches it once, from here
        )
        share(process)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("checkpoint"):
                    on_checkpoint()
                elif line.strip():
                    lines = [*lines[-40:], line.rstrip()]
                    say(line.rstrip()[:200])
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    if code == AGAIN:
        on_checkpoint()
        raise StoppedError(
            f"asked to end; the same command goes on from the checkpoint in {folder.checkpoints}"
        )
    if code:
        raise TrainingError(f"the training ended: {last_words(lines) or f'exit code {code}'}")


@contextmanager
def _passing_on_signals() -> "Iterator[Callable[[subprocess.Popen[str]], None]]":
    """Send SIGTERM to a process when this one is asked to end."""
    asked = False
    children: list[subprocess.Popen[str]] = []

    def pass_on(*_: Any) -> None:
        nonlocal asked
        asked = True
        for child in children:
            child.send_signal(signal.SIGTERM)

    def share(child: "subprocess.Popen[str]") -> None:
        children.append(child)
        if asked:
            child.send_signal(signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield share
        return
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield share
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _export(folder: TrainingFolder, plan: Plan, say: Callable[[str], None]) -> Result:
    """Export with parity, choose the threshold, measure, and write the card; the bundle appears whole."""
    ended = folder.ended()
    assert ended is not None
    made = folder.path / "exported"
    shutil.rmtree(made, ignore_errors=True)
    say("exporting the best epoch, and comparing it with PyTorch")
    python = python_with_torch(say, "train")
    command = [python, "-m", "model_export", str(folder.best), "--out", str(made), "--name", plan.name]
    command += ["--floor", str(_FLOOR)]
    if plan.threads is not None:
        command += ["--threads", str(plan.threads)]
    run_program(command, f"{plan.name} cannot be exported", lambda _: None, with_boxdrop())
    bundle = Bundle.load(made)
    found = _find(bundle, folder)
    usual = bundle.defaults.threshold
    threshold = best_threshold(found[WATCHED], len(plan.classes), usual, bundle.defaults.floor)
    held_out = sum(bool(each.boxes) for each in folder.read_images() if each.split == HELD_OUT)
    bundle = replace(
        bundle,
        source=replace(bundle.source, id=f"{plan.start}, trained on {plan.project}/{plan.dataset}"),
        defaults=replace(bundle.defaults, threshold=threshold),
        trained=Trained(plan.project, plan.dataset, plan.digest, (LEARNT, WATCHED), held_out),
    )
    (made / CARD).write_text(bundle.to_json(), encoding="utf-8")
    images = Counter(each.split for each in folder.read_images())
    figures = _measure(found, plan, threshold)
    text = card(plan, ended, folder.epochs(), figures, images, threshold)
    (made / "README.md").write_text(text, encoding="utf-8")
    shutil.rmtree(folder.bundle, ignore_errors=True)
    made.rename(folder.bundle)
    return Result(Bundle.load(folder.bundle), figures)


def _find(bundle: Bundle, folder: TrainingFolder) -> dict[str, list[Evidence]]:
    """What a detector finds in the watched and the held-out images."""
    return {split: find_in(bundle, folder, split) for split in (WATCHED, HELD_OUT)}


def _measure(found: dict[str, list[Evidence]], plan: Plan, threshold: float) -> tuple[SplitFigures, ...]:
    """AP by label on each split."""
    return tuple(figures_of(split, each, plan.classes, threshold) for split, each in found.items())


def place_of(home: Path, project: str, name: str) -> Path:
    """The folder of a training on this machine."""
    from boxdrop.store.layout import project_folder

    return home / "trainings" / project_folder(project) / name
