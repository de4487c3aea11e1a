"""Exports a data set to a folder: items, images, the format's files, a card and a manifest.

Each step may be killed: files appear under their names only when complete, and the next call reuses existing
images. Two exports of the same items are identical, byte for byte.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from boxdrop.annotate.exports import AtomicFile
from boxdrop.aws.s3 import Bucket
from boxdrop.datasets.card import Tally, card
from boxdrop.datasets.formats import Entry, Format
from boxdrop.datasets.items import ClassName, DatasetError, Item, LeftOut, Why
from boxdrop.datasets.pictures import Pixels, digest_of, fetch
from boxdrop.datasets.spool import ImageFile, ImageNames, Spool
from boxdrop.domain.errors import ImageError
from boxdrop.folders import clear_disk_errors, exclusive
from boxdrop.retrieve.credits import credits_page

if TYPE_CHECKING:
    from boxdrop.retrieve.provenance import SourceRecord

PRIVATE: Final = ".boxdrop"
"""The folder of an export's state; readers ignore hidden folders."""
MANIFEST: Final = "manifest.tsv"
LEFT_OUT: Final = "left-out.tsv"
UNVERIFIED: Final = "unverified.tsv"
LINKS: Final = "images.tsv"
CREDITS: Final = "CREDITS.md"
CARD: Final = "DATASET.md"

_WORKERS: Final = 8
_AHEAD: Final = 4 * _WORKERS


class Images(StrEnum):
    """How images are exported."""

    COPY = "copy"
    LINK = "link"  # images.tsv names the images in S3, and so do the files of formats that can
    NONE = "none"


