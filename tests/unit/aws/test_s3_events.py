"""Events about objects: real payloads of AWS, moto and MiniStack, and what each may leave out."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.aws.s3_events import EventError, Happened, ObjectEvent, parse_events
from boxdrop.domain.identity import object_version


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "aws_s3_eventbridge_object_created.json",
            ObjectEvent(
                Happened.CREATED, "amzn-s3-demo-bucket1", "example-key", "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
                "617f08299329d189",
            ),
        ),
        (
            "moto_s3_event_eventbridge.json",
            ObjectEvent(
                Happened.CREATED, "drop", "raw/z.jpg", "9dd4e461268c8034f5c8564e155c67a6-1",
                "617f08299329d189",
            ),
        ),
        (
            "moto_s3_event_sqs.json",
            ObjectEvent(Happened.CREATED, "drop", "a b+c.jpg", "9dd4e461268c8034f5c8564e155c67a6-1"),
        ),
        (
            "ministack_s3_event_eventbridge.json",
            ObjectEvent(
                Happened.CREATED, "drop", "raw/z.jpg", "9dd4e461268c8034f5c8564e155c67a6-1",
                "00000660E50F6197B8",
            ),
        ),
        (
            "ministack_s3_event_sqs.json",
            ObjectEvent(
                Happened.CREATED, "drop", "a b+c.jpg", "9dd4e461268c8034f5c8564e155c67a6-1",
                "00000660E50F6197B6",
            ),
        ),
    ],
)  # fmt: skip
def test_captured_events_are_understood(events: Path, file: str, expected: ObjectEvent) -> None:
    assert list(parse_events((events / file).read_text())) == [expected]


def record(name: str, key: str, **content: Any) -> dict[str, Any]:
    return {
        "Records": [{"eventName": name, "s3": {"bucket": {"name": "b"}, "object": {"key": key, **content}}}]
    }


def bridged(kind: str, key: str, deletion: str | None = None, **content: Any) -> dict[str, Any]:
    detail: dict[str, Any] = {"bucket": {"name": "b"}, "object": {"key": key, **content}}
    if deletion:
        detail["deletion-type"] = deletion
    return {"source": "aws.s3", "detail-type": kind, "detail": detail}


@pytest.mark.parametrize(
    ("message", "happened"),
    [
        (record("ObjectRemoved:Delete", "k"), Happened.DELETED),
        (record("ObjectRemoved:Delete", "k", versionId="v7"), Happened.VERSION_DELETED),
        (record("ObjectRemoved:Delete", "k", versionId="null"), Happened.DELETED),
        (record("ObjectRemoved:DeleteMarkerCreated", "k", versionId="v8"), Happened.DELETED),
        (record("LifecycleExpiration:Delete", "k"), Happened.DELETED),
        (record("LifecycleExpiration:DeleteMarkerCreated", "k", versionId="v8"), Happened.DELETED),
        (record("s3:ObjectCreated:CompleteMultipartUpload", "k"), Happened.CREATED),
        (bridged("Object Deleted", "k", "Permanently Deleted"), Happened.DELETED),
        (
            bridged("Object Deleted", "k", "Permanently Deleted", **{"version-id": "v7"}),
            Happened.VERSION_DELETED,
        ),
        (bridged("Object Deleted", "k", "Delete Marker Created", **{"version-id": "v8"}), Happened.DELETED),
        (bridged("Object Tags Added", "k"), Happened.OTHER),
        (record("ObjectTagging:Put", "k"), Happened.OTHER),
        ({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}, Happened.OTHER),
    ],
)
def test_kinds_of_events_are_distinguished(message: dict[str, Any], happened: Happened) -> None:
    (event,) = parse_events(message)
    assert event.happened == happened
    if happened in (Happened.DELETED, Happened.VERSION_DELETED):
        assert (event.key, event.version) == ("k", None)


@pytest.mark.parametrize(
    "key", ["a b.jpg", "a+b.jpg", "100%25.jpg", "каша/ä ö.jpg", "p/q/r/s.jpg", "p//x.jpg", "%2B+ .jpg"]
)
def test_keys_are_exact_in_both_dialects(key: str) -> None:
    (plain,) = parse_events(bridged("Object Created", key))
    (encoded,) = parse_events(record("ObjectCreated:Put", quote_plus(key, safe="/")))
    assert plain.key == encoded.key == key


def test_records_inside_sns_are_found() -> None:
    inner = json.dumps(record("ObjectCreated:Put", "k"))
    (event,) = parse_events(json.dumps({"Type": "Notification", "Message": inner}))
    assert event.key == "k"


def test_all_records_of_a_message_come() -> None:
    message = {"Records": [*record("ObjectCreated:Put", "a")["Records"], *record("x", "b")["Records"]]}
    assert [event.happened for event in parse_events(message)] == [Happened.CREATED, Happened.OTHER]


@pytest.mark.parametrize(
    "message",
    [
        "no JSON", "[]", "null", "{}", '{"source": "aws.ec2", "detail": {}}', '{"Records": [{}]}',
        '{"Records": [7]}', '{"source": "aws.s3", "detail": {"bucket": "b"}}',
        '{"source": "aws.s3", "detail": {"bucket": {"name": 1}, "object": {"key": 2}}}',
    ],
)  # fmt: skip
def test_a_message_that_is_not_an_event_is_refused_with_a_reason(message: str) -> None:
    with pytest.raises(EventError, match=r"upload|S3|notification"):
        list(parse_events(message))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda some: st.lists(some) | st.dictionaries(st.sampled_from(
            ["Records", "s3", "bucket", "object", "key", "name", "source", "detail", "Type", "Message"]
        ) | st.text(), some),
        max_leaves=12,
    )
)  # fmt: skip
def test_any_json_is_events_or_one_kind_of_error(message: Any) -> None:
    try:
        events = list(parse_events(json.dumps(message)))
    except EventError:
        return
    assert all(isinstance(event, ObjectEvent) for event in events)


def test_a_version_is_the_id_or_else_the_content() -> None:
    assert object_version("v1", '"abc"', 5) == "v1"
    assert object_version("null", '"abc"', 5) == object_version(None, "abc", 5) == "abc-5"
    assert object_version(None, "abc", None) is None
