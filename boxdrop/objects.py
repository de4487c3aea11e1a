"""Objects in S3. Credentials, region and endpoint come from the environment, as boto3 reads them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from boxdrop.errors import BoxdropError, ImageError

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    raise BoxdropError("reading from S3 needs boto3: pip install 'boxdrop[s3]'") from None


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing tells it; `etag` without its quotes, `size` in bytes."""

    key: str
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it was read; `etag` without its quotes."""

    body: bytes
    etag: str


class Put(StrEnum):
    """What became of a conditional write. A lost race is an outcome, not an exception.

    botocore repeats a call whose answer was lost, and the second may then be refused because of the first:
    read the object again to tell.
    """

    STORED = "stored"
    REFUSED = "refused"  # the object is not what the condition says, or somebody writes it at this moment


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

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Stream the objects under a prefix in key order, a page of 1,000 at a time.

        Raises:
            BoxdropError: the bucket is not there, or may not be listed.
        """
        try:
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                for entry in page.get("Contents", []):
                    yield ListedObject(entry["Key"], entry["ETag"].strip('"'), entry["Size"])
        except (BotoCoreError, ClientError) as error:
            raise BoxdropError(f"s3://{self.name}/{prefix} cannot be listed: {_sentence(error)}") from None

    def read(self, key: str, etag: str) -> bytes:
        """Read an object, if it is still the one that was listed (``If-Match``).

        Raises:
            ImageError: it is gone, was overwritten, or cannot be read.
        """
        try:
            answer = self._s3.get_object(Bucket=self.name, Key=key, IfMatch=etag)
            body: bytes = answer["Body"].read()
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 404:
                raise ImageError("gone", "deleted since it was listed") from None
            if status == 412:
                raise ImageError("changed", "overwritten since it was listed; run again") from None
            raise ImageError("unreadable", f"S3 refused it: {_sentence(error)}") from None
        except BotoCoreError as error:
            raise ImageError("unreadable", f"S3 could not be read: {_sentence(error)}; run again") from None
        return body

    def get(self, key: str) -> StoredObject | None:
        """Read an object as it is now; None if there is none.

        Raises:
            BoxdropError: the bucket is not there, or the object may not be read.
        """
        try:
            answer = self._s3.get_object(Bucket=self.name, Key=key)
            return StoredObject(answer["Body"].read(), answer["ETag"].strip('"'))
        except ClientError as error:
            if _code(error) == "NoSuchKey":
                return None
            raise BoxdropError(f"s3://{self.name}/{key} cannot be read: {_sentence(error)}") from None
        except BotoCoreError as error:
            raise BoxdropError(f"s3://{self.name}/{key} cannot be read: {_sentence(error)}") from None

    def metadata(self, key: str) -> Mapping[str, str] | None:
        """The metadata that an object was written with, as it is now; None if there is no such object.

        Raises:
            BoxdropError: the bucket is not there, or the object may not be read.
        """
        try:
            answer = self._s3.head_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return None
            raise BoxdropError(f"s3://{self.name}/{key} cannot be looked up: {_sentence(error)}") from None
        except BotoCoreError as error:
            raise BoxdropError(f"s3://{self.name}/{key} cannot be looked up: {_sentence(error)}") from None
        found: Mapping[str, str] = answer.get("Metadata", {})
        return found

    def create(
        self,
        key: str,
        body: bytes,
        content_type: str = "application/json",
        metadata: Mapping[str, str] | None = None,
    ) -> Put:
        """Write an object if there is none of this key (``If-None-Match: *``).

        Raises:
            BoxdropError: it may not be written.
        """
        return self._put(key, body, content_type, IfNoneMatch="*", Metadata=dict(metadata or {}))

    def put(self, key: str, body: bytes, content_type: str = "application/json") -> None:
        """Write an object, whatever is there.

        Raises:
            BoxdropError: it may not be written.
        """
        self._put(key, body, content_type)

    def replace(self, key: str, body: bytes, etag: str, content_type: str = "application/json") -> Put:
        """Write an object if it is still the one that was read (``If-Match``); also refused if it is gone.

        Raises:
            BoxdropError: it may not be written.
        """
        return self._put(key, body, content_type, IfMatch=etag)

    def _put(self, key: str, body: bytes, content_type: str, **condition: Any) -> Put:
        try:
            self._s3.put_object(Bucket=self.name, Key=key, Body=body, ContentType=content_type, **condition)
        except ClientError as error:
            # 412: the condition fails. 409 (ConditionalRequestConflict): another write of the key is under
            # way. 404 NoSuchKey: If-Match on an object that was deleted.
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status in (409, 412) or _code(error) == "NoSuchKey":
                return Put.REFUSED
            raise BoxdropError(f"s3://{self.name}/{key} cannot be written: {_sentence(error)}") from None
        except BotoCoreError as error:
            raise BoxdropError(f"s3://{self.name}/{key} cannot be written: {_sentence(error)}") from None
        return Put.STORED


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _sentence(error: Exception) -> str:
    if isinstance(error, ClientError):
        details = error.response.get("Error", {})
        return f"{details.get('Message') or details.get('Code')} ({details.get('Code')})"
    return str(error)
