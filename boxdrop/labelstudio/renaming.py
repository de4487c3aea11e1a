"""Renaming labels of a project in Label Studio, including annotations and drafts."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from xml.etree import ElementTree as ET

from boxdrop.domain.errors import RefusedError
from boxdrop.labelstudio.config import FROM_NAME, RETIRED, parsed, written
from boxdrop.labelstudio.connection import Connection

_PAGE: Final = 100


def add_names(connection: Connection, project: int, names: Mapping[str, str]) -> None:
    """Add the new names beside the old ones, with the same id, colour and hotkey.

    Args:
        names: maps old names to new ones.

    Raises:
        LabelStudioError: Label Studio cannot be reached, or refused.
    """

    def change(rectangles: ET.Element, _: ET.Element) -> None:
        labels = {label.get("value"): label for label in rectangles.iterfind("Label")}
        for old, new in names.items():
            if old in labels and new not in labels:
                twin = copy.deepcopy(labels[old])
                twin.set("value", new)
                rectangles.append(twin)

    _change_config(connection, project, change)


def drop_names(connection: Connection, project: int, names: Mapping[str, str]) -> None:
    """Remove the old names; they are not kept as retired labels, since the new names have their ids."""

    def change(rectangles: ET.Element, view: ET.Element) -> None:
        for label in list(rectangles.iterfind("Label")):
            if label.get("value") in names:
                rectangles.remove(label)
        retired = {
            name: number for name, number in json.loads(view.get(RETIRED, "{}")).items() if name not in names
        }
        if retired:
            view.set(RETIRED, json.dumps(retired))
        else:
            view.attrib.pop(RETIRED, None)

    _change_config(connection, project, change)


def rename_boxes(
    connection: Connection, project: int, names: Mapping[str, str], keep: Callable[[], None]
) -> int:
    """Rewrite the labels of annotations and drafts; returns how many boxes were renamed.

    Args:
        keep: called before each page and each write: renews the lease.
    """
    boxes = 0
    for task in _tasks(connection, project, keep):
        for kind, path in (("annotations", "/api/annotations/"), ("drafts", "/api/drafts/")):
            for each in task.get(kind) or ():
                result, changed = _renamed(each.get("result") or [], names)
                if changed:
                    keep()
                    connection.request(
                        f"rename boxes of task {task['id']}",
                        "PATCH",
                        f"{path}{each['id']}/",
                        json={"result": result},
                    )
                    boxes += changed
    return boxes


def _tasks(connection: Connection, project: int, keep: Callable[[], None]) -> Iterator[dict[str, Any]]:
    page = 1
    while True:
        keep()
        answer = connection.request(
            f"read tasks of project {project}",
            "GET",
            "/api/tasks/",
            params={
                "project": project,
                "fields": "all",
                "page": page,
                "page_size": _PAGE,
                "resolve_uri": "false",
            },
        )
        yield from answer["tasks"]
        if page * _PAGE >= int(answer["total"]):
            return
        page += 1


def _renamed(result: list[dict[str, Any]], names: Mapping[str, str]) -> tuple[list[dict[str, Any]], int]:
    renamed, changed = [], 0
    for region in result:
        value = region.get("value") or {}
        labels = value.get("rectanglelabels")
        if region.get("from_name") == FROM_NAME and labels and any(label in names for label in labels):
            new = [names.get(label, label) for label in labels]
            region = region | {"value": value | {"rectanglelabels": new}}
            changed += 1
        renamed.append(region)
    return renamed, changed


def _change_config(
    connection: Connection, project: int, change: Callable[[ET.Element, ET.Element], None]
) -> None:
    found = connection.request(f"read project {project}", "GET", f"/api/projects/{project}/")
    view = parsed(str(found["label_config"]))
    rectangles = None if view is None else view.find(f".//RectangleLabels[@name='{FROM_NAME}']")
    if view is None or rectangles is None:
        raise RefusedError(
            f'project {project}: its configuration has no <RectangleLabels name="{FROM_NAME}">'
        )
    before = ET.tostring(view)
    change(rectangles, view)
    if ET.tostring(view) != before:
        connection.request(
            f"change the labels of project {project}",
            "PATCH",
            f"/api/projects/{project}/",
            json={"label_config": written(view)},
        )
