"""The ledger against a real HTTP endpoint (moto server on loopback)."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from werkzeug.serving import make_server

from boxdrop.ledger import (
    FailedImage,
    Image,
    Ledger,
    LedgerError,
    Outcome,
    Publication,
    Result,
    RunState,
    Sighting,
    State,
    create_table,
)
from tests.moto_server import empty_moto

START = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """DynamoDB over HTTP. One call at a time: moto's conditional writes are not atomic between threads."""
    server = make_server("127.0.0.1", 0, empty_moto(), threaded=False)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield boto3.client(
        "dynamodb",
        endpoint_url=f"http://127.0.0.1:{server.server_port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"mode": "standard", "max_attempts": 2}, read_timeout=60),
    )
    server.shutdown()


class Clock:
    """A clock that the test turns; it moves a millisecond whenever somebody looks."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time

    def turn(self, **by: float) -> None:
        self.time += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(client: Any, clock: Clock, request: pytest.FixtureRequest) -> Ledger:
    name = "ledger-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]
    create_table(client, name)
    return Ledger(name, client=client, clock=clock, workers=4)


def id_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def seen(name: str, version: str | None, sequencer: str = "", project: str = "fruit") -> Sighting:
    return Sighting(id_of(name), project, "images", f"{project}/{name}", version, sequencer)


def shown(name: str, version: str, generation: int = 1, *, task_id: int = 7, fence: int = 1) -> Publication:
    return Publication(id_of(name), version, generation, f"{version}@{generation}", task_id, fence)


def broken(name: str, version: str, run_id: str, generation: int = 1) -> FailedImage:
    return FailedImage(id_of(name), version, generation, run_id, "truncated", "the file ends in the middle")


def want(ledger: Ledger, name: str, version: str, sequencer: str, generation: int = 1) -> Result[Image]:
    (result,) = ledger.want([seen(name, version, sequencer)], generation)
    return result


def delete(ledger: Ledger, name: str, sequencer: str) -> Result[Image]:
    (result,) = ledger.mark_gone([seen(name, None, sequencer)])
    return result


def publish(ledger: Ledger, publication: Publication) -> Result[Image]:
    (result,) = ledger.record_tasks([publication])
    return result


def the_row(result: Result[Image]) -> Image:
    assert result.row is not None
    return result.row


def the_image(ledger: Ledger, name: str) -> Image:
    image = ledger.image(id_of(name))
    assert image is not None
    return image


def test_an_image_goes_from_wanted_to_verified(ledger: Ledger) -> None:
    assert want(ledger, "a", "A", "01").outcome == Outcome.APPLIED
    ledger.start_run("fruit", "run-1", 1, START + timedelta(hours=1))
    (claimed,) = ledger.claim_wanted("fruit", "run-1", 1, 10)
    assert (claimed.state, claimed.run_id, claimed.key) == (State.RUNNING, "run-1", "fruit/a")
    assert publish(ledger, shown("a", "A")).outcome == Outcome.APPLIED
    assert the_image(ledger, "a").state == State.TASKED
    assert ledger.record_verified(id_of("a"), "A", START).outcome == Outcome.APPLIED
    image = the_image(ledger, "a")
    assert (image.state, image.task_id, image.prediction_id) == (State.VERIFIED, 7, "A@1")


def test_a_doubled_event_changes_nothing(ledger: Ledger) -> None:
    first = want(ledger, "a", "A", "01")
    second = want(ledger, "a", "A", "01")
    assert (second.outcome, second.row) == (Outcome.ALREADY, first.row)


def test_the_same_event_many_times_at_once_makes_one_row(ledger: Ledger) -> None:
    results = ledger.want([seen("a", "A", "01")] * 12, 1)
    assert sorted(result.outcome for result in results) == ["already"] * 11 + ["applied"]
    assert the_image(ledger, "a").revision == 1


def test_an_overwritten_image_is_wanted_in_its_new_version_and_late_events_change_nothing(
    ledger: Ledger,
) -> None:
    want(ledger, "a", "B", "02")
    late = want(ledger, "a", "A", "01")
    assert (late.outcome, the_row(late).version) == (Outcome.SUPERSEDED, "B")


def test_sequencers_of_different_lengths_are_padded_on_the_right(ledger: Ledger) -> None:
    want(ledger, "a", "A", "0055AED6DCD90281E5")
    assert want(ledger, "a", "B", "617f08299329d189").outcome == Outcome.APPLIED
    assert want(ledger, "a", "C", "617f08299329d1890001").outcome == Outcome.APPLIED
    assert want(ledger, "a", "B", "617F08299329D189").outcome == Outcome.SUPERSEDED


def test_a_result_of_the_version_before_the_last_is_superseded(ledger: Ledger) -> None:
    want(ledger, "a", "A", "01")
    want(ledger, "a", "B", "02")
    result = publish(ledger, shown("a", "A"))
    assert (result.outcome, the_row(result).state) == (Outcome.SUPERSEDED, State.WANTED)


def test_a_task_made_too_late_is_remembered_all_the_same(ledger: Ledger) -> None:
    want(ledger, "a", "A", "01")
    want(ledger, "a", "B", "02")
    publish(ledger, shown("a", "A", task_id=7))
    assert the_image(ledger, "a").task_id == 7


def test_content_that_comes_back_takes_the_results_of_its_first_time(ledger: Ledger) -> None:
    for content, sequencer in (("A", "01"), ("B", "02"), ("A", "03")):
        want(ledger, "a", content, sequencer)
    assert publish(ledger, shown("a", "A")).outcome == Outcome.APPLIED
    assert publish(ledger, shown("a", "B")).outcome == Outcome.SUPERSEDED


def test_an_object_copied_onto_itself_stays_verified(ledger: Ledger) -> None:
    want(ledger, "a", "A", "01")
    publish(ledger, shown("a", "A"))
    ledger.record_verified(id_of("a"), "A", START)
    assert want(ledger, "a", "A", "05").outcome == Outcome.ALREADY
    assert the_image(ledger, "a").state == State.VERIFIED
    assert want(ledger, "a", "B", "04").outcome == Outcome.SUPERSEDED


def test_an_image_overwritten_after_verification_is_stale_until_its_content_comes_back(
    ledger: Ledger,
) -> None:
    want(ledger, "a", "A", "01")
    publish(ledger, shown("a", "A"))
    ledger.record_verified(id_of("a"), "A", START)
    assert the_row(want(ledger, "a", "B", "02")).state == State.STALE
    assert the_row(want(ledger, "a", "A", "03")).state == State.VERIFIED


def test_a_verification_heard_of_after_the_overwriting_makes_it_stale_too(ledger: Ledger) -> None:
    want(ledger, "a", "A", "01")
    publish(ledger, shown("a", "A"))
    want(ledger, "a", "B", "02")
    assert the_row(ledger.record_verified(id_of("a"), "A", START)).state == State.STALE


def test_of_reviews_the_newest_counts(ledger: Ledger) -> None:
    want(ledger, "a", "A", "01")
    publish(ledger, shown("a", "A"))
    ledger.record_unverified(id_of("a"), START + timedelta(seconds=2))
    late = ledger.record_verified(id_of("a"), "A", START + timedelta(seconds=1))
    assert (late.outcome, the_row(late).state) == (Outcome.SUPERSEDED, State.TASKED)
    ledger.record_verified(id_of("a"), "A", START + timedelta(seconds=3))
    ledger.record_unverified(id_of("a"), START + timedelta(seconds=4))
    assert the_image(ledger, "a").state == State.TASKED


def test_a_stale_image_whose_review_is_taken_back_is_wanted(ledger: Ledger) -> None:
    want(ledger, "a", "A", "01")
    publish(ledger, shown("a", "A"))
    ledger.record_verified(id_of("a"), "A", START)
    want(ledger, "a", "B", "02")
    ledger.record_unverified(id_of("a"), START + timedelta(seconds=1))
    assert the_image(ledger, "a").state == State.WANTED


def test_a_deletion_heard_of_before_the_creation_wins(ledger: Ledger) -> None:
    gone = delete(ledger, "a", "02")
    assert (gone.outcome, the_row(gone).state) == (Outcome.APPLIED, State.GONE)
    assert the_row(gone).expires_at == int((START + timedelta(days=90)).timestamp())
    assert want(ledger, "a", "A", "01").outcome == Outcome.SUPERSEDED


def test_a_key_that_comes_back_is_wanted_and_never_expires(ledger: Ledger) -> None:
    want(ledger, "a", "A", "01")
    delete(ledger, "a", "02")
    back = the_row(want(ledger, "a", "A", "03"))
    assert (back.state, back.expires_at) == (State.WANTED, None)


def test_a_deleted_image_with_a_task_is_kept_until_the_task_is_flagged(ledger: Ledger) -> None:
    want(ledger, "a", "A", "01")
    publish(ledger, shown("a", "A"))
    assert the_row(delete(ledger, "a", "02")).expires_at is None
    assert [image.image_id for image in ledger.images_to_flag("fruit")] == [id_of("a")]
    assert ledger.record_flag(id_of("a"), State.GONE).outcome == Outcome.APPLIED
    assert ledger.images_to_flag("fruit") == []


def test_a_task_flagged_stale_is_updated_once_it_is_not(ledger: Ledger) -> None:
    want(ledger, "a", "A", "01")
    publish(ledger, shown("a", "A"))
    ledger.record_verified(id_of("a"), "A", START)
    assert ledger.images_to_flag("fruit") == []
    want(ledger, "a", "B", "02")
    ledger.record_flag(id_of("a"), State.STALE)
    want(ledger, "a", "A", "03")
    assert [image.due_flag for image in ledger.images_to_flag("fruit")] == [None]


def test_a_listing_makes_rows_but_overrules_no_event(ledger: Ledger) -> None:
    assert want(ledger, "a", "A", "").outcome == Outcome.APPLIED
    assert want(ledger, "a", "A", "").outcome == Outcome.ALREADY
    assert want(ledger, "a", "B", "02").outcome == Outcome.APPLIED
    assert want(ledger, "a", "A", "").outcome == Outcome.UNORDERED


def test_events_without_an_order_are_settled_by_looking_at_the_object(ledger: Ledger) -> None:
    """moto gives every event of a key the same sequencer."""
    want(ledger, "a", "A", "617f08299329d189")
    for content in ("B", "C", None, "A"):
        (unordered,) = ledger.want([seen("a", content, "617f08299329d189")], 1)
        assert unordered.outcome == Outcome.UNORDERED
        looked = ledger.observe(the_row(unordered), content, 1)
        assert (looked.outcome, the_row(looked).version) == (Outcome.APPLIED, content)
    assert want(ledger, "a", "D", "617f08299329d18a").outcome == Outcome.APPLIED


def test_an_outdated_observation_of_the_object_is_repeated(ledger: Ledger) -> None:
    before = the_row(want(ledger, "a", "A", "01"))
    assert ledger.observe(before, "B", 1).outcome == Outcome.APPLIED
    assert ledger.observe(before, "C", 1).outcome == Outcome.SUPERSEDED
    assert ledger.observe(the_image(ledger, "a"), "A", 1).outcome == Outcome.APPLIED
    assert ledger.observe(before, "B", 1).outcome == Outcome.SUPERSEDED


def test_images_before_their_labels_wait_and_are_swept_when_labels_come(ledger: Ledger) -> None:
    for name in "abc":
        assert the_row(want(ledger, name, "A", "01", generation=0)).state == State.WAITING
    assert ledger.claim_wanted("fruit", "run-1", 1, 10) == []
    assert ledger.want_older("fruit", 1) == 3
    assert ledger.want_older("fruit", 1) == 0
    assert len(ledger.claim_wanted("fruit", "run-1", 1, 10)) == 3


def test_changed_labels_make_unverified_images_wanted_again(ledger: Ledger) -> None:
    for name in ("tasked", "verified", "failed", "running", "wanted"):
        want(ledger, name, "A", "01")
    ledger.start_run("fruit", "run-1", 1, START)
    ledger.claim_wanted("fruit", "run-1", 1, 5)
    ledger.record_tasks([shown("tasked", "A"), shown("verified", "A")])
    ledger.record_failures([broken("failed", "A", "run-1")])
    ledger.record_verified(id_of("verified"), "A", START)
    publish(ledger, shown("wanted", "A", generation=2))
    assert sum(ledger.want_older("fruit", 2, limit=1) for _ in range(3)) == 3
    assert ledger.want_older("fruit", 2) == 0
    counts = {state: count for state, count in ledger.count_images("fruit").items() if count}
    assert counts == {State.WANTED: 3, State.VERIFIED: 1, State.TASKED: 1}
    assert publish(ledger, shown("running", "A", generation=1)).outcome == Outcome.SUPERSEDED
    assert publish(ledger, shown("running", "A", generation=2)).outcome == Outcome.APPLIED


def test_two_launches_at_once_share_the_wanted_images(ledger: Ledger) -> None:
    ledger.want([seen(str(number), "A", "01") for number in range(24)], 1)
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda run: ledger.claim_wanted("fruit", run, 1, 24), ("run-1", "run-2"))
    ids = [image.image_id for image in (*one, *two)]
    assert len(ids) == len(set(ids)) == 24


def test_images_are_claimed_oldest_first(ledger: Ledger) -> None:
    for name in "abcdef":
        want(ledger, name, "A", "01")
    claimed = ledger.claim_wanted("fruit", "run-1", 1, 3)
    assert [image.key for image in claimed] == ["fruit/a", "fruit/b", "fruit/c"]


def test_a_dead_run_gives_its_images_back(ledger: Ledger) -> None:
    ledger.want([seen(name, "A", "01") for name in "abc"], 1)
    ledger.claim_wanted("fruit", "run-1", 1, 2)
    ledger.claim_wanted("fruit", "run-2", 1, 2)
    assert ledger.runs_with_claims("fruit") == {"run-1", "run-2"}
    assert ledger.release_run("fruit", "run-1") == 2
    assert ledger.runs_with_claims("fruit") == {"run-2"}
    assert ledger.count_images("fruit", [State.WANTED, State.RUNNING]) == {State.WANTED: 2, State.RUNNING: 1}


def test_a_result_of_a_run_considered_dead_still_counts(ledger: Ledger) -> None:
    want(ledger, "a", "A", "01")
    ledger.claim_wanted("fruit", "run-1", 1, 1)
    ledger.release_run("fruit", "run-1")
    ledger.claim_wanted("fruit", "run-2", 1, 1)
    assert publish(ledger, shown("a", "A")).outcome == Outcome.APPLIED
    assert publish(ledger, shown("a", "A")).outcome == Outcome.ALREADY
    assert ledger.release_run("fruit", "run-2") == 0


def test_an_image_that_kills_every_run_is_failed_in_the_end(ledger: Ledger) -> None:
    want(ledger, "a", "A", "01")
    for number in range(5):
        (claimed,) = ledger.claim_wanted("fruit", f"run-{number}", 1, 1)
        assert claimed.attempts == number + 1
        ledger.release_run("fruit", f"run-{number}")
    image = the_image(ledger, "a")
    assert (image.state, image.reason) == (State.FAILED, "run_died")


def test_failures_are_listed_with_their_reasons_and_retried(ledger: Ledger) -> None:
    want(ledger, "a", "A", "01")
    ledger.claim_wanted("fruit", "run-1", 1, 1)
    (result,) = ledger.record_failures([broken("a", "A", "run-1")])
    assert result.outcome == Outcome.APPLIED
    (failed,) = ledger.list_images("fruit", State.FAILED).rows
    assert (failed.reason, failed.message) == ("truncated", "the file ends in the middle")
    (retried,) = ledger.retry([failed.image_id])
    assert (the_row(retried).state, the_row(retried).reason) == (State.WANTED, None)
    (replayed,) = ledger.record_failures([broken("a", "A", "run-1")])
    assert (replayed.outcome, the_image(ledger, "a").state) == (Outcome.SUPERSEDED, State.WANTED)


def test_an_unknown_row_is_reported(ledger: Ledger) -> None:
    assert publish(ledger, shown("a", "A")).outcome == Outcome.UNKNOWN
    assert ledger.record_verified(id_of("a"), "A", START).outcome == Outcome.UNKNOWN
    assert ledger.image(id_of("a")) is None


def test_a_deleted_task_makes_its_image_wanted(ledger: Ledger) -> None:
    want(ledger, "a", "A", "01")
    publish(ledger, shown("a", "A", task_id=7))
    assert ledger.record_lost_task(id_of("a"), 6).outcome == Outcome.SUPERSEDED
    lost = the_row(ledger.record_lost_task(id_of("a"), 7))
    assert (lost.state, lost.task_id) == (State.WANTED, None)


def test_listings_are_paged_oldest_first_and_miss_nothing(ledger: Ledger) -> None:
    names = [f"{number:02}" for number in range(23)]
    for name in names:
        want(ledger, name, "A", "01")
    want(ledger, "elsewhere", "A", "01")
    ledger.want([seen("other", "A", "01", project="fruit#wanted")], 1)
    keys: list[str] = []
    cursor = None
    while True:
        page = ledger.list_images("fruit", State.WANTED, cursor=cursor, limit=7)
        keys += [image.key for image in page.rows]
        cursor = page.cursor
        if cursor is None:
            break
    assert keys == [f"fruit/{name}" for name in [*names, "elsewhere"]]
    oldest = ledger.oldest_image("fruit", State.WANTED)
    assert oldest is not None
    assert oldest.key == "fruit/00"
    assert ledger.oldest_image("fruit", State.GONE) is None


def test_only_one_of_many_gets_a_lease(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as pool:
        leases = list(pool.map(lambda owner: ledger.acquire_lease("fruit", owner), "abcdefgh"))
    assert sum(lease is not None for lease in leases) == 1


def test_a_lease_that_ran_out_goes_to_another_and_its_old_holder_finds_out(
    ledger: Ledger, clock: Clock
) -> None:
    want(ledger, "a", "A", "01")
    want(ledger, "b", "A", "01")
    old = ledger.acquire_lease("fruit", "old", seconds=60)
    assert old is not None
    assert ledger.acquire_lease("fruit", "new") is None
    clock.turn(seconds=61)
    new = ledger.acquire_lease("fruit", "new", seconds=60)
    assert new is not None
    assert new.token > old.token
    assert publish(ledger, shown("a", "A", task_id=8, fence=new.token)).outcome == Outcome.APPLIED
    refused = publish(ledger, shown("a", "A", task_id=9, fence=old.token))
    assert (refused.outcome, the_row(refused).task_id) == (Outcome.SUPERSEDED, 8)
    assert ledger.renew_lease(old) is None
    ledger.release_lease(old)
    assert ledger.renew_lease(new) is not None


def test_a_lease_is_kept_by_renewing_and_free_once_released(ledger: Ledger, clock: Clock) -> None:
    lease = ledger.acquire_lease("fruit", "one", seconds=60)
    for _ in range(3):
        assert lease is not None
        clock.turn(seconds=50)
        lease = ledger.renew_lease(lease, seconds=60)
    assert lease is not None
    assert ledger.acquire_lease("fruit", "two") is None
    ledger.release_lease(lease)
    assert ledger.renew_lease(lease) is None
    assert ledger.acquire_lease("fruit", "two") is not None


def test_the_first_label_studio_project_wins(ledger: Ledger) -> None:
    assert ledger.connect_project("fruit", 1).outcome == Outcome.UNKNOWN
    ledger.store_labels("fruit", "images", "digest-1", "01")
    assert ledger.connect_project("fruit", 1, storage_id=5).outcome == Outcome.APPLIED
    late = ledger.connect_project("fruit", 2)
    assert late.outcome == Outcome.SUPERSEDED
    assert late.row is not None
    assert (late.row.label_studio_id, late.row.storage_id) == (1, 5)
    ledger.connect_project("fruit", 2, replacing=1)
    project = ledger.project("fruit")
    assert project is not None
    assert (project.label_studio_id, project.storage_id) == (2, None)


def test_the_newest_labels_count_and_another_detection_raises_the_generation(ledger: Ledger) -> None:
    assert ledger.store_labels("fruit", "images", "two", "02").outcome == Outcome.APPLIED
    assert ledger.store_labels("fruit", "images", "one", "01").outcome == Outcome.SUPERSEDED
    assert ledger.apply_labels("fruit", "one", "detect-1").outcome == Outcome.SUPERSEDED
    for labels, detection, generation in (
        ("two", "detect-1", 1),
        ("two", "detect-1", 1),
        ("two", "detect-2", 2),
        ("three", "detect-2", 2),
        ("two", "detect-1", 3),
    ):
        ledger.store_labels("fruit", "images", labels, f"{generation:02}{labels}".encode().hex())
        applied = ledger.apply_labels("fruit", labels, detection)
        assert applied.row is not None
        assert applied.row.generation == generation


def test_labels_without_an_order_are_read_again(ledger: Ledger) -> None:
    ledger.store_labels("fruit", "images", "one")
    unordered = ledger.store_labels("fruit", "images", "two")
    assert unordered.outcome == Outcome.UNORDERED
    read = ledger.store_labels("fruit", "images", "two", seen=unordered.row)
    assert read.outcome == Outcome.APPLIED
    assert ledger.store_labels("fruit", "images", "three", seen=unordered.row).outcome == Outcome.SUPERSEDED


def test_label_ids_are_frozen_for_ever(ledger: Ledger) -> None:
    ledger.store_labels("fruit", "images", "one", "01")
    assert ledger.freeze_labels("fruit", {"apple": 0, "banana": 1}).outcome == Outcome.APPLIED
    assert ledger.freeze_labels("fruit", {"banana": 1}).outcome == Outcome.ALREADY
    for changed in ({"apple": 1}, {"cherry": 0}):
        assert ledger.freeze_labels("fruit", changed).outcome == Outcome.SUPERSEDED
    project = ledger.project("fruit")
    assert project is not None
    assert project.label_ids == {"apple": 0, "banana": 1}


def test_projects_are_listed(ledger: Ledger) -> None:
    for name in ("fruit", "cells", "früchte"):
        ledger.store_labels(name, "images", "one", "01")
    assert [project.name for project in ledger.projects()] == ["cells", "fruit", "früchte"]


def test_a_run_is_followed_to_its_end(ledger: Ledger, clock: Clock) -> None:
    deadline = START + timedelta(hours=1)
    assert ledger.start_run("fruit", "run-1", 1, deadline).outcome == Outcome.APPLIED
    assert ledger.start_run("fruit", "run-1", 1, deadline).outcome == Outcome.ALREADY
    for job in ("job-1", "job-2"):
        ledger.record_submission(
            "fruit",
            "run-1",
            attempt=1,
            manifest="manifests/run-1",
            images=9,
            job_ids=[job],
            deadline=deadline,
        )
    run = ledger.run("fruit", "run-1")
    assert run is not None
    assert (run.state, run.job_ids, run.attempt) == (RunState.SUBMITTED, ("job-1", "job-2"), 1)
    assert ledger.overdue_runs() == []
    clock.turn(hours=2)
    assert [run.run_id for run in ledger.overdue_runs()] == ["run-1"]
    assert ledger.finish_run("fruit", "run-1", RunState.FAILED, "expired").outcome == Outcome.APPLIED
    assert ledger.finish_run("fruit", "run-1", RunState.SUCCEEDED).outcome == Outcome.SUPERSEDED
    assert ledger.overdue_runs() == []


def test_runs_are_listed_newest_first(ledger: Ledger) -> None:
    for number in range(3):
        ledger.start_run("fruit", f"2026112{number}", 1, START)
    assert [run.run_id for run in ledger.list_runs("fruit", limit=2)] == ["20261122", "20261121"]


class LosesAnswers:
    """A client whose writes arrive twice: the first answer is lost, and botocore repeats the call."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def put_item(self, **call: Any) -> Any:
        self.client.put_item(**call)
        return self.client.put_item(**call)


