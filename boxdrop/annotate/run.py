"""Annotate a folder or a bucket on this machine: images in, predictions and a report page out.

The output folder is also the run's state. ``predictions.jsonl`` grows image by image; a run that was killed
resumes after the last whole line, so at most the images in flight are computed twice. When all images are
done, the file is rewritten with each image exactly once, and the other files are written with it.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from boxdrop import __version__
from boxdrop.annotate.credits import read_credits
from boxdrop.annotate.exports import (
    AtomicFile,
    CocoWriter,
    FailureWriter,
    LabelStudioWriter,
    LeftOutWriter,
    PredictionWriter,
    RecordWriter,
    local_files_url,
)
from boxdrop.annotate.page import ReportWriter
from boxdrop.annotate.thumbnails import COPIES, copy_path, make_thumbnail, thumbnail_path
from boxdrop.domain.browsers import display_copy
from boxdrop.domain.errors import BoxdropError, ImageError
from boxdrop.domain.images import Image, Limits
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.left_out import LeftOut
from boxdrop.domain.predictions import Failure, Prediction, Record, read_jsonl, reselect, to_json
from boxdrop.folders import clear_disk_errors, exclusive, remove_torn_line
from boxdrop.labelstudio.config import identity_of, labeling_config
from boxdrop.labelstudio.publishing import PublishSummary
from boxdrop.labelstudio.task_data import to_task
from boxdrop.records import RecordStream
from boxdrop.sources import Source, SourceImage, no_images

if TYPE_CHECKING:
    from boxdrop.detect.merged import AnyDetector
    from boxdrop.labelstudio.connection import Connection
    from boxdrop.labelstudio.project import Project

RUN_FORMAT = "boxdrop-run/1"

_S3_FETCHERS = 16  # a request to S3 takes 20 to 100 ms, mostly waiting


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
    def labeling_config(self) -> Path:
        return self.folder / "label-studio.xml"

    @property
    def coco(self) -> Path:
        return self.folder / "coco.json"

    @property
    def failures(self) -> Path:
        return self.folder / "failures.tsv"

    @property
    def left_out(self) -> Path:
        return self.folder / "left-out.tsv"

    @property
    def page(self) -> Path:
        return self.folder / "index.html"


@dataclass(slots=True)
class Summary:
    """The result of a run. Counts are of images unless stated otherwise.

    Attributes:
        computed, resumed: done by this run, and by an earlier one.
        not_importable: images that ``label-studio.json`` leaves out, since Label Studio would show other
            pixels and could not read their copies.
        damaged: predicted images with damaged metadata, which was ignored.
        left_out: what the listing passed over, by reason; under a limit, up to the last image only.
        seconds: from the first listing to the last output file.
        stages: seconds of work by stage, see `boxdrop.detect.stream.StageClock`; the largest
            is the bottleneck.
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
    damaged: int = 0
    boxes_by_label: dict[str, int] = field(default_factory=dict)
    failures_by_reason: dict[str, int] = field(default_factory=dict)
    not_importable: int = 0
    left_out: dict[LeftOut, int] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)

    def count(self, record: Record) -> None:
        """Add one final record."""
        self.images += 1
        if isinstance(record, Failure):
            self.failures += 1
            self.failures_by_reason[record.reason] = self.failures_by_reason.get(record.reason, 0) + 1
            return
        self.with_boxes += bool(record.boxes)
        self.damaged += bool(record.damaged)
        self.boxes += len(record.boxes)
        for box in record.boxes:
            self.boxes_by_label[box.label] = self.boxes_by_label.get(box.label, 0) + 1


def _ignore(summary: Summary) -> None:
    """Discard progress."""


