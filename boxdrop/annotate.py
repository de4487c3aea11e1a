"""Annotate a folder or a bucket on this machine: images in, predictions and a page to look at out.

The output folder is also the run's memory. ``predictions.jsonl`` grows by a batch at a time; a run that was
killed goes on behind the last whole line, so at most the images in flight are computed twice. When all images
are through, the file is rewritten once, with each image exactly once, and the other files are made with it.
"""

import collections
import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from boxdrop import __version__
from boxdrop.errors import BoxdropError, ImageError
from boxdrop.exports import (
    AtomicFile,
    CocoWriter,
    FailureWriter,
    LabelStudioWriter,
    PredictionWriter,
    RecordWriter,
)
from boxdrop.images import Limits, decode, read_file
from boxdrop.labels import LabelSet
from boxdrop.labelstudio.publishing import ImageUrls, PublishSummary, publish
from boxdrop.labelstudio.tasks import to_task
from boxdrop.predictions import (
    Failure,
    Prediction,
    Record,
    candidates_of,
    read_jsonl,
    reselect,
    select_boxes,
    to_json,
)
from boxdrop.report import ReportWriter, make_thumbnail, thumbnail_path
from boxdrop.sources import Source, SourceImage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from boxdrop.detect import Detector
    from boxdrop.labelstudio.connection import Connection
    from boxdrop.labelstudio.project import Project

PIXELS_PER_BATCH = 2_400_000
"""Pixels of model input in a batch: 8 images for the demo detector, 4 for OWL-ViT, 2 for OWLv2. On a CPU
larger batches cost memory and save no time; for a GPU, give `batch_size`."""

RUN_FORMAT = "boxdrop-run/1"

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files of an output folder."""

    folder: Path

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions.jsonl"

    @property
    def run(self) -> Path:
        return self.folder / "run.json"

    @property
    def label_studio(self) -> Path:
        return self.folder / "label-studio.json"

    @property
    def coco(self) -> Path:
        return self.folder / "coco.json"

    @property
    def failures(self) -> Path:
        return self.folder / "failures.tsv"

    @property
    def page(self) -> Path:
        return self.folder / "index.html"


@dataclass(slots=True)
class Summary:
    """What came of a run. Counts are of images unless they say otherwise.

    Attributes:
        computed, resumed: done by this run, and found done by an earlier one.
        seconds: from the first listing to the last output file.
    """

    source: str
    model_version: str
    images: int = 0
    with_boxes: int = 0
    boxes: int = 0
    failures: int = 0
    computed: int = 0
    resumed: int = 0
    seconds: float = 0.0
    boxes_by_label: dict[str, int] = field(default_factory=dict)
    failures_by_reason: dict[str, int] = field(default_factory=dict)

    def count(self, record: Record) -> None:
        """Add one final record."""
        self.images += 1
        if isinstance(record, Failure):
            self.failures += 1
            self.failures_by_reason[record.reason] = self.failures_by_reason.get(record.reason, 0) + 1
            return
        self.with_boxes += bool(record.boxes)
        self.boxes += len(record.boxes)
        for box in record.boxes:
            self.boxes_by_label[box.label] = self.boxes_by_label.get(box.label, 0) + 1


def _ignore(summary: Summary) -> None:
    """The progress of a run that nobody watches."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An image that is ready for the detector: its input tensor and its upright (width, height)."""

    image: SourceImage
    pixels: "NDArray[np.float32]"
    size: tuple[int, int]


