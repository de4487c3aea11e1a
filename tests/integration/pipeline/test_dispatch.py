"""Dispatch: whatever S3 says, in any dialect and order, becomes the right mark; over HTTP, against moto."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from boxdrop.aws.s3 import Bucket
from boxdrop.aws.s3_events import parse_events
from boxdrop.domain.identity import image_id
from boxdrop.labelstudio.webhook import IMAGES_CHANGED, ReviewEvent
from boxdrop.ledger import Publication, State
from boxdrop.ledger.ledger import Ledger
from boxdrop.pipeline.dispatch import dispatch
from boxdrop.services import Services

from .world import FRUIT, World

VERSIONED = pytest.mark.parametrize("world", [{"versioned": True}], indirect=True)
KEYS = (
    "fruit/plain.jpg",
    "fruit/with space and + plus.jpg",
    "fruit/100%25 literal %2B.jpg",
    "fruit/ananás 菠萝 🍍.png",
    "fruit/2026/11/deep/er.webp",
    'fruit/quote\'s "and" &amp;.jpeg',
    "fruit/UPPER.JPG",
)


def as_notification(message: str) -> str:
    """The same event as S3 sends it straight to SQS."""
    event = json.loads(message)
    content = event["detail"]["object"]
    record = {
        "eventName": {"Object Created": "ObjectCreated:Put", "Object Deleted": "ObjectRemoved:Delete"}[
            event["detail-type"]
        ],
        "s3": {
            "bucket": event["detail"]["bucket"],
            "object": {
                "key": quote_plus(content["key"]),
                "eTag": content.get("etag"),
                "size": content.get("size"),
                "sequencer": content["sequencer"],
            },
        },
    }
    return json.dumps({"Records": [record]})


@pytest.mark.parametrize("dialect", [str, as_notification])
def test_keys_are_exact_in_every_dialect(world: World, dialect: Callable[[str], str]) -> None:
    summary = world.dispatch(*(dialect(world.put(key)) for key in KEYS))
    assert not summary.failed
    assert summary.wanted == {"fruit": len(KEYS)}
    rows = world.ledger.list_images("fruit", State.WAITING).rows
    assert {row.key for row in rows} == set(KEYS)
    assert {row.image_id for row in rows} == {image_id(world.images.name, key) for key in KEYS}
    assert all(row.version == world.images.version(row.key) for row in rows)


@pytest.mark.parametrize(
    "payload",
    [
        "aws_s3_eventbridge_object_created.json",
        "ministack_s3_event_eventbridge.json",
        "ministack_s3_event_sqs.json",
        "moto_s3_event_eventbridge.json",
        "moto_s3_event_sqs.json",
    ],
)
def test_events_that_servers_really_sent_become_rows(world: World, payload: str, events: Path) -> None:
    body = (events / payload).read_text()
    (event,) = parse_events(body)
    bucket = Bucket(event.bucket, client=world.s3)
    services = Services.of(
        world.settings, ledger=world.ledger, images=bucket, data=world.data, launches=world.launches
    )
    if "/" not in event.key or not event.key.endswith(".jpg"):  # AWS's own example is called "example-key"
        body, key = body.replace(_quoted(event.key), "fruit/a.jpg"), "fruit/a.jpg"
    else:
        key = event.key
    assert dispatch(services, {"1": body}).failed == {}
    row = world.ledger.image(image_id(event.bucket, key))
    assert row is not None
    assert (row.state, row.key, row.version) == (State.WAITING, key, event.version)


def _quoted(key: str) -> str:
    return quote_plus(key) if "+" in key else key


def test_what_really_comes_through_s3_and_its_queue_is_marked_once(world: World) -> None:
    url = world.sqs.create_queue(QueueName=f"uploads-{world.images.name}")["QueueUrl"]
    arn = world.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    world.s3.put_bucket_notification_configuration(
        Bucket=world.images.name,
        NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]
        },
    )
    for key in KEYS:
        world.put(key)
    world.delete(KEYS[0])
    messages = []
    while got := world.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        messages += [message["Body"] for message in got]
    summary = world.dispatch(*messages, *messages)
    assert summary.failed == {}
    assert world.row(KEYS[0]).state == State.GONE  # moto's events have no order: what counts is what is there
    assert world.states() == {"waiting": len(KEYS) - 1, "gone": 1}


def test_replayed_events_change_nothing_but_ask_again(world: World) -> None:
    messages = [world.labels("fruit"), world.put("fruit/a.jpg"), world.put("fruit/b.jpg")]
    world.dispatch(*messages)
    world.launch()
    before = world.row("fruit/a.jpg")
    summary = world.dispatch(*reversed(messages))
    assert summary.wanted == {}
    assert world.row("fruit/a.jpg") == before


def test_a_replay_requests_the_launch_that_a_crash_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.dispatch(world.labels("fruit"))
    world.launch_all()
    message = world.put("fruit/a.jpg")
    with monkeypatch.context() as patch:
        patch.setattr(world.launches, "send_texts", _dies)
        with pytest.raises(KeyboardInterrupt):
            world.dispatch(message)
    assert world.row("fruit/a.jpg").state == State.WANTED
    assert world.dispatch(message).asked == ("fruit",)
    assert [summary.images for summary in world.launch_all()] == [1]


def _dies(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_events_in_any_order_end_with_the_newest_content(world: World) -> None:
    first, second = world.put("fruit/a.jpg", b"one"), world.put("fruit/a.jpg", b"two!")
    gone = world.delete("fruit/b.jpg")
    created = json.loads(world.put("fruit/b.jpg"))
    created["detail"]["object"]["sequencer"] = "0" * 16  # it was before the deletion
    world.dispatch(second, gone)
    world.dispatch(first, json.dumps(created))
    assert world.row("fruit/a.jpg").version == world.images.version("fruit/a.jpg")
    assert world.row("fruit/b.jpg").state == State.GONE


def test_an_overwritten_image_is_wanted_again(world: World) -> None:
    world.dispatch(world.labels("fruit"), world.put("fruit/a.jpg", b"one"))
    run = world.launch()
    assert world.row("fruit/a.jpg").state == State.RUNNING
    world.dispatch(world.put("fruit/a.jpg", b"two!"))
    row = world.row("fruit/a.jpg")
    assert (row.state, row.run_id) == (State.WANTED, None)
    assert world.launch().run_id not in (None, run.run_id)


def test_without_an_order_the_object_itself_is_asked(world: World) -> None:
    def unordered(message: str) -> str:
        event = json.loads(message)
        event["detail"]["object"]["sequencer"] = "617f08299329d189"  # as moto says of every event
        return json.dumps(event)

    first, second = unordered(world.put("fruit/a.jpg", b"one")), unordered(world.put("fruit/a.jpg", b"two!"))
    world.dispatch(second)
    world.dispatch(first)
    assert world.row("fruit/a.jpg").version == world.images.version("fruit/a.jpg")
    world.dispatch(unordered(world.delete("fruit/a.jpg")), second)
    assert world.row("fruit/a.jpg").state == State.GONE


@VERSIONED
def test_a_deleted_version_uncovers_the_one_before(world: World) -> None:
    world.dispatch(world.put("fruit/a.jpg", b"one"))
    first = world.row("fruit/a.jpg").version
    world.dispatch(world.put("fruit/a.jpg", b"two"))
    newest = world.row("fruit/a.jpg").version
    world.s3.delete_object(Bucket=world.images.name, Key="fruit/a.jpg", VersionId=newest)
    deleted = json.loads(world._event("Object Deleted", {"key": "fruit/a.jpg", "version-id": newest}))
    deleted["detail"]["deletion-type"] = "Permanently Deleted"
    unheard = json.loads(json.dumps(deleted))
    unheard["detail"]["object"]["key"] = "fruit/never heard of.jpg"
    assert world.dispatch(json.dumps(deleted), json.dumps(unheard)).failed == {}
    assert world.row("fruit/a.jpg").version == first
    assert world.ledger.image(world.id_of("fruit/never heard of.jpg")) is None


@VERSIONED
def test_a_delete_marker_makes_it_gone(world: World) -> None:
    world.dispatch(world.put("fruit/a.jpg"))
    world.dispatch(world.delete("fruit/a.jpg"))
    assert world.row("fruit/a.jpg").state == State.GONE


def test_collect_is_asked_to_mark_the_tasks_of_deleted_images(world: World) -> None:
    world.dispatch(world.put("fruit/a.jpg"), world.put("fruit/b.jpg"))
    world.ledger.connect_project("fruit", 7)
    row = world.row("fruit/a.jpg")
    world.ledger.record_tasks([Publication(row.image_id, row.version or "", 0, "p", 11, 1)])
    deleted = world.delete("fruit/a.jpg")
    for _ in range(2):  # once more: dispatch may have died before it asked
        world.dispatch(deleted, world.delete("fruit/b.jpg"))
        (message,) = world.received(world.reviews)
        assert ReviewEvent.from_fields(message) == ReviewEvent(IMAGES_CHANGED, 7, (11,))
    world.ledger.record_flag(row.image_id, State.GONE)
    world.dispatch(deleted)
    assert world.received(world.reviews) == []


def test_what_is_no_image_in_a_folder_is_ignored_with_a_count(world: World) -> None:
    other = json.loads(world.put("fruit/other.jpg"))
    other["detail"]["bucket"]["name"] = "somebody-elses"
    messages = [
        world.put("loose.jpg"),
        world.put("labels.yaml", FRUIT.encode()),
        world.put("fruit/notes.txt"),
        world.put("fruit/._a.jpg"),
        world.put("/rootless.jpg"),
        json.dumps(other),
        json.dumps({"Event": "s3:TestEvent", "Bucket": world.images.name}),
    ]
    summary = world.dispatch(*messages, world.put("fruit/a.jpg"))
    assert (summary.ignored, summary.wanted, summary.failed) == (6, {"fruit": 1}, {})
    assert [project.name for project in world.ledger.projects()] == ["fruit"]


def test_a_poisonous_message_fails_alone(world: World) -> None:
    summary = world.dispatch(world.put("fruit/a.jpg"), "{not JSON", '{"hello": "world"}')
    assert set(summary.failed) == {"1", "2"}
    assert summary.wanted == {"fruit": 1}


def test_images_may_come_before_their_labels(world: World) -> None:
    world.dispatch(world.put("fruit/a.jpg"), world.put("fruit/b.jpg"))
    assert world.states() == {"waiting": 2}
    assert world.launch().note == "its labels are not there yet"
    assert world.dispatch(world.labels("fruit")).asked == ("fruit",)
    assert [summary.images for summary in world.launch_all() if summary.run_id] == [2]
    assert world.states() == {"running": 2}


def test_labels_that_come_while_images_are_being_marked_reach_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = Ledger.want

    def labels_come(self: Ledger, *arguments: Any) -> Any:
        results = want(self, *arguments)
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "want_older", lambda *_: 0)  # the sweep does not see the rows yet
            world.dispatch(world.labels("fruit"))
            world.launch()
        return results

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "want", labels_come)
        world.dispatch(world.put("fruit/a.jpg"))
    assert world.row("fruit/a.jpg").state == State.WANTED


def test_a_folder_with_labels_of_its_own_is_a_project_of_its_own(world: World) -> None:
    world.dispatch(world.labels("fruit"), world.labels("fruit/exotic", "labels: [mango]"))
    world.launch_all()
    world.dispatch(
        world.put("fruit/a.jpg"), world.put("fruit/exotic/b.jpg"), world.put("fruit/exotic/x/c.jpg")
    )
    assert world.states("fruit") == {"wanted": 1}
    assert world.states("fruit/exotic") == {"wanted": 2}


def test_images_that_wait_go_along_when_their_folder_becomes_a_project(world: World) -> None:
    world.dispatch(world.put("fruit/a.jpg"), world.put("fruit/exotic/b.jpg"))
    world.dispatch(world.labels("fruit/exotic", "labels: [mango]"))
    world.launch_all()
    assert world.states("fruit") == {"waiting": 1}
    assert world.states("fruit/exotic") == {"running": 1}


def test_an_image_stays_in_the_project_that_wanted_it(world: World) -> None:
    world.dispatch(world.labels("fruit"), world.put("fruit/exotic/b.jpg", b"one"))
    world.launch_all()
    world.dispatch(world.labels("fruit/exotic", "labels: [mango]"))
    world.launch_all()
    world.dispatch(world.put("fruit/exotic/b.jpg", b"two!"))
    row = world.row("fruit/exotic/b.jpg")
    assert (row.project, row.state) == ("fruit", State.WANTED)
    assert world.launch("fruit").images == 1


def test_if_the_queue_of_launch_is_out_of_reach_every_message_comes_again(world: World) -> None:
    world.dispatch(world.labels("fruit"))
    world.launch_all()
    world.sqs.delete_queue(QueueUrl=world.launches.url)
    summary = world.dispatch(world.put("fruit/a.jpg"), world.put("fruit/b.jpg"))
    assert set(summary.failed) == {"0", "1"}
