"""An export in S3: the files of a finished export are copied below a prefix, and the manifest last.

Objects that have the right sha256 already are skipped, so an interrupted copy resumes. Objects of an earlier
export that this one does not have are deleted; a prefix with anything else is refused.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from boxdrop.aws.s3 import Bucket
from boxdrop.datasets.export import MANIFEST, Progress
from boxdrop.datasets.items import DatasetError
from boxdrop.datasets.pictures import digest_of
from boxdrop.iterables import chunked

_SHA256: Final = "boxdrop-sha256"
_MARK: Final = ".boxdrop-export"
"""An object that says that everything below the prefix belongs to an export; written first."""
_WORKERS: Final = 16


def copy_to_bucket(
    folder: Path, bucket: Bucket, prefix: str, on_progress: Callable[[Progress], None] = lambda _: None
) -> int:
    """Copy a finished export.

    Args:
        folder: with its manifest.
        bucket: to copy to.
        prefix: of the objects' keys; empty, or ends in a slash.
        on_progress: called often.

    Returns:
        How many objects were written.

    Raises:
        DatasetError: the prefix holds other objects.
        BoxdropError: S3 refuses or is not available; repeat it, which is safe.
    """
    there = {each.key.removeprefix(prefix) for each in bucket.list(prefix)}
    if there and _MARK not in there:
        raise DatasetError(f"s3://{bucket.name}/{prefix} holds other objects: give an empty prefix as --out")
    bucket.put(f"{prefix}{_MARK}", b"", "text/plain")
    manifest = folder / MANIFEST
    files = list(_files(manifest))

    def copy(file: tuple[str, str]) -> bool:
        path, sha256 = file
        key = prefix + path
        if path in there and bucket.metadata(key).get(_SHA256) == sha256:
            return False
        bucket.upload(key, folder / path, {_SHA256: sha256})
        return True

    written = 0
    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            for done, is_new in enumerate(pool.map(copy, files), 1):
                written += is_new
                on_progress(Progress("uploading", done, len(files)))
        except BaseException:  # Ctrl-C, or S3 is not available: nothing else begins
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    bucket.upload(prefix + MANIFEST, manifest, {_SHA256: digest_of(manifest)[0]})
    kept = {path for path, _ in files} | {MANIFEST, _MARK}
    for some in chunked(sorted(there - kept), 1000):
        bucket.delete_all([prefix + path for path in some])
    return written


def _files(manifest: Path) -> Iterator[tuple[str, str]]:
    for line in manifest.read_text(encoding="utf-8").splitlines():
        sha256, _, path = line.split("\t")
        yield path, sha256
