"""`boxdrop export` and `boxdrop dataset`, as a user calls them."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from boxdrop.cli import boxdrop
from tests.unit.retrieve.test_provenance import RECORD

from .conftest import Verified, box

pytestmark = pytest.mark.usefixtures("system")


def call(*arguments: str | Path) -> Result:
    result: Result = CliRunner().invoke(boxdrop, list(map(str, arguments)))
    return result


def test_export_counts_what_it_wrote_and_what_it_left_out(fruit: Verified, tmp_path: Path) -> None:
    fruit.verify("a.jpg", [box("apple", 1, 2, 30, 40)])
    fruit.skip("b.jpg")

    done = call("export", "fruit", "--format", "yolo", "--out", tmp_path / "out", "--split", "train=8,val=2")

    assert done.exit_code == 0, done.output
    assert f"1 image with 1 box in {tmp_path / 'out'}" in done.output
    assert "1 image left out: skipped" in done.output
    assert (tmp_path / "out/data.yaml").is_file()


def test_retrieved_images_are_credited_and_links_name_their_versions(fruit: Verified, tmp_path: Path) -> None:
    fruit.verify("a.jpg", [box("apple", 1, 2, 30, 40)])
    fruit.verify("mine.jpg")
    records = [replace(RECORD, file=name).to_json() for name in ("a.jpg", "not verified.jpg")]
    fruit.world.images.put("fruit/sources.jsonl", "\n".join(records).encode())

    done = call("export", "fruit", "--format", "yolo", "--images", "link", "--out", tmp_path / "out")

    assert done.exit_code == 0, done.output
    credits = (tmp_path / "out/CREDITS.md").read_text()
    assert "`a.jpg`" in credits
    assert RECORD.candidate.creator in credits
    assert "not verified.jpg" not in credits
    licence = RECORD.candidate.license.name or RECORD.candidate.license.code
    assert f"| {licence} | 1 |" in (tmp_path / "out/DATASET.md").read_text()
    rows = [line.split("\t") for line in (tmp_path / "out/images.tsv").read_text().splitlines()[1:]]
    for name in ("a.jpg", "mine.jpg"):
        row = fruit.world.row(f"fruit/{name}")
        assert [row.version] == [each[2] for each in rows if each[1] == f"s3://{row.bucket}/{row.key}"]
    assert not any((tmp_path / "out").rglob("*.jpg"))


def test_status_leads_to_the_export_once_something_is_verified(fruit: Verified) -> None:
    before = call("status", "fruit")
    fruit.verify("a.jpg")
    assert "boxdrop export" not in before.output
    for after in (call("status", "fruit"), call("status")):
        assert "Export verified work: boxdrop export fruit --out FOLDER" in after.output


def test_a_data_set_is_frozen_listed_compared_and_exported(fruit: Verified, tmp_path: Path) -> None:
    fruit.verify("a.jpg", [box("apple", 1, 2, 30, 40)])
    frozen = call("dataset", "freeze", "fruit", "v1", "--split", "train=8,val=2")
    fruit.verify("b.jpg")

    listed = call("dataset", "list", "fruit")
    compared = call("dataset", "diff", "fruit", "v1")
    exported = call("export", "fruit", "--dataset", "v1", "--out", tmp_path / "out")

    assert frozen.exit_code == listed.exit_code == compared.exit_code == exported.exit_code == 0
    assert listed.stdout.startswith("v1\t")
    assert compared.stdout == "added\tfruit/b.jpg\n"
    assert exported.stdout.startswith("1 image with 1 box in ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export", "pears", "--out", "x"), "there is no project pears; there are: fruit"),
        (("export", "fruit", "--out", ""), "--out is empty: give a folder"),
        (("export", "fruit", "--out", "x", "--labels", "pear"), "fruit has no label pear"),
        (("export", "fruit", "--out", "x", "--split", "train"), "is not NAME=SHARE"),
        (("export", "fruit", "--out", "x", "--group-by", "("), "is not a regular expression"),
        (("export", "fruit", "--out", "x", "--dataset", "v9"), "no frozen data set v9; there are: none yet"),
        (("export", "fruit", "--out", "x", "--dataset", "v9", "--labels", "a"), "has its own labels"),
        (("export", "fruit", "--out", "x", "--labels", " , "), "names no label; leave it out for all labels"),
        (("dataset", "freeze", "fruit", "../x"), "is not a valid name for a data set"),
        (("dataset", "freeze", "fruit", "v1"), "fruit has no verified image to freeze (none verified)"),
        (("dataset", "list", "pears"), "there is no project pears; there are: fruit"),
    ],
)
def test_mistakes_are_explained(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert done.exit_code == 1
    assert message in done.output
