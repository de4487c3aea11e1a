"""Objects in S3. Credentials, region and endpoint come from the environment, as boto3 reads them.

This file is long because all knowledge of S3 is here: its calls, and the meaning of its errors.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from boxdrop.domain.errors import BoxdropError, ImageError, UnavailableError
from boxdrop.domain.identity import ObjectContent, content_of, object_version

try:
    import boto3
    from boto3.exceptions import Boto3Error
    from botocore.config import Config
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        IncompleteReadError,
        ReadTimeoutError,
        ResponseStreamingError,
    )
except ImportError:
    raise BoxdropError("reading from S3 needs boto3: pip install 'boxdrop[s3]'") from None


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object in a listing; `etag` without quotes, `size` in bytes."""

    key: str
    etag: str
    size: int

    @property
    def version(self) -> str:
        """Identifies the content, see `boxdrop.domain.identity.object_version`."""
        return object_version(None, self.etag, self.size) or ""


@dataclass(frozen=True, slots=True)
class ListedVersion(ListedObject):
    """The newest version of an object, from a listing of versions."""

    version_id: str

    @property
    def version(self) -> str:
        """Identifies the content: the version-id, unless it is S3's ``null``."""
        return object_version(self.version_id, self.etag, self.size) or ""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's content as read; `etag` without quotes."""

    body: bytes
    etag: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class Put(StrEnum):
    """The outcome of a conditional write. Losing a race is an outcome, not an exception.

    botocore repeats a call whose response was lost, and the second may then be refused because of the first:
    read the object again to find out.
    """

    STORED = "stored"
    REFUSED = "refused"  # the condition does not hold, or another write is in progress


class NotAllowedError(BoxdropError):
    """The caller may not do this, or this S3 server does not support it."""


_BROKEN_OFF: Final = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
"""A response that broke off. botocore retries calls, but not this."""

_READS: Final = 3


