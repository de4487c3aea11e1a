"""Destinations: where retrieved images are stored, with a memory of earlier runs.

A destination remembers every address that it settled: stored images in ``sources.jsonl``, unusable ones in a
second file. So a killed run resumes after them. An image is stored in steps: first the bytes, under a
temporary name (in S3: at once, with its provenance as metadata), then the line in ``sources.jsonl``, then the
final name. So no image is ever without its provenance, and no line without its image.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, Protocol
from urllib.parse import quote

from boxdrop.aws.s3 import Bucket, Put
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.image_formats import suffix_of
from boxdrop.folders import clear_disk_errors, exclusive, remove_torn_line
from boxdrop.retrieve.provenance import SOURCES, SourceRecord, read_sources, to_metadata

_REJECTED: Final = ".retrieve-rejected.jsonl"
_ARRIVING: Final = ".retrieve-arriving"
_LOCK: Final = ".retrieve-lock"
_SYNC_EVERY: Final = 50

CONTENT_TYPES: Final = {
    **{
        "jpeg": "image/jpeg",
        "png": "image/png",
        "webp": "image/webp",
        "gif": "image/gif",
        "bmp": "image/bmp",
    },
    **{
        "tiff": "image/tiff",
        "avif": "image/avif",
        "heic": "image/heic",
        "jpeg2000": "image/jp2",
        "ico": "image/x-icon",
    },
}


class Destination(Protocol):
    """Stores images. `place` may be called from several threads, the other methods from one."""

    @property
    def location(self) -> str:
        """As the user would write it."""

    def open(self) -> contextlib.AbstractContextManager[None]:
        """Lock the destination, and load the memory of earlier runs."""

    def kept(self) -> Iterator[SourceRecord]:
        """The stored images."""

    def rejected(self) -> Iterator[str]:
        """Addresses that gave no image."""

    def place(self, record: SourceRecord, data: bytes, format: str) -> None:
        """Store the bytes of an image, before `keep`."""

    def keep(self, record: SourceRecord) -> None:
        """Add the image."""

    def reject(self, url: str, reason: str, message: str) -> None:
        """Remember that an address gave no image."""

    def finish(self) -> None:
        """Complete ``sources.jsonl``."""


class Folder:
    """Images in a local folder, with ``sources.jsonl`` beside them; see `Destination`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._memory = _Memory(path)

    @property
    def location(self) -> str:
        return str(self.path)

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        with clear_disk_errors(self.path), self._memory.open():
            arriving = self.path / _ARRIVING
            arriving.mkdir(exist_ok=True)
            waiting = {path.name for path in arriving.iterdir()}
            for record in self.kept() if waiting else ():
                if record.file in waiting:  # killed between line and name
                    (arriving / record.file).replace(self.path / record.file)
                    waiting.discard(record.file)
            for name in waiting:
                (arriving / name).unlink()
            yield

    def kept(self) -> Iterator[SourceRecord]:
        return read_sources(self._memory.sources)

    def rejected(self) -> Iterator[str]:
        return self._memory.rejections()

    def place(self, record: SourceRecord, data: bytes, format: str) -> None:
        (self.path / _ARRIVING / record.file).write_bytes(data)

    def keep(self, record: SourceRecord) -> None:
        self._memory.keep(record)
        (self.path / _ARRIVING / record.file).replace(self.path / record.file)

    def reject(self, url: str, reason: str, message: str) -> None:
        self._memory.reject(url, reason, message)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            (self.path / _ARRIVING).rmdir()


