"""Collecting what people verified: webhooks of a real Label Studio, moto's S3 and DynamoDB over HTTP."""

import itertools
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from boxdrop.aws.s3 import Bucket
from boxdrop.domain.annotations import Annotation, Document, Reason, Tombstone, from_json
from boxdrop.domain.predictions import Prediction
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import Project
from boxdrop.labelstudio.task_data import to_task
from boxdrop.labelstudio.webhook import WebhookError, ensure_webhook, receive
from boxdrop.ledger import Image, Ledger, Outcome, Publication, Sighting, State
from boxdrop.pipeline.collect import (
    Collected,
    CollectError,
    CollectSummary,
    Found,
    collect,
    collect_event,
    project_of,
)
from boxdrop.services import Services, now
from boxdrop.store.layout import annotation_key
from tests.integration.labelstudio.conftest import FRUIT, prediction
from tests.webhook_receiver import Call, Receiver

NAME = "fruit"
SECRET = "of the webhook"


def region(label: str = "banana", x: float = 10) -> dict[str, Any]:
    value = {"x": x, "y": 10, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": [label]}
    size = {"original_width": 640, "original_height": 480, "image_rotation": 0}
    return {
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "id": "r",
        "value": value,
        **size,
    }


@dataclass
class Desk:
    """A project with tasks, a person who works on them, and collectors."""

    ledger: Ledger
    connection: Connection
    bucket: Bucket
    project: Project

    def publish(self, count: int = 1, number: int = 0) -> list[int]:
        """Tasks of new images, which the ledger knows."""
        predictions = [prediction(each) for each in range(number, number + count)]
        self.ledger.want([self.sighting(each, "v1", "01") for each in predictions], 1)
        content = [to_task(each, FRUIT, f"s3://photos/fruit/{each.image}") for each in predictions]
        tasks = self.connection.sdk.projects.import_tasks(
            self.project.id, request=content, return_task_ids=True
        ).task_ids
        self.ledger.record_tasks(
            Publication(each.image_id, "v1", 1, each.prediction_id, task, 1)
            for each, task in zip(predictions, tasks, strict=True)
        )
        return list(tasks)

    def sighting(self, shown: Prediction, version: str | None, sequencer: str) -> Sighting:
        return Sighting(shown.image_id, NAME, "photos", f"fruit/{shown.image}", version, sequencer)

    def submit(self, task: int, label: str = "banana", **changes: Any) -> int:
        made = self.connection.sdk.annotations.create(task, result=[region(label)], lead_time=3.5, **changes)
        return int(made.id)

    def save(self, annotation: int, *labels: str) -> None:
        self.connection.sdk.annotations.update(annotation, result=[region(label) for label in labels])

    def delete(self, annotation: int) -> None:
        self.connection.sdk.annotations.delete(annotation)

    def act(self, action: str, *tasks: int) -> None:
        """What the Data Manager does with chosen tasks."""
        self.connection.request(
            action,
            "POST",
            "/api/dm/actions",
            params={"id": action, "project": self.project.id},
            json={"selectedItems": {"all": False, "included": list(tasks)}},
        )

    def collect(self, task: int, bucket: Bucket | None = None, **options: Any) -> Collected:
        services = self.services(bucket, options.pop("clock", now))
        return collect(services, NAME, task, **options)

    def services(self, bucket: Bucket | None = None, clock: Callable[[], datetime] = now) -> Services:
        return Services.of(
            clock=clock, ledger=self.ledger, label_studio=self.connection, data=bucket or self.bucket
        )

    def deliver(self, call: Call) -> CollectSummary:
        event = receive(call.headers, call.body, [SECRET])
        name = project_of(self.ledger, event.project)
        assert name == NAME
        return collect_event(self.services(), name, event)

    def document(self, number: int = 0) -> Document | None:
        stored = self.bucket.get(annotation_key(NAME, prediction(number).image_id))
        return None if stored is None else from_json(stored.body)

    def annotation(self, number: int = 0) -> Annotation:
        found = self.document(number)
        assert isinstance(found, Annotation)
        return found

    def labels(self, number: int = 0) -> list[str]:
        return [box.label for box in self.annotation(number).boxes]

    def tombstone(self, number: int = 0) -> Tombstone:
        found = self.document(number)
        assert isinstance(found, Tombstone)
        return found

    def row(self, number: int = 0) -> Image:
        found = self.ledger.image(prediction(number).image_id)
        assert found is not None
        return found


@pytest.fixture
def desk(ledger: Ledger, connection: Connection, data_bucket: Bucket, project: Project) -> Desk:
    ledger.store_labels(NAME, "photos", "labels", "01")
    ledger.connect_project(NAME, project.id)
    return Desk(ledger, connection, data_bucket, project)


class Interrupted(Bucket):
    """A bucket before whose first write of a document something happens."""

    def __init__(self, bucket: Bucket, happening: Callable[[], object]) -> None:
        super().__init__(bucket.name, client=bucket._s3)
        self.happening: Callable[[], object] | None = happening

    def _put(self, key: str, body: bytes, content_type: str, **condition: str) -> Mapping[str, Any] | None:
        if key.startswith("annotations/") and self.happening is not None:
            happening, self.happening = self.happening, None
            happening()
        return super()._put(key, body, content_type, **condition)


def test_a_verified_image_is_stored_with_what_the_person_started_from(desk: Desk) -> None:
    (task,) = desk.publish()
    number = desk.submit(task)
    collected = desk.collect(task)
    assert (collected.found, collected.written) == (Found.VERIFIED, True)
    stored = desk.annotation()
    assert (stored.annotation_id, stored.task_id, stored.version) == (number, task, "v1")
    assert (stored.lead_time, stored.width, stored.height) == (3.5, 640, 480)
    assert [(box.label, box.xyxy) for box in stored.boxes] == [("banana", (64.0, 48.0, 192.0, 144.0))]
    assert stored.offer is not None
    assert (stored.offer.model_version, stored.offer.prediction_id) == ("demo@1", prediction().prediction_id)
    for shown, box in zip(stored.offer.boxes, prediction().boxes, strict=True):
        assert (shown.label, shown.score) == (box.label, box.score)
        assert shown.xyxy == pytest.approx(box.xyxy, abs=0.001)
    row = desk.row()
    assert (row.state, row.verified_version, row.reviewed_at) == (State.VERIFIED, "v1", stored.order)


def test_collecting_again_changes_nothing(desk: Desk) -> None:
    (task,) = desk.publish()
    desk.submit(task)
    desk.collect(task)
    before, row = desk.bucket.get(annotation_key(NAME, prediction().image_id)), desk.row()
    again = desk.collect(task)
    assert again.result is not None
    assert (again.written, again.result.outcome) == (False, Outcome.ALREADY)
    assert (desk.bucket.get(annotation_key(NAME, prediction().image_id)), desk.row()) == (before, row)


def test_an_untouched_task_leaves_no_trace(desk: Desk) -> None:
    (task,) = desk.publish()
    assert desk.collect(task) == Collected(Found.NOTHING)
    assert desk.row().state == State.TASKED
    assert list(desk.bucket.list("")) == []


def test_webhooks_replayed_reordered_doubled_and_one_lost_leave_the_newest(
    desk: Desk, receiver: Receiver
) -> None:
    """Each is also delivered at its time, in another order of its own: the state moves meanwhile."""
    ensure_webhook(desk.connection, desk.project.id, receiver.url, SECRET)
    chance = random.Random(7)
    for number in range(4):
        (task,) = desk.publish(1, number)
        receiver.calls.clear()
        annotation = desk.submit(task)
        calls = receiver.wait(1)
        for label in ("apple", "pineapple"):
            for call in chance.choices(calls, k=chance.randrange(3)):
                desk.deliver(call)
            desk.save(annotation, label, label)
            calls = receiver.wait(len(calls) + 1)
        lost = chance.randrange(3)
        sent = [call for index, call in enumerate(calls) if index != lost] * 2
        chance.shuffle(sent)
        for call in sent:
            desk.deliver(call)
        assert desk.labels(number) == ["pineapple", "pineapple"]
        assert desk.annotation(number).annotation_id == annotation
        row = desk.row(number)
        assert (row.state, row.reviewed_at) == (State.VERIFIED, desk.annotation(number).order)
    assert len(list(desk.bucket.list(f"annotations/{NAME}/"))) == 4


def test_every_order_of_all_webhooks_of_a_life_ends_the_same(desk: Desk, receiver: Receiver) -> None:
    ensure_webhook(desk.connection, desk.project.id, receiver.url, SECRET)
    (task,) = desk.publish()
    first = desk.submit(task)
    desk.collect(task)
    desk.save(first, "apple")
    second = desk.submit(task, "pineapple")
    desk.delete(second)
    calls = receiver.wait(4)
    for order in itertools.permutations(calls):
        for call in order:
            desk.deliver(call)
        assert (desk.annotation().annotation_id, desk.labels()) == (first, ["apple"])
    assert desk.row().state == State.VERIFIED


def test_a_skip_is_distinguished_from_a_verification_and_a_deletion(desk: Desk, receiver: Receiver) -> None:
    ensure_webhook(desk.connection, desk.project.id, receiver.url, SECRET)
    (task,) = desk.publish()
    skip = desk.submit(task, was_cancelled=True)
    (created,) = receiver.wait(1)
    assert desk.deliver(created).counts == {Found.UNVERIFIED: 1}
    assert (desk.tombstone().reason, desk.tombstone().annotation_id) == (Reason.SKIPPED, skip)
    assert (desk.row().state, desk.row().skipped) == (State.TASKED, True)
    desk.delete(skip)
    assert desk.deliver(receiver.wait(2)[1]).counts == {Found.UNVERIFIED: 1}
    assert (desk.tombstone().reason, desk.row().state) == (Reason.DELETED, State.TASKED)
    assert not desk.row().skipped
    desk.submit(task)
    assert desk.deliver(receiver.wait(3)[2]).counts == {Found.VERIFIED: 1}
    assert desk.row().state == State.VERIFIED


def test_a_deleted_annotation_is_found_though_its_webhook_names_no_task(
    desk: Desk, receiver: Receiver
) -> None:
    ensure_webhook(desk.connection, desk.project.id, receiver.url, SECRET)
    (task,) = desk.publish()
    number = desk.submit(task)
    desk.deliver(receiver.wait(1)[0])
    assert desk.row().state == State.VERIFIED
    desk.delete(number)
    deleted = receiver.wait(2)[1]
    assert receive(deleted.headers, deleted.body, [SECRET]).tasks == ()
    for _ in range(2):
        assert desk.deliver(deleted).counts == {Found.UNVERIFIED: 1}
        assert (desk.tombstone().reason, desk.row().state) == (Reason.DELETED, State.TASKED)
    # The late creation of what is gone brings nothing back.
    assert desk.deliver(receiver.calls[0]).counts == {Found.UNVERIFIED: 1}
    assert (desk.tombstone().reason, desk.row().state) == (Reason.DELETED, State.TASKED)


def test_an_annotation_deleted_before_anybody_collected_it_changes_nothing(
    desk: Desk, receiver: Receiver
) -> None:
    ensure_webhook(desk.connection, desk.project.id, receiver.url, SECRET)
    (task,) = desk.publish()
    desk.delete(desk.submit(task))
    created, deleted = receiver.wait(2)
    assert desk.deliver(deleted).counts == {Found.UNKNOWN: 1}
    assert desk.deliver(created).counts == {Found.NOTHING: 1}
    assert (desk.document(), desk.row().state) == (None, State.TASKED)


def test_the_annotation_below_a_deleted_one_counts_again(desk: Desk) -> None:
    (task,) = desk.publish()
    desk.submit(task, "apple")
    newer = desk.submit(task, "banana")
    desk.collect(task)
    assert desk.labels() == ["banana"]
    order = desk.annotation().order
    desk.delete(newer)
    desk.collect(task)
    assert desk.labels() == ["apple"]
    assert desk.annotation().order > order
    assert desk.row().reviewed_at == desk.annotation().order


def test_bulk_actions_of_the_data_manager_are_collected(desk: Desk, receiver: Receiver) -> None:
    ensure_webhook(desk.connection, desk.project.id, receiver.url, SECRET)
    tasks = desk.publish(3)
    desk.act("predictions_to_annotations", *tasks)
    (created,) = receiver.wait(1)
    summary = desk.deliver(created)
    assert (summary.counts, summary.written) == ({Found.VERIFIED: 3}, 3)
    assert desk.deliver(created).written == 0
    assert desk.labels(2) == ["banana", "apple"]
    offer = desk.annotation(2).offer
    assert offer is not None
    assert [box.region for box in offer.boxes] == [box.region for box in desk.annotation(2).boxes]
    desk.act("delete_tasks_annotations", *tasks[:2])
    assert desk.deliver(receiver.wait(2)[1]).counts == {Found.UNVERIFIED: 2}
    assert [desk.row(number).state for number in range(3)] == [State.TASKED, State.TASKED, State.VERIFIED]
    desk.act("delete_tasks", tasks[2])
    assert desk.deliver(receiver.wait(3)[2]).counts == {Found.LOST: 1}
    assert (desk.tombstone(2).reason, desk.row(2).state, desk.row(2).task_id) == (
        Reason.LOST,
        State.WANTED,
        None,
    )


def test_an_annotation_turned_into_a_draft_sends_no_webhook_and_is_found_by_a_check(
    desk: Desk, receiver: Receiver
) -> None:
    ensure_webhook(desk.connection, desk.project.id, receiver.url, SECRET)
    (task,) = desk.publish()
    number = desk.submit(task)
    desk.deliver(receiver.wait(1)[0])
    desk.connection.request("make it a draft", "POST", f"/api/annotations/{number}/convert-to-draft")
    assert desk.collect(task).found == Found.UNVERIFIED
    assert (desk.tombstone().reason, desk.row().state) == (Reason.DELETED, State.TASKED)
    assert len(receiver.calls) == 1  # Label Studio 1.23 looks up what it has just deleted, and sends nothing


def test_a_task_that_is_gone_frees_its_image_and_the_next_task_takes_over(desk: Desk) -> None:
    (task,) = desk.publish()
    desk.submit(task)
    desk.collect(task)
    desk.connection.sdk.tasks.delete(str(task))
    for _ in range(2):
        assert desk.collect(task).found == Found.LOST
        row = desk.row()
        assert (row.state, row.task_id, row.verified_version) == (State.WANTED, None, None)
    desk.publish(1, 1)  # takes the number that is free again
    (again,) = desk.publish()
    assert again != task
    desk.submit(again, "apple")
    assert desk.collect(again).found == Found.VERIFIED
    assert desk.collect(task).found == Found.NOTHING  # a late event of the first one finds the other image
    assert desk.collect(task, image_id=prediction().image_id).found == Found.LOST
    assert (desk.labels(), desk.annotation().task_id, desk.row().state) == (["apple"], again, State.VERIFIED)


def test_a_number_that_another_task_reuses_is_not_the_images_task(desk: Desk) -> None:
    """On SQLite, Label Studio imports from the highest number on, also if that one was deleted."""
    (task,) = desk.publish()
    desk.submit(task)
    desk.collect(task)
    desk.connection.sdk.tasks.delete(str(task))
    assert desk.publish(1, 1) == [task]
    annotation = desk.submit(task, "apple")
    assert desk.collect(task).found == Found.VERIFIED
    assert (desk.tombstone().reason, desk.row().state, desk.row().task_id) == (
        Reason.LOST,
        State.WANTED,
        None,
    )
    assert (desk.labels(1), desk.row(1).state) == (["apple"], State.VERIFIED)
    desk.delete(annotation)
    assert desk.collect(task).found == Found.UNVERIFIED
    assert (desk.tombstone(1).reason, desk.row(1).state) == (Reason.DELETED, State.TASKED)


def test_a_task_that_is_gone_and_was_never_collected_needs_to_be_named(desk: Desk) -> None:
    (task,) = desk.publish()
    desk.connection.sdk.tasks.delete(str(task))
    assert desk.collect(task).found == Found.UNKNOWN
    assert desk.row().state == State.TASKED
    assert desk.collect(task, image_id=prediction().image_id).found == Found.LOST
    assert (desk.row().state, desk.document()) == (State.WANTED, None)


def test_an_image_overwritten_after_verification_is_stale(desk: Desk) -> None:
    (task,) = desk.publish()
    number = desk.submit(task)
    desk.collect(task)
    desk.ledger.want([desk.sighting(prediction(), "v2", "02")], 1)
    assert desk.row().state == State.STALE
    desk.save(number, "apple")
    desk.collect(task)
    assert (desk.row().state, desk.annotation().version) == (State.STALE, "v1")


def test_a_review_of_an_older_version_is_stale_if_it_is_heard_of_after_the_overwriting(desk: Desk) -> None:
    (task,) = desk.publish()
    desk.submit(task)
    desk.ledger.want([desk.sighting(prediction(), "v2", "02")], 1)
    assert desk.collect(task).found == Found.VERIFIED
    assert (desk.row().state, desk.row().verified_version) == (State.STALE, "v1")


def test_verified_work_stays_when_its_task_is_published_again(desk: Desk) -> None:
    (task,) = desk.publish()
    number = desk.submit(task)
    desk.collect(task)
    before = desk.annotation()
    newer = to_task(prediction(version="v2", model_version="demo@2"), FRUIT, "s3://photos/fruit/0.jpg")
    desk.connection.sdk.tasks.update(str(task), data=newer["data"])
    assert not desk.collect(task).written
    assert desk.annotation() == before
    desk.save(number, "apple")
    desk.collect(task)
    assert (desk.annotation().version, desk.annotation().offer) == ("v2", before.offer)


def test_tasks_of_others_are_ignored(desk: Desk) -> None:
    (task,) = desk.connection.sdk.projects.import_tasks(
        desk.project.id, request=[{"data": {"image": "https://example.com/a.jpg"}}], return_task_ids=True
    ).task_ids
    desk.submit(task)
    assert desk.collect(task) == Collected(Found.FOREIGN)
    assert list(desk.bucket.list("")) == []


def test_the_second_task_of_an_image_does_not_count(desk: Desk) -> None:
    (task,) = desk.publish()
    (twin,) = desk.connection.sdk.projects.import_tasks(
        desk.project.id, request=[to_task(prediction(), FRUIT, "s3://photos/a.jpg")], return_task_ids=True
    ).task_ids
    desk.submit(twin)
    assert desk.collect(twin).found == Found.TWIN
    assert (desk.document(), desk.row().state) == (None, State.TASKED)
    desk.connection.sdk.tasks.delete(str(task))
    assert desk.collect(twin).found == Found.VERIFIED  # now it is the only one


def test_a_slow_collector_does_not_undo_what_another_wrote_meanwhile(desk: Desk) -> None:
    (task,) = desk.publish()
    number = desk.submit(task, "banana")

    def meanwhile() -> None:
        desk.save(number, "apple")
        desk.collect(task)

    collected = desk.collect(task, Interrupted(desk.bucket, meanwhile))
    assert (collected.written, desk.labels()) == (False, ["apple"])
    assert desk.row().reviewed_at == desk.annotation().order


def test_a_slow_collector_does_not_bring_back_what_was_taken_back_meanwhile(desk: Desk) -> None:
    """Who hears of the deletion finds the stored document right, and cannot know of the slow one."""
    (task,) = desk.publish()
    desk.submit(task, "banana")
    desk.collect(task)
    newer = desk.submit(task, "apple")
    told = []

    def meanwhile() -> None:
        desk.delete(newer)
        told.append(desk.collect(task).written)

    desk.collect(task, Interrupted(desk.bucket, meanwhile))
    assert (told, desk.labels()) == ([False], ["banana"])
    assert desk.row().reviewed_at == desk.annotation().order


def test_a_slow_collector_does_not_revive_a_deleted_annotation(desk: Desk) -> None:
    (task,) = desk.publish()
    number = desk.submit(task)

    def meanwhile() -> None:
        desk.delete(number)
        assert desk.collect(task).found == Found.NOTHING

    assert desk.collect(task, Interrupted(desk.bucket, meanwhile)).found == Found.UNVERIFIED
    assert (desk.tombstone().reason, desk.row().state) == (Reason.DELETED, State.TASKED)


def test_a_late_record_of_a_collector_is_refused(desk: Desk) -> None:
    (task,) = desk.publish()
    number = desk.submit(task)
    desk.collect(task)
    late = desk.annotation()
    desk.delete(number)
    desk.collect(task)
    result = desk.ledger.record_verified(late.image_id, late.version, late.order)
    assert (result.outcome, desk.row().state) == (Outcome.SUPERSEDED, State.TASKED)


def test_a_collector_that_dies_between_document_and_ledger_is_made_up_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = desk.publish()
    desk.submit(task)
    with monkeypatch.context() as patch:
        patch.setattr(desk.ledger, "record_verified", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            desk.collect(task)
    assert (desk.labels(), desk.row().state) == (["banana"], State.TASKED)
    assert not desk.collect(task).written
    assert desk.row().state == State.VERIFIED


def test_a_clock_that_goes_wrong_changes_no_order(desk: Desk) -> None:
    (task,) = desk.publish()
    number = desk.submit(task)
    desk.collect(task)
    desk.delete(number)
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    verified = desk.annotation()
    assert desk.collect(task, clock=lambda: long_ago).found == Found.UNVERIFIED
    assert desk.tombstone().order == verified.order + timedelta(microseconds=1)
    assert desk.row().state == State.TASKED


def test_many_collectors_at_once_end_with_the_newest(desk: Desk) -> None:
    (task,) = desk.publish()
    number = desk.submit(task)
    with ThreadPoolExecutor(4) as pool:
        collecting = [pool.submit(desk.collect, task) for _ in range(3)]
        desk.save(number, "apple")
        collecting += [pool.submit(desk.collect, task) for _ in range(2)]
        desk.save(number, "pineapple")
        collecting += [pool.submit(desk.collect, task) for _ in range(3)]
    for each in collecting:
        each.result()
    assert desk.labels() == ["pineapple"]
    assert (desk.row().state, desk.row().reviewed_at) == (State.VERIFIED, desk.annotation().order)


def test_a_forged_or_oversized_webhook_reaches_nothing(desk: Desk, receiver: Receiver) -> None:
    ensure_webhook(desk.connection, desk.project.id, receiver.url, "guessed")
    (task,) = desk.publish()
    desk.submit(task)
    (call,) = receiver.wait(1)
    with pytest.raises(WebhookError) as caught:
        desk.deliver(call)
    assert (caught.value.status, caught.value.project) == (401, None)
    with pytest.raises(WebhookError) as caught:
        receive(call.headers, call.body, ["guessed"], max_bytes=len(call.body) - 1)
    assert (caught.value.status, caught.value.project) == (413, desk.project.id)
    assert receive(call.headers, call.body, ["guessed"], max_bytes=len(call.body)).tasks == (task,)


def test_a_project_without_label_studio_is_one_clear_sentence(desk: Desk) -> None:
    assert project_of(desk.ledger, desk.project.id + 1000) is None
    with pytest.raises(CollectError, match=r"^the project cells has no project in Label Studio yet$"):
        collect(desk.services(), "cells", 1)
