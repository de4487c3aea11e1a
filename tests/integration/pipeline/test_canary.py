"""A detector on trial runs on its share of new images, and on nothing else."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from boxdrop.cli import boxdrop
from boxdrop.demo import BUNDLE
from boxdrop.domain.errors import BundleError
from boxdrop.domain.identity import fraction_of
from boxdrop.domain.label_edit import with_lesson
from boxdrop.labelstudio.connection import Connection
from boxdrop.store.bundles import push, resolve
from boxdrop.store.canary import end_canary, has_canary, read_canary, start_canary
from boxdrop.store.labelsets import read_label_set
from boxdrop.store.lessons import write_lesson
from boxdrop.store.manifests import ManifestHeader, read_header

from .test_handlers import Functions, functions, live, tasks
from .test_lessons import lesson
from .test_retry_and_apply import Call, call
from .world import FRUIT, World

__all__ = ["call", "functions", "live"]

SHARE = 0.4


@pytest.fixture
def other(world: World, tmp_path: Path) -> str:
    """Another detector, pushed; its model_version has this name."""
    shutil.copytree(BUNDLE, tmp_path / "mine")
    card = json.loads((BUNDLE / "bundle.json").read_text())
    card["name"] = "mine"
    card["defaults"] = {"threshold": 0.95, "floor": 0.06}
    (tmp_path / "mine" / "bundle.json").write_text(json.dumps(card))
    push(world.data, tmp_path / "mine")
    return "mine"


@pytest.fixture
def canary(world: World, other: str) -> str:
    """The other detector is on trial in all projects with the default."""
    start_canary(world.data, resolve(world.data, other), SHARE, world.clock())
    return other


def drop(world: World, count: int = 20, project: str = "fruit") -> list[str]:
    keys = [f"{project}/{number:03}.jpg" for number in range(count)]
    world.dispatch(*(world.put(key) for key in keys))
    return keys


def in_share(world: World, keys: list[str]) -> set[str]:
    return {key for key in keys if fraction_of(f"canary/{world.id_of(key)}") < SHARE}


def runs(world: World, project: str = "fruit") -> list[tuple[ManifestHeader, set[str]]]:
    """The manifests of a project's runs, with the keys of their images."""
    found = []
    for run in world.ledger.list_runs(project):
        keys = {image.key for image in world.ledger.images_of_run(project, run.run_id)}
        if keys:
            found.append((read_header(world.data, run.run_id), keys))
    return found


def test_its_share_runs_with_it_and_the_others_with_the_detector_in_force(world: World, canary: str) -> None:
    world.dispatch(world.labels("fruit"))
    world.launch_all()
    keys = drop(world)
    world.launch_all()
    held = {header.bundle.name: some for header, some in runs(world)}
    assert held[canary] == in_share(world, keys)
    assert 2 < len(held[canary]) < 18
    assert held["demo"] == set(keys) - held[canary]
    versions = {header.bundle.name: header.model_version for header, _ in runs(world)}
    project = world.ledger.project("fruit")
    assert project is not None
    assert versions["demo"] == project.model_version
    assert versions[canary].startswith("mine@")
    assert versions[canary] != project.model_version


def test_after_its_end_all_images_run_with_the_default(world: World, canary: str) -> None:
    end_canary(world.data)
    world.dispatch(world.labels("fruit"))
    world.launch_all()
    keys = drop(world)
    world.launch_all()
    assert [(header.bundle.name, some) for header, some in runs(world)] == [("demo", set(keys))]


@pytest.mark.parametrize(
    "labels",
    [
        "labels: [apple]\ndetector: demo\n",
        "labels: [apple]\ndetector: mine\n",
        "labels: [{name: apple, threshold: 0.05}]\n",  # below its floor
    ],
)
def test_projects_that_name_their_detector_or_do_not_fit_are_left_alone(
    world: World, canary: str, labels: str
) -> None:
    world.dispatch(world.labels("fruit", labels))
    world.launch_all()
    drop(world, 10)
    world.launch_all()
    assert len({header.bundle.name for header, _ in runs(world)}) <= 1


def test_an_altered_canary_stops_no_launch(world: World, canary: str) -> None:
    world.data.put("bundles/canary.json", b"{}")
    world.dispatch(world.labels("fruit"))
    world.launch_all()
    drop(world, 5)
    world.launch_all()
    assert world.states() == {"running": 5}
    assert has_canary(world.data, "fruit")  # publish asks this, and no more
    with pytest.raises(BundleError, match="end it with: boxdrop bundle use --back"):
        read_canary(world.data)


