"""Boxes that are dropped with images, through the real functions into a real Label Studio. AWS is moto."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from boxdrop.datasets.dropped import Source, load_source
from boxdrop.datasets.dropping import BoxesDrop
from boxdrop.domain.annotations import Annotation, from_json
from boxdrop.domain.images import ImageHeader
from boxdrop.domain.labels import LabelSet
from boxdrop.labelstudio.connection import Connection
from boxdrop.ledger import RunState
from boxdrop.pipeline.boxes import restore_boxes
from boxdrop.pipeline.collect import collect
from boxdrop.pipeline.drop import DropSummary, drop, list_files
from boxdrop.pipeline.labels import part_event
from boxdrop.services import Services
from boxdrop.store.manifests import read_header
from boxdrop.store.parts import list_parts
from boxdrop.store.reviews import read_review
from tests.integration.labelstudio.conftest import annotate

from .test_handlers import Functions, functions, live, tasks
from .test_labels import in_force
from .world import FRUIT

__all__ = ["functions", "live"]

BOXES = {
    "a.jpg": [("apple", (10.0, 20.0, 110.0, 120.0)), ("banana", (12.0, 22.0, 110.0, 120.0))],
    "b.jpg": [],
}
"""Two boxes that overlap so much that a detector's would count as one object, and an empty image."""


class Desk:
    """A folder of images, some of which have boxes, and the functions that it is dropped into."""

    def __init__(self, live: Functions, folder: Path) -> None:
        self.live, self.world, self.folder = live, live.world, folder
        in_force(live.world)
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            self.draw(name)

    def draw(self, name: str, gray: int = 128) -> None:
        file = io.BytesIO()
        PIL.Image.new("RGB", (640, 480), (gray, gray, gray)).save(file, "JPEG")
        (self.folder / name).write_bytes(file.getvalue())

    def source(self, boxes: Mapping[str, Any] = BOXES, *, verified: bool = False) -> Source:
        listed = list(enumerate(boxes.items(), 1))
        document = {
            "categories": [{"id": 1, "name": "apple"}, {"id": 2, "name": "banana"}],
            "images": [{"id": n, "file_name": name, "width": 640, "height": 480} for n, (name, _) in listed],
            "annotations": [
                {
                    "image_id": number,
                    "category_id": 1 if label == "apple" else 2,
                    "bbox": [left, top, right - left, bottom - top],
                }
                for number, (_, boxes) in listed
                for label, (left, top, right, bottom) in boxes
            ],
        }
        path = self.folder / "coco.json"
        path.write_text(json.dumps(document))
        return load_source(path, verified=verified)

    def drop(self, source: Source | None = None) -> BoxesDrop:
        """Drop the folder; S3 notifies as it would."""
        source = source or self.source()
        files = list_files(self.folder, "fruit", DropSummary())
        matched, _ = source.match([file.name for file in files])
        bringing = BoxesDrop(self.world.services, "fruit", source, LabelSet.from_yaml(FRUIT), matched)
        summary = DropSummary()
        drop(self.world.images, files, "fruit/", summary, on_stored=bringing)
        assert not summary.failed
        bringing.ask()
        return bringing

    def launch(self) -> list[str]:
        """Let launch take what it was asked for; returns the runs that a job has now."""
        return self.live.launch()

    def own_parts(self) -> list[dict[str, Any]]:
        """The parts of all runs that exist so far, as S3 notifies of them."""
        data = self.world.data
        runs = [run.run_id for run in self.world.ledger.list_runs("fruit")]
        return [part_event(data.name, part.key) for run in runs for part in list_parts(data, "fruit", run)]

    def publish(self, *events: dict[str, Any]) -> None:
        assert self.live.deliver("publish", *(events or self.own_parts())) == []

    def world_with(self, connection: Connection) -> Services:
        """Services that collect needs."""
        world = self.world
        return Services.of(
            world.settings, world.clock, ledger=world.ledger, data=world.data, label_studio=connection
        )

    def state(self, name: str) -> str:
        return str(self.world.row(f"fruit/{name}").state)


@pytest.fixture
def desk(live: Functions, tmp_path: Path) -> Desk:
    return Desk(live, tmp_path)


def boxes_of(task: Any) -> list[tuple[str, tuple[float, ...]]]:
    """Labels and corners in pixels of 640 × 480, of a task's prediction."""
    (prediction,) = task.predictions
    found = []
    for region in prediction.result:
        value = region["value"]
        left, top = value["x"] * 6.4, value["y"] * 4.8
        corners = left, top, left + value["width"] * 6.4, top + value["height"] * 4.8
        found.append((value["rectanglelabels"][0], tuple(round(each, 6) for each in corners)))
    return found