class Stored(Protocol):
    """The source of items: current verified work, or a frozen data set."""

    @property
    def classes(self) -> Sequence[ClassName]: ...

    @property
    def splits(self) -> Sequence[str]: ...

    @property
    def prompts(self) -> Mapping[str, Sequence[str]]: ...

    @property
    def predictions(self) -> bool: ...

    @property
    def dropped_boxes(self) -> Counter[str]: ...

    def __iter__(self) -> Iterator[Item | LeftOut]: ...


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of an export.

    Attributes:
        step: ``comparing``, ``collecting``, ``copying`` or ``writing``.
        done, total: `total` is 0 where it is unknown.
    """

    step: str
    done: int
    total: int = 0


@dataclass(slots=True)
class Summary:
    """The result of an export.

    Attributes:
        images, boxes: verified ones in the data set.
        predicted_images, predicted_boxes: unverified ones in the data set.
        left_out: images that are not in it, by reason.
        dropped_boxes: left-out boxes of its images, by reason.
        empty_splits: splits without a verified image.
        turned: rotated boxes; the format may drop the rotation.
        copied, kept: copied images, and those that already existed.
    """

    images: int = 0
    boxes: int = 0
    predicted_images: int = 0
    predicted_boxes: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    dropped_boxes: Counter[str] = field(default_factory=Counter)
    empty_splits: tuple[str, ...] = ()
    turned: int = 0
    copied: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class _Source:
    """See `boxdrop.datasets.formats.Source`."""

    project: str
    classes: Sequence[ClassName]
    splits: Sequence[str]
    predictions: bool
    spool: Spool
    links: bool

    def entries(self, split: str | None = None) -> Iterator[Entry]:
        for item, image in self.spool.entries(split):
            yield Entry(item, image, item.address if self.links else None)


def export(
    project: str,
    stored: Stored,
    format: Format,
    folder: Path,
    open_bucket: Callable[[str], Bucket] = Bucket,
    *,
    images: Images = Images.COPY,
    pixels: Pixels = Pixels.UPRIGHT,
    credits: Mapping[str, "SourceRecord"] = MappingProxyType({}),
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Summary:
    """Write a data set to a folder, which is created, or may hold an earlier export.

    Args:
        project: the project's name.
        stored: the items.
        format: one of `boxdrop.datasets.formats.FORMATS`.
        folder: must be empty, or hold an earlier export of boxdrop.
        open_bucket: opens a bucket by name, to read images.
        images: whether images are copied.
        pixels: how they are copied.
        credits: of `boxdrop.datasets.credited.read_credits`; those of images in the data set are written.
        on_progress: called often.

    Raises:
        DatasetError: the folder holds something else.
        BoxdropError: another export is writing to the folder, the disk is full, or S3 or the ledger does not
            respond.
    """
    if folder.is_dir() and not (folder / PRIVATE).is_dir() and any(folder.iterdir()):
        raise DatasetError(f"{folder} holds other files: give an empty or a new folder as --out")
    with (
        clear_disk_errors(folder, "give another --out"),
        exclusive(folder / PRIVATE / "lock", f"{folder}: another export is writing into it"),
    ):
        spool = Spool(folder / PRIVATE / "export.sqlite3")
        try:
            work = _Export(project, stored, format, folder, spool, credits, on_progress)
            return work.run(open_bucket, images, pixels)
        finally:
            spool.close()


class _Export:
    """An export in progress."""

    def __init__(
        self,
        project: str,
        stored: Stored,
        format: Format,
        folder: Path,
        spool: Spool,
        credits: Mapping[str, "SourceRecord"],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._project = project
        self._stored = stored
        self._format = format
        self._folder = folder
        self._spool = spool
        self._credits = credits
        self._report = on_progress
        self._names = ImageNames(format.image_path)
        self._summary = Summary()

    def run(self, open_bucket: Callable[[str], Bucket], images: Images, pixels: Pixels) -> Summary:
        for count in self._spool.fill(self._large_enough(), self._names):
            self._report(Progress("collecting", count))
        if images == Images.COPY:
            self._copy(open_bucket, pixels)
        source = _Source(
            self._project,
            self._stored.classes,
            self._stored.splits,
            self._stored.predictions,
            self._spool,
            images == Images.LINK,
        )
        for number, path in enumerate(self._format.write(self._folder, source), 1):
            self._keep(path)
            self._report(Progress("writing", number))
        self._describe(source)
        self._remove_older()
        self._write_manifest()
        return self._summary

    def _large_enough(self) -> Iterator[Item | LeftOut]:
        least = self._format.min_image_side
        for each in self._stored:
            if isinstance(each, Item) and min(each.width, each.height) < least:
                detail = f"{each.width}×{each.height}; {self._format.name} takes {least} pixels and more"
                yield LeftOut(each.image_id, each.key, Why.TOO_SMALL, detail)
            else:
                yield each

    def _copy(self, open_bucket: Callable[[str], Bucket], pixels: Pixels) -> None:
        """Copy images in parallel; only this thread uses SQLite."""
        total, done = self._spool.count(), 0
        buckets: dict[str, Bucket] = {}
        running: list[tuple[Item, Future[ImageFile]]] = []

        def settle() -> None:
            item, future = running.pop(0)
            try:
                self._spool.keep_image(item, pixels, future.result())
                self._summary.copied += 1
            except ImageError as error:
                why = Why.OTHER_SIZE if error.reason == "size" else Why.NO_IMAGE
                self._spool.leave_out(LeftOut(item.image_id, item.key, why, str(error)))

        with ThreadPoolExecutor(_WORKERS) as pool:
            try:
                for item, _ in self._spool.entries():
                    done += 1
                    self._report(Progress("copying", done, total))
                    before = self._spool.image(item, pixels)
                    if before is not None and self._is_there(item, before):
                        self._spool.point(item, before)
                        self._summary.kept += 1
                        continue
                    if item.bucket not in buckets:
                        buckets[item.bucket] = open_bucket(item.bucket)
                    arguments = (buckets[item.bucket], item, pixels, self._folder, self._names)
                    running.append((item, pool.submit(fetch, *arguments)))
                    if len(running) >= _AHEAD:
                        settle()
                while running:
                    settle()
            except BaseException:  # Ctrl-C, or S3 does not respond: start no new copies
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _is_there(self, item: Item, before: ImageFile) -> bool:
        """Whether an earlier export's file is at the right path and unchanged."""
        ending = before.path[before.path.rfind(".") :]
        path = self._folder / before.path
        return (
            before.path == self._names(item, ending)
            and path.is_file()
            and digest_of(path) == (before.sha256, before.size)
        )

    def _keep(self, path: str) -> None:
        self._spool.keep_file(path, *digest_of(self._folder / path))

    def _describe(self, source: _Source) -> None:
        """Write the card and the list of left-out images, and fill in the summary."""
        tally = Tally(self._stored.splits, self._stored.classes)
        for item, _ in self._spool.entries():
            tally.add(item)
        with AtomicFile(self._folder / LEFT_OUT) as file:
            file.write("image\twhy\tdetail\n")
            for each in self._spool.left_out():
                self._summary.left_out[each.why] += 1
                file.write(_row(each.key, str(each.why), each.detail))
        self._keep(LEFT_OUT)
        if source.predictions:
            self._list_unverified(source)
        if source.links:
            self._list_links(source)
        credited = self._write_credits()
        summary = self._summary
        summary.images, summary.boxes, summary.turned = tally.images, tally.boxes, tally.turned
        summary.predicted_images, summary.predicted_boxes = tally.predicted_images, tally.predicted_boxes
        if tally.images and len(tally.splits) > 1:
            summary.empty_splits = tuple(each for each in tally.splits if not tally.images_of[each])
        summary.dropped_boxes = Counter(self._stored.dropped_boxes)
        first = itertools.islice(source.entries(), 8)
        shown = [entry.image for entry in first if self._spool.has_file(entry.image)]
        with AtomicFile(self._folder / CARD) as file:
            file.write(
                card(
                    self._project,
                    self._format,
                    tally,
                    summary.left_out,
                    summary.dropped_boxes,
                    shown,
                    credited,
                    self._stored.prompts,
                )
            )
        self._keep(CARD)

    def _list_unverified(self, source: _Source) -> None:
        """List the unverified images, for formats whose own files cannot tell them apart."""
        with AtomicFile(self._folder / UNVERIFIED) as file:
            file.write("image\tkey\tboxes\tmodel_version\n")
            for item, image in ((each.item, each.image) for each in source.entries()):
                if not item.verified:
                    file.write(_row(image, item.key, str(len(item.boxes)), item.model_version or ""))
        self._keep(UNVERIFIED)

    def _list_links(self, source: _Source) -> None:
        """Name the object and the version behind each image that the format's files mention."""
        with AtomicFile(self._folder / LINKS) as file:
            file.write("image\taddress\tversion\n")
            for entry in source.entries():
                file.write(_row(entry.image, entry.item.address, entry.item.version))
        self._keep(LINKS)

    def _write_credits(self) -> Counter[str]:
        """Credit the creators of retrieved images; returns how many images have which licence."""
        keys = (item.key for item, _ in self._spool.entries()) if self._credits else iter(())
        records = [self._credits[key] for key in keys if key in self._credits]
        if records:
            with AtomicFile(self._folder / CREDITS) as file:
                file.write(credits_page(self._project, records))
            self._keep(CREDITS)
        licences = (record.candidate.license for record in records)
        return Counter(licence.name or licence.code for licence in licences)

    def _remove_older(self) -> None:
        """Remove only those files of an earlier export that this one does not have."""
        for path in self._spool.older_files():
            (self._folder / path).unlink(missing_ok=True)
        self._spool.forget_older_files()

    def _write_manifest(self) -> None:
        with AtomicFile(self._folder / MANIFEST) as file:
            for path, sha256, size in self._spool.files():
                file.write(f"{sha256}\t{size}\t{path}\n")


def _row(*cells: str) -> str:
    """A row of a table; no cell can end it."""
    return "\t".join(cell.encode("unicode_escape").decode() for cell in cells) + "\n"
