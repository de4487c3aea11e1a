"""Lists of addresses that users bring."""

from pathlib import Path

import pytest

from boxdrop.domain.errors import BoxdropError
from boxdrop.retrieve.listing import Listing
from boxdrop.retrieve.web import Web


def _listing(path: Path, text: str) -> Listing:
    path.write_text(text, encoding="utf-8")
    return Listing(Web(), path)


def test_a_text_is_an_address_a_line(tmp_path: Path) -> None:
    listing = _listing(
        tmp_path / "urls.txt", "# mine\nhttps://a.example/1.jpg\n\n  https://a.example/2.jpg\n"
    )

    assert [candidate.url for candidate in listing.candidates()] == [
        "https://a.example/1.jpg",
        "https://a.example/2.jpg",
    ]
    assert {candidate.license.code for candidate in listing.candidates()} == {"unknown"}


def test_a_table_carries_licences_and_credits(tmp_path: Path) -> None:
    listing = _listing(
        tmp_path / "mine.csv",
        "\ufeffURL,License,Creator,Title,note\n"
        'https://a.example/1.jpg,CC BY 4.0,"Doe, Jane",Basket,x\n'
        "https://a.example/2.jpg,,,,\n",
    )

    first, second = listing.candidates()

    assert (first.license.code, first.creator, first.title) == ("by", "Doe, Jane", "Basket")
    assert (second.license.code, second.creator) == ("unknown", "")


def test_a_line_that_is_not_a_url_is_named(tmp_path: Path) -> None:
    listing = _listing(
        tmp_path / "urls.tsv", "url\tlicense\nhttps://a.example/1.jpg\tcc0\nphotos/2.jpg\tcc0\n"
    )

    with pytest.raises(BoxdropError, match=r"urls\.tsv: line 3: 'photos/2\.jpg' is not an http\(s\) URL"):
        list(listing.candidates())


def test_a_table_without_addresses_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(BoxdropError, match="line 1 has no column `url`"):
        _listing(tmp_path / "mine.csv", "link,license\nhttps://a.example/1.jpg,cc0\n")


def test_a_list_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(BoxdropError, match="cannot be read"):
        Listing(Web(), tmp_path / "none.txt")
