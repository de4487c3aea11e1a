"""A simulated team works through Label Studio's API on drawn scenes; every figure of the report is its truth.

What each box is for is decided first, by a seeded plan. The plan alone makes the expected figures: nothing of
boxdrop's matching is used for them.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import requests
from click.testing import CliRunner

from boxdrop.cli import boxdrop
from boxdrop.demo import SCENES
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, Prediction
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import ensure_project
from boxdrop.ledger import Ledger
from boxdrop.pipeline.collect import collect
from boxdrop.pipeline.publish import Batch, publish
from boxdrop.services import Services
from boxdrop.system import System
from tests.integration.pipeline.conftest import client, ledger, unique
from tests.integration.pipeline.world import FRUIT, World
from tests.label_studio_server import connection, server
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "client", "connection", "endpoint", "ledger", "server"]

LABELS = ("pineapple", "banana", "apple")
RATES = {"keep": 0.62, "move": 0.12, "drag": 0.04, "relabel": 0.08, "miss": 0.14}
FALSE_BOXES = 0.5  # of an image, to be deleted
MODEL = "demo@3f9a1c22"
SHARED = 8
"""The plan whose image a second person annotates, earlier, and sees nothing in."""
Corners = tuple[float, float, float, float]


@dataclass
class Plan:
    """What happens on one image.

    Attributes:
        offered: label and place of each offered box, with its fate.
        missed: label and place of the objects that nothing was offered for.
        seconds: that the work takes.
        ending: what becomes of the image after its first annotation.
    """

    name: str
    size: tuple[int, int]
    offered: list[tuple[str, Corners, str]] = field(default_factory=list)
    missed: list[tuple[str, Corners]] = field(default_factory=list)
    seconds: float = 0.0
    ending: str = ""

    @property
    def counts(self) -> bool:
        return self.ending not in ("skip", "retract", "overwrite")


def draw_plans(seed: int) -> list[Plan]:
    """One plan per scene; the objects are those that the scenes' truth names."""
    rng = np.random.default_rng(seed)
    truth = json.loads((SCENES / "truth.json").read_text(encoding="utf-8"))
    names = {each["id"]: each["name"] for each in truth["categories"]}
    endings = ["skip", "skip", "retract", "overwrite", "again", "second"]
    plans = []
    for number, image in enumerate(truth["images"][:16]):
        width, height = image["width"], image["height"]
        plan = Plan(image["file_name"], (width, height), seconds=float(rng.integers(20, 90)) / 10)
        plan.ending = endings[number] if number < len(endings) else ""
        for each in truth["annotations"]:
            label = names[each["category_id"]]
            if each["image_id"] != image["id"] or label not in LABELS:
                continue
            left, top, across, down = each["bbox"]
            corners = (left, top, min(left + across, width), min(top + down, height))
            fate = str(rng.choice(list(RATES), p=list(RATES.values())))
            if fate == "miss":
                plan.missed.append((label, corners))
            else:
                plan.offered.append((label, corners, fate))
        if rng.random() < FALSE_BOXES:  # in a corner where no object is as small
            plan.offered.append((str(rng.choice(LABELS)), (0.0, 0.0, 9.0, 9.0), "delete"))
        plans.append(plan)
    return plans


def moved(corners: Corners) -> Corners:
    """A quarter less wide: IoU 0.75."""
    left, top, right, bottom = corners
    return left, top, left + 0.75 * (right - left), bottom


def dragged(corners: Corners) -> Corners:
    """Less than a third of it: IoU 0.3, so the box was at another place."""
    left, top, right, bottom = corners
    return left, top, left + 0.3 * (right - left), bottom


def other(label: str) -> str:
    return LABELS[(LABELS.index(label) + 1) % len(LABELS)]


def region(label: str, corners: Corners, identity: str, size: tuple[int, int]) -> dict[str, Any]:
    (left, top, right, bottom), (width, height) = corners, size
    value = {
        "x": 100 * left / width,
        "y": 100 * top / height,
        "width": 100 * (right - left) / width,
        "height": 100 * (bottom - top) / height,
        "rotation": 0,
        "rectanglelabels": [label],
    }
    return {
        "id": identity,
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    }


