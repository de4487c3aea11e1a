"""How prompts are shared out over passes of Grounding DINO, and which token sees which."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.detect.families.grounding import blocks, split


@given(st.lists(st.integers(2, 60), min_size=1, max_size=80), st.integers(60, 254))
def test_every_prompt_is_in_one_pass_and_none_overflows(lengths: list[int], room: int) -> None:
    passes = split(lengths, room)
    assert [number for prompts in passes for number in prompts] == list(range(len(lengths)))
    sizes = [sum(lengths[number] for number in prompts) for prompts in passes]
    assert max(sizes) <= room
    # No pass could be saved without another order, and none is longer than evening out needs.
    greedy, used = 1, 0
    for length in lengths:
        greedy, used = (greedy + 1, length) if used + length > room else (greedy, used + length)
    assert len(passes) == greedy
    assert max(sizes) <= -(-sum(lengths) // len(passes)) + max(lengths) * len(passes)


def test_long_label_sets_are_shared_out_evenly() -> None:
    assert [len(prompts) for prompts in split([3] * 90, 254)] == [45, 45]
    assert split([3] * 84, 254) == [list(range(84))]


def test_prompts_see_themselves_and_their_full_stop() -> None:
    #       [CLS] a b . c . [SEP]
    attention, positions = blocks(7, np.array([[1, 3], [4, 5]]))
    groups = np.array([0, 1, 1, 1, 2, 2, 3])
    np.testing.assert_array_equal(attention, groups[:, None] == groups)
    assert positions.tolist() == [0, 0, 1, 2, 0, 1, 0]
