"""Accepted images: the promise is proven before it is given, and the audit notices when it breaks."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.acceptance import KINDS, LABELS, THRESHOLDS, run
from benchmarks.acceptance import draw as project
from boxdrop.assessment.acceptance import FALSE_ALARM, is_audited, learn_acceptance, sureness, watch
from boxdrop.assessment.evidence import Evidence
from boxdrop.assessment.thresholds import fit
from boxdrop.domain.detections import Detections
from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.labels import LabelSet
from boxdrop.labelstudio.task_data import ACCEPTED
from boxdrop.labelstudio.tasks import Task
from boxdrop.ledger import Image, State
from boxdrop.pipeline.marks import shown_state

from .test_priority import candidates

PROMISE = 0.9


@pytest.fixture(scope="module")
def verified() -> list[Evidence]:
    return project(np.random.default_rng(0), KINDS["scores mean what they say"], np.zeros(LABELS), 200)


def test_images_are_accepted_by_their_least_sure_box_and_by_what_is_hidden(verified: list[Evidence]) -> None:
    rule = learn_acceptance(verified, THRESHOLDS, PROMISE)
    assert rule is not None
    assert rule.proven
    assert rule.accepts(candidates(0.999, 0.998, 0.02))
    assert not rule.accepts(candidates(0.999, 0.6, 0.02))  # one box is not sure
    assert not rule.accepts(candidates(0.999, 0.998, 0.45))  # an object may be missing
    assert not rule.accepts(candidates(0.02))  # nothing confirms that it is empty
    assert not rule.accepts(Detections.empty())


def test_a_label_that_few_people_checked_is_less_sure(verified: list[Evidence]) -> None:
    without_two = [each for each in verified if not (each.candidates.labels == 2).any()]
    calibration = fit(without_two, LABELS)
    box, score = np.array([[0, 0, 9, 9]], np.float32), np.array([0.99], np.float32)
    known, rare = (
        Detections(box, score, np.array([label]), np.array([label]), np.array([0])) for label in (0, 2)
    )
    assert sureness(rare, THRESHOLDS, calibration) < sureness(known, THRESHOLDS, calibration)


def test_nothing_is_accepted_on_the_calibrations_word_alone(verified: list[Evidence]) -> None:
    rule = learn_acceptance(verified[:40], THRESHOLDS, 0.98)
    assert rule is not None
    assert not rule.proven
    assert not rule.accepts(candidates(0.9999))
    assert learn_acceptance(verified[:9], THRESHOLDS, 0.98) is None


def test_the_promise_holds_in_new_images_of_simulated_projects() -> None:
    # `python -m benchmarks.acceptance` has 50 projects of each of five kinds
    found = [run(seed, KINDS["all of it"], 200, PROMISE, others=100) for seed in range(4)]
    assert all(each.keeps(PROMISE) for each in found)
    assert sum(each.images for each in found) > 20


def test_an_audit_without_mistakes_never_stops_and_one_bad_image_does_not_either() -> None:
    assert watch([(3, 3)] * 1000, 0.98).broken_after is None
    assert watch([(3, 3)] * 20 + [(0, 5)] + [(3, 3)] * 20, 0.98).broken_after is None
    assert watch([], 0.98).share.of == 0


def test_a_detector_that_gets_worse_is_noticed_within_the_stated_number_of_images() -> None:
    delays = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        boxes = rng.integers(1, 6, 400)
        wrong = rng.binomial(boxes, np.where(np.arange(400) < 100, 0.005, 0.1))
        broken = watch(zip((boxes - wrong).tolist(), boxes.tolist(), strict=True), 0.98).broken_after
        assert broken is not None
        delays.append(broken - 100)
    assert min(delays) > 0
    assert np.quantile(delays, 0.95) <= 50


def test_a_detector_that_just_keeps_the_promise_is_rarely_stopped() -> None:
    early = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        wrong = 3 * (rng.random(100) < 0.02)  # the boxes of an image share their fate
        early += watch([(3 - each, 3) for each in wrong.tolist()], 0.98).broken_after is not None
    assert early <= 100 * 100 * FALSE_ALARM


@settings(max_examples=30)
@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_audit_holds_all_images_of_a_smaller_one(image_id: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert is_audited(image_id, small) <= is_audited(image_id, large)
    assert is_audited(image_id, 1)
    assert not is_audited(image_id, 0)


def test_the_audit_draws_its_share() -> None:
    drawn = sum(is_audited(f"{number:032x}", 0.05) for number in range(20_000))
    assert abs(drawn - 1000) < 100


@pytest.mark.parametrize(
    ("said", "promise", "audit"),
    [
        ("{accept_above: 0.98 precision}", 0.98, 0.05),
        ("{accept_above: 98%}", 0.98, 0.05),
        ("{accept_above: 97.5 % precision, audit: 10%}", 0.975, 0.1),
        ("{accept_above: .9, audit: 1, counts: agreed}", 0.9, 1.0),
    ],
)
def test_labels_yaml_asks_for_it(said: str, promise: float, audit: float) -> None:
    labels = LabelSet.from_yaml(f"labels: [apple]\nreview: {said}")
    assert (labels.review.accept_above, labels.review.audit) == (promise, audit)
    assert LabelSet.from_yaml(labels.to_yaml()) == labels
    assert LabelSet.from_snapshot(labels.to_yaml(), "x") == labels


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{accept_above: 98}", "must be from 0.5 to below 1, such as 0.98 precision"),
        ("{accept_above: 1}", "must be from 0.5 to below 1"),
        ("{accept_above: 0.98 recall}", "must be a share such as 0.98 precision, not '0.98 recall'"),
        ("{accept_above: [0.9]}", "must be a share such as 0.98 precision, not a list"),
        ("{accept_above: }", "must be a share such as 0.98 precision"),
        ("{accept_above: nan}", "must be a share such as 0.98 precision"),
        ("{accept_above: 0.9, audit: 0}", "`audit` must be from 1% to 100%, such as 5%"),
        ("{accept_above: 0.9, audit: 500%}", "`audit` must be from 1% to 100%"),
        ("{counts: latest, audit: 5%}", "`audit` needs `accept_above`"),
        ("{}", "`review` is empty"),
    ],
)
def test_what_it_cannot_mean_is_one_sentence(said: str, message: str) -> None:
    with pytest.raises(LabelSetError, match="line 2") as caught:
        LabelSet.from_yaml(f"labels: [apple]\nreview: {said}")
    assert message in str(caught.value)


def test_an_accepted_task_stays_so_until_a_person_works_on_it() -> None:
    row = Image("i", "fruit", "b", "k", State.TASKED, datetime(2026, 11, 28, tzinfo=UTC), "1", version="v")
    task = Task(1, "i", "v", "p", ACCEPTED, "x", verified=False, touched=False)
    assert shown_state(row, task) == ACCEPTED
    assert shown_state(row, replace(task, touched=True)) == State.TASKED
    assert shown_state(row, replace(task, touched=True, skipped=True)) == "skipped"
    assert shown_state(row, replace(task, state="verified")) == State.TASKED
    assert shown_state(replace(row, state=State.VERIFIED), task) == State.VERIFIED
    assert shown_state(replace(row, state=State.GONE), task) == State.GONE