class BucketPrefix:
    """Images under a prefix of a bucket; see `Destination`.

    Provenance is in each object's metadata, and in ``PREFIX/sources.jsonl``, which is written every 50 images
    and at the end. An empty one is written before the first image, since publishing looks for credits if it
    exists. Unusable addresses are remembered only on this machine.

    Args:
        bucket: the bucket.
        prefix: ends in ``/``.
        memory: a local folder for this destination's memory.
    """

    def __init__(self, bucket: Bucket, prefix: str, memory: Path) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self._memory = _Memory(memory / bucket.name / quote(prefix.rstrip("/") or "_", safe=""))
        self._unsaved = 0

    @property
    def location(self) -> str:
        return f"s3://{self.bucket.name}/{self.prefix}"

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        with clear_disk_errors(self._memory.folder), self._memory.open():
            there = self.bucket.get(self.prefix + SOURCES)
            if there is not None:
                self._memory.merge(there.body, f"{self.location}{SOURCES}")
            self._save()
            yield

    def kept(self) -> Iterator[SourceRecord]:
        return read_sources(self._memory.sources)

    def rejected(self) -> Iterator[str]:
        return self._memory.rejections()

    def place(self, record: SourceRecord, data: bytes, format: str) -> None:
        key = self.prefix + record.file
        made = self.bucket.create(key, data, CONTENT_TYPES[format], to_metadata(record.candidate))
        if made is Put.REFUSED and not self.bucket.exists(key):  # another writer, which gave up
            raise BoxdropError(
                f"s3://{self.bucket.name}/{key} cannot be written: another process is writing it; run again"
            )

    def keep(self, record: SourceRecord) -> None:
        self._memory.keep(record)
        self._unsaved += 1
        if self._unsaved == _SYNC_EVERY:
            self._save()

    def reject(self, url: str, reason: str, message: str) -> None:
        self._memory.reject(url, reason, message)

    def finish(self) -> None:
        if self._unsaved:
            self._save()

    def _save(self) -> None:
        sources = self._memory.sources
        body = sources.read_bytes() if sources.exists() else b""
        self.bucket.put(self.prefix + SOURCES, body, "application/x-ndjson")
        self._unsaved = 0


class _Memory:
    """The two files of a destination's memory; they are append-only, one line at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sources = folder / SOURCES
        self._rejected = folder / _REJECTED
        self._kept_file: IO[bytes] | None = None
        self._rejected_file: IO[bytes] | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Hold the folder's lock, which the system releases if the process dies; repair torn last lines."""
        with exclusive(self.folder / _LOCK, f"another boxdrop is retrieving into {self.folder}; wait for it"):
            for path in (self.sources, self._rejected):
                if path.exists():
                    remove_torn_line(path)
            with self.sources.open("ab") as kept, self._rejected.open("ab") as rejected:
                self._kept_file, self._rejected_file = kept, rejected
                yield

    def keep(self, record: SourceRecord) -> None:
        _append(self._kept_file, record.to_json())

    def reject(self, url: str, reason: str, message: str) -> None:
        _append(self._rejected_file, json.dumps({"url": url, "reason": reason, "message": message}))

    def rejections(self) -> Iterator[str]:
        if self._rejected.exists():
            with self._rejected.open("rb") as lines:
                for line in lines:
                    yield str(json.loads(line)["url"])

    def merge(self, content: bytes, where: str) -> None:
        """Add lines that another machine wrote."""
        known = {record.file for record in read_sources(self.sources)}
        for number, line in enumerate(content.splitlines(), 1):
            record = SourceRecord.from_json(line, f"{where}: line {number}")
            if record.file not in known:
                self.keep(record)


def _append(file: IO[bytes] | None, line: str) -> None:
    assert file is not None, "the destination is not open"
    file.write(line.encode("utf-8", "replace") + b"\n")
    file.flush()


def file_name(title: str, sha256: str, format: str) -> str:
    """``ripe-bananas-3f2a9c01d2e4.jpg``: readable, unique per content, and safe on every file system."""
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in title.lower()).split()
    slug = "-".join(words)[:40].strip("-")
    return f"{slug}{'-' if slug else ''}{sha256[:12]}.{suffix_of(format)}"


def digest_of(url: str) -> bytes:
    """A 16-byte hash of an address: millions of them fit into memory."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).digest()[:16]
