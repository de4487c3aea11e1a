"""How many images of a project need a change, as `boxdrop rank` found it last: one object per project."""

from dataclasses import dataclass
from datetime import datetime

from boxdrop.aws.s3 import Bucket
from boxdrop.documents import DocumentError, from_json, to_json
from boxdrop.store.layout import outlook_key
from boxdrop.store.nested import get_own


@dataclass(frozen=True, slots=True)
class StoredOutlook:
    """See `boxdrop.assessment.priority.Outlook`.

    Attributes:
        at: when it was computed.
        learned_from: verified images.
        images: images that nobody had verified.
        expected, low, high: how many of them need a change, with the interval of 95 of 100 cases.
    """

    at: datetime
    learned_from: int
    images: int
    expected: float
    low: int
    high: int


def write_outlook(bucket: Bucket, project: str, outlook: StoredOutlook) -> None:
    """Store it in place of the one before."""
    bucket.put(outlook_key(project), to_json(outlook).encode())


def read_outlook(bucket: Bucket, project: str) -> StoredOutlook | None:
    """Read it; None if there is none, or another version of boxdrop wrote it."""
    stored = get_own(bucket, outlook_key(project), project)
    if stored is None:
        return None
    try:
        return from_json(StoredOutlook, stored.body)
    except DocumentError:
        return None