class Annotation:
    """A detector over a source of images, into an output folder.

    Args:
        source: where the images are.
        label_set: what to look for.
        detector: what finds it.
        out: the output folder; made if it is not there.
        limits: bytes and pixels that an image may have.
        batch_size: images a batch; None fits it to the model's input.
        workers: threads that read, decode and resize; None takes one for each core, at most 8.
        notice: a sentence that the page shows on top.
    """

    def __init__(
        self,
        source: Source,
        label_set: LabelSet,
        detector: "Detector",
        out: Path,
        *,
        limits: Limits | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
        notice: str | None = None,
    ) -> None:
        self.source = source
        self.label_set = label_set
        self.detector = detector
        self.outputs = Outputs(out)
        self.limits = limits or Limits()
        detector.thresholds(
            label_set
        )  # those that the detector cannot honour are an error now, not after hours
        self.threshold = detector.bundle.defaults.threshold
        height, width = detector.bundle.preprocess.height, detector.bundle.preprocess.width
        self.batch_size = batch_size or max(1, min(8, PIXELS_PER_BATCH // (height * width)))
        self.workers = workers or min(8, os.cpu_count() or 1)
        self.notice = notice
        self.model_version = detector.model_version(label_set)

    def run(
        self,
        on_progress: Callable[[Summary], None] = _ignore,
        *,
        limit: int | None = None,
        retry_failures: bool = False,
    ) -> Summary:
        """Annotate every image that has no prediction yet, then write all output files.

        Args:
            on_progress: called after every batch, with `computed` and `resumed` up to date.
            limit: look at the first so many images of the source only.
            retry_failures: try again what failed in an earlier run.

        Raises:
            BoxdropError: there is no image, the folder holds another source's results, another run writes
                there, or the disk is full. What was computed before is kept: run again.
        """
        started = time.monotonic()
        summary = Summary(self.source.location, self.model_version)
        with _clear_disk_errors(self.outputs.folder), self._exclusive():
            self._claim_folder()
            finished = self._finished(retry_failures)
            current: dict[bytes, bytes] = {}

            def unfinished() -> Iterator[SourceImage]:
                for image in islice(self.source.images(), limit):
                    identity = self._prediction_id(image)
                    current[bytes.fromhex(image.image_id)] = identity
                    if identity in finished:
                        summary.resumed += 1
                    else:
                        yield image

            with self.outputs.predictions.open("ab") as log:
                for records in self._records(unfinished()):
                    log.write(b"".join(to_json(record).encode() + b"\n" for record in records))
                    log.flush()
                    summary.computed += len(records)
                    on_progress(summary)
                os.fsync(log.fileno())
            on_progress(summary)
            if not current:
                raise BoxdropError(
                    f"{self.source.location}: no images here; boxdrop takes jpg, png, webp, tiff, heic, …"
                )
            self._write_outputs(summary, current, keep_others=limit is not None)
            summary.seconds = time.monotonic() - started
            self._write_run(summary)
        return summary

    def records(self) -> Iterator[Record]:
        """The final records of a finished run, in order, as a stream."""
        return read_jsonl(self.outputs.predictions)

    def publish(
        self,
        connection: "Connection",
        title: str,
        on_progress: Callable[[PublishSummary], None] | None = None,
    ) -> tuple["Project", PublishSummary]:
        """Show the results of a finished run to people, in Label Studio.

        Images of this machine are uploaded; those in S3 stay there, and Label Studio is connected to the
        bucket. Running it again changes only what is new.

        Args:
            connection: see `boxdrop.labelstudio.connection.connect`.
            title: of the project, where it does not exist yet.
            on_progress: called after each chunk of tasks.
        """
        from boxdrop.labelstudio.project import connect_bucket, ensure_project
        from boxdrop.labelstudio.uploads import Uploads

        project = ensure_project(connection, self.label_set, title, key=self.source.location)
        folder = self.source.folder
        if folder is None:
            connect_bucket(connection, project, self.source.location.removeprefix("s3://").partition("/")[0])
            urls: ImageUrls = _own_addresses
        else:
            urls = Uploads(connection, project, lambda prediction: self._read(folder, prediction)).urls
        published = publish(
            connection, project, self.records(), project.label_set, urls, on_progress=on_progress
        )
        return project, published

    def _read(self, folder: Path, prediction: Prediction) -> bytes:
        return read_file(folder / prediction.image, self.limits)

    def _records(self, images: Iterator[SourceImage]) -> Iterator[list[Record]]:
        """Fetch, decode and resize ahead in threads, detect in batches; records come a batch at a time."""
        batch: list[_Prepared] = []
        for outcome in _map_ahead(
            self._prepare, images, self.workers, ahead=2 * self.batch_size + self.workers
        ):
            if isinstance(outcome, Failure):
                yield [outcome]
                continue
            batch.append(outcome)
            if len(batch) == self.batch_size:
                yield self._detect(batch)
                batch = []
        if batch:
            yield self._detect(batch)

    def _prepare(self, image: SourceImage) -> _Prepared | Failure:
        try:
            decoded = decode(self.source.fetch(image, self.limits), self.limits)
            pixels = self.detector.preprocess(decoded.pixels)
            thumbnail = self.outputs.folder / thumbnail_path(image.image_id)
            thumbnail.parent.mkdir(parents=True, exist_ok=True)
            thumbnail.write_bytes(make_thumbnail(decoded))
        except ImageError as error:
            return self._failure(image, error.reason, str(error), error.width, error.height)
        except MemoryError:
            return self._failure(image, "out_of_memory", "decoding it needs more memory than there is")
        return _Prepared(image, pixels, (decoded.width, decoded.height))

    def _detect(self, batch: list[_Prepared]) -> list[Record]:
        import numpy as np

        try:
            found = self.detector.candidates(
                np.stack([prepared.pixels for prepared in batch]),
                [prepared.size for prepared in batch],
                self.label_set,
            )
        except BoxdropError as error:
            if (
                len(batch) == 1
            ):  # this image alone is at fault; the others of its batch were tried by themselves
                return [self._failure(batch[0].image, "detector", str(error), *batch[0].size)]
            return [record for prepared in batch for record in self._detect([prepared])]
        records: list[Record] = []
        for prepared, detections in zip(batch, found, strict=True):
            candidates = candidates_of(detections, self.label_set)
            records.append(
                Prediction(
                    image=prepared.image.name,
                    image_id=prepared.image.image_id,
                    version=prepared.image.version,
                    model_version=self.model_version,
                    width=prepared.size[0],
                    height=prepared.size[1],
                    boxes=select_boxes(candidates, self.label_set, self.threshold),
                    candidates=candidates,
                )
            )
        return records

    def _failure(
        self,
        image: SourceImage,
        reason: str,
        message: str,
        width: int | None = None,
        height: int | None = None,
    ) -> Failure:
        return Failure(
            image.name, image.image_id, image.version, self.model_version, reason, message, width, height
        )

    def _prediction_id(self, image: SourceImage) -> bytes:
        return bytes.fromhex(self._failure(image, "", "").prediction_id)

    def _finished(self, retry_failures: bool) -> set[bytes]:
        """The prediction_ids that earlier runs left behind; a last line that a kill cut off is removed."""
        if not self.outputs.predictions.exists():
            return set()
        _remove_torn_line(self.outputs.predictions)
        return {
            bytes.fromhex(record.prediction_id)
            for record in read_jsonl(self.outputs.predictions)
            if not (retry_failures and isinstance(record, Failure))
        }

    def _write_outputs(self, summary: Summary, current: dict[bytes, bytes], keep_others: bool) -> None:
        """Rewrite the predictions, each image once and with today's thresholds, and the files made from them.

        Args:
            summary: gets its counts.
            current: for each image_id of the source, the prediction_id that is wanted of it.
            keep_others: keep images that were not looked at.
        """
        last: dict[bytes, int] = {}
        for number, record in enumerate(read_jsonl(self.outputs.predictions)):
            if self._is_current(record, current, keep_others):
                last[bytes.fromhex(record.image_id)] = number

        def task(prediction: Prediction) -> dict[str, Any]:
            local = f"/data/local-files/?d={prediction.image}"
            return to_task(prediction, self.label_set, local if self.source.folder else prediction.image)

        writers: list[RecordWriter] = [
            PredictionWriter(self.outputs.predictions),
            LabelStudioWriter(self.outputs.label_studio, task),
            CocoWriter(self.outputs.coco, self.label_set),
            FailureWriter(self.outputs.failures),
            ReportWriter(
                self.outputs.folder,
                self.label_set,
                source=self.source.location,
                model_version=self.model_version,
                notice=self.notice,
                originals=self.source.folder,
            ),
        ]
        with contextlib.ExitStack() as stack:
            for writer in writers:
                stack.enter_context(writer)
            for number, record in enumerate(read_jsonl(self.outputs.predictions)):
                if last.get(bytes.fromhex(record.image_id)) != number:
                    continue
                if isinstance(record, Prediction):
                    record = reselect(record, self.label_set, self.threshold)
                summary.count(record)
                for writer in writers:
                    writer.add(record)

    def _is_current(self, record: Record, current: dict[bytes, bytes], keep_others: bool) -> bool:
        wanted = current.get(bytes.fromhex(record.image_id))
        if wanted is None:
            return keep_others and record.model_version == self.model_version
        return wanted == bytes.fromhex(record.prediction_id)

    def _claim_folder(self) -> None:
        """Make sure that the folder is this source's, and mark it so."""
        try:
            previous = json.loads(self.outputs.run.read_text(encoding="utf-8"))
        except FileNotFoundError:
            previous = {"format": RUN_FORMAT, "source": self.source.location}
        except ValueError:
            previous = {}
        folder = self.outputs.folder
        if previous.get("format") != RUN_FORMAT:
            raise BoxdropError(
                f"{self.outputs.run}: not a run of this boxdrop; give another --out, or delete {folder}"
            )
        if previous.get("source") != self.source.location:
            raise BoxdropError(f"{folder} holds the results of {previous.get('source')}; give another --out")
        self._write_run(None)

    def _write_run(self, summary: Summary | None) -> None:
        bundle = self.detector.bundle
        with AtomicFile(self.outputs.run) as file:
            json.dump(
                {
                    "format": RUN_FORMAT,
                    "boxdrop": __version__,
                    "source": self.source.location,
                    "labels": self.label_set.to_yaml(),
                    "model_version": self.model_version,
                    "bundle": {"name": bundle.name, "family": bundle.family, "digest": bundle.digest},
                    "summary": asdict(summary) if summary else None,
                },
                file,
                indent=1,
            )

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the folder's lock, which the system drops if the process dies."""
        self.outputs.folder.mkdir(parents=True, exist_ok=True)
        with (self.outputs.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BoxdropError(
                    f"another boxdrop is writing into {self.outputs.folder}; wait, or give another --out"
                ) from None
            yield


def _own_addresses(predictions: Sequence[Prediction]) -> list[str | ImageError]:
    return [prediction.image for prediction in predictions]


def _map_ahead(function: Callable[[T], R], items: Iterable[T], workers: int, *, ahead: int) -> Iterator[R]:
    """Apply a function in threads and yield the results in order, with at most `ahead` of them waiting."""
    waiting: collections.deque[Future[R]] = collections.deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prepare")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _remove_torn_line(path: Path) -> None:
    """Cut a file behind its last line end: what follows was being written when the process died."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)


@contextlib.contextmanager
def _clear_disk_errors(folder: Path) -> Iterator[None]:
    """Say what to do when the output folder cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BoxdropError(
                f"{folder}: the disk is full; free some space and run again, what was done is kept"
            ) from None
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            raise BoxdropError(
                f"{error.filename or folder}: cannot be written: {error.strerror}; give another --out"
            ) from None
        raise
