"""The page of `boxdrop tune`: boxes won and lost, counted and as pictures."""

from datetime import UTC, datetime

import numpy as np

from boxdrop.assessment.outcomes import Change
from boxdrop.assessment.thresholds import suggest
from boxdrop.domain.predictions import Box, Prediction
from boxdrop.ledger import Image, State
from boxdrop.review.differences import Difference
from boxdrop.review.examples import Cut
from boxdrop.review.tuning_page import BoxChanges, render
from tests.unit.assessment.test_thresholds import draw
from tests.unit.review.test_page import HOSTILE, tags

AT = datetime(2026, 11, 28, tzinfo=UTC)
CORNERS = (1.0, 2.0, 30.0, 40.0)


def difference(number: int, won: int, lost: int, label: str = "apple") -> Difference:
    row = Image(
        f"{number:032x}", "fruit", "images", f"fruit/{number}.jpg", State.TASKED, AT, "1", version="v"
    )
    prediction = Prediction(row.key, row.image_id, "v", "demo@1", 100, 100, ())
    boxes = [tuple(Box(label, 0.4, CORNERS, label) for _ in range(count)) for count in (won, lost)]
    return Difference(row, prediction, boxes[0], boxes[1])


def test_boxes_won_and_lost_are_counted_and_each_kind_has_pictures() -> None:
    changes = BoxChanges()
    for number in range(40):
        changes(difference(number, won=number % 3, lost=number % 2, label=f"label {number % 5}"))
    assert changes.won.total() == sum(n % 3 for n in range(40))
    assert changes.lost.total() == 20
    won, lost = (changes.chosen(kind) for kind in (Change.ADDED, Change.DELETED))
    assert {each.label for each in won} == {each.label for each in lost} == {f"label {n}" for n in range(5)}
    assert all(each.after == CORNERS and each.before is None for each in won)
    assert all(each.before == CORNERS and each.after is None for each in lost)

    again = BoxChanges()
    for number in reversed(range(40)):
        again(difference(number, won=number % 3, lost=number % 2, label=f"label {number % 5}"))
    assert again.chosen(Change.ADDED) == won  # whatever the order


def test_the_page_is_one_file_that_no_name_can_break() -> None:
    images = draw(np.random.default_rng(0), 60, [2.0, -2.0])
    suggestion = suggest(images, np.full(2, 0.5))
    changes = BoxChanges()
    changes(difference(1, won=1, lost=0, label=HOSTILE))
    changes(difference(2, won=0, lost=2, label="pear"))
    chosen = [*changes.chosen(Change.ADDED), *changes.chosen(Change.DELETED)]
    pictures = [(each, Cut("data:image/jpeg;base64,AAAA", (0.0, 0.0, 50.0, 60.0))) for each in chosen[:2]]
    page = render("fruit", [HOSTILE, "pear"], suggestion, changes, [*pictures, (chosen[2], None)], AT)
    seen = tags(page)
    assert "script" not in seen
    assert seen.count("figure") == 3
    assert page.count("data:image/jpeg") == 2
    assert "The image can no longer be read." in page
    assert "Boxes that appear" in page
    assert "Boxes that disappear" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
