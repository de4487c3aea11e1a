"""The judge itself: content with a system that was recorded, and each planted violation is found.

`recorded/` is the evidence of a real system, gathered by `gather` when nothing moved, with the journal of
what was done to it: fresh, verified, edited, skipped, overwritten, deleted and broken images, nested
projects, a task that a person imported, an image without labels.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.imports import imported_by
from tests.judge.evidence import Evidence
from tests.judge.journal import Done, Journal, image_id_of
from tests.judge.rules import Violation, violations

HERE = Path(__file__).parent
RECORDED = Evidence.from_json((HERE / "recorded" / "evidence.json").read_text())


@pytest.fixture
def evidence() -> Evidence:
    return copy.deepcopy(RECORDED)


@pytest.fixture
def done() -> Done:
    return Journal(HERE / "recorded" / "journal.jsonl").done()


def task(evidence: Evidence, name: str) -> Any:
    identity = image_id_of(evidence.bucket, f"fruit/{name}.jpg")
    return next(each for each in evidence.tasks if each["data"].get("image_id") == identity)


def row(evidence: Evidence, name: str) -> Any:
    return next(each for each in evidence.rows if each.get("key") == f"fruit/{name}.jpg")


def document_key(evidence: Evidence, name: str) -> str:
    return f"annotations/fruit/{image_id_of(evidence.bucket, f'fruit/{name}.jpg')}.json"


def test_the_judge_imports_nothing_of_the_product() -> None:
    for file in HERE.glob("*.py"):
        if not file.name.startswith(("test_", "conftest")) and file.name != "system.py":
            names = imported_by(file)
            assert not [each for each in names if each.split(".")[0] in ("boxdrop", "functions")], file


def test_the_judge_is_content_with_what_was_recorded(evidence: Evidence, done: Done) -> None:
    assert violations(evidence, done) == []


# What can be planted. Each takes the evidence and what was done, and returns what the violation is about.


def a_second_task(evidence: Evidence, done: Done) -> str:
    evidence.tasks.append({**copy.deepcopy(task(evidence, "fresh")), "id": 999})
    return "fruit/fresh.jpg"


def a_lost_task(evidence: Evidence, done: Done) -> str:
    evidence.tasks.remove(task(evidence, "fresh"))
    return "fruit/fresh.jpg"


def a_second_prediction(evidence: Evidence, done: Done) -> str:
    task(evidence, "fresh")["predictions"] *= 2
    return "fruit/fresh.jpg"


def a_stale_prediction(evidence: Evidence, done: Done) -> str:
    task(evidence, "late")["data"]["version"] = "0" * 32 + "-1"
    return "fruit/late.jpg"


def a_prediction_of_other_labels(evidence: Evidence, done: Done) -> str:
    found = task(evidence, "fresh")
    found["data"]["model_version"] = found["predictions"][0]["model_version"] = "demo@00000000"
    return "fruit/fresh.jpg"


def a_box_outside_the_image(evidence: Evidence, done: Done) -> str:
    task(evidence, "verified")["predictions"][0]["result"][0]["value"]["width"] = 101.0
    return "fruit/verified.jpg"


def a_hidden_prediction(evidence: Evidence, done: Done) -> str:
    number = task(evidence, "fresh")["project"]
    next(each for each in evidence.projects if each["id"] == number)["model_version"] = "other@00000000"
    return "fruit/fresh.jpg"


def a_lost_document(evidence: Evidence, done: Done) -> str:
    del evidence.documents[document_key(evidence, "verified")]
    return "fruit/verified.jpg"


def a_moved_box(evidence: Evidence, done: Done) -> str:
    evidence.documents[document_key(evidence, "verified")]["boxes"][0]["xyxy"][0] -= 2
    return "fruit/verified.jpg"


def another_label(evidence: Evidence, done: Done) -> str:
    evidence.documents[document_key(evidence, "edited")]["boxes"][-1]["label"] = "pineapple"
    return "fruit/edited.jpg"


def a_document_of_a_skipped_image(evidence: Evidence, done: Done) -> str:
    evidence.documents[document_key(evidence, "skipped")]["verified"] = True
    return "fruit/skipped.jpg"


def a_document_about_nothing(evidence: Evidence, done: Done) -> str:
    evidence.documents["annotations/fruit/x.json"] = {"image_id": "x", "verified": False}
    return "x"


def a_changed_annotation(evidence: Evidence, done: Done) -> str:
    task(evidence, "edited")["annotations"][0]["result"][0]["value"]["x"] += 1
    return "fruit/edited.jpg"


def a_lost_annotation(evidence: Evidence, done: Done) -> str:
    found = task(evidence, "overwritten")
    found["annotations"] = []
    return f"task {found['id']}"


def a_lost_own_task(evidence: Evidence, done: Done) -> str:
    (number,) = done.own_tasks
    evidence.tasks[:] = [each for each in evidence.tasks if each["id"] != number]
    return f"task {number}"


def a_lost_row(evidence: Evidence, done: Done) -> str:
    evidence.rows.remove(row(evidence, "fresh"))
    return "fruit/fresh.jpg"


def an_old_row(evidence: Evidence, done: Done) -> str:
    row(evidence, "late")["version"] = "0" * 32 + "-1"
    return "fruit/late.jpg"


def a_stale_image_that_counts(evidence: Evidence, done: Done) -> str:
    row(evidence, "overwritten")["state"] = "verified"
    return "fruit/overwritten.jpg"


def a_deleted_image_that_stays(evidence: Evidence, done: Done) -> str:
    row(evidence, "gone-task")["state"] = "tasked"
    return "fruit/gone-task.jpg"


def a_failure_without_a_reason(evidence: Evidence, done: Done) -> str:
    del row(evidence, "broken")["reason"]
    return "fruit/broken.jpg"


def an_image_that_failed(evidence: Evidence, done: Done) -> str:
    row(evidence, "fresh")["state"] = "failed"
    return "fruit/fresh.jpg"


def an_image_that_waits_in_silence(evidence: Evidence, done: Done) -> str:
    row(evidence, "fresh")["state"] = "wanted"
    return "fruit/fresh.jpg"


def an_object_that_the_product_deleted(evidence: Evidence, done: Done) -> str:
    del evidence.images["nest/sub/a.jpg"]
    return "nest/sub/a.jpg"


def an_object_at_an_unknown_place(evidence: Evidence, done: Done) -> str:
    evidence.data.append("tmp/x")
    return "tmp/x"


def a_part_of_no_run(evidence: Evidence, done: Done) -> str:
    key = "predictions/fruit/20200101T000000Z-00000000/part-00000000-00000001.jsonl"
    evidence.data.append(key)
    return key


def a_dead_letter(evidence: Evidence, done: Done) -> str:
    evidence.queues["parts-dlq"][0] = 1
    return "parts-dlq"


def a_message_that_stays(evidence: Evidence, done: Done) -> str:
    evidence.queues["launches"][1] = 1
    return "launches"


def a_project_without_a_webhook(evidence: Evidence, done: Done) -> str:
    number = task(evidence, "fresh")["project"]
    evidence.webhooks[:] = [each for each in evidence.webhooks if each["project"] != number]
    return "fruit"


def an_image_that_people_cannot_see(evidence: Evidence, done: Done) -> str:
    evidence.pictures[str(task(evidence, "fresh")["id"])] = 404
    return "fruit/fresh.jpg"


def labels_that_never_came_into_force(evidence: Evidence, done: Done) -> str:
    evidence.labels["fruit/labels.yaml"] = "labels: [pear]"
    return "fruit/labels.yaml"


PLANTED = [
    a_second_task,
    a_lost_task,
    a_second_prediction,
    a_stale_prediction,
    a_prediction_of_other_labels,
    a_box_outside_the_image,
    a_hidden_prediction,
    a_lost_document,
    a_moved_box,
    another_label,
    a_document_of_a_skipped_image,
    a_document_about_nothing,
    a_changed_annotation,
    a_lost_annotation,
    a_lost_own_task,
    a_lost_row,
    an_old_row,
    a_stale_image_that_counts,
    a_deleted_image_that_stays,
    a_failure_without_a_reason,
    an_image_that_failed,
    an_image_that_waits_in_silence,
    an_object_that_the_product_deleted,
    an_object_at_an_unknown_place,
    a_part_of_no_run,
    a_dead_letter,
    a_message_that_stays,
    a_project_without_a_webhook,
    an_image_that_people_cannot_see,
    labels_that_never_came_into_force,
]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda each: each.__name__)
def test_the_judge_finds(plant: Callable[[Evidence, Done], str], evidence: Evidence, done: Done) -> None:
    about = plant(evidence, done)
    found = violations(evidence, done)
    assert about in [each.about for each in found], found
    assert all(isinstance(each, Violation) and each.found for each in found)
