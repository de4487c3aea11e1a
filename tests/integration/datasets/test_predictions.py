"""`export --include predictions` adds unverified images, marked as such; they never count as verified."""

import json
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from boxdrop.cli import boxdrop
from boxdrop.datasets.collection import Selection
from boxdrop.datasets.formats import FORMATS
from boxdrop.domain.annotations import Annotation, Reason, Tombstone, to_json
from boxdrop.ledger import Ledger, Publication, create_table
from boxdrop.store.layout import annotation_key
from boxdrop.store.parts import read_part
from tests.integration.pipeline.test_labels import in_force
from tests.integration.pipeline.world import World
from tests.moto_server import MakeClient

from .conftest import WHEN, Verified, box, jpeg
from .test_export import contents, write

NAMES = ("verified", "waiting", "skipped", "withdrawn", "overwritten", "deleted")
WITH = Selection(predictions=True)
KEYS = {"fruit/waiting.jpg", "fruit/withdrawn.jpg"}


@pytest.fixture(scope="module")
def fruit(aws: MakeClient) -> Verified:
    """Six images that a detector has seen; each has a task that offers one apple."""
    create_table(aws("dynamodb"), "ledger-predictions")
    ledger = Ledger("ledger-predictions", client=aws("dynamodb"), workers=4)
    world = World("predictions", aws, ledger, versioned=True)
    in_force(world)
    fruit = Verified(world)
    for seed, name in enumerate(NAMES):
        fruit.image(f"{name}.jpg", jpeg(640, 480, seed=seed))
    world.launch()
    (run_id, _, _) = world.launcher.submitted[-1]
    for part in world.work(run_id) * 2:
        for number, record in enumerate(read_part(world.data, part.key).records, 1):
            row = world.row(f"fruit/{record.image.rpartition('/')[2]}")
            assert row.version is not None
            shown = Publication(row.image_id, row.version, row.generation, record.prediction_id, number, 1)
            world.ledger.record_tasks([shown])
    _annotate(fruit, "verified")
    world.dispatch(world.delete("fruit/deleted.jpg"))
    fruit.image("overwritten.jpg", jpeg(640, 480, seed=99))
    for name, reason in (("skipped", Reason.SKIPPED), ("withdrawn", Reason.DELETED)):
        _withdraw(fruit, name, reason)
    return fruit


def _withdraw(fruit: Verified, name: str, reason: Reason) -> None:
    row, when = fruit.world.row(f"fruit/{name}.jpg"), WHEN + timedelta(minutes=1)
    tombstone = Tombstone(row.key, row.image_id, 1, when, reason)
    fruit.world.data.put(annotation_key("fruit", row.image_id), to_json(tombstone).encode())
    fruit.world.ledger.record_unverified(row.image_id, when, skipped=reason == Reason.SKIPPED)


def _annotate(fruit: Verified, name: str) -> None:
    row = fruit.world.row(f"fruit/{name}.jpg")
    assert row.version is not None
    document = Annotation(
        row.key,
        row.image_id,
        row.version,
        1,
        1,
        WHEN,
        WHEN,
        3,
        1.0,
        640,
        480,
        (box("banana", 1, 2, 30, 40),),
    )
    fruit.world.data.put(annotation_key("fruit", row.image_id), to_json(document).encode())
    fruit.world.ledger.record_verified(row.image_id, row.version, WHEN)


def test_unverified_images_are_marked_and_do_not_count(fruit: Verified, tmp_path: Path) -> None:
    summary = write(fruit, tmp_path, "coco", WITH)

    assert (summary.images, summary.boxes, summary.predicted_images, summary.predicted_boxes) == (1, 1, 2, 2)
    assert summary.left_out == {"skipped": 1}
    document = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    keys = {each["id"]: each["key"] for each in document["images"]}
    assert {each["key"]: each["verified"] for each in document["images"]} == {
        "fruit/verified.jpg": True
    } | dict.fromkeys(KEYS, False)
    for each in document["annotations"]:
        if keys[each["image_id"]] in KEYS:
            assert (each["bbox"], each["score"]) == ([10, 20, 100, 100], 0.9)
            assert each["attributes"] == {"origin": "predicted"}
        else:
            assert "score" not in each
    listed = [line.split("\t") for line in (tmp_path / "unverified.tsv").read_text().splitlines()[1:]]
    assert {row[1] for row in listed} == KEYS
    assert all((tmp_path / row[0]).is_file() and row[2] == "1" for row in listed)
    card = (tmp_path / "DATASET.md").read_text()
    assert "Verified images: 1, with 1 boxes." in card
    assert "**Images that nobody verified: 2**, with 2 boxes of a detector" in card
    assert "| 3 | apple | 0 |" in card


