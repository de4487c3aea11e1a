"""The labeling configuration: which labels people can draw."""

import xml.etree.ElementTree as ET

import pytest

from boxdrop.domain.labels import LabelSet
from boxdrop.labelstudio.config import frozen_ids, labeling_config, project_key, updated_config

FRUIT = LabelSet.from_short_form("pineapple, banana, apple")


def labels_in(config: str) -> list[dict[str, str]]:
    return [label.attrib for label in ET.fromstring(config).iter("Label")]


def test_each_label_carries_its_colour_and_its_frozen_id() -> None:
    assert labels_in(labeling_config(FRUIT, "k")) == [
        {"value": label.name, "background": label.color, "category": str(label.id)} for label in FRUIT
    ]


@pytest.mark.parametrize(
    "name", ['a "quoted" one', "salt & pepper", "<b>", "it's", "Äpfel 苹果 🍎", "]]>", "$5"]
)
def test_any_name_survives_the_way_into_xml_and_back(name: str) -> None:
    config = labeling_config(LabelSet.from_yaml(f"labels: [{name!r}]"), "k")
    assert labels_in(config)[0]["value"] == name
    assert frozen_ids(config) == {name: 1}


def test_the_credit_of_an_image_is_below_it() -> None:
    view = ET.fromstring(labeling_config(FRUIT, "k"))
    assert [child.tag for child in view] == ["RectangleLabels", "Image", "Style", "View"]
    assert view[3][0].get("value") == "$credit"


def test_a_project_is_known_by_its_key_and_not_by_its_labels() -> None:
    assert project_key(labeling_config(FRUIT, "0123")) == "0123"
    assert project_key("<View><Image name='image' value='$image'/></View>") is None
    assert project_key("no xml at all") is None


def test_a_new_label_gets_a_new_id_and_the_others_keep_theirs() -> None:
    config = labeling_config(FRUIT, "k")
    grown = LabelSet.from_short_form("kiwi, apple, banana, pineapple").with_frozen_ids(frozen_ids(config))
    assert frozen_ids(updated_config(config, grown)) == {"pineapple": 1, "banana": 2, "apple": 3, "kiwi": 4}


def test_the_id_of_a_removed_label_is_never_given_to_another_and_comes_back_with_it() -> None:
    config = labeling_config(FRUIT, "k")
    for names in ("pineapple, apple", "pineapple, apple, kiwi", "pineapple, apple, kiwi, banana"):
        label_set = LabelSet.from_short_form(names).with_frozen_ids(frozen_ids(config))
        config = updated_config(config, label_set)
    assert {label["value"]: label["category"] for label in labels_in(config)} == {
        "pineapple": "1",
        "apple": "3",
        "kiwi": "4",
        "banana": "2",
    }


def test_nothing_changes_where_nothing_has_to() -> None:
    config = labeling_config(FRUIT, "k").replace("<RectangleLabels", "<!-- ours -->\n  <RectangleLabels")
    assert updated_config(config, FRUIT) == config


def test_what_people_added_to_the_configuration_stays() -> None:
    config = (
        labeling_config(FRUIT, "k")
        .replace('<Label value="banana"', '<Label value="banana" hotkey="b"')
        .replace(
            "<Image", '<Choices name="light" toName="image"><Choice value="dark" /></Choices><!-- x --><Image'
        )
    )
    changed = updated_config(config, LabelSet.from_short_form("pineapple, banana, apple, kiwi"))
    assert '<Choice value="dark" />' in changed
    assert "<!-- x -->" in changed
    assert labels_in(changed)[1]["hotkey"] == "b"
    assert project_key(changed) == "k"


def test_a_configuration_without_our_tag_is_refused() -> None:
    with pytest.raises(ValueError, match="RectangleLabels"):
        updated_config('<View><Image name="image" value="$image"/></View>', FRUIT)


def test_many_labels_can_be_searched() -> None:
    many = LabelSet.from_short_form(", ".join(f"label {i}" for i in range(40)))
    assert ET.fromstring(labeling_config(many, "k")).find("Filter") is not None
    assert ET.fromstring(labeling_config(FRUIT, "k")).find("Filter") is None
