"""The label set: what users write, and what must never drift."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.labels import Label, LabelSet, Tiling, color_of
from boxdrop.domain.words import same_word

FRUIT = """\
caption: fruit baskets
labels:
  - pineapple
  - name: banana
    prompts: [banana, bunch of bananas]
    threshold: 0.25
  - apple
"""


def test_the_short_form_makes_each_name_its_own_prompt() -> None:
    label_set = LabelSet.from_short_form("pineapple, banana ,  red   apple,")
    assert label_set.names == ("pineapple", "banana", "red apple")
    assert label_set.prompts == label_set.names
    assert [label.id for label in label_set] == [1, 2, 3]


def test_labels_yaml_gives_synonyms_and_thresholds() -> None:
    label_set = LabelSet.from_yaml(FRUIT)
    assert label_set.caption == "fruit baskets"
    assert label_set.prompts == ("pineapple", "banana", "bunch of bananas", "apple")
    assert label_set.prompt_labels == (0, 1, 1, 2)
    assert label_set["banana"].threshold == 0.25
    assert label_set["apple"].threshold is None


def test_words_that_yaml_takes_for_something_else_stay_words() -> None:
    label_set = LabelSet.from_yaml("labels: [no, yes, 7up, 2024-01-01, 1e3, on]")
    assert label_set.names == ("no", "yes", "7up", "2024-01-01", "1e3", "on")


@pytest.mark.parametrize(
    "text", ["labels: a, b", "- a\n- b\n", "labels: [a, b]", "labels:\n- a\n- name: b\n"]
)
def test_every_way_to_write_a_list_is_the_same_label_set(text: str) -> None:
    assert LabelSet.from_yaml(text) == LabelSet.from_short_form("a, b")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            "labels:\n  - apple\n  - name: appel\n    prompts: []\n",
            3,
            "label 'appel' has no prompts; give at least",
        ),
        ("labels:\n  - apple\n  - Apple\n", 3, "label 'Apple' occurs twice"),
        ("labels:\n  - name: a\n    prompt: [b]\n", 3, "unknown key `prompt`; did you mean `prompts`?"),
        ("label:\n  - a\n", 1, "unknown key `label`; did you mean `labels`?"),
        (
            "labels:\n  - name: a\n    threshold: 40%\n",
            3,
            "threshold of label 'a' must be over 0 and at most 1",
        ),
        ("labels:\n  - name: a\n    threshold: nan\n", 3, "must be over 0 and at most 1, not 'nan'"),
        ("labels:\n  - name: a\n    color: red\n", 3, "color of label 'a' must be six hexadecimal digits"),
        ("labels:\n  - name: a\n    id: -1\n", 3, "id of label 'a' must be a whole number"),
        ("labels:\n  - {name: a, id: 4}\n  - {name: b, id: 4}\n", 3, "id 4 of label 'b' is taken"),
        ("labels:\n  - a\n  -\n", 3, "is empty"),
        ("labels:\n  - prompts: [x]\n", 2, "this label has no name; give `name:`"),
        ("labels:\n  - {name: a, prompts: [fruit]}\n  - {name: b, prompts: [Fruit]}\n", 3, "keep it in one"),
        ("caption: x\nlabels: {a: 1}\n", 2, "must be a list of names"),
        ("labels:\n  - [a, b]\n", 2, "a label must be written as `key: value`"),
        ("labels:\n  - a\n b\n", 3, "this is not YAML"),
        ("caption: x\n", 1, "there is no `labels:`"),
        ("labels: [a]\ntiling: maybe\n", 2, "must be auto, off, or size and overlap, not 'maybe'"),
        ("labels: [a]\ntiling: [640]\n", 2, "`tiling` must be written as `key: value` (size, overlap)"),
        ("labels: [a]\ntiling:\n  overlap: 0.2\n", 3, "`tiling` has no `size`"),
        ("labels: [a]\ntiling:\n  size: 63\n", 3, "must be a whole number of pixels, 64 or more"),
        ("labels: [a]\ntiling:\n  size: [640]\n", 3, "must be a whole number of pixels, 64 or more"),
        ("labels: [a]\ntiling:\n  size: 640\n  overlap: 20%\n", 4, "must be from 0 to 0.5, a share"),
        ("labels: [a]\ntiling: {size: 640, overlap: 0.6}\n", 2, "not '0.6'"),
        ("labels: [a]\ntiling: {size: 640, overlaps: 0.1}\n", 2, "did you mean `overlap`?"),
        ("labels:\n  - a\nlabels:\n  - b\n", 3, "`labels` occurs twice"),
        ("labels:\n  - 'tab\\there'\n  - \"bell\\a\"\n", 3, "control character"),
    ],
)
def test_a_mistake_names_its_line_and_the_fix(text: str, line: int, words: str) -> None:
    with pytest.raises(LabelSetError) as caught:
        LabelSet.from_yaml(text, "fruit.yaml")
    assert str(caught.value).startswith(f"fruit.yaml: line {line}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "  ", "labels: []", "42", "[" * 5000, "a: &a [*a]", "\x00", "!!python/object:os.system x"]
)
def test_text_that_is_not_a_label_set_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(LabelSetError) as caught:
        LabelSet.from_yaml(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", " , ,", "a,,b", "a, a", "a" * 101])
def test_a_short_form_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(LabelSetError, match="--labels: "):
        LabelSet.from_short_form(text)


def test_a_path_is_distinguished_from_names(tmp_path: Path) -> None:
    file = tmp_path / "labels.yaml"
    file.write_text(FRUIT, encoding="utf-8")
    assert LabelSet.load(str(file)) == LabelSet.from_yaml(FRUIT)
    assert LabelSet.load("a, b").names == ("a", "b")
    with pytest.raises(LabelSetError, match=r"nowhere\.yaml: no such file"):
        LabelSet.load("nowhere.yaml")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "labels.yaml"
    file.write_bytes(b"labels: [caf\xe9]")
    with pytest.raises(LabelSetError, match="save it as UTF-8"):
        LabelSet.from_file(file)


@pytest.mark.parametrize(
    ("text", "tiling"),
    [
        ("", Tiling()),
        ("tiling: off\n", Tiling()),
        ("tiling: auto\n", Tiling("auto")),
        ("tiling: {size: 640}\n", Tiling("fixed", 640, 0.2)),
        ("tiling:\n  size: 1000\n  overlap: 0\n", Tiling("fixed", 1000, 0.0)),
    ],
)
def test_tiling_is_read_and_written(text: str, tiling: Tiling) -> None:
    label_set = LabelSet.from_yaml(f"labels: [a]\n{text}")
    assert label_set.tiling == tiling
    assert LabelSet.from_yaml(label_set.to_yaml()) == label_set


def test_another_tiling_needs_the_detector_again() -> None:
    digests = {
        LabelSet.from_yaml(f"labels: [a]\ntiling: {tiling}\n").digest("x")
        for tiling in ("off", "auto", "{size: 640}", "{size: 641}", "{size: 640, overlap: 0.3}")
    }
    assert len(digests) == 5
    assert LabelSet.from_short_form("a").digest("x") in digests


def test_the_digest_holds_what_needs_the_detector_and_nothing_else() -> None:
    base = LabelSet.from_yaml(FRUIT)
    digest = base.digest("bundle-1")
    same = (
        FRUIT.replace("0.25", "0.5")
        .replace("fruit baskets", "market")
        .replace("[banana, bunch of bananas]", "[bunch of bananas, banana]")
    )
    assert LabelSet.from_yaml(same).digest("bundle-1") == digest
    assert LabelSet.from_yaml(FRUIT.replace("bunch of bananas", "plantain")).digest("bundle-1") != digest
    assert base.digest("bundle-2") != digest
    # Pinned as a value: a digest that moves with boxdrop's version sends every image through the GPU again.
    assert LabelSet.from_short_form("a, b").digest("x") == LabelSet.from_short_form("b, a").digest("x")
    assert LabelSet.from_short_form("a, b").digest("x").startswith("5f6af8be2ad0")


def test_ids_stay_with_their_names_when_labels_come_and_go() -> None:
    first = LabelSet.from_short_form("pineapple, banana, apple")
    known = {label.name: label.id for label in first}
    later = LabelSet.from_short_form("cherry, apple, pineapple").with_frozen_ids(known)
    assert {label.name: label.id for label in later} == {"cherry": 4, "apple": 3, "pineapple": 1}
    assert later["apple"].color == first["apple"].color
    assert later["cherry"].color == color_of(4)


def test_ids_begin_at_1_and_projects_that_began_at_0_keep_theirs() -> None:
    label_set = LabelSet.from_short_form("pineapple, banana, apple, kiwi")
    assert [label.id for label in label_set.with_frozen_ids({})] == [1, 2, 3, 4]
    kept = label_set.with_frozen_ids({"pineapple": 0, "banana": 1, "apple": 2})
    assert [label.id for label in kept] == [0, 1, 2, 4]


def test_an_id_in_labels_yaml_counts_in_a_new_project() -> None:
    label_set = LabelSet.from_yaml("labels: [{name: apple, id: 7}, {name: kiwi}]")
    assert {label.name: label.id for label in label_set.with_frozen_ids({})} == {"apple": 7, "kiwi": 1}
    shifted = label_set.with_frozen_ids({"lime": 7})
    assert {label.name: label.id for label in shifted} == {"apple": 8, "kiwi": 1}


def test_colours_are_stable_and_distinct() -> None:
    assert len({color_of(i) for i in range(80)}) == 80
    assert Label("a", ("a",), id=5).color == color_of(5)


name_texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=40).filter(
    lambda text: same_word(text) and not set(",;\"'“‘«„[-*•") & set(text)
)


@given(
    st.lists(
        st.tuples(name_texts, st.none() | st.floats(0.001, 1.0)),
        min_size=1,
        max_size=8,
        unique_by=lambda pair: same_word(pair[0]),
    ),
    st.none() | name_texts,
)
def test_what_is_written_is_read_again_the_same(
    names: list[tuple[str, float | None]], caption: str | None
) -> None:
    labels = tuple(
        Label(" ".join(name.split()), (f"prompt {i}", f"word {i}"), threshold, id=3 * i)
        for i, (name, threshold) in enumerate(names)
    )
    label_set = LabelSet(labels, caption)
    again = LabelSet.from_yaml(label_set.to_yaml())
    assert [label.threshold for label in again] == [label.threshold for label in label_set]
    assert [label.id for label in again] == [label.id for label in label_set]
    assert LabelSet.from_yaml(again.to_yaml()) == again
