"""What shadow runs found, kept on this machine: a second run looks only at images that it has not seen."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.predictions import Prediction, from_json, to_json
from boxdrop.folders import clear_disk_errors, exclusive, remove_torn_line

if TYPE_CHECKING:
    from boxdrop.review.sides import Side


class ShadowResults:
    """The results of one detector with one label set; thresholds do not matter.

    Args:
        folder: of boxdrop's home; made on first use.
        side: whose results.
    """

    def __init__(self, folder: Path, side: "Side") -> None:
        self._folder = folder
        self._name = hashlib.sha256(
            json.dumps([side.label_set.digest(side.detector.bundle.digest), *side.label_set.names]).encode()
        ).hexdigest()[:32]
        self._file = folder / f"{self._name}.jsonl"

    def read(self) -> dict[tuple[str, str], Prediction]:
        """All results by image_id and version, but for lines that cannot be read."""
        found: dict[tuple[str, str], Prediction] = {}
        with clear_disk_errors(self._folder):
            lines = self._file.read_bytes().splitlines() if self._file.is_file() else []
        for line in lines:
            try:
                record = from_json(line)
            except BoxdropError:
                continue
            if isinstance(record, Prediction):
                found[record.image_id, record.version] = record
        return found

    @contextmanager
    def adding(self) -> Iterator[Callable[[Prediction], None]]:
        """Gives a function that appends a result. What was added before a kill is kept.

        Raises:
            BoxdropError: another run of the same detector and labels is adding, or the disk is full.
        """
        taken = "another shadow run of this detector and these labels is running; wait until it has ended"
        with clear_disk_errors(self._folder), exclusive(self._file.with_suffix(".lock"), taken):
            if self._file.is_file():
                remove_torn_line(self._file)
            with self._file.open("a", encoding="ascii") as file:

                def add(record: Prediction) -> None:
                    file.write(to_json(record) + "\n")
                    file.flush()

                yield add

    def read_seconds(self, beside: str) -> tuple[float, float | None] | None:
        """The times that an earlier run measured: of the side, and of the model_version beside it."""
        try:
            first, second = json.loads(self._times(beside).read_text(encoding="ascii"))
        except (OSError, ValueError, TypeError):
            return None
        return float(first), None if second is None else float(second)

    def write_seconds(self, beside: str, seconds: tuple[float, float | None]) -> None:
        """Keep the times of both for the next run."""
        with clear_disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._times(beside).write_text(json.dumps(seconds), encoding="ascii")

    def _times(self, beside: str) -> Path:
        other = hashlib.sha256(beside.encode()).hexdigest()[:16]
        return self._folder / f"{self._name}-{other}.json"
