"""How `boxdrop teach` changes a labels.yaml: one line, and nothing else."""

from dataclasses import replace

import pytest

from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.label_edit import with_lesson
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
