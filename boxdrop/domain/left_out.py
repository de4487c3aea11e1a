"""Why a file or an object is left out: one list of reasons, with the same words at every entrance."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final


class LeftOut(StrEnum):
    """Why something in a folder or a bucket is not taken as an image. Values are for files and programs."""

    HIDDEN = "hidden"
    HIDDEN_FOLDER = "hidden_folder"
    BROKEN_LINK = "broken_link"
    LINKED_FOLDER = "linked_folder"
    NOT_REGULAR = "not_regular"
    UNREADABLE = "unreadable"
    UNREADABLE_FOLDER = "unreadable_folder"
    OUTPUT = "output"
    EMPTY = "empty"
    VIDEO = "video"
    SOUND = "sound"
    PDF = "pdf"
    DOCUMENT = "document"
    TEXT = "text"
    ARCHIVE = "archive"
    DRAWING = "drawing"
    RAW = "raw"
    UNSUPPORTED = "unsupported"
    OTHER = "other"
    NO_EXTENSION = "no_extension"
    NO_FOLDER = "no_folder"


_WORDS: Final = {
    LeftOut.HIDDEN: ("hidden file", "hidden files"),
    LeftOut.HIDDEN_FOLDER: ("hidden folder", "hidden folders"),
    LeftOut.BROKEN_LINK: ("broken link", "broken links"),
    LeftOut.LINKED_FOLDER: ("link to a folder", "links to folders"),
    LeftOut.NOT_REGULAR: ("pipe, socket or device", "pipes, sockets or devices"),
    LeftOut.UNREADABLE: ("unreadable file", "unreadable files"),
    LeftOut.UNREADABLE_FOLDER: ("unreadable folder", "unreadable folders"),
    LeftOut.OUTPUT: ("output folder of boxdrop", "output folders of boxdrop"),
    LeftOut.EMPTY: ("empty file", "empty files"),
    LeftOut.VIDEO: ("video", "videos"),
    LeftOut.SOUND: ("sound file", "sound files"),
    LeftOut.PDF: ("PDF", "PDFs"),
    LeftOut.DOCUMENT: ("document", "documents"),
    LeftOut.TEXT: ("text file", "text files"),
    LeftOut.ARCHIVE: ("archive", "archives"),
    LeftOut.DRAWING: ("vector drawing", "vector drawings"),
    LeftOut.RAW: ("camera raw file", "camera raw files"),
    LeftOut.UNSUPPORTED: ("image of an unsupported format", "images of unsupported formats"),
    LeftOut.OTHER: ("file of another kind", "files of other kinds"),
    LeftOut.NO_EXTENSION: ("object without an extension", "objects without an extension"),
    LeftOut.NO_FOLDER: ("object outside any folder", "objects outside any folder"),
}

OnLeftOut = Callable[[str, LeftOut], None]
"""Called with the name of each file, folder or object that a listing leaves out, and the reason."""


def ignore(name: str, reason: LeftOut) -> None:
    """Discard what a listing leaves out."""


def describe_one(reason: LeftOut) -> str:
    """``video``, ``link to a folder``, …"""
    return _WORDS[reason][0]


def describe_left_out(counts: Mapping[LeftOut, int]) -> str:
    """``left out 7: 3 hidden files, 2 videos, 1 broken link, 1 PDF``; empty if nothing is left out."""
    present = [reason for reason in LeftOut if counts.get(reason)]
    if not present:
        return ""
    present.sort(key=lambda reason: -counts[reason])
    listed = ", ".join(f"{counts[reason]:,} {_WORDS[reason][counts[reason] != 1]}" for reason in present)
    return f"left out {sum(counts[reason] for reason in present):,}: {listed}"
