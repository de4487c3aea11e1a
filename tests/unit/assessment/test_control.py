"""The blind control slice: what boxes do to people, with intervals that hold."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from boxdrop.assessment.control import Watched, compare_sides, control_fields, say_control
from boxdrop.domain.annotations import Annotation, Offer, from_json, to_json
from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.identity import image_id
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, Candidate, Prediction
from boxdrop.labelstudio.task_data import fingerprint, to_task

START = datetime(2026, 11, 28, tzinfo=UTC)
TRUE_RATIO, TRUE_LED, TRUE_OVERLOOKED = 0.5, 0.08, 0.2


def simulate(rng: np.random.Generator, images: int, blind: float = 0.2) -> list[Watched]:
    """People who take half the time with boxes, keep 8 in 100 boxes too many, and overlook objects."""
    found = []
    for number in range(images):
        is_blind = bool(rng.random() < blind)
        boxes = int(rng.integers(1, 6))
        seconds = float(rng.lognormal(2.0 + (0 if is_blind else np.log(TRUE_RATIO)), 0.6))
        right = int(rng.binomial(boxes, 0.85 if is_blind else 0.85 + TRUE_LED))
        beyond = int(rng.poisson(0.5 if is_blind else 0.5 - TRUE_OVERLOOKED))
        found.append(Watched(START + timedelta(minutes=number), is_blind, seconds, right, boxes, beyond))
    return found


def test_the_intervals_hold_the_truth_in_nine_of_ten_projects() -> None:
    held = np.zeros(3)
    for seed in range(200):
        control = compare_sides(simulate(np.random.default_rng(seed), 150))
        assert control is not None
        for place, (each, truth) in enumerate(
            ((control.time, TRUE_RATIO), (control.led, TRUE_LED), (control.overlooked, TRUE_OVERLOOKED))
        ):
            assert each is not None
            held[place] += each.low <= truth <= each.high
    assert (held >= 180).all(), held


def test_where_boxes_do_nothing_the_report_says_that_it_may_be_chance() -> None:
    images = [
        Watched(START + timedelta(minutes=n), n % 4 == 0, 5.0 + n % 3, 2 + n // 4 % 2, 3, n // 8 % 2)
        for n in range(80)
    ]
    control = compare_sides(images)
    assert control is not None
    assert all("which may be chance" in each for each in say_control(control)), say_control(control)


def test_what_boxes_do_is_said_in_one_sentence_each() -> None:
    control = compare_sides(simulate(np.random.default_rng(0), 4000))
    assert control is not None
    time, kept, overlooked = say_control(control)
    assert "boxes save 48 % of the time (46 % to 51 %)" in time
    assert "of the detector's boxes where they see them" in kept
    assert "beyond the detector's boxes" in overlooked
    assert not any("chance" in each for each in (time, kept, overlooked))
    fields = control_fields(control)
    assert fields["shown"]["images"] + fields["blind"]["images"] <= 4000
    assert fields["time_ratio"]["low"] < TRUE_RATIO < fields["time_ratio"]["high"]


def test_boxes_that_cost_time_are_said_to_cost_it() -> None:
    images = [Watched(START, n % 2 == 0, (5.0 if n % 2 == 0 else 10.0) + n / 100, 1, 1, 0) for n in range(40)]
    control = compare_sides(images)
    assert control is not None
    assert "boxes cost 97 % more time (94 % to 99 %)" in say_control(control)[0]


def test_work_from_before_the_slice_does_not_count() -> None:
    old = [Watched(START, False, 100.0, 1, 1, 0)] * 50
    new = [Watched(START + timedelta(days=1), n % 2 == 0, 5.0, 1, 1, 0) for n in range(10)]
    control = compare_sides(old + new)
    assert control is not None
    assert (control.shown.images, control.blind.images) == (5, 5)
    assert compare_sides(old) is None
    assert compare_sides(old + new[:1]) is None


def predicted(name: str) -> Prediction:
    candidate = Candidate("apple", "apple", 0, 0.9, (1.0, 1.0, 9.0, 9.0))
    box = Box("apple", 0.9, (1.0, 1.0, 9.0, 9.0), "apple")
    return Prediction(name, image_id("", name), "v", "demo@1", 10, 10, (box,), (candidate,), doubt=0.5)


def test_a_hash_draws_the_slice_and_its_tasks_say_nothing_about_the_boxes() -> None:
    label_set = LabelSet.from_yaml("labels: [apple]\nreview: {blind: 5%}")
    predictions = [predicted(f"{number}.jpg") for number in range(2000)]
    tasks = [to_task(each, label_set, "url") for each in predictions]
    blind = [each for each in tasks if each["data"].get("blind")]
    assert 60 < len(blind) < 140
    for task in blind:
        assert task["predictions"][0]["result"] == []
        assert (task["data"]["labels_found"], task["data"]["boxes"]) == ("", 0)
        assert task["data"]["lowest_score"] is None
    seen = LabelSet.from_yaml("labels: [apple]")
    shown = [to_task(each, seen, "url") for each in predictions]
    assert not any("blind" in each["data"] for each in shown)
    assert blind[0]["predictions"][0]["score"] == shown[0]["predictions"][0]["score"]  # the order stays
    place = tasks.index(blind[0])
    assert fingerprint(blind[0]["data"]) != fingerprint(shown[place]["data"])  # so it is published again


def test_boxes_that_a_user_brought_are_never_hidden() -> None:
    label_set = LabelSet.from_yaml("labels: [apple]\nreview: {blind: 50%}")
    for number in range(20):
        known = predicted(f"{number}.jpg")
        brought = Prediction(known.image, known.image_id, "v", "boxes@1", 10, 10, known.boxes)
        assert len(to_task(brought, label_set, "url")["predictions"][0]["result"]) == 1


def test_a_document_says_that_the_person_saw_no_boxes() -> None:
    offer = Offer("p", "demo@1", (), blind=True)
    document = Annotation("a.jpg", "i", "v", 1, 2, START, START, 3, 4.0, 10, 10, (), offer)
    assert from_json(to_json(document)) == document
    shown = Annotation("a.jpg", "i", "v", 1, 2, START, START, 3, 4.0, 10, 10, (), Offer("p", "demo@1", ()))
    assert "blind" not in to_json(shown)
    assert from_json(to_json(shown)) == shown


@pytest.mark.parametrize("said", ["60%", "all", "-1", "[5%]"])
def test_a_slice_that_cannot_be_is_one_sentence(said: str) -> None:
    with pytest.raises(LabelSetError, match="line 2: `blind` must be"):
        LabelSet.from_yaml(f"labels: [apple]\nreview: {{blind: {said}}}")


def test_the_slice_survives_a_snapshot() -> None:
    labels = LabelSet.from_yaml("labels: [apple]\nreview: {blind: 5%}")
    assert labels.review.blind == 0.05
    assert LabelSet.from_snapshot(labels.to_yaml(), "x") == labels
