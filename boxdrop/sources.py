"""Where images come from: a folder, one file, or a prefix of an S3 bucket.

A source lists its images as a stream, in a fixed order, and fetches the bytes of one.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from boxdrop.domain.errors import BoxdropError, ImageError
from boxdrop.domain.identity import image_id, object_version
from boxdrop.domain.image_names import is_image_name
from boxdrop.domain.images import Limits, read_file, sniff

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image before it is fetched.

    Attributes:
        name: path below the folder with forward slashes, or ``s3://bucket/key``.
        image_id: its identity for ever.
        version: which content the listing saw.
        key: what `Source.fetch` asks for: a path of this machine, or an S3 key.
        former_version: the version that `annotate` gave this content before it asked for version-ids.
    """

    name: str
    image_id: str
    version: str
    key: str
    former_version: str | None = None


class Source(Protocol):
    """Images as a stream, and the bytes of each."""

    @property
    def location(self) -> str:
        """The source as the user would write it, absolute: names the source in files and messages."""

    @property
    def folder(self) -> Path | None:
        """The folder of this machine below which the images' names are found; None where there is none."""

    def images(self) -> Iterator[SourceImage]:
        """List the images, in the same order every time."""

    def fetch(self, image: SourceImage, limits: Limits) -> bytes:
        """Read one image.

        Raises:
            ImageError: gone, changed since the listing, too large, or unreadable.
        """


class FolderSource:
    """The image files in a folder and the folders below it, or one file by itself.

    A file is an image if its name says so, so that a broken one is reported, or if its first bytes do. Hidden
    files and folders are passed over, and so is the output of an earlier run (a folder that holds a
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

    def images(self) -> Iterator[SourceImage]:
        if self.path.is_file():
            yield self._image(self.path.name, str(self.path), self.path.stat())
        else:
            yield from self._walk(str(self.path), "")

    def _walk(self, folder: str, prefix: str) -> Iterator[SourceImage]:
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise BoxdropError(f"{folder}: this folder cannot be listed: {error.strerror}") from None
        names = {entry.name for entry in listed}
        if {"run.json", "predictions.jsonl"} <= names:
            return
        for entry in listed:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(entry.path, f"{prefix}{entry.name}/")
            elif _is_regular(entry) and (is_image_name(entry.name) or _begins_like_image(entry.path)):
                try:
                    status = entry.stat()
                except OSError:  # it went away between the listing and now
                    continue
                yield self._image(prefix + entry.name, entry.path, status)

    @staticmethod
    def _image(name: str, path: str, status: os.stat_result) -> SourceImage:
        return SourceImage(name, image_id("", name), f"{status.st_mtime_ns:x}-{status.st_size}", path)

    def fetch(self, image: SourceImage, limits: Limits) -> bytes:
        return read_file(Path(image.key), limits)


class BucketImages:
    """The images of one bucket: how each is named and fetched, whoever lists them.

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
            known_id: its image_id, where a manifest has it.
        """
        name = self.bucket.name
        return SourceImage(f"s3://{name}/{key}", known_id or image_id(name, key), version, key)

    def fetch(self, image: SourceImage, limits: Limits) -> bytes:
        """Read exactly the content that `image.version` names.

        Raises:
            ImageError: gone, changed, denied, too large, unreadable, or its key cannot be shown.
            UnavailableError: S3 does not answer: the next image will fare no better.
        """
        from boxdrop.aws.s3 import check_shown_key  # boto3 is an extra

        check_shown_key(image.key)
        return self.bucket.read_version(image.key, image.version, limits.max_bytes)


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
        super().__init__(Bucket(bucket))

    @property
    def location(self) -> str:
        return f"s3://{self.bucket.name}/{self.prefix}"

    @property
    def folder(self) -> Path | None:
        return None

    def images(self) -> Iterator[SourceImage]:
        for listed in self.bucket.list_current(self.prefix):
            if is_image_name(listed.key.rsplit("/", 1)[-1]):
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
    path = Path(location)
    if not path.exists():
        raise BoxdropError(f"{location}: no such file or folder")
    return FolderSource(path)


def _is_regular(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _begins_like_image(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            sniff(file.read(256))
    except (OSError, ImageError):
        return False
    return True
