"""The user's own archive, ranked by a caption with the detector itself."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxdrop.demo import SCENES
from boxdrop.detect import Detector
from boxdrop.domain.errors import BoxdropError, LabelSetError
from boxdrop.retrieve.archive import Archive, Ranking, rank
from boxdrop.retrieve.destinations import Folder
from boxdrop.retrieve.provenance import read_sources
from boxdrop.retrieve.retrieval import Retrieval
from boxdrop.sources import FolderSource, S3Source
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "endpoint"]


@pytest.fixture
def truth() -> dict[str, set[str]]:
    """The names of the things on each of the scenes that ship with boxdrop."""
    content = json.loads((SCENES / "truth.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    files = {image["id"]: image["file_name"] for image in content["images"]}
    found: dict[str, set[str]] = {file: set() for file in files.values()}
    for annotation in content["annotations"]:
        found[files[annotation["image_id"]]].add(names[annotation["category_id"]])
    return found


@pytest.mark.parametrize("caption", ["pineapple", "a ripe banana"])
def test_images_that_match_the_caption_come_first(
    demo_detector: Detector, truth: dict[str, set[str]], caption: str
) -> None:
    thing = caption.split()[-1]

    ranked = rank(FolderSource(SCENES), demo_detector, caption, top=20)

    fits = [thing in truth[image.name] for _, image in ranked]
    places = [place for place, fit in enumerate(fits, 1) if fit]
    precision = sum(number / place for number, place in enumerate(places, 1)) / len(places)
    assert 0 < sum(fits) < 20
    assert precision > 0.9
    scores = [score for score, _ in ranked]
    assert scores == sorted(scores, reverse=True)


def test_only_the_best_are_kept_and_none_below_the_threshold(demo_detector: Detector) -> None:
    everything = rank(FolderSource(SCENES), demo_detector, "pineapple", top=20)

    assert rank(FolderSource(SCENES), demo_detector, "pineapple", top=3) == everything[:3]
    least = everything[4][0]
    assert rank(FolderSource(SCENES), demo_detector, "pineapple", top=20, threshold=least) == [
        entry for entry in everything if entry[0] >= least
    ]


def test_files_that_cannot_be_read_are_passed_over(demo_detector: Detector, tmp_path: Path) -> None:
    shutil.copy(SCENES / "fruit-basket-01.jpg", tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"<html>no image</html>")
    told: list[Ranking] = []

    ranked = rank(FolderSource(tmp_path), demo_detector, "apple", top=5, on_progress=told.append)

    assert [image.name for _, image in ranked] == ["a.jpg"]
    assert told[-1] == Ranking(images=2, unusable=1)


def test_an_archive_without_images_is_an_error(demo_detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(BoxdropError, match="no readable image here"):
        rank(FolderSource(tmp_path), demo_detector, "apple", top=5)


def test_a_caption_that_is_too_long_for_the_detector_is_an_error_before_any_image(
    demo_detector: Detector,
) -> None:
    with pytest.raises(LabelSetError, match="use fewer words"):
        rank(FolderSource(SCENES), demo_detector, "a very long caption " * 20, top=5)


def test_the_best_of_a_folder_are_copied_with_their_scores(demo_detector: Detector, tmp_path: Path) -> None:
    source = FolderSource(SCENES)
    ranked = rank(source, demo_detector, "pineapple", top=10)

    summary = Retrieval(Archive(source, ranked), Folder(tmp_path), caption="pineapple").run(4)

    records = list(read_sources(tmp_path / "sources.jsonl"))
    assert summary.kept == 4
    assert {(record.candidate.score, Path(record.candidate.url).name) for record in records} == {
        (score, image.name) for score, image in ranked[:4]
    }
    assert {record.candidate.license.code for record in records} == {"own"}


@pytest.fixture
def archive(aws: MakeClient, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Source]:
    variables = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    for name, value in (variables | {"AWS_DEFAULT_REGION": "us-east-1"}).items():
        monkeypatch.setenv(name, value)
    client = aws("s3")
    client.create_bucket(Bucket="archive")
    for path in sorted(SCENES.glob("*.jpg"))[:8]:
        client.put_object(Bucket="archive", Key=f"old photos/{path.name}", Body=path.read_bytes())
    yield S3Source("s3://archive/old photos/")
    client.delete_objects(
        Bucket="archive",
        Delete={"Objects": [{"Key": f"old photos/{path.name}"} for path in sorted(SCENES.glob("*.jpg"))[:8]]},
    )
    client.delete_bucket(Bucket="archive")


def test_a_bucket_is_ranked_as_the_same_folder_is(
    demo_detector: Detector, archive: S3Source, tmp_path: Path
) -> None:
    for path in sorted(SCENES.glob("*.jpg"))[:8]:
        shutil.copy(path, tmp_path)

    of_bucket = rank(archive, demo_detector, "pineapple", top=5)
    of_folder = rank(FolderSource(tmp_path), demo_detector, "pineapple", top=5)

    assert [(score, Path(image.name).name) for score, image in of_bucket] == [
        (score, image.name) for score, image in of_folder
    ]
    summary = Retrieval(Archive(archive, of_bucket), Folder(tmp_path / "picked")).run(2)
    assert summary.kept == 2
    first = next(read_sources(tmp_path / "picked" / "sources.jsonl"))
    assert first.candidate.url.startswith("s3://archive/old photos/")