def test_images_get_their_boxes_without_a_job_and_others_are_detected(
    desk: Desk, connection: Connection
) -> None:
    bringing = desk.drop()
    assert (bringing.images, bringing.boxes) == (2, 2)
    desk.world.dispatch(desk.world.put("fruit/c.jpg", (desk.folder / "c.jpg").read_bytes()))
    (run_id,) = desk.launch()
    assert read_header(desk.world.data, run_id).images == 1
    desk.publish()
    shown = tasks(connection, desk.world)
    assert set(shown) == {"a.jpg", "b.jpg"}
    assert boxes_of(shown["a.jpg"]) == BOXES["a.jpg"]
    assert boxes_of(shown["b.jpg"]) == []
    assert shown["a.jpg"].data["model_version"] == bringing.model_version
    desk.publish(*desk.live.work(run_id))
    shown = tasks(connection, desk.world)
    assert {name: len(boxes_of(task)) for name, task in shown.items()} == {"a.jpg": 2, "b.jpg": 0, "c.jpg": 1}
    project = desk.world.ledger.project("fruit")
    assert project is not None
    for _ in shown:  # as annotators see it, whoever made the boxes
        stream = connection.request("next", "GET", f"/api/projects/{project.label_studio_id}/next/")
        name = stream["data"]["file_name"].rpartition("/")[2]
        assert len(stream["predictions"]) == 1, name
        connection.sdk.annotations.create(stream["id"], result=[])


def test_a_run_of_nothing_but_such_images_is_over_at_once(desk: Desk) -> None:
    (desk.folder / "c.jpg").unlink()
    desk.drop()
    assert desk.launch() == []
    (run,) = desk.world.ledger.list_runs("fruit")
    assert (run.state, run.reason) == (RunState.SUCCEEDED, "all of its images came with boxes of their own")
    desk.publish()
    assert desk.world.states() == {"tasked": 2}
    desk.world.clock.forward(hours=1)
    desk.world.recover()
    assert desk.world.states() == {"tasked": 2}


def test_dropping_again_and_publishing_again_changes_nothing(desk: Desk, connection: Connection) -> None:
    desk.drop()
    desk.launch()
    desk.publish()
    before = {name: (task.id, task.predictions[0].id) for name, task in tasks(connection, desk.world).items()}
    desk.drop()
    desk.launch()
    desk.publish(*desk.own_parts(), *desk.own_parts())
    after = {name: (task.id, task.predictions[0].id) for name, task in tasks(connection, desk.world).items()}
    assert after == before
    assert [desk.state(name) for name in BOXES] == ["tasked", "tasked"]


@pytest.mark.parametrize("detector_is_first", [True, False])
def test_dropped_boxes_replace_detected_ones_whichever_come_first(
    desk: Desk, connection: Connection, detector_is_first: bool
) -> None:
    image = (desk.folder / "a.jpg").read_bytes()
    desk.world.dispatch(desk.world.put("fruit/a.jpg", image))
    (run_id,) = desk.launch()
    detected = desk.live.work(run_id)
    if detector_is_first:
        desk.publish(*detected)
        assert len(boxes_of(tasks(connection, desk.world)["a.jpg"])) == 1
    desk.drop()
    desk.launch()
    desk.publish()  # the detector's part comes again, before and after the other
    desk.publish(*detected)
    task = tasks(connection, desk.world)["a.jpg"]
    assert boxes_of(task) == BOXES["a.jpg"]
    assert desk.state("a.jpg") == "tasked"


def test_other_boxes_for_the_same_images_replace_them(desk: Desk, connection: Connection) -> None:
    desk.drop()
    desk.launch()
    desk.publish()
    better = [("banana", (1.0, 2.0, 3.0, 4.0))]
    desk.drop(desk.source({"a.jpg": better}))
    desk.launch()
    desk.publish()
    assert boxes_of(tasks(connection, desk.world)["a.jpg"]) == better


def test_an_overwritten_image_is_detected_since_its_boxes_are_about_another_one(desk: Desk) -> None:
    desk.drop()
    desk.launch()
    desk.publish()
    desk.world.dispatch(desk.world.put("fruit/a.jpg", b"another image"))
    (run_id,) = desk.launch()
    assert read_header(desk.world.data, run_id).images == 1
    desk.publish(*desk.live.work(run_id))
    row = desk.world.row("fruit/a.jpg")
    assert (str(row.state), row.own_boxes) == ("tasked", None)


