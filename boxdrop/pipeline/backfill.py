"""backfill: mark objects that existed before boxdrop as wanted, one page of a listing at a time.

Each page goes through dispatch, as if events without an order had just reported its objects. So it may be
repeated, may run during uploads, and needs memory for one page only.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import quote_plus

from boxdrop.aws.s3 import Bucket, ListedObject, ListedVersion
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.left_out import LeftOut
from boxdrop.iterables import chunked
from boxdrop.pipeline.dispatch import Dispatcher, DispatchSummary

PAGE: Final = 1000
"""S3's page size."""


@dataclass(slots=True)
class BackfillSummary:
    """The progress of a backfill.

    Attributes:
        listed: objects.
        wanted: images by project that became wanted.
        ignored: objects that are neither images in a folder nor a ``labels.yaml``.
        left_out: their reasons, except for boxdrop's own files.
        asked: projects for which a launch was requested.
        cursor: key of the last finished object; pass it to continue from there.
    """

    listed: int = 0
    wanted: dict[str, int] = field(default_factory=dict)
    ignored: int = 0
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    asked: set[str] = field(default_factory=set)
    cursor: str = ""


class BackfillError(BoxdropError):
    """A page could not be marked.

    Attributes:
        cursor: where to continue."""

    def __init__(self, message: str, cursor: str) -> None:
        super().__init__(message)
        self.cursor = cursor


class Marks(Protocol):
    """Marks a page: `boxdrop.pipeline.dispatch.Dispatcher`."""

    def dispatch(self, messages: dict[str, str]) -> DispatchSummary: ...


def list_objects(bucket: Bucket, prefix: str, start_after: str = "") -> Iterator[ListedObject]:
    """Stream the objects of a bucket, with version-ids if they have any.

    Raises:
        BoxdropError: listing it is not allowed.
    """
    if bucket.has_versions():
        yield from bucket.list_newest(prefix, start_after)
    else:
        yield from bucket.list(prefix, start_after)


def backfill(
    dispatcher: Dispatcher | Marks,
    bucket: str,
    listing: Iterable[ListedObject],
    on_progress: Callable[[BackfillSummary], None] = lambda _: None,
) -> BackfillSummary:
    """Mark the objects of a listing; request launches page by page.

    Args:
        dispatcher: the system's.
        bucket: the image bucket's name.
        listing: of `list_objects`.
        on_progress: called after each page.

    Raises:
        BackfillError: the ledger or S3 failed; has the cursor to continue from.
        BoxdropError: the listing failed.
    """
    summary = BackfillSummary()
    for page in chunked(listing, PAGE):
        # labels.yaml first: images then find their labels, instead of being swept by them.
        ordered = sorted(page, key=lambda each: not each.key.endswith("/labels.yaml"))
        records = {"Records": [_record(bucket, each) for each in ordered]}
        done = dispatcher.dispatch({summary.cursor or "first": json.dumps(records)})
        if done.failed:
            reason = next(iter(done.failed.values()))
            raise BackfillError(reason, summary.cursor)
        summary.listed += len(page)
        summary.ignored += done.ignored
        summary.left_out.update(done.left_out)
        summary.asked.update(done.asked)
        for project, count in done.wanted.items():
            summary.wanted[project] = summary.wanted.get(project, 0) + count
        summary.cursor = page[-1].key
        on_progress(summary)
    return summary


def _record(bucket: str, listed: ListedObject) -> dict[str, Any]:
    """An object as S3's creation event would report it, but without a sequencer, which listings lack."""
    content: dict[str, Any] = {"key": quote_plus(listed.key), "size": listed.size, "eTag": listed.etag}
    if isinstance(listed, ListedVersion):
        content["versionId"] = listed.version_id
    return {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": content},
    }
