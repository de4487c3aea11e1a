"""Listing images: a fixed order, nothing that is not meant, versions that follow the content."""

import os
import tempfile
from pathlib import Path

import pytest

from boxdrop.domain.errors import BoxdropError, ImageError
from boxdrop.domain.images import Limits
from boxdrop.domain.left_out import LeftOut
from boxdrop.sources import no_images, open_source
from tests.data import odd_files


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


def test_an_odd_folder_lists_its_images_and_what_it_leaves_out_with_the_reason(tmp_path: Path) -> None:
    odd_files.write(tmp_path)
    left_out: dict[str, LeftOut] = {}
    source = open_source(str(tmp_path))
    taken = {image.name for image in source.images(left_out.__setitem__)}
    assert (taken, left_out) == odd_files.expected_in_folder()
    assert {image.name for image in source.images()} == taken, "a walk without a listener finds the same"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_what_may_not_be_read_is_left_out_and_stops_nothing(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    touch(tmp_path / "secret", b"\xff\xd8\xff").chmod(0)
    touch(tmp_path / "private" / "b.jpg").parent.chmod(0o700)
    base = Path(tempfile.gettempdir()).resolve()
    for folder in (tmp_path, *(each for each in tmp_path.resolve().parents if base in each.parents)):
        folder.chmod(0o755)  # under pytest-xdist there is one more
    left_out: dict[str, LeftOut] = {}
    os.seteuid(65534)
    try:
        taken = [image.name for image in open_source(str(tmp_path)).images(left_out.__setitem__)]
    finally:
        os.seteuid(0)
    assert taken == ["a.jpg"]
    assert left_out == {"secret": LeftOut.UNREADABLE, "private/": LeftOut.UNREADABLE_FOLDER}


def test_a_pipe_by_itself_is_refused_in_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(BoxdropError, match="neither a file nor a folder"):
        open_source(str(tmp_path / "pipe.jpg"))


def test_a_folder_without_images_lists_what_it_has_instead() -> None:
    error = no_images("photos", {LeftOut.RAW: 500, LeftOut.VIDEO: 1})
    assert str(error).endswith("(left out 501: 500 camera raw files, 1 video)")


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