def test_what_a_person_verified_stays(desk: Desk, connection: Connection) -> None:
    desk.world.dispatch(desk.world.put("fruit/a.jpg", (desk.folder / "a.jpg").read_bytes()))
    (run_id,) = desk.launch()
    desk.publish(*desk.live.work(run_id))
    task = tasks(connection, desk.world)["a.jpg"]
    annotate(connection, task)
    collect(desk.world_with(connection), "fruit", task.id)
    assert desk.state("a.jpg") == "verified"
    bringing = desk.drop(desk.source(verified=True))
    assert (bringing.kept, bringing.images) == (1, 1)
    desk.launch()
    desk.publish()
    task = tasks(connection, desk.world)["a.jpg"]
    assert len(task.annotations) == 1
    assert len(boxes_of(task)) == 1


def test_verified_boxes_are_submitted_once_in_the_name_of_their_source(
    desk: Desk, connection: Connection
) -> None:
    bringing = desk.drop(desk.source(verified=True))
    desk.launch()
    desk.publish()
    desk.publish()
    shown = tasks(connection, desk.world)
    users = {each["id"]: each["first_name"] for each in connection.request("users", "GET", "/api/users/")}
    for name in BOXES:
        (annotation,) = shown[name].annotations
        assert users[annotation["completed_by"]] == bringing.model_version
        collect(desk.world_with(connection), "fruit", shown[name].id)
        assert desk.state(name) == "verified"
        stored = read_review(desk.world.data, "fruit", desk.world.id_of(f"fruit/{name}"))
        assert stored is not None
        document = from_json(stored.body, name)
        assert isinstance(document, Annotation)
        assert [(box.label, box.xyxy) for box in document.boxes] == BOXES[name]
        assert document.user == annotation["completed_by"]
        assert document.offer is not None
        assert document.offer.model_version == bringing.model_version
    project = desk.world.ledger.project("fruit")
    assert project is not None
    leaving = connection.request(
        "export", "GET", f"/api/projects/{project.label_studio_id}/export?exportType=JSON"
    )
    (desk.folder / "export.json").write_text(json.dumps(leaving))
    again = load_source(desk.folder / "export.json")
    for name, image in again.match(list(BOXES))[0].items():
        header = ImageHeader(640, 480, "jpeg")
        found, faults = again.convert(
            name, image, header, ("id", "v1"), ["apple", "banana"], desk.world.clock()
        )
        assert found is not None
        assert [(each.label, each.xyxy) for each in found.boxes] == BOXES[name]
        assert faults == []


def test_a_person_who_takes_verified_boxes_back_is_not_overruled(desk: Desk, connection: Connection) -> None:
    desk.drop(desk.source(verified=True))
    desk.launch()
    desk.publish()
    task = tasks(connection, desk.world)["a.jpg"]
    collect(desk.world_with(connection), "fruit", task.id)
    connection.sdk.annotations.delete(task.annotations[0]["id"])
    collect(desk.world_with(connection), "fruit", task.id)
    desk.publish()
    task = tasks(connection, desk.world)["a.jpg"]
    assert task.annotations == []
    assert desk.state("a.jpg") == "tasked"


def test_boxes_whose_label_was_removed_are_no_longer_shown(desk: Desk, connection: Connection) -> None:
    desk.drop()
    desk.launch()
    desk.publish()
    desk.live.deliver("dispatch", desk.world.labels("fruit", "labels: [pineapple, apple]"))
    desk.world.clock.forward(minutes=5)
    desk.launch()
    desk.publish()
    assert [label for label, _ in boxes_of(tasks(connection, desk.world)["a.jpg"])] == ["apple"]


def test_a_document_that_is_missing_is_a_failure_that_says_what_to_do(desk: Desk) -> None:
    bringing = desk.drop()
    lost = [each.key for each in desk.world.data.list(f"boxes/fruit/{bringing.model_version}/")]
    desk.world.data.delete_all(lost)
    desk.launch()
    desk.publish()
    row = desk.world.row("fruit/a.jpg")
    assert (str(row.state), row.reason) == ("failed", "boxes")
    assert "drop the images with their boxes again" in str(row.message)


def test_a_lost_ledger_learns_again_which_images_have_boxes_of_their_own(desk: Desk) -> None:
    desk.drop()
    newer = desk.drop(desk.source({"a.jpg": []}))
    desk.world.ledger._table.delete([desk.world.row(f"fruit/{name}").row_key for name in BOXES])
    for name in BOXES:
        desk.world.dispatch(desk.world.put(f"fruit/{name}", (desk.folder / name).read_bytes()))
    assert desk.world.row("fruit/a.jpg").own_boxes is None
    assert restore_boxes(desk.world.services, "fruit") == 2
    assert desk.world.row("fruit/a.jpg").own_boxes == newer.model_version
    assert desk.launch() == []
