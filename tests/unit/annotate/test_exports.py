"""Files for other tools: complete or not there, and right to the last comma."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.annotate.exports import (
    AtomicFile,
    CocoWriter,
    FailureWriter,
    LabelStudioWriter,
    local_files_url,
)
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, Failure, Prediction

LABELS = LabelSet.from_yaml("caption: fruit\nlabels:\n- {name: banana, id: 4}\n- {name: apple, id: 2}")


def prediction(image: str, *boxes: Box) -> Prediction:
    return Prediction(image, image, "v", "m", 100, 50, boxes)


BANANA = Box("banana", 0.9, (10.0, 5.5, 30.25, 25.0), "banana")
APPLE = Box("apple", 0.5, (0.0, 0.0, 100.0, 50.0), "apple")
FAILURE = Failure("bad\tname\n.jpg", "f", "v", "m", "corrupt", "the \\ file ends early")


@pytest.mark.parametrize(
    "records", [[], [prediction("a", BANANA, APPLE), FAILURE, prediction("b"), prediction("c", APPLE)]]
)
def test_coco_holds_images_frozen_ids_and_xywh(tmp_path: Path, records: list[Prediction | Failure]) -> None:
    with CocoWriter(tmp_path / "coco.json", LABELS) as writer:
        for record in records:
            writer.add(record)
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert coco["categories"] == [{"id": 4, "name": "banana"}, {"id": 2, "name": "apple"}]
    assert [image["file_name"] for image in coco["images"]] == [
        r.image for r in records if isinstance(r, Prediction)
    ]
    if records:
        first = coco["annotations"][0]
        assert first["bbox"] == [10.0, 5.5, 20.25, 19.5]
        assert (first["image_id"], first["category_id"], first["score"]) == (1, 4, 0.9)
        assert first["area"] == pytest.approx(20.25 * 19.5)
        assert [a["image_id"] for a in coco["annotations"]] == [1, 1, 3]
        assert [a["id"] for a in coco["annotations"]] == [1, 2, 3]


def test_coco_is_read_by_the_reference_implementation(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    with CocoWriter(tmp_path / "coco.json", LABELS) as writer:
        writer.add(prediction("a", BANANA))
    read = coco.COCO(str(tmp_path / "coco.json"))
    assert read.loadAnns(read.getAnnIds(catIds=[4]))[0]["bbox"] == [10.0, 5.5, 20.25, 19.5]


def test_failures_are_one_line_each(tmp_path: Path) -> None:
    with FailureWriter(tmp_path / "failures.tsv") as writer:
        writer.add(prediction("a"))
        writer.add(FAILURE)
    lines = (tmp_path / "failures.tsv").read_text().splitlines()
    assert lines == ["image\treason\tmessage", "bad\\tname\\n.jpg\tcorrupt\tthe \\\\ file ends early"]


def test_tasks_are_a_json_list(tmp_path: Path) -> None:
    with LabelStudioWriter(tmp_path / "tasks.json", lambda p: {"image": p.image}) as writer:
        for record in (prediction("a"), FAILURE, prediction("b")):
            writer.add(record)
    assert json.loads((tmp_path / "tasks.json").read_text()) == [{"image": "a"}, {"image": "b"}]


def test_a_file_that_was_not_finished_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def stop_halfway() -> None:
        with AtomicFile(path) as file:
            file.write("half of the new")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("image", "encoded"),
    [
        ("we+ird #1 100%.jpg", "we%2Bird%20%231%20100%25.jpg"),
        ("a&b=c?d.png", "a%26b%3Dc%3Fd.png"),
        ("deep/er/ä.jpg", "deep/er/%C3%A4.jpg"),
        ("\udce9t\udce9.jpg", "%E9t%E9.jpg"),
    ],
)
def test_local_file_addresses_are_percent_encoded(tmp_path: Path, image: str, encoded: str) -> None:
    folder = tmp_path / "my photos"
    assert local_files_url(folder, image) == f"/data/local-files/?d=my%20photos/{encoded}"


@given(st.text(st.characters(codec=None, exclude_categories=()), min_size=1, max_size=30))
def test_any_name_is_one_row_of_three_cells_to_a_reader_of_tables(tmp_path_factory: Any, name: str) -> None:
    file = tmp_path_factory.getbasetemp() / "failures.tsv"
    with FailureWriter(file) as writer:
        writer.add(Failure(name, "1" * 32, "v", "m@1", "broken", f"not an image: {name}"))
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) == 2
    head, row = csv.reader(io.StringIO(text), delimiter="\t")
    assert head == ["image", "reason", "message"]
    image, reason, message = row
    assert (reason, message) == ("broken", f"not an image: {image}")
    plain = re.sub(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", "", name)
    assert plain in image or plain != name
