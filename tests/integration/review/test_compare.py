"""``boxdrop compare``: the demo detector against itself and against worse prompts, on drawn scenes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from boxdrop.cli import boxdrop
from boxdrop.demo import BUNDLE, SCENES
from boxdrop.detect.bundle import CARD, Bundle
from boxdrop.domain.annotations import DrawnBox
from boxdrop.ledger import Ledger
from boxdrop.pipeline.labels import apply_labels
from boxdrop.store.bundles import push, use
from boxdrop.system import System
from tests.integration.datasets.conftest import Verified
from tests.integration.pipeline.conftest import client, ledger, unique
from tests.integration.pipeline.world import World
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "client", "endpoint", "ledger"]

LABELS = ("pineapple", "banana", "apple")


@pytest.fixture
def fruit(
    aws: MakeClient,
    ledger: Ledger,
    endpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Verified:
    """The scenes, verified as their truth says; a local system that is up."""
    made = Verified(World(unique(request), aws, ledger, versioned=True))
    apply_labels(made.world.services, "fruit", limit=None)
    truth = json.loads((SCENES / "truth.json").read_text(encoding="utf-8"))
    names = {each["id"]: each["name"] for each in truth["categories"]}
    for image in truth["images"][:16]:
        size = image["width"], image["height"]
        boxes = []
        for each in truth["annotations"]:
            left, top, across, down = each["bbox"]
            label = names[each["category_id"]]
            if each["image_id"] == image["id"] and label in LABELS:
                corners = (left, top, min(left + across, size[0]), min(top + down, size[1]))
                boxes.append(DrawnBox(label, tuple(map(float, corners)), f"r{each['id']}"))  # type: ignore[arg-type]
        body = (SCENES / image["file_name"]).read_bytes()
        made.verify(image["file_name"], boxes, size=size, body=body)
    world = made.world
    described = System(
        "local", "us-east-1", ledger._table.name, world.images.name, world.data.name, endpoint_url=endpoint
    )
    (tmp_path / "home").mkdir()
    (tmp_path / "home/system.json").write_text(described.to_json())
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    for name, value in described.environment().items():
        monkeypatch.setenv(name, value)
    return made


def call(*arguments: str | Path) -> Result:
    result: Result = CliRunner().invoke(boxdrop, ["compare", "fruit", *map(str, arguments)])
    return result


def test_a_detector_equals_itself_and_beats_prompts_that_are_wrong(fruit: Verified, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    prompts = {"pineapple": "banana bunch", "banana": "coffee", "apple": "red apple"}
    wrong.write_text(
        "labels:\n" + "".join(f"- {{name: {name}, prompts: [{each}]}}\n" for name, each in prompts.items())
    )

    same = call("now", BUNDLE, "--json")
    worse = call("now", wrong, "--json", "--html", tmp_path / "out/compare.html")
    said = call("now", wrong, "--price", "0.21")

    assert same.exit_code == worse.exit_code == said.exit_code == 0, same.output + worse.output + said.output
    equal: dict[str, Any] = json.loads(same.stdout)
    assert equal["images"] == 16
    assert equal["tuned"] is True
    assert equal["a"]["ap50"] == equal["b"]["ap50"] > 0.8
    assert equal["f1_difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert equal["differing"] == []
    found: dict[str, Any] = json.loads(worse.stdout)
    assert found["a"]["f1"] > 0.7 > found["b"]["f1"]
    assert found["f1_difference"]["high"] < 0
    page = (tmp_path / "out/compare.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 2 * min(12, len(found["differing"])) > 0
    assert "A is better" in said.stdout
    assert "$ per 1,000 images" in said.stdout
    assert max(map(len, said.stdout.splitlines())) <= 80, said.stdout

    # Until `boxdrop apply`, a new default is not what the project uses.
    folder = tmp_path / "other"
    folder.mkdir()
    for file in BUNDLE.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / CARD).write_text(replace(Bundle.load(folder), name="other").to_json())
    use(fruit.world.data, push(fruit.world.data, folder).name)
    held = json.loads(call("now", "other", "--images", "1", "--json").stdout)
    assert [held[side]["model_version"].partition("@")[0] for side in "ab"] == ["demo", "other"]


def test_what_cannot_be_compared_is_explained(fruit: Verified, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("labels: [car]")
    assert "have no label in common" in call("now", other).output
    assert "boxdrop bundle" in call("now", "nothing").output
    unknown = CliRunner().invoke(boxdrop, ["compare", "nowhere", "now", "now"])
    assert "there is no project nowhere with labels; there are: fruit" in unknown.output
