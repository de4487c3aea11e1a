"""Where images come from: a folder, one file, or a prefix of an S3 bucket.

A source lists its images as a stream, in a fixed order, and fetches the bytes of one.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING, Final, Protocol

from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.identity import image_id, object_version
from boxdrop.domain.image_formats import SNIFFED, reason_of_content
from boxdrop.domain.image_names import OWN_FILES, is_image_name, is_own_file, reason_of_name
from boxdrop.domain.images import Limits, read_file
from boxdrop.domain.left_out import LeftOut, OnLeftOut, describe_left_out, ignore

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image before it is fetched.

    Attributes:
        name: path below the folder with forward slashes, or ``s3://bucket/key``.
        image_id: its permanent identity.
        version: of the content in the listing.
        key: for `Source.fetch`: a local path, or an S3 key.
        former_version: the version that `annotate` gave this content before it asked for version-ids.
    """

    name: str
    image_id: str
    version: str
    key: str
    former_version: str | None = None


class Source(Protocol):
    """A stream of images, with the bytes of each."""

    @property
    def location(self) -> str:
        """The source as the user would write it, absolute: names the source in files and messages."""

    @property
    def folder(self) -> Path | None:
        """The local folder that the images' names are relative to; None if there is none."""

    def images(self, on_left_out: OnLeftOut = ignore) -> Iterator[SourceImage]:
        """List the images, in the same order every time.

        Args:
            on_left_out: called for each left-out entry, as the listing is read.
        """

    def fetch(self, image: SourceImage, limits: Limits) -> bytes:
        """Read one image.

        Raises:
            ImageError: gone, changed since the listing, too large, or unreadable.
        """


