"""What came of teaching a project: one object per project, to which each attempt is added."""

from dataclasses import dataclass
from typing import Final

from boxdrop.aws.s3 import Bucket
from boxdrop.documents import DocumentError, from_json, to_json
from boxdrop.domain.teaching import Teaching
from boxdrop.store.layout import teachings_key

_KEPT: Final = 200


@dataclass(frozen=True, slots=True)
class _Teachings:
    attempts: tuple[Teaching, ...] = ()


def read_teachings(bucket: Bucket, project: str) -> tuple[Teaching, ...]:
    """All attempts, oldest first; none if another version of boxdrop wrote them.

    Raises:
        BoxdropError: the bucket cannot be read.
    """
    stored = bucket.get(teachings_key(project))
    if stored is None:
        return ()
    try:
        return from_json(_Teachings, stored.body).attempts
    except DocumentError:
        return ()


def add_teaching(bucket: Bucket, project: str, teaching: Teaching) -> None:
    """Add an attempt. Of two at the same moment one may be lost: they are for people to read, and for
    ``teach: auto`` to know when to try again, where labels.yaml has the last word."""
    every = (*read_teachings(bucket, project), teaching)
    bucket.put(teachings_key(project), to_json(_Teachings(every[-_KEPT:])).encode())
