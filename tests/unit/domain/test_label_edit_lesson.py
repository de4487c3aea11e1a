"""How `boxdrop teach` changes a labels.yaml: one line, and nothing else."""

from dataclasses import replace

import pytest

from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.label_edit import with_detector, with_lesson
from boxdrop.domain.labels import LabelSet

ID, OTHER = "0123456789abcdef", "fedcba9876543210"
WRITTEN = """# our fruit
caption: fruit baskets   # what retrieve searches for

labels:
  - banana  # yellow
  - {name: apple, id: 7}
"""


def test_comments_and_order_stay() -> None:
    changed = with_lesson(WRITTEN, ID)
    assert changed == WRITTEN.replace("labels:\n", f'lesson: "{ID}"\nlabels:\n')
    assert with_lesson(changed, OTHER) == changed.replace(ID, OTHER)
    assert with_lesson(changed, None) == WRITTEN


@pytest.mark.parametrize(
    "text",
    [
        "- banana\n- {name: apple, id: 7}\n",
        "{labels: [banana, apple]}",
        '"labels": [banana]\n',
        "labels: [a]",
    ],
)
def test_any_way_to_write_labels_takes_a_lesson(text: str) -> None:
    assert LabelSet.from_yaml(with_lesson(text, ID)) == replace(LabelSet.from_yaml(text), lesson=ID)


def test_a_label_called_lesson_is_not_taken_for_the_key() -> None:
    text = "labels:\n- lesson\n- name: |\n    labels\n"
    assert LabelSet.from_yaml(with_lesson(text, ID)) == replace(LabelSet.from_yaml(text), lesson=ID)


def test_a_file_with_a_mistake_is_left_alone() -> None:
    with pytest.raises(LabelSetError, match="line 1"):
        with_lesson("labels: {", ID)


def test_another_detector_replaces_the_line_and_the_lesson_that_belongs_to_the_one_before() -> None:
    chosen = with_detector(WRITTEN, "mine")
    assert chosen == WRITTEN.replace("labels:\n", "detector: mine\nlabels:\n")
    assert with_detector(with_lesson(chosen, ID), "mine@0123456789abcdef") == chosen.replace(
        "mine", "mine@0123456789abcdef"
    )


@pytest.mark.parametrize(
    "named", ["detector: demo  # fast\n", "detectors: [demo, owlv2]\n", "detectors:\n  - demo\n  - owlv2\n"]
)
def test_however_the_detector_before_was_named(named: str) -> None:
    assert with_detector(named + WRITTEN, "mine") == with_detector(WRITTEN, "mine")
    assert LabelSet.from_yaml(with_detector(WRITTEN, "a+b")).detector == "a+b"
