"""A folder as people have it: images beside everything else that cameras, phones and office programs leave.

Each row of `ODD_FILES` says what becomes of one file at every entrance. The folder and the bucket agree,
but where content decides: a bucket is listed by name.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from boxdrop.domain.left_out import LeftOut
from tests.data.hostile import encode, scene

TAKEN = None
"""In place of a reason: the file is an image, or is named like one and so fails with a reason of its own."""


@dataclass(frozen=True)
class OddFile:
    """One file.

    Attributes:
        name: its path below the folder.
        content: its bytes.
        in_folder: why `annotate DIR` and `drop` leave it out; None if they take it.
        in_bucket: why `annotate s3://…`, `dispatch` and `backfill` leave an object of this name out.
        suffix: what `drop` appends to its key.
    """

    name: str
    content: bytes
    in_folder: LeftOut | None
    in_bucket: LeftOut | None
    suffix: str = ""


_PNG = encode(scene(), "PNG")
_JPEG = encode(scene(), "JPEG")
_TIFF = encode(scene(), "TIFF")
_BMP = encode(scene(), "BMP")
_MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(64)
_ZIP = b"PK\3\4" + bytes(60)
_TEXT = b"a note\n"

_SAME = (
    OddFile("a.jpg", _JPEG, TAKEN, TAKEN),
    OddFile("B.PNG", _PNG, TAKEN, TAKEN),
    OddFile("deep/er/c.jpeg", _JPEG, TAKEN, TAKEN),
    OddFile("wrong.png", _JPEG, TAKEN, TAKEN),
    OddFile("zero.jpg", b"", TAKEN, TAKEN),
    OddFile("page.jpg", b"<!DOCTYPE html><title>404</title>", TAKEN, TAKEN),
    OddFile(".hidden.jpg", _JPEG, LeftOut.HIDDEN, LeftOut.HIDDEN),
    OddFile("._a.jpg", b"\0\5\x16\7" + bytes(60), LeftOut.HIDDEN, LeftOut.HIDDEN),
    OddFile(".DS_Store", bytes(60), LeftOut.HIDDEN, LeftOut.HIDDEN),
    OddFile("clip.MP4", _MP4, LeftOut.VIDEO, LeftOut.VIDEO),
    OddFile("film.mkv", b"\x1aE\xdf\xa3" + bytes(60), LeftOut.VIDEO, LeftOut.VIDEO),
    OddFile("clip.avi", b"RIFF\x10\0\0\0AVI LIST", LeftOut.VIDEO, LeftOut.VIDEO),
    OddFile("song.mp3", b"ID3\4" + bytes(60), LeftOut.SOUND, LeftOut.SOUND),
    OddFile("say.wav", b"RIFF\x10\0\0\0WAVEfmt ", LeftOut.SOUND, LeftOut.SOUND),
    OddFile("memo.m4a", b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42", LeftOut.SOUND, LeftOut.SOUND),
    OddFile("paper.pdf", b"%PDF-1.7\n", LeftOut.PDF, LeftOut.PDF),
    OddFile("letter.docx", _ZIP, LeftOut.DOCUMENT, LeftOut.DOCUMENT),
    OddFile("page.html", b"<html><body>", LeftOut.DOCUMENT, LeftOut.DOCUMENT),
    OddFile("all.zip", _ZIP, LeftOut.ARCHIVE, LeftOut.ARCHIVE),
    OddFile("notes.txt", _TEXT, LeftOut.TEXT, LeftOut.TEXT),
    OddFile("boxes.json", b"{}", LeftOut.TEXT, LeftOut.TEXT),
    OddFile("empty.csv", b"", LeftOut.TEXT, LeftOut.TEXT),
    OddFile("logo.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", LeftOut.DRAWING, LeftOut.DRAWING),
    OddFile("logo.ai", b"%PDF-1.5\n", LeftOut.DRAWING, LeftOut.DRAWING),
    OddFile("IMG_1.CR2", b"II*\0\x10\0\0\0CR\2\0" + bytes(60), LeftOut.RAW, LeftOut.RAW),
    OddFile("IMG_2.CR3", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", LeftOut.RAW, LeftOut.RAW),
    OddFile("IMG_3.dng", _TIFF, LeftOut.RAW, LeftOut.RAW),
    OddFile("art.psd", b"8BPS\0\1" + bytes(60), LeftOut.UNSUPPORTED, LeftOut.UNSUPPORTED),
    OddFile("new.jxl", b"\xff\x0a" + bytes(60), LeftOut.UNSUPPORTED, LeftOut.UNSUPPORTED),
    OddFile("old.ppm", b"P6\n1 1\n255\n\0\0\0", LeftOut.UNSUPPORTED, LeftOut.UNSUPPORTED),
    OddFile("scan.dcm", bytes(128) + b"DICM" + bytes(60), LeftOut.UNSUPPORTED, LeftOut.UNSUPPORTED),
    OddFile("Thumbs.db", b"\xd0\xcf\x11\xe0" + bytes(60), LeftOut.OTHER, LeftOut.OTHER),
    OddFile("model.bin", b"\x80\x81\x82" + bytes(60), LeftOut.OTHER, LeftOut.OTHER),
)
_CONTENT_DECIDES = (
    OddFile("noext", _JPEG, TAKEN, LeftOut.NO_EXTENSION, ".jpg"),
    OddFile("scan", _TIFF, TAKEN, LeftOut.NO_EXTENSION, ".tif"),
    OddFile("wrong.txt", _PNG, TAKEN, LeftOut.TEXT, ".png"),
    OddFile("copy.jpg.bak", _JPEG, TAKEN, LeftOut.OTHER, ".jpg"),
    OddFile("bitmap.dat", _BMP, TAKEN, LeftOut.OTHER, ".bmp"),
    OddFile("README", _TEXT, LeftOut.TEXT, LeftOut.NO_EXTENSION),
    OddFile("nothing", b"", LeftOut.EMPTY, LeftOut.NO_EXTENSION),
    OddFile("BMW list", b"BMW 3, BMW 5, Mini, and many more\n", LeftOut.TEXT, LeftOut.NO_EXTENSION),
    OddFile("clip", _MP4, LeftOut.VIDEO, LeftOut.NO_EXTENSION),
    OddFile("film.txt", _MP4, LeftOut.VIDEO, LeftOut.TEXT),
    OddFile("font", b"\0\0\1\0\0\4\0\0" + bytes(60), LeftOut.OTHER, LeftOut.NO_EXTENSION),
)
ODD_FILES = _SAME + _CONTENT_DECIDES

OWN_FILES = ("labels.yaml", "sources.jsonl")

ODD_ENTRIES = {
    "broken.jpg": LeftOut.BROKEN_LINK,
    "circle.jpg": LeftOut.BROKEN_LINK,
    "linked": LeftOut.LINKED_FOLDER,
    "pipe.jpg": LeftOut.NOT_REGULAR,
    "link to a pipe": LeftOut.NOT_REGULAR,
    ".git/": LeftOut.HIDDEN_FOLDER,
    "earlier-boxes/": LeftOut.OUTPUT,
}
"""What only a folder can have, and the reason."""

LINKED_IMAGE = "link.jpg"


def write(folder: Path) -> None:
    """Make the folder, with one more image, `LINKED_IMAGE`."""
    for odd in ODD_FILES:
        _write(folder / odd.name, odd.content)
    for name in OWN_FILES:
        _write(folder / name, b"labels: [dog]\n" if name.endswith("yaml") else b"")
    for name in ("run.json", "predictions.jsonl", "thumbnails/1.jpg"):
        _write(folder / "earlier-boxes" / name, b"{}")
    _write(folder / ".git" / "a.jpg", _JPEG)
    (folder / LINKED_IMAGE).symlink_to(folder / "a.jpg")
    (folder / "broken.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "circle.jpg").symlink_to(folder / "circle.jpg")
    (folder / "linked").symlink_to(folder / "deep", target_is_directory=True)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "link to a pipe").symlink_to(folder / "pipe.jpg")


def expected_in_folder() -> tuple[set[str], dict[str, LeftOut]]:
    """The names that are taken from the folder, and what is left out."""
    taken = {odd.name for odd in ODD_FILES if odd.in_folder is TAKEN} | {LINKED_IMAGE}
    left_out = {odd.name: odd.in_folder for odd in ODD_FILES if odd.in_folder is not None}
    return taken, left_out | ODD_ENTRIES


def expected_in_bucket() -> tuple[set[str], Counter[LeftOut]]:
    """The names that are taken from a bucket with these objects, and the reasons of the others."""
    taken = {odd.name for odd in ODD_FILES if odd.in_bucket is TAKEN}
    return taken, Counter(odd.in_bucket for odd in ODD_FILES if odd.in_bucket is not None)


def objects() -> Iterator[tuple[str, bytes]]:
    """Names and contents of what somebody uploads who copies the folder as it is."""
    for odd in ODD_FILES:
        yield odd.name, odd.content
    for name in OWN_FILES:
        yield name, b"labels: [dog]\n" if name.endswith("yaml") else b""
    yield "deep/", b""  # S3's console marks folders so


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
