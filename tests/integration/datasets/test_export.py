"""Exports, read back by the tools that the formats are for where those are installed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest
import yaml
from pycocotools.coco import COCO

from boxdrop.datasets.collection import Collection, Selection
from boxdrop.datasets.export import Images, Progress, Summary, export
from boxdrop.datasets.formats import FORMATS
from boxdrop.datasets.frozen import compare, freeze, open_frozen
from boxdrop.datasets.items import DatasetError, Item, LeftOut, Why
from boxdrop.datasets.pictures import Pixels
from boxdrop.datasets.samples import verified
from boxdrop.datasets.splits import Grouping, Splits
from boxdrop.domain.annotations import Annotation, OfferedBox, Opinion, from_json, to_json
from boxdrop.domain.images import decode
from boxdrop.store.layout import annotation_key

from .conftest import WHEN, Verified, box, jpeg

LATER = WHEN + timedelta(hours=1)


def write(
    fruit: Verified, folder: Path, format: str = "coco", selection: Selection | None = None, **options: object
) -> Summary:
    stored = Collection(fruit.world.services, "fruit", selection)
    return export(
        "fruit",
        stored,
        FORMATS[format],
        folder,
        lambda _: fruit.world.images,
        **options,  # type: ignore[arg-type]
    )


def contents(folder: Path) -> dict[str, str]:
    """sha256 of every file that people see, by path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".boxdrop" not in path.parts
    }


def items(fruit: Verified, selection: Selection | None = None) -> dict[str, Item]:
    found = Collection(fruit.world.services, "fruit", selection)
    return {each.key: each for each in found if isinstance(each, Item)}


def test_only_what_is_fresh_leaves_and_the_rest_is_listed_with_its_reason(
    fruit: Verified, tmp_path: Path
) -> None:
    fruit.verify("good.jpg", [box("apple", 1, 2, 30, 40)])
    fruit.verify("empty.jpg")
    fruit.verify("overwritten.jpg", [box("apple", 1, 2, 30, 40)])
    fruit.image("overwritten.jpg", jpeg(seed=99))
    fruit.verify("deleted.jpg", [box("apple", 1, 2, 30, 40)])
    fruit.world.dispatch(fruit.world.delete("fruit/deleted.jpg"))
    fruit.skip("skipped.jpg")
    fruit.verify("polygon.jpg", notes=("a polygon was left out",))

    summary = write(fruit, tmp_path / "out")

    assert summary.images == 2
    listed = (tmp_path / "out/left-out.tsv").read_text().splitlines()[1:]
    assert {line.split("\t")[0]: line.split("\t")[1] for line in listed} == {
        "fruit/overwritten.jpg": "overwritten since it was verified",
        "fruit/deleted.jpg": "deleted from the bucket",
        "fruit/skipped.jpg": "skipped",
        "fruit/polygon.jpg": "regions that are not boxes",
    }


def test_pycocotools_reads_the_boxes_and_ids_that_were_verified(fruit: Verified, tmp_path: Path) -> None:
    fruit.verify("a.jpg", [box("apple", 1.25, 2, 30.5, 40), box("banana", 0, 0, 64, 48, region="r2")])
    fruit.verify("empty.jpg")
    write(fruit, tmp_path)

    coco = COCO(str(tmp_path / "annotations/instances_train.json"))

    expected = items(fruit)["fruit/a.jpg"]
    assert {each["id"]: each["name"] for each in coco.cats.values()} == {
        1: "pineapple",
        2: "banana",
        3: "apple",
    }
    assert len(coco.imgs) == 2
    read = {each["id"]: each for each in coco.anns.values()}
    assert read.keys() == {each.number for each in expected.boxes}
    for each in expected.boxes:
        left, top, width, height = read[each.number]["bbox"]
        assert (left, top, left + width, top + height) == pytest.approx(each.xyxy)
        assert read[each.number]["image_id"] == expected.number
        assert read[each.number]["category_id"] == each.class_id
        assert read[each.number]["iscrowd"] == 0
        assert read[each.number]["area"] == pytest.approx(width * height)
    file = tmp_path / "images/train" / coco.imgs[expected.number]["file_name"]
    assert file.read_bytes() == fruit.world.images.read_version(expected.key, expected.version, 10**6)