class Bucket:
    """One S3 bucket. Safe to use from several threads.

    Args:
        name: the bucket's.
        client: boto3's S3 client; by default one made from the environment.
    """

    def __init__(self, name: str, *, client: Any = None) -> None:
        self.name = name
        config = Config(retries={"mode": "standard", "max_attempts": 5}, max_pool_connections=32)
        try:
            self._s3: Any = client or boto3.client("s3", config=config)
        except BotoCoreError as error:
            raise BoxdropError(f"s3://{name}: {error}") from None

    def list(self, prefix: str, start_after: str = "") -> Iterator[ListedObject]:
        """Stream the objects under a prefix in key order, in pages of 1,000.

        Args:
            prefix: what keys begin with.
            start_after: begin with the first key after this one.

        Raises:
            BoxdropError: the bucket is not there, or may not be listed.
        """
        options = {"StartAfter": start_after} if start_after else {}
        try:
            pages = self._s3.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.name, Prefix=prefix, **options):
                for entry in page.get("Contents", []):
                    yield ListedObject(entry["Key"], entry["ETag"].strip('"'), entry["Size"])
        except (BotoCoreError, ClientError) as error:
            raise self._error(prefix, "listed", error) from None

    def has_versions(self) -> bool:
        """Whether versioning is or was on, so that objects have version-ids which a plain listing lacks.

        Raises:
            BoxdropError: S3 does not tell.
        """
        try:
            return "Status" in self._s3.get_bucket_versioning(Bucket=self.name)
        except (BotoCoreError, ClientError) as error:
            raise self._error("", "asked for its versioning", error) from None

    def list_newest(self, prefix: str, start_after: str = "") -> Iterator[ListedVersion]:
        """Like `list`, for a bucket with versions: the newest version of each object, without deleted ones.

        Raises:
            BoxdropError: the bucket is not there, or may not be listed.
        """
        options = {"KeyMarker": start_after} if start_after else {}
        try:
            pages = self._s3.get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=self.name, Prefix=prefix, **options):
                for entry in page.get("Versions", []):
                    if entry["IsLatest"]:
                        etag = entry["ETag"].strip('"')
                        yield ListedVersion(entry["Key"], etag, entry["Size"], entry["VersionId"])
        except (BotoCoreError, ClientError) as error:
            raise self._error(prefix, "listed", error) from None

    def list_current(self, prefix: str) -> Iterator[ListedObject]:
        """Stream the objects under a prefix, each with the same version as in events.

        A bucket that has versions is listed by version. If the caller may not read the bucket's versioning or
        list its versions, a HEAD request per object gets its version, which needs only permission to read it.

        Raises:
            BoxdropError: the bucket is not there, or may not be listed.
        """
        try:
            versioned = self.has_versions()
            listed = iter(self.list_newest(prefix) if versioned else self.list(prefix))
            first = next(listed, None)
        except NotAllowedError:
            yield from self._list_by_asking(prefix)
            return
        if first is not None:
            yield first
            yield from listed

    def current(self, key: str) -> ListedObject | None:
        """What an object is now, by a HEAD request; None if there is none.

        Raises:
            BoxdropError: S3 does not tell.
        """
        head = self._head(key)
        if head is None:
            return None
        etag, size = head["ETag"].strip('"'), head["ContentLength"]
        version_id = head.get("VersionId")
        return ListedVersion(key, etag, size, version_id) if version_id else ListedObject(key, etag, size)

    def _list_by_asking(self, prefix: str) -> Iterator[ListedObject]:
        """Like `list_current`, with one HEAD request per object."""
        for listed in self.list(prefix):
            head = self._head(listed.key) or {}
            version_id = head.get("VersionId")
            if version_id and head.get("ETag", "").strip('"') == listed.etag:
                yield ListedVersion(listed.key, listed.etag, listed.size, version_id)
            else:
                yield listed

    def get(self, key: str) -> StoredObject | None:
        """Read the current object; None if there is none.

        Raises:
            BoxdropError: the bucket is not there, or the object may not be read.
        """
        try:
            answer = self._s3.get_object(Bucket=self.name, Key=key)
            return StoredObject(answer["Body"].read(), answer["ETag"].strip('"'), answer.get("Metadata", {}))
        except ClientError as error:
            if _code(error) == "NoSuchKey":
                return None
            raise self._error(key, "read", error) from None
        except BotoCoreError as error:
            raise self._error(key, "read", error) from None

    def lines(self, key: str) -> Iterator[bytes] | None:
        """Stream the lines of an object, without line ends; None if there is no object.

        Raises:
            BoxdropError: the bucket is not there, or the object may not be read.
        """
        try:
            answer = self._s3.get_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if _code(error) == "NoSuchKey":
                return None
            raise self._error(key, "read", error) from None
        except BotoCoreError as error:
            raise self._error(key, "read", error) from None
        return self._stream_lines(key, answer["Body"])

    def _stream_lines(self, key: str, body: Any) -> Iterator[bytes]:
        try:
            yield from body.iter_lines(chunk_size=1 << 16)
        except BotoCoreError as error:
            raise self._error(key, "read", error) from None
        finally:
            body.close()

    def read_version(self, key: str, version: str, max_bytes: int) -> bytes:
        """Read exactly this content of an object: by its version-id, or by its etag (``If-Match``).

        Args:
            key: the object's.
            version: see `boxdrop.domain.identity.object_version`.
            max_bytes: the largest size to read.

        Raises:
            ImageError: ``gone``, ``changed`` (overwritten), ``denied``, ``too_many_bytes`` or ``unreadable``.
            UnavailableError: S3 is unreachable, throttles, or rejects the credentials: the next object would
                fail too.
        """
        content = content_of(version)
        for attempt in range(1, _READS + 1):
            try:
                answer = self._open(key, content)
                with contextlib.closing(answer["Body"]) as body:
                    size: int = answer["ContentLength"]
                    if size > max_bytes:
                        raise ImageError(
                            "too_many_bytes",
                            f"{size:,} bytes, over the limit of {max_bytes:,}; store it smaller",
                        )
                    data: bytes = body.read()
                return data
            except ClientError as error:
                raise self._image_error(key, error) from None
            except _BROKEN_OFF as error:
                if attempt == _READS:
                    raise self._error(key, "read", error) from None
            except BotoCoreError as error:
                raise self._error(key, "read", error) from None
        raise AssertionError("unreachable")

    def _open(self, key: str, content: ObjectContent) -> Any:
        """Request exactly this content; returns the response, whose body the caller reads."""
        if not content.version_id:
            return self._s3.get_object(Bucket=self.name, Key=key, IfMatch=content.etag)
        try:
            return self._s3.get_object(Bucket=self.name, Key=key, VersionId=content.version_id)
        except ClientError as error:
            if _status(error) != 403 or _code(error) in _BAD_CREDENTIALS:
                raise
        # Without s3:GetObjectVersion, s3:GetObject still reads the newest version and returns its id.
        answer = self._s3.get_object(Bucket=self.name, Key=key)
        if answer.get("VersionId") != content.version_id:
            answer["Body"].close()
            raise ImageError("changed", "overwritten since it was listed; run again")
        return answer

    def _image_error(self, key: str, error: ClientError) -> BoxdropError:
        status, code = _status(error), _code(error)
        if code == "NoSuchBucket":
            return BoxdropError(f"s3://{self.name}: there is no such bucket")
        if status in (404, 405):  # 405: the version-id is that of a delete marker
            return ImageError("gone", "deleted since it was listed")
        if status == 412:
            return ImageError("changed", "overwritten since it was listed; run again")
        if status == 403 and code not in _BAD_CREDENTIALS:
            return ImageError("denied", f"S3 refused it: {_sentence(error)}; may boxdrop read it?")
        if status == 400 and code not in _BAD_CREDENTIALS:
            return ImageError("unreadable", f"S3 refused it: {_sentence(error)}")
        return self._error(key, "read", error)

    def exists(self, key: str) -> bool:
        """Whether an object with this key exists now.

        Raises:
            BoxdropError: S3 does not tell.
        """
        return self._head(key) is not None

    def version(self, key: str) -> str | None:
        """The version of an object's current content (`boxdrop.domain.identity.object_version`); None if
        deleted.

        Raises:
            BoxdropError: S3 does not tell.
        """
        head = self._head(key)
        if head is None:
            return None
        return object_version(head.get("VersionId"), head.get("ETag"), head.get("ContentLength"))

    def metadata(self, key: str) -> Mapping[str, str]:
        """An object's metadata; empty if there is no object.

        Raises:
            BoxdropError: S3 does not tell.
        """
        found: Mapping[str, str] = (self._head(key) or {}).get("Metadata", {})
        return found

    def _head(self, key: str) -> Mapping[str, Any] | None:
        """The response to a HEAD request; None if there is no object."""
        try:
            answer: Mapping[str, Any] = self._s3.head_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if _status(error) == 404:
                return None
            raise self._error(key, "checked", error) from None
        except BotoCoreError as error:
            raise self._error(key, "checked", error) from None
        return answer

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Stream the names between a prefix that ends in a slash and the next slash, in key order.

        Raises:
            BoxdropError: the bucket is not there, or may not be listed.
        """
        try:
            pages = self._s3.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.name, Prefix=prefix, Delimiter="/"):
                for entry in page.get("CommonPrefixes", []):
                    yield entry["Prefix"].removeprefix(prefix).removesuffix("/")
        except (BotoCoreError, ClientError) as error:
            raise self._error(prefix, "listed", error) from None

    def create(
        self,
        key: str,
        body: bytes,
        content_type: str = "application/json",
        metadata: Mapping[str, str] | None = None,
    ) -> Put:
        """Write an object if its key is free (``If-None-Match: *``).

        Raises:
            BoxdropError: it may not be written.
        """
        return _outcome(self._put(key, body, content_type, IfNoneMatch="*", Metadata=dict(metadata or {})))

    def put(
        self,
        key: str,
        body: bytes,
        content_type: str = "application/json",
        metadata: Mapping[str, str] | None = None,
    ) -> str | None:
        """Write an object, whatever is there.

        Returns:
            Its version, see `boxdrop.domain.identity.object_version`; None where S3 does not say it.

        Raises:
            BoxdropError: it may not be written.
        """
        answer = self._put(key, body, content_type, Metadata=dict(metadata or {})) or {}
        return object_version(answer.get("VersionId"), answer.get("ETag"), len(body))

    def upload(self, key: str, path: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Copy a file of any size into an object, whatever is there.

        Raises:
            BoxdropError: it may not be written.
        """
        try:
            self._s3.upload_file(str(path), self.name, key, ExtraArgs={"Metadata": dict(metadata or {})})
        except (BotoCoreError, ClientError, Boto3Error) as error:
            raise self._error(key, "written", error) from None

    def download(self, key: str, path: Path) -> None:
        """Copy an object of any size into a file.

        Raises:
            BoxdropError: there is none, or it may not be read.
            OSError: the file cannot be written.
        """
        try:
            self._s3.download_file(self.name, key, str(path))
        except (BotoCoreError, ClientError, Boto3Error) as error:
            raise self._error(key, "read", error) from None

    def replace(self, key: str, body: bytes, etag: str, content_type: str = "application/json") -> Put:
        """Write an object if it is still the one that was read (``If-Match``); also refused if it is gone.

        Raises:
            BoxdropError: it may not be written.
        """
        return _outcome(self._put(key, body, content_type, IfMatch=etag))

    def delete_all(self, keys: Sequence[str]) -> None:
        """Delete objects, at most 1,000; missing ones are no error.

        Raises:
            BoxdropError: one may not be deleted.
        """
        if not keys:
            return
        try:
            answer = self._s3.delete_objects(
                Bucket=self.name, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        except (BotoCoreError, ClientError) as error:
            raise self._error(keys[0], "deleted", error) from None
        for failed in answer.get("Errors", []):
            raise BoxdropError(f"s3://{self.name}/{failed['Key']} cannot be deleted: {failed.get('Message')}")

    def _put(self, key: str, body: bytes, content_type: str, **condition: Any) -> Mapping[str, Any] | None:
        """Write an object; None if the condition fails."""
        try:
            answer: Mapping[str, Any] = self._s3.put_object(
                Bucket=self.name, Key=key, Body=body, ContentType=content_type, **condition
            )
        except ClientError as error:
            # 412: the condition fails. 409 (ConditionalRequestConflict): another write of the key is in
            # progress. 404 NoSuchKey: If-Match on an object that was deleted.
            if _status(error) in (409, 412) or _code(error) == "NoSuchKey":
                return None
            raise self._error(key, "written", error) from None
        except BotoCoreError as error:
            raise self._error(key, "written", error) from None
        return answer

    def _error(self, key: str, done: str, error: Exception) -> BoxdropError:
        """The exception for errors that are not the object's fault."""
        message = f"s3://{self.name}/{key} cannot be {done}: {_sentence(error)}"
        if isinstance(error, ClientError):
            if _status(error) in (403, 405, 501) and _code(error) not in _BAD_CREDENTIALS + _LATER:
                return NotAllowedError(message)
            if _status(error) < 500 and _code(error) not in _LATER:
                return BoxdropError(message)
        return UnavailableError(message)


def _outcome(answer: Mapping[str, Any] | None) -> Put:
    return Put.REFUSED if answer is None else Put.STORED


def check_shown_key(key: str) -> None:
    """Refuse a key that Label Studio cannot show.

    Label Studio 1.23 parses ``s3://bucket/key`` as a URL. With a ``?`` or a control character in it, the task
    shows another key's image under these boxes, or none.

    Raises:
        ImageError: ``unshowable_key``.
    """
    if any(character == "?" or ord(character) < 32 or ord(character) == 127 for character in key):
        raise ImageError(
            "unshowable_key",
            f"Label Studio cannot show the key {key!r}, since it contains a question mark or a control "
            "character: upload the image under another name",
        )


# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_BAD_CREDENTIALS: Final = ("ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch")
_LATER: Final = ("ExpiredToken", "RequestTimeTooSkewed", "RequestTimeout", "SlowDown", "Throttling")


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _sentence(error: Exception) -> str:
    if isinstance(error, ClientError):
        details = error.response.get("Error", {})
        return f"{details.get('Message') or details.get('Code')} ({details.get('Code')})"
    return str(error)
