"""Provenance: lines of ``sources.jsonl``, metadata of objects, credits on tasks, the page of credits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.domain.errors import BoxdropError
from boxdrop.retrieve.candidates import Candidate
from boxdrop.retrieve.credits import credits_page
from boxdrop.retrieve.licenses import read_license
from boxdrop.retrieve.provenance import Credit, Fingerprint, SourceRecord, to_metadata

CANDIDATE = Candidate(
    url="https://images.example/1.jpg",
    source="openverse/flickr",
    license=read_license("by-sa", "2.0"),
    title="Körbe voller Früchte",
    creator="Jürgen",
    creator_url="https://flickr.example/j",
    landing_page="https://flickr.example/j/1",
    width=1024,
    height=768,
)
RECORD = SourceRecord(
    file="baskets-0123456789ab.jpg",
    candidate=CANDIDATE,
    caption="fruit baskets",
    width=1024,
    height=768,
    size=123456,
    fingerprint=Fingerprint("0123456789ab" + "0" * 52, 0x8000000000000001),
    retrieved_at="2026-11-24T22:00:00Z",
    final_url="https://cdn.example/1.jpg",
)
TEXT = st.text(max_size=400)


def test_a_line_of_sources_reads_back_as_it_was() -> None:
    line = RECORD.to_json()

    assert "\n" not in line
    assert SourceRecord.from_json(line, "here") == RECORD


def test_a_line_that_is_not_ours_names_its_place() -> None:
    with pytest.raises(BoxdropError, match=r"sources\.jsonl: line 3"):
        SourceRecord.from_json('{"format": "boxdrop-source/1"}', "sources.jsonl: line 3")


@given(title=TEXT, creator=TEXT, attribution=TEXT)
def test_metadata_fits_s3_and_has_the_license_whatever_the_texts_are(
    title: str, creator: str, attribution: str
) -> None:
    metadata = to_metadata(replace(CANDIDATE, title=title, creator=creator, attribution=attribution))

    assert sum(len(key) + len(value) for key, value in metadata.items()) <= 2048
    assert all(value.isascii() and value == value.strip() for value in metadata.values())
    credit = Credit.from_metadata(metadata)
    assert credit is not None
    assert credit.license == "CC BY-SA 2.0"
    assert credit.landing_page == "https://flickr.example/j/1"


def test_metadata_gives_the_credit_back() -> None:
    assert Credit.from_metadata(to_metadata(CANDIDATE)) == Credit.of(CANDIDATE)


def test_an_object_that_was_not_retrieved_has_no_credit() -> None:
    assert Credit.from_metadata({"camera": "x"}) is None


def test_the_page_credits_title_creator_and_licence_with_links() -> None:
    page = credits_page("fruit-baskets", [RECORD])

    assert page.splitlines()[2] == "1 images: 1 CC BY-SA 2.0."
    assert "[Körbe voller Früchte](<https://flickr.example/j/1>)" in page
    assert "[Jürgen](<https://flickr.example/j>)" in page
    assert "[CC BY-SA 2.0](<https://creativecommons.org/licenses/by-sa/2.0/>)" in page


@pytest.mark.parametrize(("format", "link"), [("markdown", "[x](javascript:"), ("html", 'href="javascript:')])
def test_foreign_texts_are_escaped(format: str, link: str) -> None:
    hostile = replace(
        CANDIDATE,
        title="<script>alert(1)</script>",
        creator="[x](javascript:alert(1))",
        creator_url="https://a.example/\"onmouseover='x'",
        attribution="<b>",
    )

    page = credits_page("<i>", [replace(RECORD, candidate=hostile)], format)

    assert "<script>alert" not in page
    assert "<i>" not in page
    assert "<b>" not in page
    assert link not in page
    assert 'href="https://a.example/"' not in page


def test_the_page_of_a_project_without_images_reports_it() -> None:
    assert "No images were retrieved." in credits_page("empty", [])