@pytest.mark.parametrize("format", [each for each in FORMATS if each != "coco"])
def test_each_format_can_tell_them_apart(fruit: Verified, tmp_path: Path, format: str) -> None:
    write(fruit, tmp_path, format, WITH)

    listed = [line.split("\t") for line in (tmp_path / "unverified.tsv").read_text().splitlines()[1:]]
    assert {row[1] for row in listed} == KEYS
    stems = {Path(row[0]).stem for row in listed}
    if format == "voc":
        roots = {each.stem: ElementTree.parse(each).getroot() for each in tmp_path.glob("Annotations/*.xml")}
        assert {stem for stem, root in roots.items() if root.get("verified") == "no"} == stems
        assert len(roots) == 3
    elif format == "yolo":
        assert stems < {each.stem for each in tmp_path.glob("labels/train/*.txt")}
    elif format == "huggingface":
        rows = map(json.loads, (tmp_path / "data/train/metadata.jsonl").read_text().splitlines())
        said = {row["key"]: (row["verified"], row["objects"]["score"]) for row in rows}
        assert said == {"fruit/verified.jpg": (True, [1.0])} | dict.fromkeys(KEYS, (False, [0.9]))
    elif format == "ground-truth":
        lines = list(map(json.loads, (tmp_path / "train.manifest").read_text().splitlines()))
        metadata = [each["boxes-metadata"] for each in lines]
        marks = [(each["human-annotated"], each["objects"][0]["confidence"]) for each in metadata]
        assert sorted(marks) == [("no", 0.9), ("no", 0.9), ("yes", 1)]
    else:
        rows = map(json.loads, (tmp_path / "train.jsonl").read_text().splitlines())
        assert {row["key"] for row in rows if not row["verified"]} == KEYS


def test_an_image_keeps_its_ids_when_it_is_verified(fruit: Verified, tmp_path: Path) -> None:
    def image_ids(folder: Path) -> dict[str, tuple[int, str]]:
        document = json.loads((folder / "annotations/instances_train.json").read_text())
        return {each["key"]: (each["id"], each["file_name"]) for each in document["images"]}

    write(fruit, tmp_path / "before", "coco", WITH)
    _annotate(fruit, "waiting")
    write(fruit, tmp_path / "after")
    _withdraw(fruit, "waiting", Reason.DELETED)

    before, after = image_ids(tmp_path / "before"), image_ids(tmp_path / "after")
    assert after.keys() == {"fruit/verified.jpg", "fruit/waiting.jpg"}
    assert after.items() <= before.items()


def test_without_it_nothing_is_added_and_what_was_added_leaves(fruit: Verified, tmp_path: Path) -> None:
    write(fruit, tmp_path / "plain")
    write(fruit, tmp_path / "again", "coco", WITH)
    write(fruit, tmp_path / "again")

    assert contents(tmp_path / "again") == contents(tmp_path / "plain")
    assert not (tmp_path / "plain/unverified.tsv").exists()


@pytest.mark.usefixtures("system")
def test_the_command_line_counts_them_apart(fruit: Verified, tmp_path: Path) -> None:
    arguments = ["export", "fruit", "--include", "predictions", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(boxdrop, arguments)
    refused = CliRunner().invoke(boxdrop, [*arguments, "--dataset", "v1"])

    assert done.exit_code == 0, done.output
    assert "1 image with 1 box in" in done.output
    assert "and 2 images that nobody has verified, with 2 boxes of a detector" in done.output
    assert refused.exit_code == 1
    assert "a frozen data set has its own labels and splits" in refused.output
    assert "--near-duplicates and --include" in refused.output
