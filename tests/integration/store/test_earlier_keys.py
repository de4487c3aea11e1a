"""An older bucket: keys of nested projects in the earlier form stay where they are, and are read."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from boxdrop.aws.s3 import Bucket
from boxdrop.datasets.freshness import Fresh, read_documents
from boxdrop.datasets.frozen import freeze, frozen_datasets, open_frozen
from boxdrop.datasets.items import ClassName, DatasetError, Item
from boxdrop.domain.annotations import Annotation, Reason, Tombstone, to_json
from boxdrop.domain.identity import new_run_id
from boxdrop.store.boxes import DroppedBoxes, has_boxes, list_boxes, read_boxes, write_boxes
from boxdrop.store.layout import PartName, annotation_key, earlier_key
from boxdrop.store.parts import Part, list_parts, list_runs_with_parts, read_part, write_part
from boxdrop.store.reviews import Pointer, read_review, task_pointer, write_pointers, write_review
from tests.integration.pipeline.conftest import client, ledger, unique
from tests.integration.pipeline.world import World
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "client", "endpoint", "ledger"]

WHEN = datetime(2026, 11, 20, 12, tzinfo=UTC)
IMAGE = "0" * 32


@pytest.fixture
def world(aws: MakeClient, ledger: Any, request: pytest.FixtureRequest) -> World:
    return World(unique(request), aws, ledger, detector=False)


@pytest.fixture
def bucket(world: World) -> Bucket:
    return world.data


def move_back(bucket: Bucket, project: str) -> Iterator[str]:
    """Move the project's objects to where they were before; yields their keys."""
    for listed in [*bucket.list("")]:
        earlier = earlier_key(listed.key, project)
        stored = bucket.get(listed.key)
        if f"/{project.replace('/', '!-')}/" in listed.key and earlier is not None and stored is not None:
            bucket.put(earlier, stored.body, metadata=stored.metadata)
            bucket.delete_all([listed.key])
            yield earlier


def test_parts_of_an_older_bucket_are_listed_and_read(bucket: Bucket) -> None:
    run_id = new_run_id()
    parts = [Part(PartName("nest/sub", run_id, first, first + 8), (), gone=8) for first in (0, 8)]
    for part in parts:
        write_part(bucket, part)
    assert len([*move_back(bucket, "nest/sub")]) == 2
    found = [*list_parts(bucket, "nest/sub", run_id)]
    assert found == [part.name for part in parts]
    assert [read_part(bucket, name.key) for name in found] == parts
    assert list_runs_with_parts(bucket, "nest/sub") == [run_id]
    assert list_runs_with_parts(bucket, "nest") == []
    write_part(bucket, parts[0])  # a job that goes on after the upgrade may write it again
    assert [*list_parts(bucket, "nest/sub", run_id)] == found


def document(key: str, image_id: str, version: str) -> str:
    return to_json(Annotation(key, image_id, version, 1, 1, WHEN, WHEN, 3, 1.0, 64, 48, ()))


def test_documents_of_an_older_bucket_count_until_they_are_written_again(world: World) -> None:
    data = world.data
    ids = {}
    for project in ("nest", "nest/sub"):
        world.dispatch(world.labels(project), world.put(f"{project}/a.jpg"))
        row = world.row(f"{project}/a.jpg")
        assert row.version is not None
        ids[project] = row.image_id
        data.put(annotation_key(project, row.image_id), document(row.key, row.image_id, row.version).encode())
        world.ledger.record_verified(row.image_id, row.version, WHEN)
    assert [*move_back(data, "nest/sub")] == [f"annotations/nest/sub/{ids['nest/sub']}.json"]
    for project, image_id in ids.items():
        (fresh,) = read_documents(world.services, project)
        assert isinstance(fresh, Fresh)
        assert fresh.row.image_id == image_id
    image_id = ids["nest/sub"]
    stored = read_review(data, "nest/sub", image_id)
    assert stored is not None
    tombstone = to_json(Tombstone("nest/sub/a.jpg", image_id, 1, WHEN, Reason.SKIPPED)).encode()
    assert write_review(data, "nest/sub", image_id, tombstone, stored)
    assert not write_review(data, "nest/sub", image_id, b"{}", stored), "another writer read the old one"
    again = read_review(data, "nest/sub", image_id)
    assert again is not None
    assert again.body == tombstone
    assert data.exists(f"annotations/nest!-sub/{image_id}.json")
    assert len([*read_documents(world.services, "nest/sub")]) == 1


def test_pointers_of_an_older_bucket_are_read(bucket: Bucket) -> None:
    pointer = Pointer(7, IMAGE)
    write_pointers(bucket, "nest/sub", pointer)
    assert [*move_back(bucket, "nest/sub")] == ["reviews/nest/sub/task-7.json"]
    assert task_pointer(bucket, "nest/sub", 7) == pointer
    assert task_pointer(bucket, "nest", 7) is None


def test_boxes_of_an_older_bucket_are_read_and_are_not_the_outer_projects(bucket: Bucket) -> None:
    boxes = DroppedBoxes(IMAGE, "v1", "coco.json@0", 64, 48, (), WHEN)
    write_boxes(bucket, "nest/sub", boxes)
    assert len([*move_back(bucket, "nest/sub")]) == 1
    assert read_boxes(bucket, "nest/sub", "coco.json@0", IMAGE, "v1") == (boxes, "nest/sub")
    assert [*list_boxes(bucket, "nest/sub")] == [boxes]
    assert has_boxes(bucket, "nest/sub")
    assert not has_boxes(bucket, "nest")
    assert [*list_boxes(bucket, "nest")] == []


def test_frozen_data_sets_of_an_older_bucket_are_opened(bucket: Bucket) -> None:
    item = Item(1, IMAGE, "images", "nest/sub/a.jpg", "v1", 64, 48, "train", WHEN, 3, None, ())
    classes = (ClassName(1, "apple"),)

    def freeze_it() -> object:
        return freeze(bucket, "nest/sub", "first", classes, ("train",), [item], {}, WHEN)

    header = freeze_it()
    assert len([*move_back(bucket, "nest/sub")]) == 2
    assert frozen_datasets(bucket, "nest/sub") == [header]
    assert [*open_frozen(bucket, "nest/sub", "first")] == [item]
    assert frozen_datasets(bucket, "nest") == []
    with pytest.raises(DatasetError, match="already"):
        freeze_it()
