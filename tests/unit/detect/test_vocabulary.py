"""Which labels a detector knows that has a list of names."""

import pytest

from boxdrop.demo import BUNDLE, SCENES
from boxdrop.detect.contract import FIXED
from boxdrop.detect.vocabulary import doubts_of, few_boxes_said, read_vocabulary, vocabulary_of
from boxdrop.domain.labels import LabelSet
from model_export.demo.names import names

KNOWN = read_vocabulary("# a comment\nbanana\nglass of milk\n")


@pytest.mark.parametrize(
    ("prompt", "known"),
    [
        ("banana", True),
        ("a ripe Banana", True),
        ("glass of milk", True),
        ("glass", False),
        ("bananas", False),  # plurals are listed
        ("forklift", False),
    ],
)
def test_a_prompt_is_known_if_it_contains_a_name(prompt: str, known: bool) -> None:
    assert KNOWN.knows(prompt) == known


def test_a_label_is_known_by_any_of_its_prompts() -> None:
    label_set = LabelSet.from_yaml("labels: [{name: fruit, prompts: [thing, banana]}, forklift]")
    assert KNOWN.unknown(label_set) == ("forklift",)


def test_the_demo_detector_lists_every_name_that_it_was_trained_on() -> None:
    vocabulary = vocabulary_of(BUNDLE)
    assert vocabulary is not None
    for name in names():
        assert all(map(vocabulary.knows, (name.text, *name.synonyms, *name.plurals))), name
    assert vocabulary.unknown(LabelSet.from_file(SCENES / "labels.yaml")) == ()


def test_unknown_labels_are_named_with_the_way_out() -> None:
    said = doubts_of("demo", KNOWN, LabelSet.from_short_form("banana, forklift"))
    assert said is not None
    assert said.startswith("the detector demo does not know forklift and will find none of them; for photo")
    assert doubts_of("owlv2", None, LabelSet.from_short_form("forklift")) is None


@pytest.mark.parametrize(
    ("images", "without", "said"),
    [
        (0, 0, None),
        (10, 4, None),
        (33, 33, "no image has a box: the detector demo may not know"),
        (10, 5, "5 of 10 images have no box"),
    ],
)
def test_a_run_that_found_nothing_in_most_images_is_reported(
    images: int, without: int, said: str | None
) -> None:
    found = few_boxes_said(images, without, "demo", "owlvit")
    assert (found is None) == (said is None)
    assert said is None or (found or "").startswith(said)


def test_fixed_classes_are_known_so_that_few_boxes_mean_something_else() -> None:
    found = few_boxes_said(10, 10, "nanodet-coco", FIXED)
    assert found == (
        "no image has a box: they show none of the labels, or none that the detector nanodet-coco is sure "
        "of; try a lower threshold"
    )