def test_yolo_labels_lie_where_readers_look_and_hold_the_same_boxes(fruit: Verified, tmp_path: Path) -> None:
    twice = [box("apple", 8, 12, 24, 36, region="r1"), box("apple", 8, 12, 24, 36, region="r2")]
    fruit.verify("images/a.jpg", twice)
    fruit.verify("cam2/images/a.jpg", [box("banana", 0, 0, 64, 48)])
    fruit.verify("empty.jpg")
    fruit.verify("tiny.jpg", size=(9, 40))
    summary = write(fruit, tmp_path, "yolo")

    assert summary.left_out == {"image smaller than the format allows": 1}
    names = yaml.safe_load((tmp_path / "data.yaml").read_text())["names"]
    read = {}
    for image in sorted((tmp_path / "images").rglob("*.jpg")):
        # ultralytics.data.utils.img2label_paths
        label = Path("/labels/".join(str(image).rsplit("/images/", 1))).with_suffix(".txt")
        rows = [line.split() for line in label.read_text().splitlines()]
        read[image.name] = [(names[int(row[0])], *(float(each) for each in row[1:])) for row in rows]
    assert sorted(read.values(), key=str) == [
        [("apple", 0.25, 0.5, 0.25, 0.5)],
        [("banana", 0.5, 0.5, 1.0, 1.0)],
        [],
    ]


def test_voc_counts_pixels_from_1_and_includes_the_last(fruit: Verified, tmp_path: Path) -> None:
    fruit.verify("a.jpg", [box("apple", 0, 2.4, 63.6, 48)])
    write(fruit, tmp_path, "voc")

    (stem,) = (tmp_path / "ImageSets/Main/train.txt").read_text().split()
    root = ElementTree.parse(tmp_path / f"Annotations/{stem}.xml").getroot()
    bounds = root.find("object/bndbox")
    assert bounds is not None
    assert [int(each.text or "") for each in bounds] == [1, 3, 64, 48]
    assert (tmp_path / "JPEGImages" / root.findtext("filename", "")).is_file()


def test_ground_truth_names_each_image_in_s3_with_a_class_map(fruit: Verified, tmp_path: Path) -> None:
    fruit.verify("a.jpg", [box("apple", 1, 2, 30, 40)])
    write(fruit, tmp_path, "ground-truth", images=Images.NONE)

    line = json.loads((tmp_path / "train.manifest").read_text())
    assert line["source-ref"] == f"s3://{fruit.world.images.name}/fruit/a.jpg"
    assert line["boxes"]["annotations"] == [{"class_id": 3, "left": 1, "top": 2, "width": 29, "height": 38}]
    assert line["boxes-metadata"]["class-map"] == {"3": "apple"}


def test_the_first_row_for_hugging_face_has_a_box(fruit: Verified, tmp_path: Path) -> None:
    for number in range(6):
        fruit.verify(f"empty-{number}.jpg")
    fruit.verify("a.jpg", [box("apple", 1, 2, 30, 40)])
    write(fruit, tmp_path, "huggingface")

    rows = [json.loads(line) for line in (tmp_path / "data/train/metadata.jsonl").read_text().splitlines()]
    assert rows[0]["objects"]["label"] == ["apple"]
    assert len({row["file_name"] for row in rows}) == len(rows) == 7
    assert all((tmp_path / "data/train" / row["file_name"]).is_file() for row in rows)


def test_a_photo_that_viewers_turn_is_written_upright(fruit: Verified, tmp_path: Path) -> None:
    body = jpeg(64, 48, orientation=6)
    fruit.verify("turned.jpg", [box("apple", 0, 0, 48, 10)], size=(48, 64), body=body)
    write(fruit, tmp_path / "upright")
    write(fruit, tmp_path / "original", pixels=Pixels.ORIGINAL)

    (upright,) = (tmp_path / "upright/images/train").iterdir()
    with PIL.Image.open(upright) as image:
        assert image.size == (48, 64)
        assert image.getexif().get(0x0112, 1) == 1
        difference = np.abs(np.asarray(image, np.int16) - decode(body).pixels)
    assert difference.mean() < 8  # noise, compressed again
    (original,) = (tmp_path / "original/images/train").iterdir()
    assert original.read_bytes() == body


