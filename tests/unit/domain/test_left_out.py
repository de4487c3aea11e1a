"""One rule for what is an image, and the same words for what is left out."""

from collections import Counter

import pytest

from boxdrop.domain.image_formats import SNIFFED, reason_of_content
from boxdrop.domain.image_names import is_image_name, reason_of_key, reason_of_name
from boxdrop.domain.left_out import LeftOut, describe_left_out, describe_one
from tests.data.odd_files import ODD_FILES, OddFile


def test_the_line_counts_the_most_frequent_reason_first() -> None:
    counts = Counter({LeftOut.PDF: 1, LeftOut.HIDDEN: 3, LeftOut.BROKEN_LINK: 1, LeftOut.VIDEO: 2})
    assert describe_left_out(counts) == "left out 7: 3 hidden files, 2 videos, 1 broken link, 1 PDF"


def test_nothing_left_out_is_no_line() -> None:
    assert describe_left_out({}) == describe_left_out({LeftOut.VIDEO: 0}) == ""


@pytest.mark.parametrize("reason", LeftOut)
def test_every_reason_has_words_for_one_and_for_several(reason: LeftOut) -> None:
    assert describe_left_out({reason: 1}) == f"left out 1: 1 {describe_one(reason)}"
    assert describe_left_out({reason: 2000}).startswith("left out 2,000: 2,000 ")


@pytest.mark.parametrize("odd", ODD_FILES, ids=lambda odd: odd.name)
def test_a_name_and_a_content_say_what_the_table_says(odd: OddFile) -> None:
    assert reason_of_name(odd.name) == odd.in_bucket
    if not is_image_name(odd.name) and not odd.name.startswith("."):
        assert reason_of_content(odd.content[:SNIFFED], odd.name) == odd.in_folder


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("fruit/a.jpg", None),
        ("fruit/2026/11/a.JPG", None),
        (".fruit/a.jpg", None),
        ("fruit/.thumbnails/a.jpg", LeftOut.HIDDEN),
        ("fruit/a/.b/c/d.jpg", LeftOut.HIDDEN),
        ("loose.jpg", LeftOut.NO_FOLDER),
        ("/rootless.jpg", LeftOut.NO_FOLDER),
        ("labels.yaml", LeftOut.NO_FOLDER),
        ("loose.mp4", LeftOut.VIDEO),
        ("fruit/3f2a9c", LeftOut.NO_EXTENSION),
        ("fruit.jpg/readme", LeftOut.NO_EXTENSION),
    ],
)
def test_a_key_of_the_image_bucket_is_an_image_only_in_a_folder_that_shows(
    key: str, reason: LeftOut | None
) -> None:
    assert reason_of_key(key) == reason


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"BM" + bytes(12) + b"\x28\0\0\0" + bytes(60), None),
        (b"BM" + bytes(12) + b"\x29\0\0\0" + bytes(60), LeftOut.OTHER),
        (b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x68\4\0\0\x16\0\0\0", None),
        (b"\0\0\1\0\0\0" + bytes(60), LeftOut.OTHER),
        (b"\xff\xd8\xff", None),
        (b"GIF89a", None),
        (b"FUJIFILMCCD-RAW ", LeftOut.RAW),
        (b"\0MRM", LeftOut.RAW),
        (b"OggS\0\2", LeftOut.SOUND),
        (b"\0\0\1\xba\x44", LeftOut.VIDEO),
        (b"\x1f\x8b\x08", LeftOut.ARCHIVE),
        (b"%!PS-Adobe-3.0 EPSF-3.0", LeftOut.DRAWING),
        (b"version https://git-lfs.github.com/spec/v1\n", LeftOut.TEXT),
        (b"P5 is the fifth picture", LeftOut.TEXT),
        (bytes(60), LeftOut.OTHER),
    ],
)
def test_content_without_a_name_is_recognised(start: bytes, reason: LeftOut | None) -> None:
    assert reason_of_content(start, "photo") == reason
