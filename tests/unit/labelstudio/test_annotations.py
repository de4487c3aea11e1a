"""What Label Studio says of a task, as a document."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxdrop.domain.annotations import (
    Annotation,
    AnnotationError,
    Document,
    DrawnBox,
    Offer,
    OfferedBox,
    Opinion,
    Reason,
    Tombstone,
    from_json,
    to_json,
)
from boxdrop.domain.identity import image_id
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, Prediction
from boxdrop.labelstudio.annotations import ReviewedTask, document_of
from boxdrop.labelstudio.task_data import to_task

FRUIT = LabelSet.from_yaml("labels: [pineapple, banana, apple]")
PREDICTION = Prediction(
    "basket.jpg",
    image_id("photos", "fruit/basket.jpg"),
    "v1",
    "demo@1",
    640,
    480,
    (Box("banana", 0.9, (64.0, 48.0, 320.0, 240.0), "banana"),),
)
START = datetime(2026, 11, 22, 12, tzinfo=UTC)


def at(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def region(label: str = "apple", identity: str = "r1", **changes: Any) -> dict[str, Any]:
    value = {"x": 10, "y": 20, "width": 40, "height": 50, "rotation": 0, "rectanglelabels": [label]}
    value |= {key: changes.pop(key) for key in list(changes) if key in value}
    return {
        "id": identity,
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": 640,
        "original_height": 480,
        "image_rotation": 0,
        "value": value,
        **changes,
    }


def annotation(number: int = 5, minutes: float = 10, **changes: Any) -> dict[str, Any]:
    return {
        "id": number,
        "result": [region()],
        "was_cancelled": False,
        "created_at": at(minutes),
        "updated_at": at(minutes),
        "lead_time": 3.2,
        "completed_by": 1,
        "updated_by": None,
        "parent_prediction": None,
        **changes,
    }


def task(*annotations: dict[str, Any], prediction: Prediction = PREDICTION, **changes: Any) -> ReviewedTask:
    content = to_task(prediction, FRUIT, "s3://photos/fruit/basket.jpg")
    listed = [{"id": 9, "updated_at": at(0), **each} for each in content["predictions"]]
    return replace(ReviewedTask(3, content["data"], annotations, tuple(listed)), **changes)


def document(*annotations: dict[str, Any], before: Document | None = None, **changes: Any) -> Document | None:
    return document_of(task(*annotations, **changes), before, START + timedelta(minutes=60))


def verified(*annotations: dict[str, Any], before: Document | None = None, **changes: Any) -> Annotation:
    found = document(*annotations, before=before, **changes)
    assert isinstance(found, Annotation)
    return found


def test_a_submitted_annotation_becomes_boxes_in_pixels_with_what_it_started_from() -> None:
    found = verified(annotation())
    offered = task().predictions[0]["result"][0]["id"]
    assert found == Annotation(
        image="basket.jpg",
        image_id=PREDICTION.image_id,
        version="v1",
        task_id=3,
        annotation_id=5,
        order=START + timedelta(minutes=10),
        updated_at=START + timedelta(minutes=10),
        user=1,
        lead_time=3.2,
        width=640,
        height=480,
        boxes=(DrawnBox("apple", (64.0, 96.0, 320.0, 336.0), "r1"),),
        offer=Offer(
            PREDICTION.prediction_id,
            "demo@1",
            (OfferedBox("banana", 0.9, (64.0, 48.0, 320.0, 240.0), offered),),
        ),
    )


def test_the_annotation_that_was_saved_last_wins() -> None:
    older, newer = annotation(5, 10, updated_at=at(30)), annotation(6, 20)
    assert verified(older, newer).annotation_id == verified(newer, older).annotation_id == 5
    assert verified(annotation(5, 10), annotation(6, 10)).annotation_id == 6


def test_the_other_annotations_of_a_task_are_stored_beside_the_newest() -> None:
    first = annotation(5, 10, result=[region("banana")], completed_by=7)
    found = verified(first, annotation(6, 20, completed_by=8))
    (other,) = found.others
    assert (found.user, other.user, other.annotation_id, other.version) == (8, 7, 5, "v1")
    assert [box.label for box in other.boxes] == ["banana"]
    assert (other.lead_time, other.same_offer) == (3.2, True)
    assert document(first, annotation(6, 20, completed_by=8), before=found) is found


def test_what_another_annotation_was_about_stays_until_it_is_saved_again() -> None:
    pair = annotation(5, 10), annotation(6, 20)
    newer = replace(PREDICTION, version="v2")
    kept = verified(*pair, before=verified(*pair), prediction=newer)
    again = verified(annotation(5, 10, updated_at=at(15)), pair[1], before=kept, prediction=newer)
    assert [each.version for each in kept.others] == ["v1"]
    assert [each.version for each in again.others] == ["v2"]


def test_an_annotation_becomes_another_one_when_a_newer_one_is_saved() -> None:
    alone = verified(annotation(5, 10))
    both = verified(
        annotation(5, 10), annotation(6, 20), before=alone, prediction=replace(PREDICTION, version="v2")
    )
    assert (both.version, [each.version for each in both.others]) == ("v2", ["v1"])


def test_a_skip_or_a_region_that_is_no_box_is_no_other_annotation() -> None:
    skip = annotation(7, 5, was_cancelled=True)
    polygon = annotation(8, 6, result=[region(type="polygonlabels")])
    assert verified(skip, polygon, annotation(5, 10)).others == ()


def test_an_image_in_which_a_person_sees_nothing_is_verified() -> None:
    found = verified(annotation(result=[]))
    assert (found.boxes, found.width, found.height) == ((), 640, 480)


def test_a_skip_is_not_a_verification_and_does_not_undo_one() -> None:
    skip = annotation(6, 20, was_cancelled=True, result=[])
    found = document(skip)
    assert isinstance(found, Tombstone)
    assert (found.reason, found.annotation_id, found.user) == (Reason.SKIPPED, 6, 1)
    assert verified(annotation(), skip).annotation_id == 5


def test_a_deletion_leaves_a_tombstone_and_nothing_leaves_nothing() -> None:
    assert document() is None
    found = document(before=verified(annotation()))
    assert isinstance(found, Tombstone)
    assert (found.reason, found.annotation_id, found.user) == (Reason.DELETED, None, None)
    assert document(before=found) is found


def test_a_deleted_skip_is_distinguished_from_a_skip() -> None:
    skipped = document(annotation(was_cancelled=True))
    found = document(before=skipped)
    assert isinstance(found, Tombstone)
    assert found.reason == Reason.DELETED


def test_a_task_that_is_gone_leaves_a_tombstone_if_there_was_anything() -> None:
    assert document_of(None, None, START) is None
    lost = document_of(None, verified(annotation()), START)
    assert isinstance(lost, Tombstone)
    assert (lost.reason, lost.task_id, lost.image) == (Reason.LOST, 3, "basket.jpg")
    assert document_of(None, lost, START) is lost


def test_what_is_stored_already_is_returned_itself() -> None:
    for found in (document(annotation()), document(annotation(was_cancelled=True))):
        assert found is not None
    first = verified(annotation())
    assert document(annotation(), before=first) is first
    stored = from_json(to_json(first))
    assert document(annotation(), before=stored) is stored


def test_the_order_rises_whatever_the_clocks_say() -> None:
    first = replace(verified(annotation()), order=START + timedelta(days=1))
    second = verified(annotation(result=[], updated_at=at(20)), before=first)
    assert second.order == first.order + timedelta(microseconds=1)
    third = document(before=second)
    assert third is not None
    assert third.order == second.order + timedelta(microseconds=1)


def test_what_an_annotation_was_about_stays_when_its_task_shows_something_newer() -> None:
    first = verified(annotation())
    newer = replace(PREDICTION, version="v2", model_version="demo@2")
    assert document(annotation(), before=first, prediction=newer) is first
    again = verified(annotation(updated_at=at(40)), before=first, prediction=newer)
    assert (again.version, again.offer) == ("v2", first.offer)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"predictions": ()}, "none is there"),
        ({"predictions": ({"id": 9, "model_version": "demo@2", "updated_at": at(0)},)}, "being replaced"),
        (
            {"predictions": ({"id": 9, "model_version": "demo@1", "updated_at": at(11), "result": []},)},
            "replaced after the submit",
        ),
    ],
)
def test_a_prediction_that_a_person_may_not_have_seen_is_not_what_they_started_from(
    changed: dict[str, Any], why: str
) -> None:
    assert verified(annotation(), **changed).offer is None


def test_a_page_that_was_open_while_its_prediction_was_replaced_did_not_start_from_the_new_one() -> None:
    kept = region("banana", "of-the-older-one", origin="prediction-changed")
    assert verified(annotation(result=[kept])).offer is None
    drawn = region("banana", "drawn", origin="manual")
    assert verified(annotation(result=[drawn])).offer is not None


def test_the_prediction_that_the_annotation_names_counts() -> None:
    assert verified(annotation(parent_prediction=9)).offer is not None
    assert verified(annotation(parent_prediction=8)).offer is None


@pytest.mark.parametrize(
    ("changes", "xyxy"),
    [
        ({"x": -10, "width": 30}, (0.0, 96.0, 128.0, 336.0)),
        ({"x": 90, "y": 90, "width": 30, "height": 30}, (576.0, 432.0, 640.0, 480.0)),
        ({"x": 100 / 3, "width": 100 / 3}, (213.333, 96.0, 426.667, 336.0)),
        # Turned about the left top corner at (64, 96), clockwise.
        ({"rotation": 90, "x": 50}, (80.0, 96.0, 320.0, 352.0)),
        ({"rotation": 180, "x": 50, "y": 60}, (64.0, 48.0, 320.0, 288.0)),
        ({"rotation": 270, "y": 60}, (64.0, 32.0, 304.0, 288.0)),
        (
            {"rotation": 45, "x": 50, "y": 20, "width": 10, "height": 10},
            (286.059, 96.0, 365.255, 175.196),
        ),
    ],
)
def test_percent_becomes_pixels_clipped_and_upright(changes: dict[str, Any], xyxy: tuple[float, ...]) -> None:
    (box,) = verified(annotation(result=[region(**changes)])).boxes
    assert box.xyxy == pytest.approx(xyxy, abs=0.001)
    assert box.rotation == changes.get("rotation", 0)


@pytest.mark.parametrize(
    ("broken", "note"),
    [
        ({"type": "choices"}, "not a rectangle with a label"),
        ({"from_name": "other"}, "a control other than"),
        ({"rectanglelabels": []}, "no label"),
        ({"rectanglelabels": None}, "no label"),
        ({"x": 120}, "no area inside the image"),
        ({"width": 0}, "no area inside the image"),
        ({"width": -5}, "no area inside the image"),
        ({"x": math.nan}, "no area inside the image"),
        ({"x": "10"}, "no area inside the image"),
        ({"value": None}, "no label"),
        ({"image_rotation": 90}, "while the image was turned"),
    ],
)
def test_a_region_that_is_not_a_box_is_left_out_with_a_note(broken: dict[str, Any], note: str) -> None:
    found = verified(annotation(result=[region(**broken), region("banana", "r2")]))
    assert [box.region for box in found.boxes] == ["r2"]
    (said,) = found.notes
    assert note in said


def test_a_box_drawn_on_an_image_of_another_size_is_noted() -> None:
    found = verified(annotation(result=[region(original_width=800)]))
    assert (found.width, len(found.boxes)) == (640, 1)
    assert found.notes == ("region r1 was drawn on an image of another size",)


def test_several_labels_of_one_region_are_several_boxes() -> None:
    found = verified(annotation(result=[region(rectanglelabels=["apple", "banana"])]))
    assert [box.label for box in found.boxes] == ["apple", "banana"]


def test_of_people_only_the_number_is_kept() -> None:
    person = {"id": 4, "email": "somebody@example.com", "first_name": "Some"}
    found = verified(annotation(completed_by=person, created_username="somebody@example.com, 4"))
    assert found.user == 4
    assert "somebody" not in to_json(found)


def test_the_user_is_who_saved_it_last_and_its_author_if_it_was_saved_once() -> None:
    assert verified(annotation(updated_by=8, updated_at=at(30))).user == 8
    assert verified(annotation(updated_by=8)).user == 1


def test_a_task_of_others_has_no_image() -> None:
    assert task().image_id == PREDICTION.image_id
    for missing in ("image_id", "version", "prediction_id", "model_version"):
        data = {key: value for key, value in task().data.items() if key != missing}
        assert task(data=data).image_id is None


numbers = st.integers(1, 10**9)
times = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
texts = st.text(min_size=1, max_size=12)
corners = st.tuples(*[st.floats(0, 100).map(lambda value: round(value, 3))] * 4).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)
documents: st.SearchStrategy[Document] = st.builds(
    Annotation,
    image=st.text(max_size=12),
    image_id=texts,
    version=texts,
    task_id=numbers,
    annotation_id=numbers,
    order=times,
    updated_at=times,
    user=st.none() | numbers,
    lead_time=st.none() | st.floats(0, 1e6),
    width=st.integers(100, 10_000),
    height=st.integers(100, 10_000),
    boxes=st.lists(
        st.builds(DrawnBox, texts, corners, st.text(max_size=12), st.floats(0, 359)), max_size=3
    ).map(tuple),
    offer=st.none()
    | st.builds(
        Offer,
        texts,
        texts,
        st.lists(st.builds(OfferedBox, texts, st.floats(0, 1), corners, texts), max_size=3).map(tuple),
    ),
    notes=st.lists(texts, max_size=2).map(tuple),
    others=st.lists(
        st.builds(
            Opinion,
            annotation_id=numbers,
            version=texts,
            updated_at=times,
            user=st.none() | numbers,
            lead_time=st.none() | st.floats(0, 1e6),
            boxes=st.lists(st.builds(DrawnBox, texts, corners, texts), max_size=2).map(tuple),
            same_offer=st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
) | st.builds(
    Tombstone,
    image=st.text(max_size=12),
    image_id=texts,
    task_id=numbers,
    order=times,
    reason=st.sampled_from(Reason),
    annotation_id=st.none() | numbers,
    user=st.none() | numbers,
)


@settings(deadline=None)
@given(documents)
def test_what_is_written_is_read_back(written: Document) -> None:
    assert from_json(to_json(written)) == written


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", "boxdrop-annotation/2", "this boxdrop reads 'boxdrop-annotation/1'"),
        ("verified", "yes", "`verified` must be true or false"),
        ("image_id", "", "`image_id` must be text"),
        ("version", None, "`version` must be text"),
        ("task_id", True, "`task_id` must be a whole number"),
        ("order", "yesterday", "`order` must be a time"),
        ("user", "me@example.com", "`user` must be a whole number"),
        ("lead_time", -1, "`lead_time` must be seconds"),
        ("width", None, "must both be known"),
        ("boxes", {}, "`boxes` must be a list"),
        ("boxes", [7], "boxes.0. must be an object"),
        ("boxes", [{"label": "", "region": ""}], "boxes.0. must have the texts"),
        ("boxes", [{"label": "a", "region": "", "xyxy": [0, 0, 641, 1]}], "not inside the image of 640×480"),
        ("boxes", [{"label": "a", "region": "", "xyxy": [0, 0, 1, None]}], "must be four numbers"),
        (
            "boxes",
            [{"label": "a", "region": "", "xyxy": [0, 0, 1, 1], "rotation": "x"}],
            "rotation must be degrees",
        ),
        ("started_from", [], "`started_from` must be an object"),
        ("started_from", {"boxes": []}, "started_from: `prediction_id` must be text"),
        ("notes", [1], "`notes` must be texts"),
    ],
)
def test_a_document_that_is_not_valid_is_refused_with_its_field(field: str, value: Any, message: str) -> None:
    fields = json.loads(to_json(verified(annotation()))) | {field: value}
    with pytest.raises(AnnotationError, match=f"^here: .*{message}"):
        from_json(json.dumps(fields), "here")


def test_invalid_json_and_unknown_reasons_are_refused() -> None:
    for text in ("", "{", "[]", "\x00"):
        with pytest.raises(AnnotationError, match=r"^here: "):
            from_json(text, "here")
    skipped = document(annotation(was_cancelled=True))
    assert skipped is not None
    with pytest.raises(AnnotationError, match="`reason` must be one of skipped, deleted, lost"):
        from_json(to_json(skipped).replace("skipped", "eaten"))
