"""The keys of a bucket from an S3 Inventory, which S3 writes daily or weekly into a bucket.

Its format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html
"""

import csv
import gzip
import hashlib
import json
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_plus

from boxdrop.aws.s3 import Bucket, ListedObject
from boxdrop.domain.errors import BoxdropError
from boxdrop.iterables import chunked

_CALLS: Final = 32
"""HEAD requests at once: the size of `Bucket`'s connection pool."""

_AHEAD: Final = 1000
"""Keys for which S3 is asked before the first of them is taken."""


@dataclass(frozen=True, slots=True)
class _File:
    key: str
    md5: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """One inventory of a bucket, as its `manifest.json` describes it.

    Attributes:
        bucket: the one that was listed.
        keeper: the bucket that holds the inventory.
        columns: of its files, in order.
        files: in the order of the manifest.
    """

    bucket: str
    keeper: Bucket
    columns: tuple[str, ...]
    files: tuple[_File, ...]

    def keys(self, prefix: str = "", skip: int = 0) -> Iterator[str]:
        """Stream the keys of the objects that existed when S3 made the inventory.

        Each file is downloaded and checked before its first key is given, so memory does not grow.

        Args:
            prefix: what keys begin with.
            skip: leave out this many of them: those of an interrupted reading.

        Raises:
            BoxdropError: a file is missing, damaged, or may not be read.
        """
        return islice((key for key in self._rows() if key.startswith(prefix)), skip, None)

    def _rows(self) -> Iterator[str]:
        at = {name: number for number, name in enumerate(self.columns)}
        latest, deleted = at.get("IsLatest"), at.get("IsDeleteMarker")
        for file in self.files:
            try:
                for row in _csv_rows(self.keeper, file):
                    if latest is not None and row[latest].lower() != "true":
                        continue
                    if deleted is not None and row[deleted].lower() == "true":
                        continue
                    yield unquote_plus(row[at["Key"]], errors="strict")
            except (OSError, EOFError, zlib.error, csv.Error, UnicodeError, IndexError) as error:
                place = f"s3://{self.keeper.name}/{file.key}"
                raise BoxdropError(f"{place} does not match its manifest: {error}") from None


def read_inventory(keeper: Bucket, key: str) -> Inventory:
    """Read the manifest of an inventory.

    Args:
        keeper: the bucket that holds it.
        key: of its `manifest.json`.

    Raises:
        BoxdropError: there is none, or it is in a format other than CSV.
    """
    place = f"s3://{keeper.name}/{key}"
    stored = keeper.get(key)
    if stored is None:
        raise BoxdropError(f"{place}: there is no such object; name the manifest.json of an S3 Inventory")
    try:
        manifest: Any = json.loads(stored.body)
        columns = tuple(name.strip() for name in manifest["fileSchema"].split(","))
        files = tuple(_File(each["key"], each["MD5checksum"]) for each in manifest["files"])
        bucket, kind = str(manifest["sourceBucket"]), str(manifest["fileFormat"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BoxdropError(f"{place} is not the manifest.json of an S3 Inventory") from None
    if kind != "CSV":
        raise BoxdropError(
            f"{place}: boxdrop reads inventories in CSV, and this one is in {kind}; change the format of the "
            "inventory, or import from a listing by leaving out --inventory"
        )
    if "Key" not in columns:
        raise BoxdropError(f"{place} describes no column Key, only {', '.join(columns)}")
    return Inventory(bucket, keeper, columns, files)


def current_objects(bucket: Bucket, keys: Iterable[str]) -> Iterator[ListedObject]:
    """Ask S3 what the objects are now, some at once; in the order of the keys, without those that are gone.

    An inventory is up to a week old: an object may have been overwritten or deleted since.

    Raises:
        BoxdropError: S3 does not tell.
    """
    with ThreadPoolExecutor(_CALLS) as threads:
        for some in chunked(keys, _AHEAD):
            yield from filter(None, threads.map(bucket.current, some))


def _csv_rows(keeper: Bucket, file: _File) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.csv.gz"
        keeper.download(file.key, path)
        with path.open("rb") as data:
            if file.md5 and hashlib.file_digest(data, "md5").hexdigest() != file.md5.lower():
                raise BoxdropError(
                    f"s3://{keeper.name}/{file.key} is damaged: its MD5 differs from the manifest's"
                )
        with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
            yield from csv.reader(text)