class Team:
    """Works on the tasks of a project as its plans say."""

    def __init__(self, services: Services, world: World, plans: list[Plan]) -> None:
        self.services, self.world, self.plans = services, world, plans
        self.sdk = services.label_studio.sdk

    def key(self, plan: Plan) -> str:
        return f"fruit/{plan.name}"

    def upload(self) -> None:
        self.world.dispatch(self.world.labels("fruit"))
        self.world.dispatch(
            *(self.world.put(self.key(plan), (SCENES / plan.name).read_bytes()) for plan in self.plans)
        )

    def publish(self, label_set: LabelSet) -> None:
        """Publish what the detector found: the offered boxes of the plans."""
        records = []
        for plan in self.plans:
            row = self.world.row(self.key(plan))
            assert row.version is not None
            boxes = tuple(Box(label, 0.9, corners, label) for label, corners, _ in plan.offered)
            image = f"s3://{self.world.images.name}/{row.key}"
            records.append(Prediction(image, row.image_id, row.version, MODEL, *plan.size, boxes))
        generation = self.world.row(self.key(self.plans[0])).generation
        publish(self.services, "fruit", Batch(records, label_set, generation, "run"))

    def work(self) -> None:
        for plan in self.plans:
            task = self.sdk.tasks.get(self.world.row(self.key(plan)).task_id)
            ids = [each["id"] for each in task.predictions[0].result] if plan.offered else []
            result = self._result(plan, ids)
            first = self.sdk.annotations.create(
                task.id, result=result, lead_time=plan.seconds, was_cancelled=plan.ending == "skip"
            )
            self.collect(task.id)
            if plan.ending == "retract":
                self.sdk.annotations.delete(first.id)
            elif plan.ending == "overwrite":
                body = (SCENES / plan.name).read_bytes() + b"newer"
                self.world.dispatch(self.world.put(self.key(plan), body))
            elif plan.ending == "again":  # all boxes were deleted first; now as planned
                self.sdk.annotations.update(first.id, result=[])
                self.collect(task.id)
                self.sdk.annotations.update(first.id, result=result)
            elif plan.ending == "second":  # another annotation, saved last, is the one that counts
                self.sdk.annotations.update(first.id, result=[])
                self.sdk.annotations.create(task.id, result=result, lead_time=plan.seconds)
            if plan.ending:  # its webhook comes twice
                self.collect(task.id)
                self.collect(task.id)

    def second_opinion(self, plan: Plan, person: requests.Session) -> None:
        """Somebody else submits an empty image; then the first person saves again, and so counts."""
        task = self.sdk.tasks.get(self.world.row(self.key(plan)).task_id)
        url = f"{self.services.label_studio.url}/api/tasks/{task.id}/annotations/"
        token = {"X-CSRFToken": person.cookies["csrftoken"]}
        person.post(url, json={"result": [], "lead_time": 1.0}, headers=token).raise_for_status()
        (first,) = task.annotations
        self.sdk.annotations.update(first["id"], result=first["result"])
        self.collect(task.id)

    def collect(self, task: int) -> None:
        collect(self.services, "fruit", task)

    def _result(self, plan: Plan, ids: list[str]) -> list[dict[str, Any]]:
        result = []
        for (label, corners, fate), identity in zip(plan.offered, ids, strict=True):
            if fate == "keep":
                result.append(region(label, corners, identity, plan.size))
            elif fate == "move":
                result.append(region(label, moved(corners), identity, plan.size))
            elif fate == "drag":
                result.append(region(label, dragged(corners), identity, plan.size))
            elif fate == "relabel":
                result.append(region(other(label), corners, identity, plan.size))
        for place, (label, corners) in enumerate(plan.missed):
            result.append(region(label, corners, f"new{place}", plan.size))
        return result


def expected(plans: list[Plan]) -> Mapping[str, Counter[str]]:
    """The figures of each label, from the plans alone."""
    found: dict[str, Counter[str]] = {label: Counter() for label in LABELS}
    words = {
        "keep": "kept",
        "move": "adjusted",
        "drag": "adjusted",
        "delete": "deleted",
        "relabel": "relabelled",
    }
    for plan in plans:
        if not plan.counts:
            continue
        for label, _, fate in plan.offered:
            found[label][words[fate]] += 1
            found[label]["offered"] += 1
            found[label]["right"] += fate in ("keep", "move")
            if fate == "relabel":
                found[other(label)]["relabelled_to"] += 1
                found[other(label)]["verified"] += 1
            elif fate != "delete":
                found[label]["verified"] += 1
        for label, _ in plan.missed:
            found[label]["added"] += 1
            found[label]["verified"] += 1
    return found


Words = Callable[[Plan, list[Corners]], list[str]]


