"""Says in the data bucket how far a training is, for `boxdrop status`. Its failures never stop a training."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING

from boxdrop.detect.settings import HELD_OUT
from boxdrop.domain.detector_names import pinned_name
from boxdrop.domain.errors import BoxdropError
from boxdrop.job.stop import StoppedError
from boxdrop.store.trainings import State, TrainingRecord, write_training
from boxdrop.training.folder import TrainingFolder

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket
    from boxdrop.training.run import Result


class Follower:
    """See the module.

    Args:
        data: the data bucket.
        folder: the training's.
        clock: the time.
    """

    def __init__(self, data: "Bucket", folder: TrainingFolder, clock: Callable[[], datetime]) -> None:
        self._data, self._folder, self._clock = data, folder, clock
        self._plan = folder.plan()
        self._began = clock()
        self._result: TrainingRecord | None = None

    def __enter__(self) -> "Follower":
        self._write(self._record("running"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None and self._result is not None:
            self._write(self._result)
        elif error is not None:
            stopped = isinstance(error, StoppedError) or not isinstance(error, Exception)
            why = "" if stopped else str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            self._write(replace(self._record("stopped" if stopped else "failed"), why=why))

    def hear(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """A function that passes lines on and notes each epoch."""

        def heard(line: str) -> None:
            say(line)
            if line.startswith("epoch "):
                self._write(self._record("running"))

        return heard

    def finish(self, result: "Result", *, pushed: bool) -> None:
        """Note what came of it, and whether the bundle is in the data bucket."""
        test = next((each.ap50 for each in result.figures if each.split == HELD_OUT), None)
        ended = self._folder.ended()
        self._result = replace(
            self._record("finished"),
            test_ap50=test,
            bundle=pinned_name(result.bundle.name, result.bundle.digest),
            why="" if ended is None else ended.why,
            pushed=pushed,
        )

    def _record(self, state: State) -> TrainingRecord:
        epochs = self._folder.epochs()
        known = [each.ap50 for each in epochs if each.ap50 is not None]
        return TrainingRecord(
            self._plan.name,
            self._plan.dataset,
            state,
            self._began,
            self._clock(),
            epochs[-1].epoch if epochs else 0,
            self._plan.epochs,
            max(known, default=None),
        )

    def _write(self, record: TrainingRecord) -> None:
        with contextlib.suppress(BoxdropError):
            write_training(self._data, self._plan.project, record)
