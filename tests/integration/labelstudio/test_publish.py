"""Publishing to a real server: one task an image, one prediction a task, people's work untouched."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from boxdrop.domain.errors import ImageError, LabelStudioError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, Failure, Prediction, Record
from boxdrop.labelstudio import publishing, tasks
from boxdrop.labelstudio.connection import Connection, InDoubtError
from boxdrop.labelstudio.publishing import PublishSummary, publish
from boxdrop.labelstudio.task_data import to_task
from boxdrop.labelstudio.tasks import ProjectTasks

from .conftest import BOXES, FRUIT, MakeProject, annotate, next_task, prediction, somewhere, tasks_of

REFRESHED = (Box("pineapple", 0.8, (0.0, 0.0, 64.0, 48.0), "pineapple"),)


def percent(task: Any) -> list[tuple[float, float, float, float]]:
    (shown,) = task["predictions"]
    values = [region["value"] for region in shown["result"]]
    return [(value["x"], value["y"], value["width"], value["height"]) for value in values]


def test_publishing_twice_makes_no_second_task(connection: Connection, make_project: MakeProject) -> None:
    project = make_project()
    records = [prediction(number) for number in range(7)]
    assert publish(connection, project, records, FRUIT, somewhere) == PublishSummary(created=7)
    before = tasks_of(connection, project)
    assert publish(connection, project, records, FRUIT, somewhere) == PublishSummary(unchanged=7)
    after = tasks_of(connection, project)
    assert [task.id for task in after] == [task.id for task in before]
    assert [len(task.predictions) for task in after] == [1] * 7


def test_tasks_deleted_while_they_are_listed_hide_no_others(
    connection: Connection, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    publish(connection, project, [prediction(number) for number in range(5)], FRUIT, somewhere)
    numbers = [task.id for task in tasks_of(connection, project)]
    monkeypatch.setattr(tasks, "_PAGE", 2)
    stream = tasks.ProjectTasks(connection, project.id).after(0)
    first = next(stream)
    for number in numbers[:2]:
        connection.sdk.tasks.delete(str(number))
    assert [first.number, *(task.number for task in stream)] == numbers


def test_an_annotator_gets_the_boxes_on_their_pixels(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    publish(connection, project, [prediction()], FRUIT, somewhere)
    task = next_task(connection, project)
    assert percent(task)[0] == (10.0, 10.0, 40.0, 40.0)
    assert task["predictions"][0]["score"] == 0.6
    assert task["data"]["labels_found"] == "banana, apple"


def test_a_newer_prediction_takes_the_place_of_the_older_one_and_annotators_see_it(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    publish(connection, project, [prediction(n) for n in range(3)], FRUIT, somewhere)
    before = tasks_of(connection, project)
    newer = [prediction(n, REFRESHED, "demo@2") for n in range(3)]
    assert publish(connection, project, newer, FRUIT, somewhere) == PublishSummary(replaced=3)
    after = tasks_of(connection, project)
    assert [(t.id, [p.id for p in t.predictions]) for t in after] == [
        (t.id, [p.id for p in t.predictions]) for t in before
    ]
    task = next_task(connection, project)
    assert task["predictions"][0]["model_version"] == "demo@2"
    assert percent(task) == [(0.0, 0.0, 10.0, 10.0)]
    assert task["data"]["labels_found"] == "pineapple"
    assert publish(connection, project, newer, FRUIT, somewhere) == PublishSummary(unchanged=3)


def test_a_run_that_ended_before_it_could_switch_versions_is_made_good_by_the_next(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    publish(connection, project, [prediction(0)], FRUIT, somewhere)
    cut_short = [
        to_task(prediction(n, model_version="demo@2"), FRUIT, "https://example.com/x.jpg") for n in (1, 2)
    ]
    connection.sdk.projects.import_tasks(project.id, request=cut_short)
    newer = [prediction(n, model_version="demo@2") for n in (1, 2)]
    assert publish(connection, project, newer, FRUIT, somewhere) == PublishSummary(unchanged=2)
    assert connection.sdk.projects.get(project.id).model_version == "demo@2"


def test_a_changed_threshold_changes_the_boxes_though_the_detector_saw_the_same(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    publish(connection, project, [prediction()], FRUIT, somewhere)
    stricter = prediction(0, BOXES[:1])
    assert stricter.prediction_id == prediction().prediction_id
    assert publish(connection, project, [stricter], FRUIT, somewhere) == PublishSummary(replaced=1)
    assert len(percent(next_task(connection, project))) == 1


def test_verified_tasks_are_left_alone_and_skipped_ones_are_not_verified(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    publish(connection, project, [prediction(n) for n in range(3)], FRUIT, somewhere)
    first, second, _ = tasks_of(connection, project)
    annotate(connection, first)
    annotate(connection, second, cancelled=True)
    newer = [prediction(n, REFRESHED, "demo@2") for n in range(3)]
    summary = publish(connection, project, newer, FRUIT, somewhere)
    assert summary == PublishSummary(replaced=2, verified=1)
    kept, replaced, _ = tasks_of(connection, project)
    assert kept.data == first.data
    assert [p.model_version for p in kept.predictions] == ["demo@1"]
    assert [p.model_version for p in replaced.predictions] == ["demo@2"]


def test_what_is_verified_while_publishing_is_left_alone_too(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    publish(connection, project, [prediction()], FRUIT, somewhere)

    def meanwhile(predictions: Sequence[Prediction]) -> list[str]:
        annotate(connection, tasks_of(connection, project)[0])
        return somewhere(predictions)

    newer = [prediction(0, REFRESHED, "demo@2")]
    assert publish(connection, project, newer, FRUIT, meanwhile) == PublishSummary(verified=1)


def test_bad_predictions_are_refused_with_a_reason_and_others_are_published(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    records: list[Record] = [
        prediction(0),
        prediction(1, [Box("kiwi", 0.5, (0, 0, 9, 9), "kiwi")]),
        prediction(2, [Box("apple", 0.5, (0, 0, 641, 9), "apple")]),
        prediction(3, [Box("apple", float("nan"), (0, 0, 9, 9), "apple")]),
        prediction(4, model_version=""),
        Failure("bad.jpg", "b" * 32, "v1", "demo@1", "corrupt", "it is damaged"),
        prediction(5),
    ]
    summary = publish(connection, project, records, FRUIT, somewhere)
    assert (summary.created, summary.failures, summary.images) == (2, 1, 7)
    refused = dict(summary.refused)
    assert "the label is not one of pineapple, banana, apple" in refused["basket 1.jpg"]
    assert "is not a box inside 640×480 pixels" in refused["basket 2.jpg"]
    assert "the score is nan" in refused["basket 3.jpg"]
    assert "no model_version" in refused["basket 4.jpg"]
    assert len(tasks_of(connection, project)) == 2


def test_an_image_that_cannot_be_shown_is_reported_and_gets_no_task(
    connection: Connection, make_project: MakeProject
) -> None:
    def all_but_one(predictions: Sequence[Prediction]) -> list[str | ImageError]:
        gone = ImageError("gone", "the file is gone")
        return [gone if each.image == "basket 1.jpg" else "https://example.com/x.jpg" for each in predictions]

    project = make_project()
    summary = publish(connection, project, [prediction(n) for n in range(3)], FRUIT, all_but_one)
    assert summary == PublishSummary(created=2, refused=(("basket 1.jpg", "the file is gone"),))


def test_the_same_image_twice_in_one_stream_is_one_task(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    records = [prediction(0), prediction(1), prediction(0), prediction(1, REFRESHED, "demo@2")]
    summary = publish(connection, project, records, FRUIT, somewhere)
    assert summary == PublishSummary(created=2, unchanged=1, replaced=1)


def test_chunks_follow_one_another(
    connection: Connection, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "CHUNK", 4)
    monkeypatch.setattr(tasks, "_PAGE", 3)
    project = make_project()
    seen: list[int] = []
    records = (prediction(number) for number in range(9))
    publish(
        connection, project, records, FRUIT, somewhere, on_progress=lambda so_far: seen.append(so_far.created)
    )
    assert seen == [4, 8, 9]
    again = publish(connection, project, [prediction(number) for number in range(9)], FRUIT, somewhere)
    assert again == PublishSummary(unchanged=9)


def test_a_twin_from_a_late_commit_is_removed_and_the_first_task_stays(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    publish(connection, project, [prediction()], FRUIT, somewhere)
    (first,) = tasks_of(connection, project)
    late = to_task(prediction(), FRUIT, "https://example.com/late.jpg")
    connection.sdk.projects.import_tasks(project.id, request=[late])
    summary = publish(connection, project, [prediction()], FRUIT, somewhere)
    assert summary == PublishSummary(unchanged=1, removed_twins=1)
    assert [task.id for task in tasks_of(connection, project)] == [first.id]


def test_a_duplicate_with_an_annotators_work_is_kept(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    publish(connection, project, [prediction()], FRUIT, somewhere)
    late = to_task(prediction(), FRUIT, "https://example.com/late.jpg")
    connection.sdk.projects.import_tasks(project.id, request=[late])
    annotate(connection, tasks_of(connection, project)[1])
    assert publish(connection, project, [prediction()], FRUIT, somewhere) == PublishSummary(unchanged=1)
    assert len(tasks_of(connection, project)) == 2


def test_an_import_whose_answer_is_lost_is_found_to_be_done(
    connection: Connection, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    real = ProjectTasks.create

    def losing(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        raise InDoubtError("the answer was lost")

    monkeypatch.setattr(ProjectTasks, "create", losing)
    summary = publish(connection, project, [prediction(n) for n in range(3)], FRUIT, somewhere)
    assert summary == PublishSummary(created=3)
    assert len(tasks_of(connection, project)) == 3


def test_an_import_that_never_arrived_is_an_error_and_a_second_run_fixes_it(
    connection: Connection, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()

    def lost(*_: Any, **__: Any) -> None:
        raise InDoubtError("the request was lost")

    with monkeypatch.context() as patch:
        patch.setattr(ProjectTasks, "create", lost)
        patch.setattr(publishing, "_PAUSES_S", (0.0, 0.0))
        with pytest.raises(LabelStudioError, match="was lost"):
            publish(connection, project, [prediction()], FRUIT, somewhere)
    assert publish(connection, project, [prediction()], FRUIT, somewhere) == PublishSummary(created=1)


def test_an_import_that_was_lost_once_is_sent_again(
    connection: Connection, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    real, calls = ProjectTasks.create, []

    def lost_once(*arguments: Any, **options: Any) -> Any:
        calls.append(options)
        if len(calls) == 1:
            raise InDoubtError("the request was lost")
        return real(*arguments, **options)

    monkeypatch.setattr(ProjectTasks, "create", lost_once)
    summary = publish(connection, project, [prediction(n) for n in range(2)], FRUIT, somewhere)
    assert summary == PublishSummary(created=2)
    assert len(tasks_of(connection, project)) == 2


def test_tasks_that_people_imported_themselves_are_not_touched(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    own = {"data": {"image": "https://example.com/own.jpg"}}
    connection.sdk.projects.import_tasks(project.id, request=[own])
    publish(connection, project, [prediction()], FRUIT, somewhere)
    publish(connection, project, [prediction()], FRUIT, somewhere)
    assert len(tasks_of(connection, project)) == 2


def test_label_studio_json_can_be_imported_by_hand_and_publish_recognises_it(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    by_hand = [to_task(prediction(n), FRUIT, "https://example.com/x.jpg") for n in range(2)]
    connection.sdk.projects.import_tasks(project.id, request=by_hand)
    summary = publish(connection, project, [prediction(n) for n in range(3)], FRUIT, somewhere)
    assert summary == PublishSummary(created=1, unchanged=2)


@pytest.mark.parametrize("again", [prediction(), prediction(0, REFRESHED, "demo@2")])
def test_a_deleted_prediction_is_made_again(
    connection: Connection, make_project: MakeProject, again: Prediction
) -> None:
    project = make_project()
    publish(connection, project, [prediction()], FRUIT, somewhere)
    (task,) = tasks_of(connection, project)
    connection.sdk.predictions.delete(task.predictions[0].id)
    assert publish(connection, project, [again], FRUIT, somewhere) == PublishSummary(replaced=1)
    assert len(percent(next_task(connection, project))) == len(again.boxes)


def test_a_second_prediction_that_a_lost_call_made_is_removed(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    publish(connection, project, [prediction()], FRUIT, somewhere)
    (task,) = tasks_of(connection, project)
    content = to_task(prediction(), FRUIT, "")["predictions"][0]
    connection.sdk.predictions.create(task=task.id, **content)
    assert publish(connection, project, [prediction()], FRUIT, somewhere) == PublishSummary(replaced=1)
    assert len(tasks_of(connection, project)[0].predictions) == 1


def test_a_label_set_of_its_own_is_checked_against(connection: Connection, make_project: MakeProject) -> None:
    grapes = LabelSet.from_short_form("grape")
    summary = publish(connection, make_project(grapes), [prediction()], grapes, somewhere)
    assert summary.created == 0
    assert summary.refused[0][0] == "basket 0.jpg"


def test_the_priority_orders_the_tab_to_verify_and_moves_by_itself(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    records = [replace(prediction(number), doubt=doubt) for number, doubt in enumerate((0.5, 2.0, 0.1, 1.0))]
    publish(connection, project, records, FRUIT, somewhere)
    assert to_verify(connection, project) == ["basket 1.jpg", "basket 3.jpg", "basket 0.jpg", "basket 2.jpg"]
    numbers = [task.id for task in tasks_of(connection, project)]
    annotate(connection, tasks_of(connection, project)[1])
    ranked = ProjectTasks(connection, project.id).rank(
        dict(zip(numbers, (0.5, 7.0, 3.0, 1.5), strict=True)) | {10**6: 1.0}
    )
    assert ranked == 2  # one is verified, one keeps its priority
    assert to_verify(connection, project) == ["basket 2.jpg", "basket 3.jpg", "basket 0.jpg"]
    priorities = [task.data["priority"] for task in tasks_of(connection, project)]
    assert priorities == [0.5, 2.0, 3.0, 1.5]
    assert publish(connection, project, records, FRUIT, somewhere) == PublishSummary(unchanged=4)


def to_verify(connection: Connection, project: Any) -> list[str]:
    """Names of the images, as the tab *To verify* lists them."""
    views = connection.request("look", "GET", f"/api/dm/views?project={project.id}")
    (view,) = [each for each in views if each["data"]["title"] == "To verify"]
    listed = connection.request("look", "GET", f"/api/tasks?view={view['id']}&project={project.id}")
    return [task["data"]["file_name"] for task in listed["tasks"]]
