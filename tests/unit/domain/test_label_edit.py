"""Thresholds are written into labels.yaml without disturbing what people wrote around them."""

import pytest

from boxdrop.domain.label_edit import with_thresholds
from boxdrop.domain.labels import LabelSet

WRITTEN = """\
# our fruit
caption: fruit baskets
labels:
  - pineapple   # spiky
  - name: banana
    prompts: [banana, bunch of bananas]
    threshold: 0.25  # chosen by eye
  - {name: apple, threshold: 0.3}
  - prompts: [kiwi fruit]
    name: kiwi
"""


def test_comments_and_layout_stay() -> None:
    edited = with_thresholds(WRITTEN, {"pineapple": 0.4, "banana": 0.31, "apple": 0.2, "kiwi": 0.055})
    assert (
        edited
        == """\
# our fruit
caption: fruit baskets
labels:
  - name: pineapple   # spiky
    threshold: 0.4
  - name: banana
    prompts: [banana, bunch of bananas]
    threshold: 0.31  # chosen by eye
  - {name: apple, threshold: 0.2}
  - prompts: [kiwi fruit]
    name: kiwi
    threshold: 0.055
"""
    )


@pytest.mark.parametrize(
    "text",
    [
        WRITTEN,
        "- pineapple\n- 'banana'\n- apple\n- kiwi",
        "labels:\n- name: pineapple\n- name:   banana\n- apple\n\n\n- kiwi",
        "labels:\r\n- pineapple\r\n- banana\r\n- apple\r\n- kiwi\r\n",
    ],
)
def test_only_the_named_labels_change(text: str) -> None:
    edited = with_thresholds(text, {"banana": 0.123})
    assert edited is not None
    before, after = LabelSet.from_yaml(text), LabelSet.from_yaml(edited)
    assert after["banana"].threshold == 0.123
    assert [each for each in after if each.name != "banana"] == [
        each for each in before if each.name != "banana"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "labels: [pineapple, banana]",
        "labels:\n- pineapple\n- {name: banana, prompts: [banana]}",
        "labels: |\n  pineapple\n  banana",
        "labels:\n- pineapple\n- &b\n  name: banana\n",
    ],
)
def test_a_layout_that_cannot_take_it_is_left_alone_or_still_means_the_same(text: str) -> None:
    edited = with_thresholds(text, {"banana": 0.2})
    if edited is not None:
        assert LabelSet.from_yaml(edited)["banana"].threshold == 0.2
