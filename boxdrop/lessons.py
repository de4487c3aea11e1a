"""Lessons as files: one JSON document each, whose id is a hash of its text."""

from pathlib import Path
from typing import Final

from boxdrop.documents import from_json, to_json
from boxdrop.domain.errors import LessonError
from boxdrop.domain.identity import lesson_id
from boxdrop.domain.lesson import Lesson

FORMAT: Final = "boxdrop-lesson/1"


def write_lesson_text(lesson: Lesson) -> bytes:
    """The document of a lesson, one line of JSON."""
    return to_json(lesson, format=FORMAT).encode() + b"\n"


def read_lesson_text(body: bytes, where: str) -> Lesson:
    """Read a document.

    Args:
        where: what messages call it.

    Raises:
        LessonError: it is not a lesson.
    """
    return from_json(Lesson, body, format=FORMAT, where=where, error=LessonError)


def open_lesson(path: Path) -> tuple[str, Lesson]:
    """Read a lesson's file; also returns its id.

    >>> from boxdrop.lessons import open_lesson
    >>> from pathlib import Path
    >>> number, lesson = open_lesson(Path("fruit.lesson.json"))  # doctest: +SKIP

    Raises:
        LessonError: the file cannot be read, or is not a lesson.
    """
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        raise LessonError(
            f"{path}: no such file; `boxdrop teach PROJECT --out FILE` writes lessons"
        ) from None
    except OSError as error:
        raise LessonError(f"{path}: cannot be read: {error.strerror}") from None
    return lesson_id(body), read_lesson_text(body, str(path))
