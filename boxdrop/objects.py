"""Objects in S3. Credentials, region and endpoint come from the environment, as boto3 reads them."""

from collections.abc import Iterator
from dataclasses import dataclass
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


class Bucket:
    """One S3 bucket. Safe to use from several threads."""

    def __init__(self, name: str) -> None:
        self.name = name
        config = Config(retries={"mode": "standard", "max_attempts": 5}, max_pool_connections=32)
        try:
            self._s3: Any = boto3.client("s3", config=config)
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


def _sentence(error: Exception) -> str:
    if isinstance(error, ClientError):
        details = error.response.get("Error", {})
        return f"{details.get('Message') or details.get('Code')} ({details.get('Code')})"
    return str(error)
