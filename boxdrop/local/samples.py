"""The sample images: upload them to the local system and wait for their boxes, for `make demo`."""

import time
from collections.abc import Callable
from typing import Final

from boxdrop.aws.s3 import Bucket
from boxdrop.demo import SCENES
from boxdrop.domain.errors import LocalError
from boxdrop.ledger import Ledger, State
from boxdrop.pipeline.drop import DropSummary, drop, list_files

PROJECT: Final = "fruit-baskets"

_PATIENCE_S = 600  # some seconds on an idle machine
_POLL_S = 0.3


def drop_samples(image_bucket: str) -> int:
    """Upload the samples, their labels.yaml first; existing objects stay.

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


def wait_for_tasks(ledger: Ledger, images: int, say: Callable[[str], None]) -> int:
    """Wait until this many images are in Label Studio; reports their progress.

    Returns:
        How many there are; more if other images were uploaded as well.

    Raises:
        LocalError: they do not appear.
    """
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        counts = ledger.count_images(PROJECT)
        there = counts[State.TASKED] + counts[State.VERIFIED] + counts[State.STALE]
        if there >= images:
            return there
        if there + counts[State.FAILED] >= images:
            raise LocalError(
                f"{counts[State.FAILED]} samples got no boxes: `boxdrop status {PROJECT} --failures` says why"
            )
        detecting = counts[State.WANTED] + counts[State.RUNNING] + counts[State.WAITING]
        say(f"Detecting fruit: {detecting} images in progress, {there} in Label Studio")
        time.sleep(_POLL_S)
    raise LocalError(
        f"the samples are not in Label Studio after {_PATIENCE_S} s: `boxdrop status {PROJECT}` shows where "
        "they are, `boxdrop local logs` shows why"
    )