def outcome(plan: Plan) -> tuple[list[tuple[Corners, bool]], list[tuple[Corners, bool]]]:
    """The offered boxes of a plan, each with whether it is right; the verified ones, with whether found."""
    offered = [(corners, fate in ("keep", "move")) for _, corners, fate in plan.offered]
    placed = {"keep": lambda each: each, "relabel": lambda each: each, "move": moved, "drag": dragged}
    verified = [
        (placed[fate](corners), fate in ("keep", "move"))
        for _, corners, fate in plan.offered
        if fate != "delete"
    ]
    return offered, verified + [(corners, False) for _, corners in plan.missed]


def check_cut(told: dict[str, Any], plans: list[Plan], words: Words, prefix: str = "") -> None:
    """Precision and recall of each word are those of the plans."""
    truth: dict[str, list[int]] = {}
    for plan in plans:
        for side, boxes in enumerate(outcome(plan)):
            for word, (_, right) in zip(words(plan, [each for each, _ in boxes]), boxes, strict=True):
                counts = truth.setdefault(word, [0, 0, 0, 0])
                counts[2 * side] += right
                counts[2 * side + 1] += 1
    assert len(truth) > 1
    for word, each in told.items():
        if word.startswith(prefix):
            shares = (each["precision"], each["recall"])
            found = [share[name] for share in shares for name in ("right", "of")]
            assert found == truth.get(word, [0, 0, 0, 0]), word


def size_word(corners: Corners) -> str:
    area = (corners[2] - corners[0]) * (corners[3] - corners[1])
    return "small" if area < 1024 else "medium" if area < 9216 else "large"


def overlap_words(boxes: list[Corners]) -> list[str]:
    """By the IoU with the nearest other box, computed anew here."""

    def iou(one: Corners, other: Corners) -> float:
        across = min(one[2], other[2]) - max(one[0], other[0])
        down = min(one[3], other[3]) - max(one[1], other[1])
        both = max(across, 0) * max(down, 0)
        areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (one, other)]
        return both / (sum(areas) - both)

    found = []
    for place, box in enumerate(boxes):
        most = max((iou(box, each) for n, each in enumerate(boxes) if n != place), default=0.0)
        found.append("alone" if most < 0.1 else "some overlap" if most < 0.3 else "much overlap")
    return found


def by_brightness(plans: list[Plan]) -> Words:
    """Thirds of the scenes by their mean grey value."""
    grey = {}
    for plan in plans:
        with PIL.Image.open(SCENES / plan.name) as picture:
            grey[plan.name] = float(np.asarray(picture.convert("L"), np.float64).mean())
    ordered = sorted(grey, key=lambda name: grey[name])
    thirds = ("lowest third", "middle third", "highest third")
    word = {name: f"brightness: {thirds[3 * place // len(ordered)]}" for place, name in enumerate(ordered)}
    return lambda plan, boxes: [word[plan.name]] * len(boxes)


def sign_up(connection: Connection, email: str) -> requests.Session:
    """A second person, who followed an invitation and is logged in."""
    invitation = connection.request("invite somebody", "GET", "/api/invite")["token"]
    address = f"{connection.url}/user/signup/?token={invitation}"
    person = requests.Session()
    person.get(address).raise_for_status()
    form = {"email": email, "password": "a long one 7", "csrfmiddlewaretoken": person.cookies["csrftoken"]}
    person.post(address, data=form).raise_for_status()
    return person


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    return draw_plans(7)


