"""``boxdrop shadow``: the demo detector beside itself and beside worse prompts, on drawn scenes that the real
job has detected in."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from boxdrop.cli import boxdrop
from boxdrop.datasets.frozen import open_frozen
from boxdrop.demo import BUNDLE, SCENES
from boxdrop.detect.bundle import CARD, Bundle
from boxdrop.detect.settings import Trained
from boxdrop.domain.predictions import Prediction
from boxdrop.ledger import Ledger, Publication, State
from boxdrop.review.shadow import FOLDER
from boxdrop.store.parts import list_parts, read_part
from boxdrop.system import System
from tests.integration.datasets.conftest import WHEN, Verified, box
from tests.integration.pipeline.conftest import client, ledger, unique
from tests.integration.pipeline.test_stuck import run_job
from tests.integration.pipeline.world import World
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "client", "endpoint", "ledger"]

SEEN = ("fruit/seen-0.jpg", "fruit/seen-1.jpg")
WRONG = {"pineapple": "banana bunch", "banana": "coffee", "apple": "red apple"}


@pytest.fixture
def fruit(
    aws: MakeClient,
    ledger: Ledger,
    endpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> World:
    """Six scenes with published boxes. Two others were verified when the data set `v1` was frozen, and are
    skipped now; one was verified, and one cannot be read."""
    world = World(unique(request), aws, ledger, versioned=True)
    home = tmp_path / "home"
    home.mkdir()
    described = System(
        "local", "us-east-1", ledger._table.name, world.images.name, world.data.name, endpoint_url=endpoint
    )
    (home / "system.json").write_text(described.to_json())
    monkeypatch.setenv("BOXDROP_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "80")
    for name, value in described.environment().items():
        monkeypatch.setenv(name, value)
    made = Verified(world)
    world.launch_all()
    for number, key in enumerate(SEEN):
        body = (SCENES / f"fruit-basket-{number + 1:02}.jpg").read_bytes()
        made.verify(key.removeprefix("fruit/"), [box("apple", 1, 1, 9, 9)], body=body)
    frozen = CliRunner().invoke(boxdrop, ["dataset", "freeze", "fruit", "v1", "--split", "train=100"])
    assert frozen.exit_code == 0, frozen.output
    for key in SEEN:
        ledger.record_unverified(world.id_of(key), WHEN + timedelta(hours=1), skipped=True)
    for number in range(3, 9):
        scene = f"fruit-basket-{number:02}.jpg"
        world.dispatch(world.put(f"fruit/{scene}", (SCENES / scene).read_bytes()))
    world.launch_all()
    row = ledger.project("fruit")
    assert row is not None
    runs = {run_id for run_id, _, _ in world.launcher.submitted}
    for run_id in runs:
        run_job(world, run_id, home / "detectors")
    records = [
        record
        for run_id in runs
        for part in list_parts(world.data, "fruit", run_id)
        for record in read_part(world.data, part.key).records
    ]
    ledger.record_tasks(
        Publication(each.image_id, each.version, row.generation, each.prediction_id, number, 1)
        for number, each in enumerate(records, 1)
        if isinstance(each, Prediction)
    )
    verified = world.row("fruit/fruit-basket-08.jpg")
    ledger.record_verified(verified.image_id, verified.version or "", WHEN)
    gone = world.row("fruit/fruit-basket-07.jpg")
    world.s3.delete_object(Bucket=world.images.name, Key=gone.key, VersionId=gone.version)
    assert world.states() == {"tasked": 7, "verified": 1}
    return world


def call(*arguments: str | Path) -> Result:
    result: Result = CliRunner().invoke(boxdrop, ["shadow", "fruit", *map(str, arguments)])
    return result


def everything(world: World) -> Any:
    """All that others could see: objects, rows, messages."""
    objects = [
        (bucket.name, each.key, each.version)
        for bucket in (world.images, world.data)
        for each in bucket.list("")
    ]
    rows = [world.ledger.project("fruit")] + [
        world.ledger.list_images("fruit", state).rows for state in State
    ]
    return objects, rows, [world.received(each) for each in (world.launches, world.parts, world.reviews)]


def test_a_shadow_run_shows_what_would_change_and_changes_nothing(fruit: World, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    lines = (f"- {{name: {name}, prompts: [{prompt}]}}\n" for name, prompt in WRONG.items())
    wrong.write_text("labels:\n" + "".join(lines))
    fruit.received(fruit.launches)
    before = everything(fruit)

    same = call(BUNDLE, "--json")
    other = call(wrong, "--json", "--html", tmp_path / "out/shadow.html")
    said = call(wrong)

    assert same.exit_code == other.exit_code == said.exit_code == 0, same.output + other.output + said.output
    assert everything(fruit) == before
    equal: dict[str, Any] = json.loads(same.stdout)
    assert (equal["images"], equal["unread"], equal["trained_on"], equal["reused"]) == (6, 1, 0, 0)
    assert equal["now"] == equal["new"] | {"seconds_per_image": equal["now"]["seconds_per_image"]}
    assert equal["now"]["seconds_per_image"] > 0
    assert equal["now"]["boxes"] > 6
    assert equal["agreement"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert equal["differing"] == equal["renamed"] == []
    assert all(each["score_now"] == each["score_new"] for each in equal["labels"])

    found: dict[str, Any] = json.loads(other.stdout)
    assert found["now"]["boxes"] == equal["now"]["boxes"]
    assert found["agreement"]["low"] <= found["agreement"]["value"] <= found["agreement"]["high"] < 1
    labels = {each["label"]: each for each in found["labels"]}
    assert labels["banana"]["only_now"] + labels["banana"]["renamed"] > 0
    for each in labels.values():
        assert each["now"] == each["both"] + each["only_now"] + each["renamed"]
    moved = {name: sum(each["boxes"] for each in found["renamed"] if each["new"] == name) for name in labels}
    for name, each in labels.items():
        assert each["new"] == each["both"] + each["only_new"] + moved[name]
    page = (tmp_path / "out/shadow.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 2 * len(found["differing"]) > 0
    assert "6 unverified images; nothing was published" in said.stdout
    assert "this does not say which is better" in said.stdout
    assert max(map(len, said.stdout.splitlines())) <= 80, said.stdout


def test_a_run_goes_on_where_an_earlier_one_was(fruit: World, tmp_path: Path) -> None:
    few = json.loads(call(BUNDLE, "--images", "3", "--json").stdout)
    assert few["images"] + few["unread"] == 3
    (results,) = (tmp_path / "home" / FOLDER).glob("*.jsonl")
    lines = results.read_bytes().splitlines(keepends=True)
    assert len(lines) == few["images"]
    results.write_bytes(b"".join(lines[:-1]) + lines[-1][:-40])  # killed while it wrote

    more = json.loads(call(BUNDLE, "--json").stdout)
    again = json.loads(call(BUNDLE, "--json").stdout)

    assert (more["images"], more["reused"]) == (6, few["images"] - 1)
    assert again == more | {"reused": 6}
    assert len(results.read_bytes().splitlines()) == 6


def test_images_that_the_candidate_was_trained_on_are_left_out(fruit: World, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for file in BUNDLE.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    bundle = Bundle.load(folder)
    digest = open_frozen(fruit.data, "fruit", "v1").header.digest
    trained = Trained("fruit", "v1", digest, ("train",), held_out=0)
    (folder / CARD).write_text(replace(bundle, name="mine", trained=trained).to_json())

    found = json.loads(call(folder, "--json").stdout)

    assert (found["images"], found["unread"], found["trained_on"]) == (4, 1, 2)


def test_what_cannot_be_run_is_explained(fruit: World, tmp_path: Path) -> None:
    assert "boxdrop bundle" in call("nothing").output
    unknown = CliRunner().invoke(boxdrop, ["shadow", "nowhere", "demo"])
    assert "there is no project nowhere with labels; there are: fruit" in unknown.output
    for key in fruit.images.list("fruit/fruit"):
        row = fruit.row(key.key)
        fruit.ledger.record_verified(row.image_id, row.version or "", WHEN)
    for name in SEEN:
        row = fruit.row(name)
        fruit.ledger.record_verified(row.image_id, row.version or "", WHEN + timedelta(hours=2))
    gone = fruit.row("fruit/fruit-basket-07.jpg")
    fruit.ledger.record_verified(gone.image_id, gone.version or "", WHEN)
    assert (
        "that waits for a person; on verified images, `boxdrop compare fruit now demo`" in call("demo").output
    )