def test_a_box_records_what_the_annotator_did(fruit: Verified) -> None:
    offered = [
        OfferedBox("apple", 0.9, (1.0, 2.0, 30.0, 40.0), "kept"),
        OfferedBox("apple", 0.9, (1.0, 2.0, 30.0, 40.0), "moved"),
        OfferedBox("apple", 0.9, (1.0, 2.0, 30.0, 40.0), "renamed"),
    ]
    boxes = [
        box("apple", 1, 2, 30.2, 40, region="kept"),
        box("apple", 5, 2, 30, 40, region="moved"),
        box("banana", 1, 2, 30, 40, region="renamed"),
        box("apple", 3, 3, 9, 9, region="new"),
    ]
    fruit.verify("a.jpg", boxes, offered=offered)

    origins = {each.region: each.origin for each in items(fruit)["fruit/a.jpg"].boxes}
    assert origins == {"kept": "kept", "moved": "adjusted", "renamed": "relabelled", "new": "drawn"}


def test_labels_time_and_size_choose_and_images_without_boxes_stay_as_negatives(fruit: Verified) -> None:
    fruit.verify("a.jpg", [box("apple", 1, 2, 30, 40), box("banana", 1, 2, 6, 40, region="r2")])
    fruit.verify("old.jpg", when=datetime(2025, 1, 1, tzinfo=UTC))

    chosen = items(fruit, Selection(labels=frozenset({"banana"}), since=WHEN, min_size=10))

    assert {key: item.boxes for key, item in chosen.items()} == {"fruit/a.jpg": ()}
    with pytest.raises(DatasetError, match="fruit has no label pear; its labels are: apple, banana"):
        Collection(fruit.world.services, "fruit", Selection(labels=frozenset({"pear"})))


def test_images_of_a_group_share_a_split(fruit: Verified) -> None:
    for number in range(24):
        fruit.verify(f"cam{number % 6}/{number}.jpg")
    splits = Splits.parse("train=50,test=50")
    found = items(fruit, Selection(splits=splits, grouping=Grouping(r"cam\d+")))

    by_camera: dict[str, set[str]] = {}
    for key, item in found.items():
        by_camera.setdefault(key.split("/")[1], set()).add(item.split)
    assert all(len(each) == 1 for each in by_camera.values())
    assert {each for one in by_camera.values() for each in one} == {"train", "test"}


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_that_died_in_the_middle_continues_to_the_same_bytes(
    fruit: Verified, tmp_path: Path, format: str
) -> None:
    for number in range(8):
        fruit.verify(f"{number}.jpg", [box("apple", 1, 2, 30, 40 + number / 10)])
    fruit.verify("empty.jpg")
    write(fruit, tmp_path / "whole", format)

    class DiedError(Exception):
        pass

    def die_late(progress: Progress) -> None:
        if progress.step == "writing" or (progress.step == "copying" and progress.done == 9):
            raise DiedError

    stored = Collection(fruit.world.services, "fruit")
    with pytest.raises(DiedError):
        export(
            "fruit",
            stored,
            FORMATS[format],
            tmp_path / "died",
            lambda _: fruit.world.images,
            on_progress=die_late,
        )
    write(fruit, tmp_path / "died", format)

    assert contents(tmp_path / "died") == contents(tmp_path / "whole")


def test_exporting_again_copies_only_what_is_new_and_removes_what_left(
    fruit: Verified, tmp_path: Path
) -> None:
    fruit.verify("a.jpg", [box("apple", 1, 2, 30, 40)])
    fruit.verify("b.jpg")
    write(fruit, tmp_path)
    fruit.world.dispatch(fruit.world.delete("fruit/b.jpg"))
    fruit.verify("c.jpg")

    summary = write(fruit, tmp_path)

    assert (summary.kept, summary.copied) == (1, 1)
    names = sorted(path.name.partition("-")[0] for path in (tmp_path / "images/train").iterdir())
    assert names == ["a", "c"]


def test_the_manifest_holds_the_sha256_of_every_file(fruit: Verified, tmp_path: Path) -> None:
    fruit.verify("a.jpg", [box("apple", 1, 2, 30, 40)])
    write(fruit, tmp_path)

    lines = (line.split("\t") for line in (tmp_path / "manifest.tsv").read_text().splitlines())
    listed = {path: sha256 for sha256, _, path in lines}
    found = contents(tmp_path)
    del found["manifest.tsv"]
    assert listed == found


