"""Label Studio's tests talk to a real server."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from boxdrop.domain.identity import image_id
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, Prediction
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import Project, ensure_project
from tests.label_studio_server import connection, server

__all__ = ["connection", "server"]

FRUIT = LabelSet.from_yaml("caption: fruit baskets\nlabels: [pineapple, banana, apple]")
BOXES = (
    Box("banana", 0.9, (64.0, 48.0, 320.0, 240.0), "banana"),
    Box("apple", 0.6, (400.5, 300.25, 640.0, 480.0), "apple"),
)

_numbers = itertools.count()

MakeProject = Callable[..., Project]


@pytest.fixture
def make_project(connection: Connection) -> MakeProject:
    """Makes a project that no other test has."""

    def make(label_set: LabelSet = FRUIT, title: str = "fruit baskets") -> Project:
        return ensure_project(connection, label_set, title, key=f"test {next(_numbers)}")

    return make


def prediction(
    number: int = 0, boxes: Sequence[Box] = BOXES, model_version: str = "demo@1", version: str = "v1"
) -> Prediction:
    name = f"basket {number}.jpg"
    return Prediction(name, image_id("", name), version, model_version, 640, 480, tuple(boxes))


def somewhere(predictions: Sequence[Prediction]) -> list[str]:
    """Addresses of images that nobody looks at."""
    return [f"https://example.com/{each.image_id}.jpg" for each in predictions]


def tasks_of(connection: Connection, project: Project) -> list[Any]:
    """Tasks with predictions and annotations, oldest first."""
    return sorted(connection.sdk.tasks.list(project=project.id, fields="all"), key=lambda task: task.id)


def next_task(connection: Connection, project: Project) -> dict[str, Any]:
    """What an annotator is given by the Label button."""
    task: dict[str, Any] = connection.request("label", "GET", f"/api/projects/{project.id}/next")
    return task


def annotate(connection: Connection, task: Any, label: str = "banana", *, cancelled: bool = False) -> None:
    """Do what an annotator does: take over the first region and submit, or skip."""
    value = {"x": 1, "y": 1, "width": 9, "height": 9, "rotation": 0, "rectanglelabels": [label]}
    region = {"type": "rectanglelabels", "from_name": "label", "to_name": "image", "value": value, "id": "r"}
    connection.sdk.annotations.create(task.id, result=[region], was_cancelled=cancelled)
