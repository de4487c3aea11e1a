"""Rules of the ledger that need no table: projects' labels, images that move or are given back, runs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from boxdrop.domain.identity import prediction_id
from boxdrop.ledger import (
    Image,
    Outcome,
    Project,
    Publication,
    Result,
    Run,
    RunState,
    Sighting,
    State,
    projects,
    states,
)
from boxdrop.ledger.table import _from_item, _to_item

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
WAITING = Image("0" * 32, "fruit", "photos", "fruit/x/a.jpg", State.WAITING, NOW, "1", "v1", wanted_at=NOW)
WANTED = replace(WAITING, state=State.WANTED, generation=1)
RUNNING = replace(WANTED, state=State.RUNNING, run_id="run", attempts=1)
IN_FORCE = Project(
    "fruit", "photos", stored_labels="A", labels_sequencer="1", labels="A", detection="a", generation=1
)


def store(
    row: Project | None, labels: str | None, sequencer: str, error: str | None = None
) -> Project | None:
    return projects.store_labels(row, "fruit", "photos", labels, sequencer, None, error, NOW).row


def test_an_image_that_waits_goes_to_the_project_that_its_folder_became() -> None:
    result = states.adopt(WAITING, "fruit/x", 2, LATER)
    assert result.outcome == Outcome.APPLIED
    assert result.row is not None
    assert (result.row.project, result.row.state, result.row.generation) == ("fruit/x", State.WANTED, 2)
    assert states.adopt(WANTED, "fruit/x", 2, LATER).row == WANTED
    unlabelled = states.adopt(WAITING, "fruit/x", 0, LATER).row
    assert unlabelled is not None
    assert unlabelled.state == State.WAITING


def test_another_projects_generation_does_not_affect_an_image() -> None:
    sighting = Sighting(WANTED.image_id, "fruit/x", "photos", WANTED.key, "v2", "2")
    row = states.sight(WANTED, sighting, 9, LATER).row
    assert row is not None
    assert (row.project, row.generation, row.version) == ("fruit", 1, "v2")


def test_boxes_that_were_dropped_with_an_image_want_it_again_and_verified_work_stays() -> None:
    for row in (WAITING, WANTED, RUNNING, replace(RUNNING, state=State.TASKED)):
        result = states.bring_boxes(row, "coco.json@1", "v1", LATER)
        assert result.outcome == Outcome.APPLIED
        assert result.row is not None
        assert (result.row.own_boxes, result.row.run_id) == ("coco.json@1", None)
        assert result.row.state == (State.WAITING if row == WAITING else State.WANTED)
        assert states.bring_boxes(result.row, "coco.json@1", "v1", LATER).outcome == Outcome.ALREADY
    verified = replace(WANTED, state=State.VERIFIED, verified_version="v1")
    assert states.bring_boxes(verified, "coco.json@1", "v1", LATER) == Result(Outcome.SUPERSEDED, verified)
    assert states.bring_boxes(WANTED, "coco.json@1", "v0", LATER).outcome == Outcome.SUPERSEDED


def test_no_other_prediction_is_recorded_of_content_that_has_boxes_of_its_own() -> None:
    row = replace(RUNNING, boxes="coco.json@1", boxes_version="v1")
    own = prediction_id(row.image_id, "v1", "coco.json@1")
    other = prediction_id(row.image_id, "v1", "demo@2")

    def publish(row: Image, prediction: str, version: str = "v1") -> Result[Image]:
        return states.publish(row, Publication(row.image_id, version, 1, prediction, 9, 1), LATER)

    late = publish(row, other)
    assert late.outcome == Outcome.SUPERSEDED
    assert late.row is not None
    assert (late.row.state, late.row.task_id) == (State.RUNNING, 9)
    shown = publish(row, own)
    assert shown.outcome == Outcome.APPLIED
    overwritten = publish(replace(row, version="v2"), other, "v2")
    assert overwritten.outcome == Outcome.APPLIED


def test_an_attempt_that_no_job_saw_does_not_count() -> None:
    worn = replace(RUNNING, attempts=states.MAX_ATTEMPTS)
    blameless = states.release(worn, "run", LATER, blameless=True).row
    assert blameless is not None
    assert (blameless.state, blameless.attempts) == (State.WANTED, states.MAX_ATTEMPTS - 1)
    blamed = states.release(worn, "run", LATER).row
    assert blamed is not None
    assert (blamed.state, blamed.reason) == (State.FAILED, "run_died")
    assert states.release(replace(RUNNING, run_id="other"), "run", LATER, blameless=True).row is not None


def test_boxes_are_waited_for_since_they_were_first_wanted() -> None:
    given_back = states.release(RUNNING, "run", LATER).row
    assert given_back is not None
    assert (given_back.wanted_at, given_back.since) == (NOW, LATER)
    overwritten = states.sight(
        RUNNING, Sighting(RUNNING.image_id, "fruit", "photos", RUNNING.key, "v2", "2"), 1, LATER
    ).row
    assert overwritten is not None
    assert overwritten.wanted_at == LATER
    failed = replace(RUNNING, state=State.FAILED, reason="truncated")
    retried = states.retry(failed, LATER).row
    assert retried is not None
    assert retried.wanted_at == LATER


def test_a_mistake_leaves_the_labels_before_it_and_the_next_right_file_removes_it() -> None:
    wrong = store(IN_FORCE, None, "2", "line 1: …")
    assert wrong is not None
    assert (wrong.stored_labels, wrong.labels, wrong.labels_error) == ("A", "A", "line 1: …")
    assert store(wrong, None, "2", "line 1: …") == wrong
    mended = store(wrong, "A", "3")
    assert mended is not None
    assert (mended.labels_error, mended.labels) == (None, "A")


def test_a_mistake_stays_reported_whatever_becomes_of_the_labels_before_it() -> None:
    stored = store(IN_FORCE, "B", "2")
    wrong = store(stored, None, "3", "line 1: …")
    assert wrong is not None
    for result in (
        projects.apply_labels(wrong, "B", "b", None, NOW),
        projects.hold_labels(wrong, "B", "b", 9),
        projects.refuse_labels(wrong, "B", "no such detector"),
    ):
        assert result.row is not None
        assert result.row.labels_error == "line 1: …"
        mended = store(result.row, "C", "4")
        assert mended is not None
        assert mended.labels_error is None


def test_an_older_mistake_is_old_news() -> None:
    newest = store(IN_FORCE, "B", "3")
    assert newest is not None
    result = projects.store_labels(newest, "fruit", "photos", None, "2", None, "wrong", NOW)
    assert (result.outcome, result.row) == (Outcome.SUPERSEDED, newest)


def test_without_an_order_a_mistake_is_read_again() -> None:
    result = projects.store_labels(IN_FORCE, "fruit", "photos", None, "", None, "wrong", NOW)
    assert result.outcome == Outcome.UNORDERED
    again = projects.store_labels(IN_FORCE, "fruit", "photos", None, "", IN_FORCE, "wrong", NOW)
    assert again.outcome == Outcome.APPLIED


@pytest.mark.parametrize(
    ("labels", "detection", "generation"), [("B", "a", 1), ("B", "b", 2), ("A", "a", 1), ("A", "b", 2)]
)
def test_a_generation_is_that_of_a_detection(labels: str, detection: str, generation: int) -> None:
    row = store(IN_FORCE, labels, "2")
    result = projects.apply_labels(row, labels, detection, ("owl", "d1", 0.1), NOW)
    assert result.row is not None
    assert (result.row.generation, result.row.labels, result.row.bundle_name) == (generation, labels, "owl")


def test_a_held_change_ends_by_being_applied_or_by_another_file() -> None:
    row = store(IN_FORCE, "B", "2")
    held = projects.hold_labels(row, "B", "b", 5000).row
    assert held is not None
    assert (held.held, held.held_images, held.labels) == ("b", 5000, "A")
    assert projects.hold_labels(held, "B", "b", 5000).outcome == Outcome.ALREADY
    assert projects.hold_labels(held, "C", "c", 1).outcome == Outcome.SUPERSEDED
    applied = projects.apply_labels(held, "B", "b", None, NOW).row
    back = store(held, "A", "3")
    assert applied is not None
    assert back is not None
    assert (applied.held, applied.generation, back.held, back.labels_are_due) == (None, 2, None, True)


def test_a_change_that_only_new_images_follow_leaves_nothing_to_sweep_and_the_next_one_sweeps_all() -> None:
    swept = projects.spread(IN_FORCE, swept=1, republished="A").row
    noted = projects.follow_from_now(swept, "b").row
    assert noted is not None
    assert projects.follow_from_now(noted, "b").outcome == Outcome.ALREADY
    other = projects.apply_labels(store(noted, "C", "2"), "C", "c", None, NOW).row
    assert other is not None
    assert (other.generation, other.oldest_generation, other.from_now) == (2, 2, None)
    spared = projects.apply_labels(store(noted, "B", "2"), "B", "b", None, NOW).row
    assert spared is not None
    assert (spared.generation, spared.oldest_generation) == (2, 1)
    assert not projects.spread(spared, republished="B").row.labels_are_due  # type: ignore[union-attr]
    again = projects.apply_labels(store(spared, "B2", "3"), "B2", "b", None, NOW).row  # a threshold changes
    assert again is not None
    assert (again.generation, again.oldest_generation) == (2, 1)
    back = projects.apply_labels(store(again, "A", "4"), "A", "a", None, NOW).row
    assert back is not None
    assert (back.generation, back.oldest_generation, back.labels_are_due) == (3, 3, True)


def test_labels_that_cannot_come_into_force_are_reported_until_they_can() -> None:
    row = store(IN_FORCE, "B", "2")
    refused = projects.refuse_labels(row, "B", "no such detector").row
    assert refused is not None
    assert (refused.labels_error, refused.labels) == ("no such detector", "A")
    assert projects.refuse_labels(row, "A", "old news").outcome == Outcome.SUPERSEDED
    applied = projects.apply_labels(refused, "B", "b", None, NOW).row
    assert applied is not None
    assert applied.labels_error is None


def test_labels_are_due_until_they_have_reached_everything() -> None:
    assert IN_FORCE.labels_are_due
    swept = projects.spread(IN_FORCE, swept=1).row
    assert swept is not None
    assert swept.labels_are_due
    done = projects.spread(swept, republished="A").row
    assert done is not None
    assert not done.labels_are_due
    assert projects.spread(done, swept=0).outcome == Outcome.ALREADY


def test_a_live_run_may_get_more_time_and_an_ended_one_none() -> None:
    run = Run("fruit", "run", RunState.SUBMITTED, 1, NOW, NOW)
    prolonged = projects.prolong(run, LATER).row
    assert prolonged is not None
    assert prolonged.deadline == LATER
    assert projects.prolong(prolonged, NOW).outcome == Outcome.ALREADY
    assert projects.prolong(replace(run, state=RunState.FAILED), LATER).outcome == Outcome.SUPERSEDED


def test_a_projects_row_comes_back_as_it_was_written() -> None:
    row = replace(
        IN_FORCE,
        bundle_name="owl",
        bundle_digest="d" * 64,
        default_threshold=0.35,
        applied_at=NOW,
        labels_at=NOW,
        label_ids={"apple": 0},
        held="x",
        held_images=3,
        swept=1,
    )
    assert _from_item(Project, _to_item(row)) == row
    assert _from_item(Project, _to_item(replace(row, default_threshold=1.0))).default_threshold == 1.0
