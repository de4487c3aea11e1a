"""Objects that are written once, by however many writers, and never changed."""

import time
from collections.abc import Mapping
from typing import Final

from boxdrop.aws.s3 import Bucket, Put
from boxdrop.domain.errors import RunError

_ATTEMPTS: Final = 6


def write_once(
    bucket: Bucket,
    key: str,
    body: bytes,
    content_type: str = "application/json",
    metadata: Mapping[str, str] | None = None,
) -> bool:
    """Write an object if there is none of this key (``If-None-Match: *``).

    S3 refuses with 412 if the object is there, and with 409 while another write of it is under way, which may
    still fail. So look again, and write again if there is still none.

    Returns:
        whether this call wrote it; False where it was there already.

    Raises:
        RunError: S3 keeps refusing, and there is no such object.
        BoxdropError: it may not be written.
    """
    for attempt in range(_ATTEMPTS):
        if bucket.create(key, body, content_type, metadata=metadata) == Put.STORED:
            return True
        if bucket.exists(key):
            return False
        time.sleep(0.1 * 2**attempt)
    raise RunError(f"s3://{bucket.name}/{key}: S3 refused {_ATTEMPTS} times to write it; run again")


def write_or_read(bucket: Bucket, key: str, body: bytes, content_type: str = "application/json") -> bytes:
    """Write an object once, and return what is there then, which may come from another writer.

    Raises:
        RunError: it was deleted meanwhile, or S3 keeps refusing.
        BoxdropError: it may not be written or read.
    """
    if write_once(bucket, key, body, content_type):
        return body
    stored = bucket.get(key)
    if stored is None:
        raise RunError(f"s3://{bucket.name}/{key} was deleted while it was being written; run again")
    return stored.body
