"""Projects on a real server: one for each label set's project, brought up to date, nothing lost."""

import pytest

from boxdrop.domain.errors import LabelStudioError
from boxdrop.domain.labels import LabelSet, color_of
from boxdrop.domain.predictions import Box
from boxdrop.labelstudio.config import frozen_ids, identity_of, labeling_config
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import Project, ensure_project
from boxdrop.labelstudio.publishing import publish
from boxdrop.labelstudio.tabs import ensure_accepted
from boxdrop.labelstudio.tasks import ProjectTasks

from .conftest import FRUIT, MakeProject, annotate, next_task, prediction, somewhere, tasks_of

ODD = LabelSet.from_yaml("""labels: ['a "quoted" one', 'salt & pepper', '<b>', "it's", 'Äpfel 苹果 🍎']""")


def ids(project: Project) -> dict[str, int]:
    return {label.name: label.id for label in project.label_set}


def test_a_project_is_found_again_though_people_renamed_it(connection: Connection) -> None:
    first = ensure_project(connection, FRUIT, "baskets", key="renamed")
    connection.sdk.projects.update(first.id, title="Our baskets")
    second = ensure_project(connection, FRUIT, "baskets", key="renamed")
    assert (second.id, second.title) == (first.id, "Our baskets")


def test_another_project_with_the_same_title_is_left_alone(connection: Connection) -> None:
    config = '<View><Image name="image" value="$image"/></View>'
    theirs = connection.sdk.projects.create(title="same title", label_config=config)
    ours = ensure_project(connection, FRUIT, "same title")
    assert ours.id != theirs.id
    assert connection.sdk.projects.get(theirs.id).label_config == config


def test_of_two_projects_made_at_the_same_time_the_older_is_everybodys(connection: Connection) -> None:
    first = ensure_project(connection, FRUIT, "raced", key="raced")
    twin = connection.sdk.projects.get(first.id).label_config
    second = connection.sdk.projects.create(title="raced", label_config=twin)
    assert second.id > first.id
    assert ensure_project(connection, FRUIT, "raced", key="raced").id == first.id


@pytest.mark.parametrize(
    "title", ["x", "a title that is much longer than the fifty characters there is room for"]
)
def test_any_title_will_do(connection: Connection, title: str) -> None:
    assert ensure_project(connection, FRUIT, title).title


