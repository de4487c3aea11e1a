"""Marks: which runs are registered in which ZenML store.

A mark is written after ZenML has the run. It saves asking ZenML about each run, and a run that someone
deleted there stays deleted.
"""

from dataclasses import dataclass

from boxdrop.aws.s3 import Bucket
from boxdrop.documents import from_json, to_json
from boxdrop.domain.errors import RunError
from boxdrop.domain.identity import check_run_id
from boxdrop.store.layout import TRACKED, mark_key, marks_prefix, run_of_mark_key


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run that a ZenML store has.

    Attributes:
        zenml_run: ZenML's id of it.
        url: where ZenML shows it; None or empty for a store without a server.
    """

    run_id: str
    zenml_run: str
    url: str | None = None


def write_mark(bucket: Bucket, store_id: str, mark: TrackedRun) -> None:
    """Record that a store has a run. The mark of whichever writer came first stays.

    Raises:
        BoxdropError: it may not be written.
    """
    bucket.create(mark_key(store_id, check_run_id(mark.run_id)), to_json(mark).encode())


def read_mark(bucket: Bucket, store_id: str, run_id: str) -> TrackedRun | None:
    """Read the mark of a run; None if the store does not have the run.

    Raises:
        RunError: it is not valid.
    """
    key = mark_key(store_id, check_run_id(run_id))
    stored = bucket.get(key)
    if stored is None:
        return None
    return from_json(TrackedRun, stored.body, where=f"s3://{bucket.name}/{key}", error=RunError)


def tracked_runs(bucket: Bucket, store_id: str | None = None) -> set[str]:
    """Ids of the runs that a store has; without `store_id`, that any store has."""
    prefix = TRACKED if store_id is None else marks_prefix(store_id)
    return {run_of_mark_key(listed.key) for listed in bucket.list(prefix)}


def zenml_urls(bucket: Bucket, run_id: str) -> list[str]:
    """Where each ZenML store that has a run shows it; an empty text for a store without a server.

    Raises:
        RunError: a mark is not valid.
    """
    marks = (read_mark(bucket, store, run_id) for store in bucket.list_folders(TRACKED))
    return [mark.url or "" for mark in marks if mark is not None]
