"""Near-duplicates get one place among the splits, and no image's place ever changes."""

import io

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from boxdrop.datasets.lookalikes import BITS, NEAR, UNKNOWN, Places, Seen, _rows_of, look_of
from boxdrop.demo import SCENES

PHOTOS = sorted(SCENES.glob("*.jpg"))


def photo(number: int) -> PIL.Image.Image:
    return PIL.Image.open(PHOTOS[number]).convert("RGB")


def pixels(image: PIL.Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image, np.uint8)


def distance(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


@pytest.mark.parametrize("kind", ["compressed", "smaller", "noisy", "brighter"])
def test_an_altered_copy_looks_like_the_original(kind: str) -> None:
    for number in range(3):
        original = photo(number)
        if kind == "compressed":
            file = io.BytesIO()
            original.save(file, "JPEG", quality=40)
            copy = pixels(PIL.Image.open(file))
        elif kind == "smaller":
            copy = pixels(original.resize((original.width // 2, original.height // 2)))
        elif kind == "noisy":
            noise = np.random.default_rng(0).normal(0, 8, (original.height, original.width, 3))
            copy = (pixels(original) + noise).clip(0, 255).astype(np.uint8)
        else:
            copy = (pixels(original) * 1.08).clip(0, 255).astype(np.uint8)
        assert distance(look_of(pixels(original)), look_of(copy)) <= NEAR


def test_other_images_look_different() -> None:
    looks = [look_of(pixels(photo(number))) for number in range(20)]
    least = min(distance(a, b) for number, a in enumerate(looks) for b in looks[:number])
    assert least > 2 * NEAR


def test_an_image_of_one_colour_is_like_no_other() -> None:
    assert look_of(np.full((40, 60, 3), 128, np.uint8)) == UNKNOWN
    images = [Seen(f"{number:032x}", number, UNKNOWN) for number in (5, 9)]
    assert Places().find(images) == [5, 9]


def look(*flipped: int, seed: int = 0) -> bytes:
    """A random look, with some bits flipped."""
    bits = np.random.default_rng(seed).integers(0, 2, BITS).astype(bool)
    for bit in flipped:
        bits[bit] ^= True
    return np.packbits(bits).tobytes()


def seen(number: int, look: bytes, group: int | None = None) -> Seen:
    return Seen(f"{number:016x}" + "0" * 16, number if group is None else group, look)


def stored(images: list[Seen], before: Places | None = None) -> Places:
    """The places after these images have come."""
    before = before or Places()
    rows = np.concatenate([before._rows, _rows_of(images, before.find(images))])
    return Places(rows, before.parts + 1)


def test_a_chain_of_near_duplicates_shares_one_place() -> None:
    chain = [seen(number + 1, look(*range(number * NEAR))) for number in range(5)]
    other = seen(77, look(seed=1))
    assert Places().find([*chain, other]) == [1, 1, 1, 1, 1, 77]


def test_a_near_duplicate_that_comes_later_joins_the_first() -> None:
    places = stored([seen(9, look()), seen(4, look(seed=1))])
    assert places.find([seen(1, look(0, 1)), seen(2, look(seed=1)), seen(3, look(seed=2))]) == [9, 4, 3]


def test_a_group_stays_together_with_all_that_its_images_are_near_to() -> None:
    images = [
        seen(1, look(), 50),
        seen(2, look(seed=1), 50),
        seen(3, look(0, seed=1), 60),
        seen(4, look(seed=2)),
    ]
    assert Places().find(images) == [50, 50, 50, 4]
    assert stored(images).find([seen(5, look(seed=3), 60)]) == [50]


KINDS = st.tuples(st.integers(0, 3), st.sets(st.integers(0, 40), max_size=12), st.integers(0, 2))


@settings(max_examples=60, deadline=None)
@given(st.lists(KINDS, max_size=12), st.integers(0, 12))
def test_images_that_come_later_move_none(kinds: list[tuple[int, set[int], int]], cut: int) -> None:
    images = [
        seen(number + 1, look(*flipped, seed=seed), (number + 1) * 10 + (0 if group else 1))
        for number, (seed, flipped, group) in enumerate(kinds)
    ]
    first = stored(images[:cut])
    before = [first.of(each.image_id) for each in images[:cut]]
    both = stored(images[cut:], first)
    assert [both.of(each.image_id) for each in images[:cut]] == before
    assert None not in [both.of(each.image_id) for each in images]
    at_once = Places().find(images)
    for number, one in enumerate(images):
        for place, other in zip(at_once[:number], images[:number], strict=True):
            if distance(one.look, other.look) <= NEAR:
                assert at_once[number] == place