def test_a_write_whose_answer_was_lost_is_found_done(client: Any, ledger: Ledger) -> None:
    doubled = Ledger(ledger._table.name, client=LosesAnswers(client), clock=Clock())
    assert want(doubled, "a", "A", "01").outcome == Outcome.ALREADY
    assert [image.run_id for image in doubled.claim_wanted("fruit", "run-1", 1, 5)] == ["run-1"]
    assert publish(doubled, shown("a", "A")).outcome == Outcome.ALREADY
    assert the_image(ledger, "a").state == State.TASKED
    assert doubled.acquire_lease("fruit", "one") is not None


def test_the_table_may_be_created_twice(client: Any, ledger: Ledger) -> None:
    want(ledger, "a", "A", "01")
    create_table(client, ledger._table.name)
    assert the_image(ledger, "a").version == "A"
    ttl = client.describe_time_to_live(TableName=ledger._table.name)["TimeToLiveDescription"]
    assert ttl["AttributeName"] == "expires_at"


def test_a_missing_table_is_one_clear_sentence(client: Any) -> None:
    with pytest.raises(LedgerError, match=r"^ledger nowhere: there is no such table .* deploy boxdrop"):
        Ledger("nowhere", client=client).image(id_of("a"))


class Refuses:
    """A client whose every call fails so."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __getattr__(self, name: str) -> Any:
        def call(**_: Any) -> Any:
            raise ClientError({"Error": {"Code": self.code, "Message": "not authorized to do this"}}, name)

        return call


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("AccessDeniedException", "these credentials may not use it .not authorized to do this."),
        ("ThrottlingException", "DynamoDB still throttles after ten tries; try again in a minute"),
        ("ValidationException", r"DynamoDB refused: not authorized to do this .ValidationException."),
    ],
)
def test_a_refusal_is_one_clear_sentence(code: str, sentence: str) -> None:
    ledger = Ledger("boxdrop", client=Refuses(code))
    with pytest.raises(LedgerError, match=f"^ledger boxdrop: {sentence}"):
        want(ledger, "a", "A", "01")
    with pytest.raises(LedgerError, match=f"^ledger boxdrop: {sentence}"):
        ledger.count_images("fruit")


def test_an_endpoint_out_of_reach_is_one_clear_sentence() -> None:
    client = boto3.client(
        "dynamodb",
        endpoint_url="http://127.0.0.1:9",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 0}),
    )
    with pytest.raises(LedgerError, match=r"^ledger boxdrop: DynamoDB cannot be reached: "):
        Ledger("boxdrop", client=client).image(id_of("a"))
