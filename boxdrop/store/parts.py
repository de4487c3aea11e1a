"""Parts: the predictions of some lines of a manifest, one immutable object each.

A part holds one record of `boxdrop.domain.predictions` for each image that was still what the manifest says.
Images that were overwritten or deleted in the meantime have none; the object's metadata counts them.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import PredictionError, RunError
from boxdrop.domain.identity import is_run_id
from boxdrop.domain.predictions import Record
from boxdrop.domain.predictions import from_json as record_from_json
from boxdrop.domain.predictions import to_json as record_to_json
from boxdrop.store.layout import PartName, parts_prefix, predictions_prefix, prefixes_of
from boxdrop.store.write_once import write_once


@dataclass(frozen=True, slots=True)
class Part:
    """The outcome of some lines of a manifest.

    Attributes:
        records: in the manifest's order.
        superseded, gone: how many images were overwritten or deleted before the job read them.
    """

    name: PartName
    records: tuple[Record, ...]
    superseded: int = 0
    gone: int = 0


def write_part(bucket: Bucket, part: Part) -> bool:
    """Write a part, once.

    Returns:
        whether this call wrote it; False where it was there already.
    """
    lines = "".join(record_to_json(record) + "\n" for record in part.records)
    metadata = {"superseded": str(part.superseded), "gone": str(part.gone)}
    return write_once(bucket, part.name.key, lines.encode(), "application/x-ndjson", metadata)


def read_part(bucket: Bucket, key: str) -> Part:
    """Read a part.

    Raises:
        RunError: the key is not a part's, there is none, or it is not valid.
    """
    name = PartName.from_key(key)
    if name is None:
        raise RunError(f"{key} is not the key of a part")
    stored = bucket.get(key)
    if stored is None:
        raise RunError(f"s3://{bucket.name}/{key}: there is no such part")
    try:
        records = tuple(
            record_from_json(line, f"s3://{bucket.name}/{key}: line {number}")
            for number, line in enumerate(stored.body.splitlines(), 1)
        )
        counts = [int(stored.metadata.get(word, "0")) for word in ("superseded", "gone")]
    except (PredictionError, ValueError) as error:
        raise RunError(str(error)) from None
    return Part(name, records, *counts)


def list_parts(bucket: Bucket, project: str, run_id: str) -> Iterator[PartName]:
    """Stream the names of the parts of a run that exist, in order.

    Keys of the earlier form may begin like those of a nested project; those are left out.
    """
    if not is_run_id(run_id):  # the folder of a nested project: its parts may be very many
        return
    prefixes = prefixes_of(parts_prefix(project, run_id), project)
    before: PartName | None = None
    for name in heapq.merge(*(_own_parts(bucket, prefix, project, run_id) for prefix in prefixes)):
        if name != before:
            yield name
        before = name


def _own_parts(bucket: Bucket, prefix: str, project: str, run_id: str) -> Iterator[PartName]:
    for listed in bucket.list(prefix):
        name = PartName.from_key(listed.key)
        if name is not None and (name.project, name.run_id) == (project, run_id):
            yield name


def list_runs_with_parts(bucket: Bucket, project: str) -> list[str]:
    """The runs that have parts in a project, oldest first."""
    prefixes = prefixes_of(predictions_prefix(project), project)
    return sorted({run for prefix in prefixes for run in bucket.list_folders(prefix) if is_run_id(run)})
