"""What never moves: numbers of images and boxes, and splits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.datasets.identifiers import box_number, image_number
from boxdrop.datasets.splits import Grouping, Splits
from boxdrop.domain.errors import BoxdropError

IDS = st.text("0123456789abcdef", min_size=32, max_size=32)


def test_numbers_are_those_of_earlier_exports() -> None:
    assert image_number("9f0c" * 8) == 163_759_911_081_347
    assert box_number("9f0c" * 8, "c71fd6a8cbb8") == 992_642_744_384_347


@given(IDS, st.text())
def test_numbers_are_positive_and_exact_as_floats(image_id: str, region: str) -> None:
    for number in (image_number(image_id), box_number(image_id, region)):
        assert 1 <= number <= 2**53
        assert int(float(number)) == number


def test_splits_take_their_shares() -> None:
    splits = Splits.parse("train=80,val=10,test=10")
    found = [splits.of(str(number)) for number in range(20_000)]
    assert found.count("train") / 20_000 == pytest.approx(0.8, abs=0.01)
    assert found.count("val") / 20_000 == pytest.approx(0.1, abs=0.01)


@given(st.lists(IDS, unique=True, max_size=30), st.lists(IDS, unique=True, max_size=30))
def test_more_images_move_no_image_to_another_split(first: list[str], more: list[str]) -> None:
    splits = Splits.parse("train=2,test=1")
    before = {each: splits.of(each) for each in first}
    after = {each: splits.of(each) for each in sorted({*first, *more})}
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    "text", ["train", "train=x", "train=0", "train=-1", "a=1,a=2", "train=nan", "../x=1"]
)
def test_shares_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(BoxdropError, match="--split"):
        Splits.parse(text)


def test_groups_are_what_the_pattern_finds() -> None:
    grouping = Grouping(r"(site\d+)/.*(patient\d+)")
    assert grouping.of("x/site1/a/patient2-1.jpg", "id") == grouping.of("x/site1/b/patient2-9.jpg", "other")
    assert grouping.of("x/none.jpg", "id") == "id"
    with pytest.raises(BoxdropError, match="not a regular expression"):
        Grouping("(")
