"""Listing images: a fixed order, nothing that is not meant, versions that follow the content."""

import os
from pathlib import Path

import pytest

from boxdrop.domain.errors import BoxdropError, ImageError
from boxdrop.domain.images import Limits
from boxdrop.sources import open_source


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(folder: Path) -> list[str]:
    return [image.name for image in open_source(str(folder)).images()]


def test_a_folder_lists_its_images_below_it_in_order(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/z.PNG", "a/b/c.webp", "notes.txt", ".hidden.jpg", ".git/x.jpg", "a#1 (2).jpeg"):
        touch(tmp_path / name)
    assert names(tmp_path) == ["a/b/c.webp", "a/z.PNG", "a#1 (2).jpeg", "b.jpg"]


def test_an_image_under_another_name_is_found_by_its_content(tmp_path: Path) -> None:
    touch(tmp_path / "photo.jpeg.bak", b"\xff\xd8\xff\xe0")
    touch(tmp_path / "no_extension", b"\x89PNG\r\n\x1a\n")
    touch(tmp_path / "labels.yaml", b"labels: [a]")
    touch(tmp_path / "empty", b"")
    assert names(tmp_path) == ["no_extension", "photo.jpeg.bak"]


def test_one_file_is_taken_whatever_its_name(tmp_path: Path) -> None:
    assert names(touch(tmp_path / "photo.jpeg.bak")) == ["photo.jpeg.bak"]


def test_the_output_of_an_earlier_run_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    for name in ("run.json", "predictions.jsonl", "thumbnails/1.jpg"):
        touch(tmp_path / "a-boxes" / name)
    assert names(tmp_path) == ["a.jpg"]


def test_links_to_folders_do_not_make_a_circle(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert names(tmp_path) == ["a.jpg", "b.jpg"]


def test_a_pipe_named_like_an_image_does_not_hang_the_run(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert names(tmp_path) == []


def test_the_version_follows_the_content_and_the_id_does_not(tmp_path: Path) -> None:
    file = touch(tmp_path / "a.jpg")
    (before,) = open_source(str(tmp_path)).images()
    touch(file, b"xy")
    (after,) = open_source(str(tmp_path)).images()
    assert before.image_id == after.image_id
    assert before.version != after.version


def test_a_file_over_the_limit_or_gone_fails_alone(tmp_path: Path) -> None:
    source = open_source(str(tmp_path))
    touch(tmp_path / "a.jpg", b"12345")
    (image,) = source.images()
    assert source.fetch(image, Limits(max_bytes=5)) == b"12345"
    with pytest.raises(ImageError) as caught:
        source.fetch(image, Limits(max_bytes=4))
    assert caught.value.reason == "too_many_bytes"
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(ImageError):
        source.fetch(image, Limits())


def test_a_place_that_does_not_exist_is_named() -> None:
    with pytest.raises(BoxdropError, match="nowhere: no such file or folder"):
        open_source("nowhere")
    with pytest.raises(BoxdropError, match="no bucket named"):
        open_source("s3://")
