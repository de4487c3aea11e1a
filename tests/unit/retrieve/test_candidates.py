"""Texts and addresses as collections send them."""

import pytest

from boxdrop.retrieve.candidates import Candidate, pixels, plain_text, web_address
from boxdrop.retrieve.licenses import read_license


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ('<a href="//x.example/User:Jane" title="User:Jane">Jane &amp; friends</a>', "Jane & friends"),
        ("<div>One</div><div>Two</div>", "One Two"),
        ("<script>alert(1)</script>Bob<style>b{}</style>", "Bob"),
        ("  two\nlines\tand\u200b \x00blanks ", "two lines and blanks"),
        ("a < b & c", "a < b & c"),
        (None, ""),
        (7, ""),
    ],
)
def test_what_collections_send_becomes_one_line_of_plain_text(sent: object, read: str) -> None:
    assert plain_text(sent) == read


def test_a_story_in_the_place_of_a_title_is_cut() -> None:
    assert len(plain_text("word " * 1000)) == 500


@pytest.mark.parametrize(
    "sent",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "ftp://a.example/b",
        "https://",
        "no",
        None,
        3,
    ],
)
def test_only_http_addresses_are_addresses(sent: object) -> None:
    assert web_address(sent) == ""


def test_an_address_without_its_scheme_is_https() -> None:
    assert web_address("//upload.example/a.jpg") == "https://upload.example/a.jpg"


@pytest.mark.parametrize("sent", [0, -3, True, "640", 3.5, None])
def test_a_size_that_cannot_be_one_is_not_known(sent: object) -> None:
    assert pixels(sent) is None


def test_a_credit_names_title_creator_licence_and_place() -> None:
    candidate = Candidate(
        url="https://a.example/1.jpg",
        source="list/mine.csv",
        license=read_license("CC BY 4.0"),
        title="Basket",
        creator="Jane",
        landing_page="https://a.example/1",
    )

    assert candidate.credit() == (
        "“Basket” by Jane, CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/), via https://a.example/1"
    )
