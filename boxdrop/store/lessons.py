"""Lessons in the data bucket, kept for ever under their ids, to which label sets refer."""

from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import LessonError
from boxdrop.domain.identity import lesson_id
from boxdrop.domain.lesson import Lesson
from boxdrop.lessons import read_lesson_text, write_lesson_text
from boxdrop.store.layout import lesson_key
from boxdrop.store.write_once import write_once


def write_lesson(bucket: Bucket, lesson: Lesson) -> str:
    """Store a lesson; returns its id. One that is there already is left alone.

    Raises:
        BoxdropError: it may not be written.
    """
    body = write_lesson_text(lesson)
    number = lesson_id(body)
    write_once(bucket, lesson_key(number), body)
    return number


def read_lesson(bucket: Bucket, number: str) -> Lesson:
    """Read a lesson, and check that it is the one of this id.

    Raises:
        LessonError: it is not there, or was altered.
        BoxdropError: the bucket cannot be read.
    """
    where = f"s3://{bucket.name}/{lesson_key(number)}"
    stored = bucket.get(lesson_key(number))
    if stored is None:
        raise LessonError(
            f"{where}: there is no such lesson; teach one with: boxdrop teach PROJECT, or remove `lesson` "
            "from labels.yaml"
        )
    if lesson_id(stored.body) != number:
        raise LessonError(f"{where}: was altered; teach again, or remove `lesson` from labels.yaml")
    return read_lesson_text(stored.body, where)
