"""backfill: objects that were there before boxdrop are marked wanted, a page of a listing at a time.

Each page goes through dispatch, as if its objects had just been uploaded by an event that tells no order. So
it may be repeated, may run beside uploads, and needs no more memory for millions than for one page.
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
"""As many as S3 lists in one call."""


@dataclass(slots=True)
class BackfillSummary:
    """How far a backfill is.

    Attributes:
        listed: objects.
        wanted: images by project that are wanted now, and were not before.
        ignored: objects that are neither images in a folder nor a ``labels.yaml``.
        left_out: the reasons of those, but for what boxdrop itself keeps in the bucket.
        asked: projects that a launch was asked for.
        cursor: key of the last object that is done; give it to go on from there.
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
        cursor: where to go on.
    """

    def __init__(self, message: str, cursor: str) -> None:
        super().__init__(message)
        self.cursor = cursor


class Marks(Protocol):
    """What marks a page: `boxdrop.pipeline.dispatch.Dispatcher`."""

    def dispatch(self, messages: dict[str, str]) -> DispatchSummary: ...


def list_objects(bucket: Bucket, prefix: str, start_after: str = "") -> Iterator[ListedObject]:
    """Stream what is in a bucket now, with version-ids where its objects have some.

    Raises:
        BoxdropError: it may not be listed.
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
    """Mark what a listing has; launches are asked for page by page.

    Args:
        dispatcher: of the system.
        bucket: the image bucket's name.
        listing: of `list_objects`.
        on_progress: called after each page.

    Raises:
        BackfillError: the ledger or S3 refused; with the cursor to go on from.
        BoxdropError: the bucket may not be listed any further.
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
    """An object, as S3's notification of its creation would tell it; without a sequencer, which none has."""
    content: dict[str, Any] = {"key": quote_plus(listed.key), "size": listed.size, "eTag": listed.etag}
    if isinstance(listed, ListedVersion):
        content["versionId"] = listed.version_id
    return {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": content},
    }
