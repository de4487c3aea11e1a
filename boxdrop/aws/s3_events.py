"""S3 events about objects, in all their formats.

One event has three forms: EventBridge's (plain keys, ``etag``, ``version-id``), that of notifications
straight into SQS (a list of records, URL-encoded keys, ``eTag``, ``versionId``), and the latter inside SNS's
envelope. S3-compatible servers mix the formats and omit fields. All become `ObjectEvent`.

Sources: AWS, "Event message structure"
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html) and "EventBridge
event message structure" (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html); samples of
moto and MiniStack.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote_plus

from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.identity import object_version


class EventError(BoxdropError):
    """A message that is not an S3 event; the error names what is missing."""


class Happened(StrEnum):
    """The kinds of events."""

    CREATED = "created"  # also overwritten, copied, or a multipart upload: S3 does not distinguish them
    DELETED = "deleted"  # the key has no object now, or a delete marker
    VERSION_DELETED = "version deleted"  # one version was deleted; only S3 knows whether it was the newest
    OTHER = "other"  # tags, access lists, restores, test events: nothing to do


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """One event about one object.

    Attributes:
        key: the object's exact key, decoded.
        version: identifies the content: the version-id, or etag and size if versioning is off; None if the
            event has neither.
        sequencer: orders events of one key, hexadecimal; empty if there is none.
    """

    happened: Happened
    bucket: str
    key: str
    version: str | None = None
    sequencer: str = ""


_OTHER: Final = ObjectEvent(Happened.OTHER, "", "")


def parse_events(message: str | Mapping[str, Any]) -> Iterator[ObjectEvent]:
    """Read all events of one message: an EventBridge event, a notification's records, or SNS's envelope.

    Raises:
        EventError: it is not one of them.
    """
    if isinstance(message, str):
        try:
            message = json.loads(message)
        except ValueError as error:
            raise EventError(f"a message about uploads is not JSON: {error}") from None
    if not isinstance(message, Mapping):
        raise EventError(f"a message about uploads is a {type(message).__name__}, not an object")
    if message.get("Type") == "Notification" and isinstance(message.get("Message"), str):
        yield from parse_events(message["Message"])
    elif message.get("Event") == "s3:TestEvent":  # sent once, when a notification is set up
        yield _OTHER
    elif isinstance(message.get("Records"), list):
        for record in message["Records"]:
            yield _of_record(record)
    elif message.get("source") == "aws.s3" and isinstance(message.get("detail"), Mapping):
        yield _of_eventbridge(message)
    else:
        raise EventError(
            "a message about uploads is not an S3 event: it has "
            f"{', '.join(sorted(map(str, message))) or 'nothing'}"
        )


def _of_eventbridge(event: Mapping[str, Any]) -> ObjectEvent:
    detail, kind = event["detail"], event.get("detail-type")
    bucket, key, content = _object(detail, "detail")
    version_id = _text(content, "version-id", "versionId")
    if kind == "Object Created":
        happened = Happened.CREATED
    elif kind == "Object Deleted":
        permanent = detail.get("deletion-type") == "Permanently Deleted"
        happened = _deleted(version_id if permanent else None)
    else:
        return _OTHER
    return _event(happened, bucket, key, content, version_id)


def _of_record(record: Any) -> ObjectEvent:
    if not isinstance(record, Mapping) or not isinstance(record.get("s3"), Mapping):
        raise EventError("a record of a notification has no s3")
    # "ObjectCreated:Put"; some servers send "s3:ObjectCreated:Put"
    kind, _, how = str(record.get("eventName", "")).removeprefix("s3:").partition(":")
    bucket, key, content = _object(record["s3"], "s3")
    version_id = _text(content, "versionId", "version-id")
    if kind == "ObjectCreated":
        happened = Happened.CREATED
    elif kind in ("ObjectRemoved", "LifecycleExpiration"):
        happened = _deleted(None if how == "DeleteMarkerCreated" else version_id)
    else:
        return _OTHER
    return _event(happened, bucket, unquote_plus(key), content, version_id)


def _object(holder: Mapping[str, Any], name: str) -> tuple[str, str, Mapping[str, Any]]:
    try:
        bucket, content = holder["bucket"]["name"], holder["object"]
        key = content["key"]
    except (KeyError, TypeError):
        raise EventError(f"an S3 event has no {name}.bucket.name or {name}.object.key") from None
    if not isinstance(bucket, str) or not isinstance(key, str):
        raise EventError(f"{name}.bucket.name and {name}.object.key of an S3 event are not texts")
    return bucket, key, content


def _deleted(version_id: str | None) -> Happened:
    """Without a version-id, versioning is off, so the object itself was deleted."""
    return Happened.VERSION_DELETED if version_id and version_id != "null" else Happened.DELETED


def _event(
    happened: Happened, bucket: str, key: str, content: Mapping[str, Any], version_id: str | None
) -> ObjectEvent:
    version = None
    if happened == Happened.CREATED:
        size = content.get("size")
        version = object_version(
            version_id, _text(content, "etag", "eTag"), size if isinstance(size, int) else None
        )
    return ObjectEvent(happened, bucket, key, version, _text(content, "sequencer") or "")


def _text(content: Mapping[str, Any], *names: str) -> str | None:
    for name in names:
        if isinstance(content.get(name), str):
            return str(content[name])
    return None
