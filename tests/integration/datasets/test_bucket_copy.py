"""`boxdrop export --out s3://…`: the folder's files in a bucket, only what changed, and nothing of others."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from boxdrop.cli import boxdrop

from .conftest import Verified, box

pytestmark = pytest.mark.usefixtures("system")


def export(fruit: Verified, prefix: str = "sets/fruit/", code: int = 0) -> str:
    out = f"s3://{fruit.world.data.name}/{prefix}"
    done = CliRunner().invoke(boxdrop, ["export", "fruit", "--format", "yolo", "--out", out])
    assert done.exit_code == code, done.output
    return done.output


def objects(fruit: Verified, prefix: str = "sets/fruit/") -> dict[str, str]:
    """Etags by path."""
    return {each.key.removeprefix(prefix): each.etag for each in fruit.world.data.list(prefix)}


def test_the_bucket_gets_the_folders_files_and_later_only_what_changed(fruit: Verified) -> None:
    fruit.verify("a.jpg", [box("apple", 1, 2, 30, 40)])
    fruit.verify("b.jpg", [box("apple", 1, 2, 30, 40)])
    assert "2 images with 2 boxes in s3://" in export(fruit)
    before = objects(fruit)
    listed = fruit.world.data.get("sets/fruit/manifest.tsv")
    assert listed is not None
    paths = {line.split("\t")[2] for line in listed.body.decode().splitlines()}
    assert before.keys() == paths | {"manifest.tsv", ".boxdrop-export"}
    fruit.world.dispatch(fruit.world.delete("fruit/a.jpg"))
    fruit.verify("c.jpg")
    export(fruit)
    after = objects(fruit)
    changed = {path for path in after.keys() & before.keys() if after[path] != before[path]}
    assert changed <= {"manifest.tsv", "DATASET.md", "left-out.tsv"}
    assert not [path for path in after if "/a-" in path]
    assert [path for path in after if "/c-" in path]


def test_an_interrupted_copy_goes_on_and_a_damaged_object_is_written_again(fruit: Verified) -> None:
    fruit.verify("a.jpg", [box("apple", 1, 2, 30, 40)])
    export(fruit)
    before = objects(fruit)
    fruit.world.data.delete_all(["sets/fruit/manifest.tsv", "sets/fruit/data.yaml"])
    fruit.world.data.put("sets/fruit/classes.json", b"damaged")
    export(fruit)
    assert objects(fruit) == before


def test_a_prefix_with_other_objects_is_left_alone(fruit: Verified) -> None:
    fruit.verify("a.jpg")
    fruit.world.data.put("sets/fruit/mine.txt", b"mine")
    assert "holds other objects" in export(fruit, code=1)
    assert set(objects(fruit)) == {"mine.txt"}


def test_a_bucket_has_to_be_named() -> None:
    done = CliRunner().invoke(boxdrop, ["export", "fruit", "--out", "s3:///x"])
    assert "no bucket named" in done.output
    assert not Path("s3:").exists()