def test_people_see_its_boxes_beside_those_of_the_detector_in_force(
    live: Functions, connection: Connection, canary: str
) -> None:
    """Its boxes have its own threshold, and the label stream shows the boxes of both."""
    world = live.world
    live.deliver("dispatch", world.labels("fruit"))
    live.launch()
    keys = drop(world, 6)
    trial = in_share(world, keys)
    assert trial
    assert len(trial) < 6
    for run_id in live.launch() + live.launch():
        live.deliver("publish", *live.work(run_id, score=0.9))
    project = world.ledger.project("fruit")
    assert project is not None
    assert project.label_studio_id is not None
    made = tasks(connection, world)
    assert len(made) == 6
    for key in keys:
        task = made[key.rpartition("/")[2]]
        name = task.data["model_version"].partition("@")[0]
        assert (name, task.data["boxes"]) == (("mine", 0) if key in trial else ("demo", 1))
    assert connection.sdk.projects.get(project.label_studio_id).model_version == project.model_version
    assert {each.model_version for task in made.values() for each in task.predictions} == {
        project.model_version
    }
    assert connection.request("label", "GET", f"/api/projects/{project.label_studio_id}/next")["predictions"]


def test_the_commands_start_promote_and_end_it(
    world: World, endpoint: str, canary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "BOXDROP_DATA_BUCKET": world.data.name,
    }.items():
        monkeypatch.setenv(name, value)

    def use(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(boxdrop, ["bundle", "use", *arguments], env={"COLUMNS": "200"})
        assert result.exit_code == code, result.output
        return result.output

    assert "No canary" in use("--back")
    assert read_canary(world.data) is None
    assert "there is no canary; start one" in use("--promote", code=1)
    assert "is the default already" in use("demo", "--canary", "5%", code=1)
    assert "mine@" in use("mine", "--canary", "5%")
    found = read_canary(world.data)
    assert found is not None
    assert (found.name, found.share) == ("mine", 0.05)
    assert "not demo" in use("demo", "--promote", code=1)
    assert "boxdrop apply PROJECT" in use("--promote")
    assert resolve(world.data, None).name == "mine"
    assert read_canary(world.data) is None
    for share in ("0", "100%", "nan", "some"):
        assert "is not a share" in use("demo", "--canary", share, code=2)
    assert "exclude each other" in use("demo", "--promote", "--back", code=2)
    assert "name a detector" in use(code=2)


@pytest.fixture
def taught(world: World) -> World:
    """A project with a lesson, which the canary of the default leaves alone."""
    number = write_lesson(world.data, lesson())
    world.dispatch(world.labels("fruit", with_lesson(f"# ours\n{FRUIT}", number)))
    world.launch_all()
    return world


def test_a_project_with_a_lesson_tries_a_detector_of_its_own_and_takes_it(
    taught: World, other: str, call: Call
) -> None:
    started = call("bundle", "use", other, "--in", "fruit", "--canary", "40%")
    assert started.exit_code == 0, started.output
    assert "40 % of the new images of fruit, without the lesson" in started.output
    taught.dispatch(taught.labels("pets"))
    keys = drop(taught) + drop(taught, 5, "pets")
    taught.launch_all()
    assert {header.bundle.name for header, _ in runs(taught, "pets")} == {"demo"}
    held = {header.bundle.name: (header, some) for header, some in runs(taught)}
    assert held[other][1] == in_share(taught, keys[:20])
    label_sets = {name: read_label_set(taught.data, header.labels) for name, (header, _) in held.items()}
    assert label_sets["demo"].lesson is not None
    assert label_sets[other] == replace(label_sets["demo"], lesson=None)

    shown = json.loads(call("bundle", "canary", "--json").output)
    assert shown["canary"] is None
    assert shown["canaries_of_projects"]["fruit"]["name"] == other
    promoted = call("bundle", "use", "--promote", "--in", "fruit", "--yes")
    assert promoted.exit_code == 0, promoted.output
    stored = taught.images.get("fruit/labels.yaml")
    assert stored is not None
    assert (
        stored.body.decode()
        == f"# ours\n{FRUIT.replace('labels:', f'detector: {other}' + chr(10) + 'labels:')}"
    )
    row = taught.ledger.project("fruit")
    assert row is not None
    assert (row.bundle_name, row.model_version) == (other, held[other][0].model_version)
    assert read_canary(taught.data, "fruit") is None
    assert resolve(taught.data, None).name == "demo"


def test_a_project_refuses_what_cannot_be_its_detector(taught: World, other: str, call: Call) -> None:
    def use(*arguments: str) -> str:
        result = call("bundle", "use", *arguments)
        assert result.exit_code == 1, result.output
        return str(result.output)

    assert "no labels in force" in use(other, "--in", "nobody", "--canary", "5%")
    assert "is the detector of fruit already" in use("demo", "--in", "fruit", "--canary", "5%")
    assert "there is no canary; start one" in use("--promote", "--in", "fruit")
    assert "unknown" in use("unknown", "--in", "fruit")
    taught.dispatch(taught.labels("fruit", "labels: [{name: apple, threshold: 0.05}]\n"))
    taught.launch_all()
    assert "apple" in use(other, "--in", "fruit", "--canary", "5%")
    assert read_canary(taught.data, "fruit") is None


def test_the_canary_of_a_project_ends_alone(taught: World, canary: str, call: Call) -> None:
    assert call("bundle", "use", canary, "--in", "fruit", "--canary", "40%").exit_code == 0
    assert call("bundle", "use", "--back", "--in", "fruit").exit_code == 0
    assert read_canary(taught.data, "fruit") is None
    assert read_canary(taught.data) is not None