def test_a_folder_with_other_files_is_left_alone(fruit: Verified, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetError, match="holds other files"):
        write(fruit, tmp_path)
    assert contents(tmp_path).keys() == {"thesis.txt"}


@pytest.mark.parametrize("format", ["coco", "huggingface"])
def test_a_frozen_data_set_exports_the_same_bytes_whatever_happens_later(
    fruit: Verified, tmp_path: Path, format: str
) -> None:
    fruit.verify("a.jpg", [box("apple", 1, 2, 30, 40)])
    fruit.verify("b.jpg", [box("banana", 1, 2, 30, 40)])
    fruit.verify("c.jpg")
    data = fruit.world.data
    splits = Splits.parse("train=70,val=30")
    fruit.label("labels: [{name: apple, prompts: [red fruit, apple]}, banana, pineapple]")

    def freeze_as(name: str) -> None:
        now = Collection(fruit.world.services, "fruit", Selection(splits=splits))
        freeze(data, "fruit", name, now.classes, now.splits, now, now.dropped_boxes, WHEN, now.prompts)

    def write_frozen(folder: Path) -> Mapping[str, str]:
        stored = open_frozen(data, "fruit", "v1")
        export("fruit", stored, FORMATS[format], folder, lambda _: fruit.world.images)
        return contents(folder)

    freeze_as("v1")
    before = write_frozen(tmp_path / "before")
    assert "| apple | red fruit, apple |" in (tmp_path / "before" / "DATASET.md").read_text()
    fruit.label("labels: [{name: apple, prompts: [pomme]}, banana, pineapple]")
    fruit.verify("a.jpg", [box("pineapple", 1, 2, 30, 40)], body=jpeg(seed=77), when=LATER)
    fruit.verify("b.jpg", [box("apple", 1, 2, 30, 40)], body=jpeg(seed=2), when=LATER)
    fruit.world.dispatch(fruit.world.delete("fruit/c.jpg"))
    fruit.verify("d.jpg")
    fruit.world.ledger.freeze_labels("fruit", {"pineapple": 1, "banana": 2, "apple": 3, "kiwi": 4})

    assert write_frozen(tmp_path / "after") == before
    with pytest.raises(DatasetError, match="has a frozen data set v1 already"):
        freeze_as("v1")
    freeze_as("v2")
    differences = compare(open_frozen(data, "fruit", "v1"), open_frozen(data, "fruit", "v2"))
    assert {each.key: each.what for each in differences} == {
        "fruit/a.jpg": "overwritten",
        "fruit/b.jpg": "overwritten",
        "fruit/c.jpg": "removed",
        "fruit/d.jpg": "added",
    }


def test_python_streams_pixels_and_boxes(fruit: Verified) -> None:
    body = jpeg(64, 48, orientation=6)
    fruit.verify("turned.jpg", [box("apple", 0, 0, 48, 10)], size=(48, 64), body=body)
    fruit.verify("empty.jpg")

    samples = {each.item.key: each for each in verified("fruit", services=fruit.world.services)}

    turned = samples["fruit/turned.jpg"]
    assert np.array_equal(turned.read(), decode(body).pixels)
    assert turned.boxes.tolist() == [[0, 0, 48, 10]]
    assert turned.classes.tolist() == [3]
    assert samples["fruit/empty.jpg"].boxes.shape == (0, 4)


def test_an_image_that_annotators_disagree_about_is_left_out_where_agreement_counts(fruit: Verified) -> None:
    fruit.verify("a.jpg", [box("apple", 1, 2, 30, 40)])
    image_id = fruit.verify("b.jpg", [box("apple", 1, 2, 30, 40)])
    key = annotation_key("fruit", image_id)
    stored = fruit.world.data.get(key)
    assert stored is not None
    document = from_json(stored.body)
    assert isinstance(document, Annotation)
    empty = Opinion(9, document.version, document.updated_at - timedelta(minutes=1), 4, 1.0, ())
    fruit.world.data.put(key, to_json(replace(document, others=(empty,))).encode())

    before = [each.why for each in Collection(fruit.world.services, "fruit") if isinstance(each, LeftOut)]
    fruit.label("labels: [pineapple, banana, apple]\nreview: {counts: agreed}")
    after = [each.why for each in Collection(fruit.world.services, "fruit") if isinstance(each, LeftOut)]

    assert (before, after) == ([], [Why.DISPUTED])