class FolderSource:
    """The image files in a folder and the folders below it, or one file by itself.

    A file is an image if its name or its first bytes say so; by its name, a broken image is reported as well.
    It leaves out hidden files and folders, and the output of an earlier run (a folder that holds a
    ``run.json`` beside a ``predictions.jsonl``). Links to files are followed, links to folders are not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    @property
    def location(self) -> str:
        return str(self.path)

    @property
    def folder(self) -> Path | None:
        return self.path.parent if self.path.is_file() else self.path

    def images(self, on_left_out: OnLeftOut = ignore) -> Iterator[SourceImage]:
        if self.path.is_file():
            yield self._image(self.path.name, str(self.path), self.path.stat())
        else:
            yield from self._walk(str(self.path), "", on_left_out)

    def _walk(self, folder: str, prefix: str, on_left_out: OnLeftOut) -> Iterator[SourceImage]:
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if prefix:
                on_left_out(prefix, LeftOut.UNREADABLE_FOLDER)
                return
            raise BoxdropError(f"{folder}: this folder cannot be listed: {error.strerror}") from None
        names = {entry.name for entry in listed}
        if {"run.json", "predictions.jsonl"} <= names:
            on_left_out(prefix or f"{folder}/", LeftOut.OUTPUT)
            return
        for entry in listed:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name.startswith("."):
                    on_left_out(f"{name}/", LeftOut.HIDDEN_FOLDER)
                else:
                    yield from self._walk(entry.path, f"{name}/", on_left_out)
                continue
            reason = _reason_of_file(entry)
            if reason is not None:
                on_left_out(name, reason)
            elif entry.name not in OWN_FILES:
                try:
                    status = entry.stat()
                except OSError:  # deleted since the listing
                    continue
                yield self._image(name, entry.path, status)

    @staticmethod
    def _image(name: str, path: str, status: os.stat_result) -> SourceImage:
        return SourceImage(name, image_id("", name), f"{status.st_mtime_ns:x}-{status.st_size}", path)

    def fetch(self, image: SourceImage, limits: Limits) -> bytes:
        return read_file(Path(image.key), limits)


class BucketImages:
    """The images of one bucket: how each is identified and fetched.

    Args:
        bucket: where they are.
    """

    def __init__(self, bucket: "Bucket") -> None:
        self.bucket = bucket

    def image(self, key: str, version: str, known_id: str | None = None) -> SourceImage:
        """Identify an object.

        Args:
            key: the object's.
            version: as `boxdrop.domain.identity.object_version` gives it.
            known_id: its image_id, if a manifest has it.
        """
        name = self.bucket.name
        return SourceImage(f"s3://{name}/{key}", known_id or image_id(name, key), version, key)

    def fetch(self, image: SourceImage, limits: Limits) -> bytes:
        """Read exactly the content of `image.version`.

        Raises:
            ImageError: gone, changed, denied, too large, unreadable, or its key cannot be shown.
            UnavailableError: S3 does not respond; the next image would fail too.
        """
        from boxdrop.aws.s3 import check_shown_key  # boto3 is an extra

        check_shown_key(image.key)
        return self.bucket.read_version(image.key, image.version, limits.max_bytes)


_BUCKET_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,255}|arn:.+")
"""As boto3 checks it, in more words: old buckets have capitals and underscores."""


class S3Source(BucketImages):
    """The objects under a prefix of an S3 bucket, read with the credentials of the environment.

    Images have the identity and version that the deployed pipeline gives them: the version-id in a bucket
    with versions, else etag and size.
    """

    def __init__(self, url: str) -> None:
        from boxdrop.aws.s3 import Bucket  # boto3 is an extra

        bucket, _, self.prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise BoxdropError(f"{url}: no bucket named; write s3://bucket/prefix/")
        if not _BUCKET_NAME.fullmatch(bucket):
            raise BoxdropError(f"{url}: {bucket!r} cannot be a bucket's name; write s3://bucket/prefix/")
        super().__init__(Bucket(bucket))

    @property
    def location(self) -> str:
        return f"s3://{self.bucket.name}/{self.prefix}"

    @property
    def folder(self) -> Path | None:
        return None

    def images(self, on_left_out: OnLeftOut = ignore) -> Iterator[SourceImage]:
        shown = self.prefix.rfind("/") + 1  # a hidden folder that the user names is no longer hidden
        for listed in self.bucket.list_current(self.prefix):
            if is_own_file(listed.key):
                continue
            reason = reason_of_name(listed.key[shown:])
            if reason is not None:
                on_left_out(listed.key, reason)
                continue
            image = self.image(listed.key, listed.version)
            former = object_version(None, listed.etag, listed.size)
            yield image if former == image.version else replace(image, former_version=former)


def open_source(location: str) -> Source:
    """Open a folder, a file, or ``s3://bucket/prefix``.

    Raises:
        BoxdropError: it does not exist, or the extra for S3 is not installed.
    """
    if location.startswith("s3://"):
        return S3Source(location)
    if not location:  # of an empty variable in a script; `Path` takes it for the current folder
        raise BoxdropError("name a folder, a file or s3://bucket/prefix; '.' is the current folder")
    path = Path(location)
    try:
        exists = path.exists()
    except OSError as error:  # its name is too long
        raise BoxdropError(f"{location[:200]}: {error.strerror}") from None
    if not exists:
        wrong = "://" in location or location.lower().startswith("s3:")
        hint = "; for a bucket, write s3://bucket/prefix" if wrong else ""
        raise BoxdropError(f"{location}: no such file or folder{hint}")
    if not path.is_file() and not path.is_dir():  # reading a pipe or a device might never end
        raise BoxdropError(f"{location}: this is neither a file nor a folder")
    return FolderSource(path)


def no_images(location: str, left_out: Mapping[LeftOut, int]) -> BoxdropError:
    """The error of a source without images; it lists what was there instead."""
    there = describe_left_out(left_out)
    message = f"{location}: no images here; boxdrop takes jpg, png, webp, tiff, heic, …"
    return BoxdropError(f"{message} ({there})" if there else message)


def _reason_of_file(entry: os.DirEntry[str]) -> LeftOut | None:
    """Why an entry, not a folder, is left out; None for an image, and for boxdrop's own files.

    Only regular files are opened: a pipe would wait for its other end.
    """
    if entry.name.startswith("."):
        return LeftOut.HIDDEN
    try:
        status = entry.stat()
    except OSError:  # its target is gone, or links go in a circle
        return LeftOut.BROKEN_LINK if entry.is_symlink() else LeftOut.UNREADABLE
    if S_ISDIR(status.st_mode):
        return LeftOut.LINKED_FOLDER
    if not S_ISREG(status.st_mode):
        return LeftOut.NOT_REGULAR
    if is_image_name(entry.name) or entry.name in OWN_FILES:
        return None
    try:
        with Path(entry.path).open("rb") as file:
            return reason_of_content(file.read(SNIFFED), entry.name)
    except OSError:
        return LeftOut.UNREADABLE