@pytest.fixture
def report(
    aws: MakeClient,
    ledger: Ledger,
    connection: Connection,
    endpoint: str,
    plans: list[Plan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> dict[str, Any]:
    """What ``boxdrop report --json`` says once the team has finished."""
    world = World(unique(request), aws, ledger, versioned=True, detector=False)
    services = Services.of(
        world.settings,
        world.clock,
        ledger=ledger,
        images=world.images,
        data=world.data,
        launches=world.launches,
        reviews=world.reviews,
        launcher=world.launcher,
        label_studio=connection,
        credits=None,
    )
    team = Team(services, world, plans)
    team.upload()
    label_set = LabelSet.from_yaml(FRUIT)
    project = ensure_project(connection, label_set, "fruit baskets", key=f"team {unique(request)}")
    ledger.connect_project("fruit", project.id)
    team.publish(project.label_set)
    team.work()
    team.second_opinion(plans[SHARED], sign_up(connection, f"{unique(request)}@example.com"))
    described = System(
        "local", "us-east-1", ledger._table.name, world.images.name, world.data.name, endpoint_url=endpoint
    )
    (tmp_path / "system.json").write_text(described.to_json())
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    for name, value in described.environment().items():
        monkeypatch.setenv(name, value)
    made = CliRunner().invoke(boxdrop, ["report", "fruit", "--json"])
    assert made.exit_code == 0, made.output
    said = CliRunner().invoke(boxdrop, ["report", "fruit"])
    assert said.exit_code == 0, said.output
    page = CliRunner().invoke(boxdrop, ["report", "fruit", "--html", str(tmp_path / "out/report.html")])
    assert page.exit_code == 0, page.output
    fields: dict[str, Any] = json.loads(made.stdout)
    written = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    return fields | {"said": said.stdout, "page": written}


def test_every_figure_is_the_teams_truth(report: dict[str, Any], plans: list[Plan]) -> None:
    counted = [plan for plan in plans if plan.counts]
    assert report["images"] == report["whole"]["images"] == len(counted)
    assert report["unknown_start"] == 0
    assert report["left_out"] == {
        "skipped": 2,
        "annotation deleted": 1,
        "overwritten since it was verified": 1,
    }
    truth = expected(plans)
    for label in LABELS:
        figures = report["labels"][label]
        for name in ("kept", "adjusted", "relabelled", "deleted", "relabelled_to", "added"):
            assert figures[name] == truth[label][name], (label, name)
        shares = figures["precision"], figures["recall"]
        assert [each["right"] for each in shares] == [truth[label]["right"]] * 2, label
        assert [each["of"] for each in shares] == [truth[label]["offered"], truth[label]["verified"]], label
        assert all(each["low"] <= each["value"] <= each["high"] for each in shares)
    fates = Counter((label, fate) for plan in counted for label, _, fate in plan.offered)
    assert report["confusion"] == [
        {"offered": label, "verified": other(label), "boxes": fates[label, "relabel"]}
        for label in sorted(LABELS)
        if fates[label, "relabel"]
    ]
    bins = report["whole"]["adjusted_iou"]["bins"]
    by_fate = Counter(fate for _, fate in fates.elements())
    assert (sum(bins[14:16]), sum(bins[5:7])) == (by_fate["move"], by_fate["drag"])
    assert sum(bins) == by_fate["move"] + by_fate["drag"]
    assert report["whole"]["untouched"] == sum(
        not plan.missed and all(fate == "keep" for _, _, fate in plan.offered) for plan in counted
    )
    seconds = sorted(plan.seconds for plan in counted)
    assert report["whole"]["seconds"]["total"] == pytest.approx(sum(seconds), abs=0.06)
    assert report["whole"]["seconds"]["median"] == pytest.approx(float(np.median(seconds)))
    assert list(report["models"]) == [MODEL]
    assert [each["images"] for each in report["annotators"].values()] == [len(counted)]
    assert report["quality_images"] == len(counted)
    check_cut(report["sizes"], counted, lambda plan, boxes: [size_word(each) for each in boxes])
    check_cut(report["overlaps"], counted, lambda plan, boxes: overlap_words(boxes))
    check_cut(report["qualities"], counted, by_brightness(counted), "brightness: ")
    sharpness = [each for word, each in report["qualities"].items() if word.startswith("sharpness: ")]
    assert sum(each["images"] for each in sharpness) == len(counted)
    assert sum(each["precision"]["right"] for each in sharpness) == report["whole"]["precision"]["right"]

    shared = plans[SHARED]
    lost = Counter(label for label, _ in shared.missed)
    lost += Counter(
        other(label) if fate == "relabel" else label for label, _, fate in shared.offered if fate != "delete"
    )
    assert report["agreement"]["images"] == 1
    assert {label: each["of"] for label, each in report["agreement"]["labels"].items()} == lost
    assert {each["right"] for each in report["agreement"]["labels"].values()} == {0}
    listed = report["agreement"]["disagreements"]
    assert Counter(each["label"] for each in listed) == lost
    assert {each["kind"] for each in listed} == {"missing"}
    assert len({tuple(each["users"]) for each in listed}) == 1

    said = report["said"]
    assert max(map(len, said.splitlines())) <= 80, said
    assert f"{len(counted)} images verified" in said
    assert "pineapple → banana" in said

    page = report["page"]
    assert page.count("data:image/jpeg;base64,") == page.count("<figure>") > 8
    assert "can no longer be read" not in page
