"""The state of an export, in a database on disk: memory stays constant, and a kill does no harm."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from boxdrop.datasets.identifiers import box_number, image_number
from boxdrop.datasets.items import Box, DatasetError, Item, LeftOut, Why
from boxdrop.documents import to_json
from boxdrop.domain.times import read_time

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS items (
    image_id TEXT PRIMARY KEY, version TEXT, split TEXT, image TEXT, body TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS numbers (kind INTEGER, number INTEGER, PRIMARY KEY (kind, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS left_out (
    image_id TEXT PRIMARY KEY, key TEXT, why TEXT, detail TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS images (
    image_id TEXT, version TEXT, pixels TEXT, path TEXT, sha256 TEXT, bytes INTEGER, original TEXT,
    PRIMARY KEY (image_id, version, pixels)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, sha256 TEXT, bytes INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS older_files (path TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_IMAGE, _BOX = 0, 1
_WITHDRAWN: Final = frozenset({Why.DELETED, Why.LOST, Why.UNVERIFIED})
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A copied image.

    Attributes:
        path: below the data set's folder.
        sha256, size: of the file; size in bytes.
        original: sha256 of the object in the bucket; the same unless the pixels had to be turned upright.
    """

    path: str
    sha256: str
    size: int
    original: str


class Spool:
    """A SQLite database beside an export. It remembers copied images across exports.

    Args:
        path: of the database; created if it is missing.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_SCHEMA}")
        except sqlite3.DatabaseError as error:
            raise DatasetError(f"{path}: {error}; remove the file and export again") from None

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def fill(self, source: Iterator[Item | LeftOut], image_of: "ImageNames") -> Iterator[int]:
        """Replace the stored data set; yields the number of images read so far."""
        self._db.execute("BEGIN")
        self._db.execute("INSERT OR IGNORE INTO older_files SELECT path FROM files")
        for clear in (
            "DELETE FROM items",
            "DELETE FROM numbers",
            "DELETE FROM left_out",
            "DELETE FROM files",
        ):
            self._db.execute(clear)
        for count, each in enumerate(source, 1):
            if isinstance(each, Item):
                if not each.verified and not self._make_room(each):
                    continue
                item = self._with_free_numbers(each)
                row = (item.image_id, item.version, item.split, image_of(item), to_json(item))
                self._db.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?)", row)
            else:
                self._leave_out(each)
            yield count
        self._db.execute("COMMIT")

    def _make_room(self, item: Item) -> bool:
        """Whether an unverified image belongs in the data set, which has what annotators said already.

        Their work was read first, and may have changed since; an image comes once, and what they skipped or
        what cannot be used stays out. Where their work was withdrawn, the image is unverified again.
        """
        if self._db.execute("SELECT 1 FROM items WHERE image_id = ?", (item.image_id,)).fetchone():
            return False
        row = self._db.execute("SELECT why FROM left_out WHERE image_id = ?", (item.image_id,)).fetchone()
        if row is not None and row[0] not in _WITHDRAWN:
            return False
        self._db.execute("DELETE FROM left_out WHERE image_id = ?", (item.image_id,))
        return True

    def _with_free_numbers(self, item: Item) -> Item:
        """The item, with the next hash for each number that an earlier item has taken."""
        number, attempt = item.number, 0
        while not self._take(_IMAGE, number):
            attempt += 1
            number = image_number(item.image_id, attempt)
        boxes = []
        for box in item.boxes:
            free, attempt = box.number, 0
            while not self._take(_BOX, free):
                attempt += 1
                free = box_number(item.image_id, box.region, attempt)
            boxes.append(box if free == box.number else replace(box, number=free))
        return replace(item, number=number, boxes=tuple(boxes))

    def _take(self, kind: int, number: int) -> bool:
        done = self._db.execute("INSERT OR IGNORE INTO numbers VALUES (?, ?)", (kind, number))
        return done.rowcount == 1

    def _leave_out(self, each: LeftOut) -> None:
        row = (each.image_id, each.key, str(each.why), each.detail)
        self._db.execute("INSERT OR REPLACE INTO left_out VALUES (?, ?, ?, ?)", row)

    def leave_out(self, each: LeftOut) -> None:
        """Remove an item."""
        self._db.execute("DELETE FROM items WHERE image_id = ?", (each.image_id,))
        self._leave_out(each)

    def entries(self, split: str | None = None) -> Iterator[tuple[Item, str]]:
        """Stream items with the paths of their images, by image_id."""
        last = ""
        query = (
            "SELECT image_id, image, body FROM items "
            "WHERE image_id > ? AND (? IS NULL OR split = ?) ORDER BY image_id LIMIT ?"
        )
        while True:
            rows = self._db.execute(query, (last, split, split, _PAGE)).fetchall()
            for image_id, image, body in rows:
                yield _read(body), image
                last = image_id
            if len(rows) < _PAGE:
                return

    def count(self) -> int:
        """How many items there are."""
        (count,) = self._db.execute("SELECT COUNT(*) FROM items").fetchone()
        return int(count)

    def left_out(self) -> Iterator[LeftOut]:
        """Stream the left-out images, by image_id."""
        with closing(self._db.execute("SELECT * FROM left_out ORDER BY image_id")) as rows:
            for image_id, key, why, detail in rows:
                yield LeftOut(image_id, key, Why(why), detail)

    def image(self, item: Item, pixels: str) -> ImageFile | None:
        """The file that an earlier export, or this one before a kill, made from the image's version."""
        query = "SELECT path, sha256, bytes, original FROM images WHERE image_id=? AND version=? AND pixels=?"
        row = self._db.execute(query, (item.image_id, item.version, pixels)).fetchone()
        return ImageFile(*row) if row else None

    def keep_image(self, item: Item, pixels: str, file: ImageFile) -> None:
        """Record a complete file, and link the item to it."""
        row = (item.image_id, item.version, pixels, file.path, file.sha256, file.size, file.original)
        self._db.execute("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        self.point(item, file)

    def point(self, item: Item, file: ImageFile) -> None:
        """Link an item to its file."""
        self._db.execute("UPDATE items SET image = ? WHERE image_id = ?", (file.path, item.image_id))
        self.keep_file(file.path, file.sha256, file.size)

    def keep_file(self, path: str, sha256: str, size: int) -> None:
        """Add a file to the manifest."""
        self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (path, sha256, size))

    def has_file(self, path: str) -> bool:
        """Whether the manifest has a file."""
        return self._db.execute("SELECT 1 FROM files WHERE path = ?", (path,)).fetchone() is not None

    def older_files(self) -> list[str]:
        """Files of earlier exports, finished or not, that this one does not have."""
        query = "SELECT path FROM older_files WHERE path NOT IN (SELECT path FROM files)"
        return [path for (path,) in self._db.execute(query).fetchall()]

    def forget_older_files(self) -> None:
        """Delete the records of earlier exports' files, once these are removed."""
        self._db.execute("DELETE FROM older_files")

    def files(self) -> Iterator[tuple[str, str, int]]:
        """Stream the manifest: path, sha256 and bytes of each file, by path."""
        with closing(self._db.execute("SELECT path, sha256, bytes FROM files ORDER BY path")) as rows:
            yield from rows


def _read(body: str) -> Item:
    """An item that this export has written itself; skipping validation makes reading ten times faster."""
    fields = json.loads(body)
    boxes = tuple(Box(**{**box, "xyxy": tuple(box["xyxy"])}) for box in fields.pop("boxes"))
    return Item(**{**fields, "reviewed_at": read_time(fields["reviewed_at"]), "boxes": boxes})


class ImageNames:
    """Names the image file of an item before its content is known.

    Args:
        path_of: see `boxdrop.datasets.formats.Format.image_path`.
    """

    def __init__(self, path_of: Callable[[str, str], str]) -> None:
        self._path_of = path_of

    def __call__(self, item: Item, ending: str | None = None) -> str:
        """The path below the data set's folder.

        Args:
            ending: the file's extension, with its dot. Default: that of the key.
        """
        name = item.key.rpartition("/")[2]
        dot = name.rfind(".")
        own = name[dot:].lower() if dot > 0 else ""
        return self._path_of(item.split, f"{item.stem}{own if ending is None else ending}")
