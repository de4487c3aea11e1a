"""Boxes of other tools: read, matched with files, mapped to labels, turned upright and checked."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.datasets.dropped import Source, load_source, read_label_map
from boxdrop.datasets.items import DatasetError
from boxdrop.datasets.readers import ReadBox, ReadImage, Reading, read_boxes
from boxdrop.domain.images import ImageHeader
from boxdrop.store.boxes import DroppedBox

NOW = datetime(2026, 11, 28, tzinfo=UTC)
UPRIGHT = ImageHeader(640, 480, "jpeg")


def coco(folder: Path, **changes: Any) -> Path:
    document = {
        "categories": [{"id": 7, "name": "apple"}, {"id": 3, "name": "banana"}],
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 640, "height": 480},
            {"id": 2, "file_name": "sub/b.jpg", "width": 640, "height": 480},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 20, 30, 40], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 7, "bbox": [1.5, 2.5, 3, 4], "iscrowd": 1, "score": 0.5},
        ],
    } | changes
    path = folder / "coco.json"
    path.write_text(json.dumps(document))
    return path


def source(*images: ReadImage, **options: Any) -> Source:
    labels = tuple(dict.fromkeys(box.label for image in images for box in image.boxes))
    return Source(Path("x.json"), Reading("coco", labels, images, (), "0" * 64), **options)


def apple(*xyxy: float, **options: Any) -> ReadBox:
    left, top, right, bottom = xyxy
    return ReadBox("apple", (left, top, right, bottom), **options)


def test_coco_is_read_with_images_that_are_empty(tmp_path: Path) -> None:
    reading = read_boxes(coco(tmp_path))
    assert (reading.format, reading.labels, reading.faults) == ("coco", ("apple", "banana"), ())
    assert reading.images == (
        ReadImage(
            "a.jpg",
            (ReadBox("banana", (10, 20, 40, 60)), ReadBox("apple", (1.5, 2.5, 4.5, 6.5), 0.5)),
            (640, 480),
        ),
        ReadImage("sub/b.jpg", (), (640, 480)),
    )


@pytest.mark.parametrize(
    ("annotation", "what"),
    [
        ({"image_id": 9, "category_id": 3, "bbox": [0, 0, 1, 1]}, "box of an image that is not listed"),
        ({"image_id": 1, "category_id": 9, "bbox": [0, 0, 1, 1]}, "box of a category that is not listed"),
        ({"image_id": 1, "category_id": 3, "bbox": [0, 0, 1]}, "box that is not four numbers"),
        ({"image_id": 1, "category_id": 3}, "box that is not four numbers"),
        ({"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, "nan"]}, "box that is not four numbers"),
    ],
)
def test_a_box_that_cannot_be_read_is_a_fault(tmp_path: Path, annotation: Any, what: str) -> None:
    reading = read_boxes(coco(tmp_path, annotations=[annotation]))
    assert [fault.what for fault in reading.faults] == [what]
    assert not any(image.boxes for image in reading.images)


def test_ids_that_are_texts_in_one_list_and_numbers_in_another_are_the_same(tmp_path: Path) -> None:
    path = coco(tmp_path, annotations=[{"id": 1, "image_id": "1", "category_id": "3", "bbox": [0, 0, 1, 1]}])
    assert read_boxes(path).images[0].boxes == (ReadBox("banana", (0, 0, 1, 1)),)


@pytest.mark.parametrize(
    "names",
    ["names: [apple, banana]", "names: {0: apple, 1: banana}", "names:\n  1: banana\n  0: apple\nnc: 2"],
)
def test_yolo_is_read_with_the_names_of_its_yaml(tmp_path: Path, names: str) -> None:
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text(names)
    (tmp_path / "labels/train/a.txt").write_text(
        "1 0.5 0.5 0.5 0.25\n0 0.1 0.1 0.2 0.1 0.2 0.3 0.1 0.3\n9 1 1 1 1\nx\n"
    )
    (tmp_path / "labels/train/b.txt").write_text("")
    reading = read_boxes(tmp_path)
    boxes = (ReadBox("banana", (0.25, 0.375, 0.75, 0.625)), ReadBox("apple", (0.1, 0.1, 0.2, 0.3)))
    assert reading.images == (
        ReadImage("train/a", boxes, in_shares=True),
        ReadImage("train/b", (), in_shares=True),
    )
    assert [fault.what for fault in reading.faults] == [
        "box of a class that has no name",
        "row that is not a class and four numbers",
    ]


def voc(folder: Path, *corners: tuple[int, int, int, int]) -> Path:
    objects = "".join(
        f"<object><name>apple</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
        "</bndbox></object>"
        for a, b, c, d in corners
    )
    size = "<size><width>640</width><height>480</height><depth>3</depth></size>"
    text = f"<annotation><filename>old name.png</filename>{size}{objects}</annotation>"
    (folder / "a.xml").write_text(text)
    return folder


def test_voc_counts_pixels_from_1_unless_a_box_begins_at_0(tmp_path: Path) -> None:
    assert read_boxes(voc(tmp_path, (1, 11, 30, 40))).images == (
        ReadImage("a", (apple(0, 10, 30, 40),), (640, 480)),
    )
    assert read_boxes(voc(tmp_path, (0, 10, 30, 40))).images[0].boxes == (apple(0, 10, 30, 40),)


def test_xml_that_defines_entities_is_not_expanded(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<!DOCTYPE x [<!ENTITY a "aaaa">]><annotation>&a;</annotation>')
    assert [fault.what for fault in read_boxes(tmp_path).faults] == ["file that defines entities"]


def label_studio(folder: Path, *tasks: dict[str, Any]) -> Path:
    (folder / "ls.json").write_text(json.dumps(tasks))
    return folder / "ls.json"


def region(**value: Any) -> dict[str, Any]:
    percent = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["apple"]}
    size = {"original_width": 200, "original_height": 100}
    return {"id": "r", "type": "rectanglelabels", "value": percent | value, **size}


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/3/0123abcd-a.jpg", "a.jpg"),
        ("s3://bucket/fruit/a.jpg", "fruit/a.jpg"),
        ("/data/local-files/?d=fruit/a%20b.jpg", "fruit/a b.jpg"),
        ("https://example.com/x/a%20b.jpg?sig=1", "x/a b.jpg"),
    ],
)
def test_the_image_of_a_task_has_its_own_name(tmp_path: Path, address: str, name: str) -> None:
    task = {"id": 1, "data": {"image": address}, "annotations": [{"id": 1, "result": [region()]}]}
    (image,) = read_boxes(label_studio(tmp_path, task)).images
    assert image.name == name
    assert image.size == (200, 100)
    assert image.boxes[0].xyxy == pytest.approx((0.1, 0.2, 0.4, 0.6))


def test_the_newest_annotation_counts_and_skipped_tasks_are_faults(tmp_path: Path) -> None:
    data = {"image": "a.jpg"}
    older = {"id": 1, "result": [region(), region()], "updated_at": "2026-01-01"}
    newer = {"id": 2, "result": [region(x=50)], "updated_at": "2026-02-01"}
    skipped = {"id": 3, "result": [region()], "was_cancelled": True, "updated_at": "2026-03-01"}
    both = {"id": 1, "data": data, "annotations": [older, newer, skipped]}
    alone = {"id": 2, "data": {"image": "b.jpg"}, "annotations": [skipped]}
    reading = read_boxes(label_studio(tmp_path, both, alone))
    assert [box.xyxy[0] for box in reading.images[0].boxes] == [0.5]
    assert [(fault.what, fault.where) for fault in reading.faults] == [
        ("task without an annotation", "task 2")
    ]


def test_of_a_turned_rectangle_the_upright_box_around_it_counts(tmp_path: Path) -> None:
    turned = region(x=50, y=0, width=10, height=40, rotation=90)  # 20 × 40 px, about (100, 0)
    path = label_studio(tmp_path, {"data": {"image": "a.jpg"}, "annotations": [{"result": [turned]}]})
    (image,) = read_boxes(path).images
    assert image.boxes[0].xyxy == pytest.approx((0.3, 0.0, 0.5, 0.2))


@pytest.mark.parametrize("content", ["{", "[]x", '{"a": 1}', '[{"image_id": 1, "bbox": [0, 0, 1, 1]}]', "3"])
def test_what_is_no_list_of_boxes_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=r"x\.json"):
        read_boxes(path)
    with pytest.raises(DatasetError, match="no boxes found"):
        read_boxes(tmp_path)


def test_images_are_found_by_the_end_of_their_path() -> None:
    images = [
        ReadImage(name, (), in_shares=True) for name in ("x/train/a.jpg", "val/a", "c.png", "d.jpg", "e")
    ]
    found, faults = source(*images).match(["train/a.jpg", "val/a.jpg", "deep/c.jpg", "1/e.jpg", "2/e.jpg"])
    assert {file: image.name for file, image in found.items()} == {
        "train/a.jpg": "x/train/a.jpg",
        "val/a.jpg": "val/a",
        "deep/c.jpg": "c.png",
    }
    assert {(fault.what, fault.where) for fault in faults} == {
        ("image that is not in the folder", "d.jpg"),
        ("image name that several files have", "e"),
    }


def test_two_entries_for_one_file_conflict_unless_they_say_the_same() -> None:
    one, other = ReadImage("a.jpg", (apple(0, 0, 1, 1),)), ReadImage("x/a.jpg", (apple(0, 0, 2, 2),))
    assert source(one, one).match(["a.jpg"])[0] == {"a.jpg": one}
    found, faults = source(one, other).match(["a.jpg"])
    assert found == {}
    assert [fault.what for fault in faults] == ["file with several different entries"]


def test_labels_are_mapped_and_unknown_classes_are_listed() -> None:
    boxes = (ReadBox("Apfel", (0, 0, 9, 9)), ReadBox("weg", (0, 0, 9, 9)), ReadBox("kiwi", (0, 0, 9, 9)))
    image = ReadImage("a.jpg", boxes, (640, 480))
    mapped = source(image, label_map={"Apfel": "apple", "weg": None, "nie": "banana"})
    found, faults = mapped.convert("a.jpg", image, UPRIGHT, ("id", "v1"), ["apple"], NOW)
    assert found is not None
    assert found.boxes == (DroppedBox("apple", (0, 0, 9, 9)),)
    assert [fault.what for fault in faults] == [
        "box that the label map leaves out",
        "box of the unknown class 'kiwi'",
    ]
    assert [fault.where for fault in mapped.faults] == ["nie"]
    assert mapped.labels == ("apple", "kiwi")


def test_boxes_are_cut_off_at_the_image_and_those_outside_are_left_out() -> None:
    boxes = (apple(-0.4, 0, 10, 480.3), apple(-50, 0, 10, 10), apple(700, 0, 710, 10), apple(5, 5, 5, 9))
    found, faults = source(image := ReadImage("a.jpg", boxes)).convert(
        "a.jpg", image, UPRIGHT, ("id", "v1"), ["apple"], NOW
    )
    assert found is not None
    assert [box.xyxy for box in found.boxes] == [(0, 0, 10, 480), (0, 0, 10, 10)]
    assert [fault.what for fault in faults] == [
        "box that reached beyond the image: cut off",
        "box outside the image, or without an area",
        "box outside the image, or without an area",
    ]


@pytest.mark.parametrize("size", [(320, 240), (480, 640)])
def test_boxes_of_an_image_of_another_size_are_not_taken(size: tuple[int, int]) -> None:
    image = ReadImage("a.jpg", (apple(0, 0, 9, 9),), size)
    found, faults = source(image).convert("a.jpg", image, UPRIGHT, ("id", "v1"), ["apple"], NOW)
    assert found is None
    assert [fault.what for fault in faults] == ["image of another size"]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(5, (20, 10, 60, 40)), (6, (420, 10, 460, 40)), (7, (420, 600, 460, 630)), (8, (20, 600, 60, 630))],
)
def test_boxes_in_stored_pixels_are_turned_upright_with_the_image(
    orientation: int, upright: tuple[int, int, int, int]
) -> None:
    """The stored pixels are 640 × 480; the source gives that size, so it did not turn them."""
    header = ImageHeader(480, 640, "jpeg", orientation)
    raw = ReadImage("a.jpg", (apple(10, 20, 40, 60),), (640, 480))
    found, _ = source(raw).convert("a.jpg", raw, header, ("id", "v1"), ["apple"], NOW)
    assert found is not None
    assert found.boxes[0].xyxy == upright
    turned = ReadImage("a.jpg", (apple(10, 20, 40, 60),), (480, 640))
    found, _ = source(turned).convert("a.jpg", turned, header, ("id", "v1"), ["apple"], NOW)
    assert found is not None
    assert found.boxes[0].xyxy == (10, 20, 40, 60)


@given(st.lists(st.tuples(*[st.floats(-2000, 2000)] * 4), max_size=8))
def test_whatever_a_source_says_what_is_stored_lies_inside_the_image(corners: list[Any]) -> None:
    image = ReadImage("a.jpg", tuple(apple(*each) for each in corners))
    found, faults = source(image).convert("a.jpg", image, UPRIGHT, ("id", "v1"), ["apple"], NOW)
    assert found is not None
    for box in found.boxes:
        left, top, right, bottom = box.xyxy
        assert 0 <= left < right <= 640
        assert 0 <= top < bottom <= 480
    lost = [fault for fault in faults if "cut off" not in fault.what]
    assert len(found.boxes) + len(lost) == len(corners)


def test_a_source_is_named_after_its_file_and_everything_that_decides_about_its_boxes(tmp_path: Path) -> None:
    path = coco(tmp_path)
    names = {load_source(path).model_version, load_source(path, verified=True).model_version}
    (tmp_path / "map.yaml").write_text("apple: fruit")
    names.add(load_source(path, tmp_path / "map.yaml").model_version)
    coco(tmp_path, annotations=[])
    names.add(load_source(path).model_version)
    assert len(names) == 4
    assert all(name.startswith("coco.json@") and len(name) == 18 for name in names)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: b\na: c", "line 2: 'a' is mapped twice"),
        ("- a", "one line per class"),
        ("a: [b]", "line 1"),
        ("a: b: c", "YAML"),
    ],
)
def test_a_label_map_that_cannot_be_read_is_refused_with_its_line(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(DatasetError, match=said):
        read_label_map(tmp_path / "map.yaml")


def test_a_label_map_may_be_json_and_leave_classes_out(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text('{"a": "b", "c": null, "d": ""}')
    assert read_label_map(tmp_path / "map.json") == {"a": "b", "c": None, "d": None}
