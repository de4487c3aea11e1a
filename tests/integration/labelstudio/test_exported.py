"""Label Studio imports an export of ours: COCO, by the converter of its own SDK and its own import."""

import json
import logging
from pathlib import Path

import pytest
from label_studio_sdk.converter.imports.coco import convert_coco_to_ls

from boxdrop.datasets.export import Images, export
from boxdrop.datasets.formats import FORMATS
from boxdrop.labelstudio.connection import Connection
from tests.unit.datasets.test_exported_ids import SIZE, Drawn, Stored

from .conftest import tasks_of

DRAWN: dict[str, Drawn] = {
    "a.jpg": [
        ("r1", "apple", (10.25, 20.0, 110.5, 220.125)),
        ("r2", "banana", (0.0, 0.0, 640.0, 480.0)),
        ("r3", "banana", (1.0, 2.0, 1.5, 2.5)),
    ],
    "cam2/a.jpg": [("r1", "water lily", (639.0, 479.0, 640.0, 480.0))],
    "empty.jpg": [],
}


@pytest.mark.parametrize("kind", ["annotations", "predictions"])
def test_label_studio_imports_every_box_of_an_export(
    connection: Connection, tmp_path: Path, kind: str
) -> None:
    stored = Stored(["apple", "banana", "water lily"], DRAWN)
    export("fruit", stored, FORMATS["coco"], tmp_path / "out", images=Images.NONE)
    found = {}
    for split in stored.splits:
        converted = tmp_path / f"{split}.json"
        logging.disable()
        try:
            convert_coco_to_ls(
                str(tmp_path / f"out/annotations/instances_{split}.json"),
                str(converted),
                out_type=kind,
                image_root_url="https://example.com",
            )
        finally:
            logging.disable(logging.NOTSET)
        tasks = json.loads(converted.read_text()) if converted.exists() else []
        if not tasks:
            continue
        config = converted.with_name(f"{split}.label_config.xml").read_text()
        project = connection.sdk.projects.create(title=f"{kind} of {split}", label_config=config)
        connection.sdk.projects.import_tasks(id=project.id, request=tasks)
        for task in tasks_of(connection, project):
            (imported,) = task.annotations if kind == "annotations" else task.predictions
            result = imported["result"] if isinstance(imported, dict) else imported.result
            found[task.data["image"].rpartition("/")[2]] = sorted(map(_corners, result))

    expected = {item.stem + ".jpg": sorted((box.label, *box.xyxy) for box in item.boxes) for item in stored}
    assert found.keys() == expected.keys()
    for name, boxes in expected.items():
        assert [each[0] for each in found[name]] == [each[0] for each in boxes]
        for one, other in zip(found[name], boxes, strict=True):
            assert one[1:] == pytest.approx(other[1:], abs=0.002)


def _corners(region: dict[str, object]) -> tuple[object, ...]:
    """Label and corners in pixels of the size that the region names."""
    assert (region["original_width"], region["original_height"]) == SIZE
    value = region["value"]
    assert isinstance(value, dict)
    (label,) = value["rectanglelabels"]
    left, top = value["x"] * SIZE[0] / 100, value["y"] * SIZE[1] / 100
    width, height = value["width"] * SIZE[0] / 100, value["height"] * SIZE[1] / 100
    return label, left, top, left + width, top + height
