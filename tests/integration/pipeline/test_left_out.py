"""One odd folder at every entrance: the same images are taken, and the rest has the same reasons."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from boxdrop.annotate.run import AnnotateRun, Summary
from boxdrop.detect import Detector
from boxdrop.domain.identity import image_id
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.left_out import LeftOut
from boxdrop.ledger import Ledger, Sighting, State
from boxdrop.pipeline.backfill import backfill, list_objects
from boxdrop.pipeline.dispatch import Dispatcher
from boxdrop.pipeline.drop import DropSummary, drop, list_files
from boxdrop.retrieve.archive import rank
from boxdrop.sources import FolderSource, S3Source, Source
from tests.data import odd_files
from tests.moto_server import MakeClient

from .conftest import unique
from .world import World

FRUIT = LabelSet.from_short_form("banana")


@pytest.fixture
def world(aws: MakeClient, ledger: Ledger, request: pytest.FixtureRequest) -> World:
    return World(unique(request), aws, ledger, detector=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    odd_files.write(made)
    return made


def annotate(source: Source, out: Path, detector: Detector, limit: int | None = None) -> Summary:
    return AnnotateRun(source, FRUIT, detector, out).run(limit=limit)


def listed(out: Path) -> dict[str, LeftOut]:
    with (out / "left-out.tsv").open(newline="") as file:
        return {row["name"]: LeftOut(row["reason"]) for row in csv.DictReader(file, delimiter="\t")}


def uploaded(world: World) -> list[str]:
    return [world.put(f"fruit/{name}", content) for name, content in odd_files.objects()]


def rows(world: World) -> set[str]:
    return {row.key.removeprefix("fruit/") for row in world.ledger.list_images("fruit", State.WAITING).rows}


def test_annotate_of_a_folder_counts_and_lists_what_it_leaves_out(
    folder: Path, tmp_path: Path, demo_detector: Detector
) -> None:
    taken, left_out = odd_files.expected_in_folder()
    summary = annotate(FolderSource(folder), tmp_path, demo_detector)
    assert summary.images == len(taken)
    assert summary.failures_by_reason == {"empty": 1, "not_an_image": 1}
    assert summary.left_out == Counter(left_out.values())
    assert listed(tmp_path) == left_out
    assert json.loads((tmp_path / "run.json").read_text())["summary"]["left_out"] == summary.left_out


def test_a_limit_counts_what_was_left_out_up_to_it(
    folder: Path, tmp_path: Path, demo_detector: Detector
) -> None:
    summary = annotate(FolderSource(folder), tmp_path, demo_detector, limit=1)
    assert summary.images == 1
    everything = odd_files.expected_in_folder()[1]
    assert listed(tmp_path).items() < everything.items()


def test_annotate_of_a_bucket_leaves_out_by_name(
    world: World, tmp_path: Path, demo_detector: Detector, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    for name, value in (variables | {"AWS_DEFAULT_REGION": "us-east-1"}).items():
        monkeypatch.setenv(name, value)
    uploaded(world)
    taken, left_out = odd_files.expected_in_bucket()
    source = S3Source(f"s3://{world.images.name}/fruit/")
    summary = annotate(source, tmp_path, demo_detector)
    assert summary.images == len(taken)
    assert summary.left_out == left_out
    assert Counter(listed(tmp_path).values()) == left_out


def test_dispatch_and_backfill_leave_out_the_same(world: World) -> None:
    taken, left_out = odd_files.expected_in_bucket()
    messages = uploaded(world)
    found = backfill(Dispatcher(world.services), world.images.name, list_objects(world.images, "fruit/"))
    assert found.left_out == left_out
    assert rows(world) == taken
    summary = world.dispatch(*messages)
    assert summary.failed == {}
    assert summary.left_out == left_out
    assert rows(world) == taken


def test_drop_stores_images_under_names_that_the_bucket_understands(world: World, folder: Path) -> None:
    taken, left_out = odd_files.expected_in_folder()
    summary = DropSummary()
    drop(world.images, list_files(folder, "fruit", summary), "fruit/", summary)
    suffixes = {odd.name: odd.suffix for odd in odd_files.ODD_FILES}
    keys = {f"fruit/{name}{suffixes.get(name, '')}" for name in taken}
    assert {each.key for each in world.images.list("fruit/")} == keys
    assert dict(summary.left_out) == left_out
    assert summary.renamed == {
        odd.name: f"fruit/{odd.name}{odd.suffix}" for odd in odd_files.ODD_FILES if odd.suffix
    }
    assert summary.failed == {}
    found = backfill(Dispatcher(world.services), world.images.name, list_objects(world.images, "fruit/"))
    assert found.left_out == {}
    assert {f"fruit/{name}" for name in rows(world)} == keys
    again = DropSummary()
    drop(world.images, list_files(folder, "fruit", again), "fruit/", again)
    assert (again.uploaded, again.same) == (0, len(keys))


def test_an_image_whose_key_would_be_another_files_is_not_dropped(world: World, tmp_path: Path) -> None:
    by_name = {odd.name: odd.content for odd in odd_files.ODD_FILES}
    (tmp_path / "noext").write_bytes(by_name["noext"])
    (tmp_path / "noext.jpg").write_bytes(by_name["a.jpg"] + b"another")
    summary = DropSummary()
    files = list_files(tmp_path, "fruit", summary)
    assert [file.name for file in files] == ["noext.jpg"]
    assert summary.failed == {
        "noext": "its key would be fruit/noext.jpg, which is that of another file: rename it"
    }


def test_an_archive_that_is_ranked_leaves_out_the_same(folder: Path, demo_detector: Detector) -> None:
    left_out: dict[str, LeftOut] = {}
    source = FolderSource(folder)
    ranked = rank(source, demo_detector, "banana", top=100, on_left_out=left_out.__setitem__)
    assert len(ranked) == len(odd_files.expected_in_folder()[0]) - 2
    assert left_out == odd_files.expected_in_folder()[1]


def test_images_in_hidden_folders_that_have_a_row_are_followed_further(world: World) -> None:
    """Versions before this rule took them."""
    before = world.dispatch(world.put("fruit/a.jpg"))
    assert before.wanted == {"fruit": 1}
    known = world.row("fruit/a.jpg")
    key = "fruit/.album/a.jpg"
    created = world.put(key)
    assert world.dispatch(created).left_out == {LeftOut.HIDDEN: 1}
    _add_row(world, key)
    changed = world.put(key, b"another image")
    assert world.dispatch(changed).left_out == {}
    assert world.row(key).version == world.images.version(key)
    assert world.dispatch(world.delete(key)).gone == {"fruit": 1}
    assert world.row("fruit/a.jpg").state == known.state


def _add_row(world: World, key: str) -> None:
    """The row that an earlier version wrote."""
    bucket = world.images.name
    sighting = Sighting(image_id(bucket, key), "fruit", bucket, key, "an older version", "00")
    world.ledger.want([sighting], 0)