class AnnotateRun:
    """A detector over a source of images, into an output folder.

    Args:
        source: where the images are.
        label_set: the labels to detect.
        detector: the detector, or two that work together.
        out: the output folder; created if needed.
        limits: bytes and pixels that an image may have.
        batch_size: images per batch; None fits it to the model's input.
        workers: threads that read, decode and resize; None takes one per core, at most 8.
        notice: a sentence that the page shows on top.
    """

    def __init__(
        self,
        source: Source,
        label_set: LabelSet,
        detector: "AnyDetector",
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
        self._label_ids: dict[str, int] = {}
        self.stream = RecordStream(
            detector,
            label_set,
            source.fetch,
            lambda image: image,
            limits=self.limits,
            batch_size=batch_size,
            workers=workers,
            fetchers=_S3_FETCHERS if source.folder is None else None,
            on_image=self._write_pictures,
        )
        self.notice = notice
        self._renamed: dict[bytes, str] = {}  # the current version, by the earlier prediction_id
        self.model_version = self.stream.model_version
        self.threshold = self.stream.threshold

    def run(
        self,
        on_progress: Callable[[Summary], None] = _ignore,
        *,
        limit: int | None = None,
        retry_failures: bool = False,
    ) -> Summary:
        """Annotate every image that has no prediction yet, then write all output files.

        Args:
            on_progress: called after every image, with `computed` and `resumed` up to date.
            limit: process only the first `limit` images of the source.
            retry_failures: retry images that failed in an earlier run.

        Raises:
            BoxdropError: there is no image, the folder holds another source's results, another run writes
                there, or the disk is full. What was computed before is kept: run again.
        """
        started = time.monotonic()
        summary = Summary(self.source.location, self.model_version)
        taken = f"another boxdrop is writing into {self.outputs.folder}; wait, or give another --out"
        with (
            clear_disk_errors(self.outputs.folder, "give another --out"),
            exclusive(self.outputs.folder / ".lock", taken),
        ):
            self._claim_folder()
            finished = self._finished(retry_failures)
            current: dict[bytes, bytes] = {}

            def leave_out(name: str, reason: LeftOut) -> None:
                summary.left_out[reason] = summary.left_out.get(reason, 0) + 1
                left_out.add(name, reason)

            def unfinished() -> Iterator[SourceImage]:
                for image in islice(self.source.images(leave_out), limit):
                    identity = self._prediction_id(image)
                    current[bytes.fromhex(image.image_id)] = identity
                    former = self._former_id(image)
                    if identity in finished:
                        summary.resumed += 1
                    elif former in finished:
                        summary.resumed += 1
                        self._renamed[former] = image.version
                    else:
                        yield image

            with (
                LeftOutWriter(self.outputs.left_out) as left_out,
                self.outputs.predictions.open("ab") as log,
            ):
                with contextlib.closing(self.stream.outcomes(unfinished())) as outcomes:
                    for outcome in outcomes:
                        record = self.stream.record(outcome)
                        with self.stream.clock("write"):
                            log.write(to_json(record).encode() + b"\n")
                            log.flush()
                        summary.computed += 1
                        on_progress(summary)
                os.fsync(log.fileno())
            on_progress(summary)
            if not current:
                raise no_images(self.source.location, summary.left_out)
            with self.stream.clock("write"):
                self._write_outputs(summary, current, keep_others=limit is not None)
            summary.stages = self.stream.clock.seconds
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
        """Publish the results of a finished run to Label Studio.

        Images of this machine are uploaded; those in S3 stay there, and Label Studio is connected to the
        bucket. Publishing again changes only what is new.

        Args:
            connection: see `boxdrop.labelstudio.connection.connect`.
            title: of the project, if it is new.
            on_progress: called after each chunk of tasks.
        """
        from boxdrop.annotate.publishing import open_project, publish_records

        project = open_project(connection, self.source, self.label_set, title)
        published = publish_records(
            connection, project, self.source, self.records(), limits=self.limits, on_progress=on_progress
        )
        return project, published

    def _write_pictures(self, image: SourceImage, decoded: Image) -> str | None:
        """Write a thumbnail, and a copy of an image that a browser would show differently."""
        path = thumbnail_path(image.image_id)
        with self.stream.clock("thumbnail"):
            self._write_picture(path, make_thumbnail(decoded))
            if decoded.shown_alike:
                return None
            with contextlib.suppress(ImageError):  # too long for a copy: the thumbnail has to do
                copy = display_copy(decoded.pixels)
                path = copy_path(image.image_id)
                self._write_picture(path, copy)
        return str(path)

    def _write_picture(self, path: PurePosixPath, content: bytes) -> None:
        file = self.outputs.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def _prediction_id(self, image: SourceImage) -> bytes:
        return bytes.fromhex(self.stream.failure(image, "", "").prediction_id)

    def _former_id(self, image: SourceImage) -> bytes | None:
        """The prediction_id of an image of a bucket with versions, as boxdrop 0.1's `annotate` made it."""
        if image.former_version is None:
            return None
        return self._prediction_id(replace(image, version=image.former_version))

    def _stored(self) -> Iterator[Record]:
        """The records of the log, under the versions that images have today."""
        for record in read_jsonl(self.outputs.predictions):
            version = self._renamed.get(bytes.fromhex(record.prediction_id)) if self._renamed else None
            yield record if version is None else replace(record, version=version)

    def _finished(self, retry_failures: bool) -> set[bytes]:
        """The prediction_ids that earlier runs wrote; a last line that a kill cut off is removed."""
        if not self.outputs.predictions.exists():
            return set()
        remove_torn_line(self.outputs.predictions)
        return {
            bytes.fromhex(record.prediction_id)
            for record in read_jsonl(self.outputs.predictions)
            if not (retry_failures and isinstance(record, Failure))
        }

    def _write_outputs(self, summary: Summary, current: dict[bytes, bytes], keep_others: bool) -> None:
        """Rewrite the predictions, each image once under the current thresholds, and the other files.

        Args:
            summary: gets its counts.
            current: for each image_id of the source, its current prediction_id.
            keep_others: keep images beyond `limit`.
        """
        last: dict[bytes, int] = {}
        for number, record in enumerate(self._stored()):
            if self._is_current(record, current, keep_others):
                last[bytes.fromhex(record.image_id)] = number

        credits = read_credits(self.source)

        def task(prediction: Prediction) -> dict[str, Any] | None:
            url = self._import_address(prediction)
            if url is None:
                summary.not_importable += 1
                return None
            return to_task(prediction, self.label_set, url, credits.get(prediction.image))

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
        with AtomicFile(self.outputs.labeling_config) as file:
            file.write(labeling_config(self.label_set, identity_of(self.source.location)) + "\n")
        with contextlib.ExitStack() as stack:
            for writer in writers:
                stack.enter_context(writer)
            for number, record in enumerate(self._stored()):
                if last.get(bytes.fromhex(record.image_id)) != number:
                    continue
                if isinstance(record, Prediction):
                    record = reselect(record, self.label_set, self.threshold)
                summary.count(record)
                for writer in writers:
                    writer.add(record)

    def _import_address(self, prediction: Prediction) -> str | None:
        """Where Label Studio finds what people see, after an import by hand; None if it can find nothing."""
        folder = self.source.folder
        if prediction.display is None:
            return prediction.image if folder is None else local_files_url(folder, prediction.image)
        out = self.outputs.folder.resolve()
        if folder is None or not prediction.display.startswith(f"{COPIES}/"):
            return None
        if not out.is_relative_to(folder.resolve().parent):  # Label Studio's document root
            return None
        return local_files_url(folder, prediction.display, below=out)

    def _is_current(self, record: Record, current: dict[bytes, bytes], keep_others: bool) -> bool:
        wanted = current.get(bytes.fromhex(record.image_id))
        if wanted is None:
            return keep_others and record.model_version == self.model_version
        return wanted == bytes.fromhex(record.prediction_id)

    def _claim_folder(self) -> None:
        """Check that the folder belongs to this source, and record that it does."""
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
        self._label_ids = _earlier_ids(previous)
        self.label_set = self.label_set.with_frozen_ids(self._label_ids)
        self._label_ids |= {label.name: label.id for label in self.label_set}
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
                    "label_ids": self._label_ids,
                    "model_version": self.model_version,
                    "bundle": {"name": bundle.name, "family": bundle.family, "digest": bundle.digest},
                    "summary": asdict(summary) if summary else None,
                },
                file,
                indent=1,
            )


def _earlier_ids(run: Mapping[str, Any]) -> dict[str, int]:
    """The class id of every label that earlier runs into this folder had, by ``run.json``."""
    ids = run.get("label_ids")
    if isinstance(ids, dict) and all(isinstance(number, int) for number in ids.values()):
        return dict(ids)
    labels = run.get("labels")  # older versions wrote only these
    return {label.name: label.id for label in LabelSet.from_snapshot(labels, RUN_FORMAT)} if labels else {}
