"""What people did in Label Studio, as objects: one document per image, and pointers to it.

The document is described by `boxdrop.domain.annotations`. Pointers record which image a task showed and
which task an annotation was on, since Label Studio does not report either once they are deleted.
"""

from dataclasses import dataclass

from boxdrop.aws.s3 import Bucket, Put, StoredObject
from boxdrop.documents import from_json, to_json
from boxdrop.domain.errors import RunError
from boxdrop.store.layout import annotation_key, annotation_pointer_key, earlier_key, task_pointer_key
from boxdrop.store.nested import get_own


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which task of Label Studio, and which image, a number was about."""

    task_id: int
    image_id: str


def read_review(bucket: Bucket, project: str, image_id: str) -> StoredObject | None:
    """Read the document about an image as it is now; None if there is none.

    Raises:
        BoxdropError: the bucket cannot be read.
    """
    return get_own(bucket, annotation_key(project, image_id), project)


def write_review(
    bucket: Bucket, project: str, image_id: str, body: bytes, replacing: StoredObject | None
) -> bool:
    """Write the document about an image, if the stored one is still the one that was read.

    Args:
        replacing: what `read_review` returned.

    Returns:
        whether it was written; False if another writer was faster.

    Raises:
        BoxdropError: it may not be written.
    """
    key = annotation_key(project, image_id)
    put = bucket.create(key, body) if replacing is None else bucket.replace(key, body, replacing.etag)
    if put == Put.REFUSED and replacing is not None and earlier_key(key, project) is not None:
        put = bucket.create(key, body)  # what was read had a key of the earlier form; this one counts now
    return put == Put.STORED


def write_pointers(bucket: Bucket, project: str, pointer: Pointer, annotation_id: int | None = None) -> None:
    """Record what a task is about, and an annotation on it if there is one.

    Raises:
        BoxdropError: they may not be written.
    """
    keys = [task_pointer_key(project, pointer.task_id)]
    if annotation_id is not None:
        keys.append(annotation_pointer_key(project, annotation_id))
    body = to_json(pointer).encode()
    for key in keys:
        while bucket.create(key, body) == Put.REFUSED:
            stored = bucket.get(key)
            if stored is None:  # deleted meanwhile, or another writer failed
                continue
            if _same(stored, pointer) or bucket.replace(key, body, stored.etag) == Put.STORED:
                break


def task_pointer(bucket: Bucket, project: str, task_id: int) -> Pointer | None:
    """Read which image a task showed; None if it is not recorded.

    Raises:
        RunError: the pointer is not valid.
    """
    return _read(bucket, project, task_pointer_key(project, task_id))


def annotation_pointer(bucket: Bucket, project: str, annotation_id: int) -> Pointer | None:
    """Read which task an annotation was on; None if it is not recorded.

    Raises:
        RunError: the pointer is not valid.
    """
    return _read(bucket, project, annotation_pointer_key(project, annotation_id))


def _same(stored: StoredObject, pointer: Pointer) -> bool:
    try:
        return from_json(Pointer, stored.body) == pointer
    except ValueError:
        return False


def _read(bucket: Bucket, project: str, key: str) -> Pointer | None:
    stored = get_own(bucket, key, project)
    if stored is None:
        return None
    try:
        return from_json(Pointer, stored.body)
    except ValueError as error:
        raise RunError(
            f"s3://{bucket.name}/{key}: {error}; boxdrop did not write this object, delete it"
        ) from None