def test_annotators_see_the_boxes_of_odd_label_names(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project(ODD)
    boxes = [Box(name, 0.5, (10.0 * i, 10.0, 10.0 * i + 50, 90.0), name) for i, name in enumerate(ODD.names)]
    assert publish(connection, project, [prediction(0, boxes)], ODD, somewhere).created == 1
    shown = next_task(connection, project)["predictions"][0]["result"]
    assert [region["value"]["rectanglelabels"] for region in shown] == [[name] for name in ODD.names]
    assert frozen_ids(connection.sdk.projects.get(project.id).label_config) == {
        name: i for i, name in enumerate(ODD.names, 1)
    }


def test_a_grown_label_set_keeps_its_ids_and_a_removed_label_its_number(connection: Connection) -> None:
    ensure_project(connection, FRUIT, "grows", key="grows")
    fewer = LabelSet.from_short_form("apple, kiwi")
    assert ids(ensure_project(connection, fewer, "grows", "grows")) == {"apple": 3, "kiwi": 4}
    again = LabelSet.from_short_form("apple, kiwi, lime, banana")
    grown = ensure_project(connection, again, "grows", "grows")
    assert ids(grown) == {"apple": 3, "kiwi": 4, "lime": 5, "banana": 2}


def test_a_label_that_annotations_use_is_not_removed(
    connection: Connection, make_project: MakeProject
) -> None:
    project = ensure_project(connection, FRUIT, "in use", key="in use")
    publish(connection, project, [prediction()], FRUIT, somewhere)
    annotate(connection, tasks_of(connection, project)[0], "banana")
    with pytest.raises(
        LabelStudioError, match=r"'in use' .*'banana' \(1 box\); add them to the label set again"
    ):
        ensure_project(connection, LabelSet.from_short_form("apple, kiwi"), "in use", key="in use")
    unchanged = connection.sdk.projects.get(project.id).label_config
    assert frozen_ids(unchanged) == {"pineapple": 1, "banana": 2, "apple": 3}
    fewer = LabelSet.from_short_form("banana")
    assert ensure_project(connection, fewer, "in use", key="in use").id == project.id


def test_a_configuration_that_people_broke_is_explained(connection: Connection) -> None:
    project = ensure_project(connection, FRUIT, "broken", key="broken")
    config = connection.sdk.projects.get(project.id).label_config
    renamed = config.replace('name="label"', 'name="box"')
    connection.sdk.projects.update(project.id, label_config=renamed)
    with pytest.raises(LabelStudioError, match='no <RectangleLabels name="label">; restore it'):
        ensure_project(connection, FRUIT, "broken", key="broken")


def test_a_new_project_opens_with_columns_that_mean_something(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    views = connection.request("look", "GET", f"/api/dm/views?project={project.id}")
    assert [view["data"]["title"] for view in views] == ["To verify", "Skipped", "Stale", "Done"]
    hidden = views[0]["data"]["hiddenColumns"]["explore"]
    assert "tasks:data.image_id" in hidden
    assert "tasks:data.labels_found" not in hidden
    assert connection.sdk.projects.get(project.id).show_collab_predictions


def in_tab(connection: Connection, project: Project, title: str) -> list[str]:
    """File names of the tasks that a tab lists, in its order."""
    views = connection.request("look", "GET", f"/api/dm/views?project={project.id}")
    (view,) = [each for each in views if each["data"]["title"] == title]
    listed = connection.request("look", "GET", f"/api/tasks?view={view['id']}&project={project.id}")
    return [task["data"]["file_name"] for task in listed["tasks"]]


def test_each_tab_lists_its_tasks_least_certain_first(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    scores = [0.9, 0.3, 0.6, 0.7, 0.8, 0.5]
    box = (10.0, 10.0, 60.0, 90.0)
    publish(
        connection,
        project,
        [prediction(number, [Box("banana", score, box, "banana")]) for number, score in enumerate(scores)],
        FRUIT,
        somewhere,
    )
    tasks = tasks_of(connection, project)
    annotate(connection, tasks[3])
    annotate(connection, tasks[4], cancelled=True)
    annotate(connection, tasks[5])
    ProjectTasks(connection, project.id).mark(tasks[5].id, "stale")
    assert in_tab(connection, project, "To verify") == [f"basket {number}.jpg" for number in (1, 2, 0)]
    assert in_tab(connection, project, "Skipped") == ["basket 4.jpg"]
    assert in_tab(connection, project, "Stale") == ["basket 5.jpg"]
    assert in_tab(connection, project, "Done") == ["basket 3.jpg"]


def test_tabs_that_people_changed_or_deleted_stay_as_they_are(connection: Connection) -> None:
    project = ensure_project(connection, FRUIT, "tabs", key="tabs")
    path = f"/api/dm/views?project={project.id}"
    first, *_, last = connection.request("look", "GET", path)
    connection.sdk.views.delete(str(last["id"]))
    theirs = {**first["data"], "filters": {"conjunction": "and", "items": []}, "ordering": ["tasks:id"]}
    connection.sdk.views.update(str(first["id"]), project=project.id, data=theirs)
    ensure_project(connection, LabelSet.from_short_form("kiwi"), "tabs", key="tabs")
    after = connection.request("look", "GET", path)
    assert [view["data"]["title"] for view in after] == ["To verify", "Skipped", "Stale"]
    assert after[0]["data"]["ordering"] == ["tasks:id"]


def test_a_project_of_an_earlier_version_gets_the_tabs_once(connection: Connection) -> None:
    config = labeling_config(FRUIT, identity_of("older"))
    old = connection.sdk.projects.create(title="older", label_config=config, color=color_of(0))
    view = {"title": "To verify", "type": "list", "target": "tasks", "gridWidth": 4}
    connection.sdk.views.create(project=old.id, data=view)
    for _ in range(2):
        assert ensure_project(connection, FRUIT, "older", key="older").id == old.id
        views = connection.request("look", "GET", f"/api/dm/views?project={old.id}")
        assert [each["data"]["title"] for each in views] == ["To verify", "Skipped", "Stale", "Done"]
        assert views[0]["data"]["ordering"] == ["tasks:predictions_score"]


def test_accepted_tasks_leave_the_tab_of_an_earlier_version_but_not_one_that_people_made(
    connection: Connection,
) -> None:
    ours, theirs = (ensure_project(connection, FRUIT, name, key=name) for name in ("ours", "theirs"))
    for project, kept in ((ours, slice(-1)), (theirs, slice(2))):
        first, *_ = connection.request("look", "GET", f"/api/dm/views?project={project.id}")
        items = first["data"]["filters"]["items"][kept]
        data = {**first["data"], "filters": {"conjunction": "and", "items": items}}
        connection.sdk.views.update(str(first["id"]), project=project.id, data=data)
        for _ in range(2):
            ensure_accepted(connection, project.id)
        first, *others = connection.request("look", "GET", f"/api/dm/views?project={project.id}")
        assert [each["data"]["title"] for each in others] == ["Skipped", "Stale", "Done", "Accepted"]
        said = {each["value"] for each in first["data"]["filters"]["items"] if each["type"] == "String"}
        assert ("accepted" in said) is (project is ours)


def test_the_description_follows_the_labels_unless_people_wrote_their_own(connection: Connection) -> None:
    project = ensure_project(connection, FRUIT, "described", key="described")
    more = LabelSet.from_short_form("pineapple, banana, apple, kiwi")
    ensure_project(connection, more, "described", key="described")
    assert (connection.sdk.projects.get(project.id).description or "").endswith("banana, apple, kiwi")
    connection.sdk.projects.update(project.id, description="Ours")
    ensure_project(connection, FRUIT, "described", key="described")
    assert connection.sdk.projects.get(project.id).description == "Ours"


def test_label_studio_keeps_our_marks(connection: Connection, make_project: MakeProject) -> None:
    config = labeling_config(FRUIT, "0123456789abcdef")
    kept = connection.sdk.projects.create(title="marks", label_config=config)
    assert connection.sdk.projects.get(kept.id).label_config == config
