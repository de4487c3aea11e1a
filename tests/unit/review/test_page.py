"""The report's page: one file, whose parts no name can break."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np

from boxdrop.assessment.outcomes import Change
from boxdrop.domain.annotations import DrawnBox, OfferedBox
from boxdrop.review.examples import Cut, Examples
from boxdrop.review.figures import Report, count
from boxdrop.review.page import render
from boxdrop.review.reviewed import LeftOut, Reviewed, Why
from boxdrop.review.standing import Standing, standing_line
from boxdrop.store.acceptances import AcceptedImage, StoredAcceptance
from tests.unit.review.simulated import Rates, reviewed, simulate

AT = datetime(2026, 11, 28, tzinfo=UTC)
HOSTILE = "</style><script>alert(1)</script>&"
PLACE = (0.0, 0.0, 20.0, 20.0)


class Tags(HTMLParser):
    """The tags of a page, checked for pairs."""

    ALONE = frozenset(("meta", "link"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in self.ALONE:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags(page: str) -> list[str]:
    parser = Tags()
    parser.feed(page)
    assert parser.open == []
    return parser.seen


def busy(label: str) -> list[Reviewed]:
    return [
        reviewed(1, [OfferedBox(label, 0.9, PLACE, "a")], [DrawnBox("apple", PLACE, "a")]),
        reviewed(2, [OfferedBox(label, 0.9, PLACE, "a")], [DrawnBox(label, (0.0, 0.0, 20.0, 12.0), "a")]),
        reviewed(3, [OfferedBox(label, 0.9, PLACE, "a")], [DrawnBox(label, PLACE, "new")]),
    ]


def page_of(report: Report, examples: Examples | None = None) -> str:
    kinds = (Change.RELABELLED, Change.DELETED, Change.ADDED, Change.ADJUSTED)
    found = [each for kind in kinds for each in (examples.chosen(kind) if examples else [])]
    cut = Cut("data:image/jpeg;base64,AAAA", (0.0, 0.0, 30.0, 30.0))
    return render(HOSTILE, report, trusted=0.8, at=AT, pictures=[(each, cut) for each in found])


def test_the_page_is_whole_and_needs_nothing_from_outside() -> None:
    examples = Examples()
    page = page_of(count(busy("banana"), observe=examples), examples)
    assert "script" not in tags(page)
    assert re.findall(r"""(?:src|href)=["'](?!data:)""", page) == []
    assert "url(" not in page
    assert page.count("<figure>") == 4


def test_accepted_images_are_named_and_not_counted() -> None:
    images = tuple(AcceptedImage(f"{number}", "v", "p") for number in range(25))
    stored = StoredAcceptance(AT, AT, None, "basis", 0.98, images=images, audits=images[:5])
    shown = render("fruit", count(busy("banana")), trusted=0.8, at=AT, standing=Standing(stored, True, 24, 1))
    tags(shown)
    assert "24 images accepted at a precision of 98.0%; 1 of 5 images of the audit verified" in shown
    stopped = replace(stored, stopped=AT, audited=4, audit_boxes=12, images=())
    assert standing_line("my fruit", Standing(stopped, True, 0, 4)) == (
        "the audit stopped accepting: 0 of 12 boxes were right in 4 audited images, and 98.0% was promised; "
        "see boxdrop accept 'my fruit'"
    )
    assert "nothing is accepted: labels or boxes changed" in standing_line("x", Standing(stored, False, 0, 1))


def test_names_cannot_break_the_page() -> None:
    examples = Examples()
    page = page_of(count([*busy(HOSTILE), LeftOut("1", HOSTILE, Why.STALE)], observe=examples), examples)
    assert "script" not in tags(page)
    assert "&lt;script&gt;alert(1)" in page


def test_a_project_without_verified_images_has_a_page() -> None:
    page = page_of(count([]))
    tags(page)
    assert "Nothing to report yet" in page


def test_the_page_does_not_grow_with_the_images() -> None:
    sizes = [
        len(page_of(count(simulate(np.random.default_rng(1), images, Rates()))).encode())
        for images in (20, 400)
    ]
    assert sizes[1] < 1.05 * sizes[0]


def test_examples_are_taken_from_all_labels_in_turn_and_are_the_same_each_time() -> None:
    images = [reviewed(n, [OfferedBox("apple" if n % 9 else "pear", 0.9, PLACE, "a")], []) for n in range(60)]
    first, second = Examples(), Examples()
    count(images, observe=first)
    count(reversed(images), observe=second)
    chosen = first.chosen(Change.DELETED, 6)
    assert [each.label for each in chosen] == ["apple", "pear"] * 3
    assert chosen == second.chosen(Change.DELETED, 6)
