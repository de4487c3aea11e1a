"""`boxdrop labels`: show, replace, edit and rename, against a system on moto and a real Label Studio."""

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.webhook import SYNC, ReviewEvent
from boxdrop.ledger import State
from boxdrop.local.label_studio import Server
from boxdrop.store.layout import annotation_key
from tests.integration.labelstudio.conftest import annotate

from .test_handlers import Functions, functions, live, tasks
from .test_labels import have_tasks, in_force, project
from .test_retry_and_apply import Call, call
from .world import FRUIT, World

__all__ = ["call", "functions", "live"]


@pytest.fixture
def tasked(world: World) -> World:
    """A project with two images in Label Studio."""
    in_force(world)
    keys = ["fruit/a.jpg", "fruit/b.jpg"]
    world.dispatch(*(world.put(key) for key in keys))
    world.launch_all()
    have_tasks(world, *keys)
    return world


def stored(world: World) -> str:
    found = world.images.get("fruit/labels.yaml")
    assert found is not None
    return found.body.decode()


def test_labels_are_printed_as_they_are_stored(tasked: World, call: Call) -> None:
    assert call("labels", "fruit").output == stored(tasked) + "\n"


@pytest.mark.usefixtures("world")
def test_a_project_without_labels_explains_how_to_add_them(call: Call) -> None:
    missing = call("labels", "our fruit")
    assert missing.exit_code == 1
    assert "boxdrop labels 'our fruit' --file 'pineapple, banana'" in missing.output


def test_a_file_replaces_the_labels_after_a_question(tasked: World, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "labels.yaml"
    file.write_text("# mine\nlabels: [pineapple, mango]\n")
    before = stored(tasked)
    for command in (("labels", "fruit", "--file", str(file)), ("apply", "fruit", "--labels", str(file))):
        refused = call(*command, input="n\n")
        assert refused.exit_code == 1
        assert "2 images run again" in refused.output
        assert stored(tasked) == before
    done = call("labels", "fruit", "--file", str(file), "--yes")
    assert done.exit_code == 0, done.output
    assert stored(tasked) == file.read_text()
    assert tasked.states() == {"wanted": 2}
    again = call("apply", "fruit", "--labels", str(file))
    assert "already in force" in again.output
    assert "Nothing runs again" in again.output


def test_a_mistake_in_the_file_changes_nothing(tasked: World, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "labels.yaml"
    file.write_text("labels: []")
    before = stored(tasked)
    wrong = call("labels", "fruit", "--file", str(file), "--yes")
    assert wrong.exit_code == 1
    assert "there is no label; give at least one" in wrong.output
    assert stored(tasked) == before


def test_an_unknown_label_is_named_before_anything_runs(tasked: World, call: Call) -> None:
    done = call("labels", "fruit", "--file", "pineapple, forklift", "--yes")
    assert "the detector demo does not know forklift" in done.output
    assert tasked.states() == {"wanted": 2}


def test_a_prompt_over_the_token_limit_is_refused_before_anything_changes(tasked: World, call: Call) -> None:
    before = stored(tasked)
    wrong = call("labels", "fruit", "--file", "very " * 17 + "ripe banana", "--yes")
    assert wrong.exit_code == 1
    assert "tokens long, but detector demo reads only 16" in wrong.output
    assert stored(tasked) == before


def test_an_editor_changes_the_labels(
    tasked: World, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "editor.py"
    script.write_text(
        "import sys, pathlib\nfile = "
        "pathlib.Path(sys.argv[1])\nfile.write_text(file.read_text().replace('apple]', "
        "'{name: apple, threshold: 0.9}]'))\n"
    )
    monkeypatch.setenv("EDITOR", f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}")
    monkeypatch.delenv("VISUAL", raising=False)
    done = call("labels", "fruit", "--edit")
    assert done.exit_code == 0, done.output
    assert "threshold: 0.9" in stored(tasked)
    assert "no image runs again" in done.output
    assert tasked.states() == {"tasked": 2}


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        ("pear=apple", "there is no label 'pear'; there are: pineapple, banana, apple"),
        ("banana=apple", "there is already a label 'apple'"),
        ("banana", "write OLD=NEW"),
    ],
)
def test_a_rename_that_cannot_be_is_one_sentence(tasked: World, call: Call, rename: str, said: str) -> None:
    before = stored(tasked)
    result = call("labels", "fruit", "--rename", rename)
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output
    assert stored(tasked) == before


def test_a_renamed_label_keeps_its_id_and_takes_verified_boxes_along(
    live: Functions, connection: Connection, call: Call, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.token)
    world = live.world
    live.deliver("dispatch", world.labels("fruit", FRUIT), world.put("fruit/a.jpg"), world.put("fruit/b.jpg"))
    (run_id,) = live.launch()
    live.deliver("publish", *live.work(run_id))
    annotate(connection, tasks(connection, world)["a.jpg"])  # a banana
    whole = ReviewEvent(SYNC, project(world).label_studio_id or 0).to_fields()
    live.deliver("collect", whole)
    assert project(world).label_ids == {"pineapple": 1, "banana": 2, "apple": 3}

    done = call("labels", "fruit", "--rename", "banana=plantain", "--yes")
    assert done.exit_code == 0, done.output
    assert "1 box of people renamed" in done.output
    assert project(world).label_ids == {"pineapple": 1, "plantain": 2, "apple": 3}
    assert "prompts:\n  - banana" in stored(world)

    (run_id,) = live.launch()
    assert live.deliver("publish", *live.work(run_id)) == []
    assert project(world).publish_problem is None
    live.deliver("collect", whole)
    document: Any = world.data.get(annotation_key("fruit", world.id_of("fruit/a.jpg")))
    assert b"plantain" in document.body
    assert b'"banana"' not in document.body
    assert world.row("fruit/a.jpg").state == State.VERIFIED
    assert world.row("fruit/b.jpg").state == State.TASKED
    config = connection.sdk.projects.get(project(world).label_studio_id).label_config
    assert 'value="plantain"' in config
    assert "banana" not in config
