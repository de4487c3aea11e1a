"""The sample images: upload them to the local system and wait for their boxes, for `make demo`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from boxdrop.aws.s3 import Bucket
from boxdrop.demo import SCENES
from boxdrop.domain.errors import LocalError
from boxdrop.domain.labels import LabelSet
from boxdrop.ledger import Ledger, State
from boxdrop.pipeline.drop import DropSummary, drop, list_files
from boxdrop.retrieve.provenance import SOURCES, read_sources, to_metadata

PROJECT: Final = "fruit-baskets"
PHOTOS: Final = "photos"

_SEEN: Final = ("person", "cat", "cup")
_MORE_WORDS: Final = ("spoon", "flag", "camera on a tripod")  # of what is in the photographs

_PATIENCE_S = 600  # some seconds on an idle machine
_POLL_S = 0.3


def drop_samples(image_bucket: str) -> int:
    """Upload the drawn samples, their labels.yaml first; existing objects stay.

    Returns:
        How many images there are.

    Raises:
        LocalError: some could not be uploaded.
    """
    bucket = Bucket(image_bucket)
    bucket.create(f"{PROJECT}/labels.yaml", (SCENES / "labels.yaml").read_bytes(), "application/yaml")
    summary = DropSummary()
    files = list_files(SCENES, PROJECT, summary)
    drop(bucket, files, f"{PROJECT}/", summary)
    if summary.failed:
        raise LocalError(f"some samples could not be uploaded: {next(iter(summary.failed.values()))}")
    return len(files)


def drop_photos(image_bucket: str, folder: Path, detector: str, classes: Sequence[str]) -> tuple[str, int]:
    """Upload the photographs and their credits, the labels.yaml first; existing objects stay.

    Args:
        image_bucket: the bucket.
        folder: see `boxdrop.local.photos.find_photos`.
        detector: its name in the data bucket.
        classes: all that it can find; empty for a detector that reads words.

    Returns:
        the project, and how many images there are.

    Raises:
        LocalError: the detector knows nothing that is in them.
        BoxdropError: one cannot be uploaded.
    """
    bucket = Bucket(image_bucket)
    project = PHOTOS if detector == "nanodet-coco" else f"{PHOTOS}-{detector.replace('+', '-')}"
    words = [word for word in (*_SEEN, *_MORE_WORDS) if not classes or word in classes]
    if not words:
        raise LocalError(f"{detector} has no class for anything in the photographs")
    labels = replace(LabelSet.from_short_form(", ".join(words)), caption="photographs", detector=detector)
    bucket.create(f"{project}/labels.yaml", labels.to_yaml().encode(), "application/yaml")
    bucket.create(f"{project}/{SOURCES}", (folder / SOURCES).read_bytes(), "application/x-ndjson")
    records = list(read_sources(folder / SOURCES))
    for record in records:  # with its credit, which Label Studio shows
        key = f"{project}/{record.file}"
        if not bucket.exists(key):
            metadata = to_metadata(record.candidate)
            bucket.put(key, (folder / record.file).read_bytes(), "image/png", metadata=metadata)
    return project, len(records)


def wait_for_tasks(ledger: Ledger, project: str, images: int, say: Callable[[str], None]) -> int:
    """Wait until this many images of a project are in Label Studio; reports their progress.

    Returns:
        How many there are; more if other images were uploaded as well.

    Raises:
        LocalError: they do not appear.
    """
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        counts = ledger.count_images(project)
        there = counts[State.TASKED] + counts[State.VERIFIED] + counts[State.STALE]
        if there >= images:
            return there
        if there + counts[State.FAILED] >= images:
            raise LocalError(
                f"{counts[State.FAILED]} samples got no boxes: `boxdrop status {project} --failures` says why"
            )
        detecting = counts[State.WANTED] + counts[State.RUNNING] + counts[State.WAITING]
        say(f"{project}: {detecting} images in progress, {there} in Label Studio")
        time.sleep(_POLL_S)
    raise LocalError(
        f"the samples are not in Label Studio after {_PATIENCE_S} s: `boxdrop status {project}` shows where "
        "they are, `boxdrop local logs` shows why"
    )
