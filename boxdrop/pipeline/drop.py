"""drop: upload a folder's images to a project, except those already there."""

import hashlib
import mimetypes
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED as ONE
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from boxdrop.aws.s3 import Bucket, ListedObject
from boxdrop.domain.errors import BoxdropError, ImageError
from boxdrop.domain.image_formats import SNIFFED, sniff, suffix_of
from boxdrop.domain.image_names import is_image_name
from boxdrop.domain.images import DEFAULT_LIMITS, read_file
from boxdrop.domain.left_out import LeftOut
from boxdrop.sources import FolderSource, SourceImage

_WORKERS: Final = 16
_AHEAD: Final = 4 * _WORKERS  # files waiting for a worker; only these and the ones in progress are in memory
_MD5: Final = "boxdrop-md5"
"""Metadata of each object, since its etag is the MD5 only if S3 encrypts with its own keys."""

_MAX_KEY: Final = 1024  # bytes of UTF-8, S3's limit
_NO_KEY: Final = "its name is not UTF-8, or longer than S3's 1,024 bytes"


@dataclass(slots=True)
class DropSummary:
    """The outcome for a folder's files.

    Attributes:
        uploaded, same: images; the latter were there with the same content.
        renamed: keys, by file names, of images that are not named like one: a bucket is listed by name, so
            the extension of their format is appended.
        left_out: files and folders that are not images, each with the reason.
        failed: why a file could not be read or stored, by its name.
    """

    uploaded: int = 0
    same: int = 0
    renamed: dict[str, str] = field(default_factory=dict)
    left_out: list[tuple[str, LeftOut]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class File:
    """A file of the folder, and its key in the bucket."""

    path: Path
    name: str
    key: str


def list_files(folder: Path, project: str, summary: DropSummary) -> list[File]:
    """The images of a folder, in the order of a listing of the bucket.

    Args:
        folder: see `boxdrop.sources.FolderSource` for what is left out.
        project: the prefix of their keys.
        summary: receives left-out files, and files without a key.
    """
    files: list[File] = []
    unnamed: list[SourceImage] = []
    for image in FolderSource(folder).images(lambda *left_out: summary.left_out.append(left_out)):
        key = f"{project}/{image.name}"
        if not is_image_name(image.name):
            unnamed.append(image)
        elif not _is_key(key):
            summary.failed[ascii(image.name)] = _NO_KEY
        else:
            files.append(File(Path(image.key), image.name, key))
    files += _name_by_content(unnamed, project, {file.key for file in files}, summary)
    files.sort(key=lambda file: file.key.encode())
    return files


def _name_by_content(
    images: Iterable[SourceImage], project: str, taken: set[str], summary: DropSummary
) -> Iterator[File]:
    """Give images without an image's extension a key with the extension of their format."""
    for image in images:
        path = Path(image.key)
        try:
            with path.open("rb") as file:
                key = f"{project}/{image.name}.{suffix_of(sniff(file.read(SNIFFED)))}"
        except (OSError, ImageError) as error:
            summary.failed[image.name] = str(error)
            continue
        if not _is_key(key):
            summary.failed[ascii(image.name)] = _NO_KEY
        elif key in taken:
            summary.failed[image.name] = f"its key would be {key}, which is that of another file: rename it"
        else:
            summary.renamed[image.name] = key
            yield File(path, image.name, key)


def drop(
    bucket: Bucket,
    files: Iterable[File],
    prefix: str,
    summary: DropSummary,
    on_progress: Callable[[DropSummary], None] = lambda _: None,
    on_stored: Callable[[File, bytes, str], None] | None = None,
) -> None:
    """Upload files in parallel, except those with the same content in the bucket. A repeated call resumes.

    Args:
        bucket: the image bucket.
        files: of `list_files`.
        prefix: of all their keys.
        summary: records the outcome of each.
        on_progress: called after each file, in this thread.
        on_stored: called with each file, its content and its version once it is in the bucket, in any thread;
            what it raises is the reason why the file failed.

    Raises:
        BoxdropError: listing the bucket is not allowed.
    """
    with ThreadPoolExecutor(_WORKERS) as pool:
        running: dict[Future[bool], File] = {}

        def take(finished: Iterable[Future[bool]]) -> None:
            for each in finished:
                file = running.pop(each)
                try:
                    if each.result():
                        summary.uploaded += 1
                    else:
                        summary.same += 1
                except (BoxdropError, OSError) as error:
                    summary.failed[file.name] = str(error)
                on_progress(summary)

        try:
            for file, listed in _beside(files, bucket.list(prefix)):
                running[pool.submit(_upload, bucket, file, listed, on_stored)] = file
                if len(running) >= _AHEAD:
                    take(wait(running, return_when=ONE).done)
            take(wait(running).done)
        except BaseException:  # Ctrl-C: uploads in progress end, and no new ones start
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _upload(
    bucket: Bucket,
    file: File,
    listed: ListedObject | None,
    on_stored: Callable[[File, bytes, str], None] | None,
) -> bool:
    """Upload one file unless it is unchanged; returns whether it was uploaded."""
    try:
        body = read_file(file.path, DEFAULT_LIMITS)
    except ImageError as error:
        raise BoxdropError(str(error)) from None
    md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
    if (
        listed is not None
        and listed.size == len(body)
        and (listed.etag == md5 or bucket.metadata(file.key).get(_MD5) == md5)
    ):
        is_new, version = False, bucket.version(file.key) if on_stored else None
    else:
        content_type = mimetypes.guess_type(file.key)[0] or "application/octet-stream"
        is_new, version = True, bucket.put(file.key, body, content_type, metadata={_MD5: md5})
    if on_stored is not None:
        if version is None:
            raise BoxdropError("it was deleted from the bucket meanwhile")
        on_stored(file, body, version)
    return is_new


def _beside(
    files: Iterable[File], listing: Iterator[ListedObject]
) -> Iterator[tuple[File, ListedObject | None]]:
    """Each file with its object, merged in the order of keys, so neither listing is held in memory."""
    listed = next(listing, None)
    for file in files:
        while listed is not None and listed.key.encode() < file.key.encode():
            listed = next(listing, None)
        yield file, listed if listed is not None and listed.key == file.key else None


def _is_key(key: str) -> bool:
    try:
        return len(key.encode()) <= _MAX_KEY
    except UnicodeEncodeError:
        return False
