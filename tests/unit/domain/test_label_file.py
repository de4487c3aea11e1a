"""Label sets as people, editors and other programs write them."""

import json
import random
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.label_file import MAX_LABELS, MAX_TEXT, clean_caption
from boxdrop.domain.labels import LabelSet

DATA = Path(__file__).parents[2] / "data"
LAUGHS = (
    "? [&a [l,l,l,l,l,l,l,l,l], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b,*b,*b,*b], "
    "&d [*c,*c,*c,*c,*c,*c,*c,*c,*c], &e [*d,*d,*d,*d,*d,*d,*d,*d,*d], &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]]\n"
    ": x\nlabels: [a]\n"
)


def refused(text: str) -> str:
    """The message that a text is refused with."""
    with pytest.raises(LabelSetError) as error:
        LabelSet.from_yaml(text, "labels.yaml")
    assert len(str(error.value)) < 2_500
    return str(error.value)


@pytest.mark.parametrize("null", ["", " ~", " null", " Null", " NULL"])
def test_an_empty_list_of_labels_has_no_label(null: str) -> None:
    assert "`labels` is empty" in refused(f"labels:{null}\n")
    assert "is empty" in refused(f"labels:\n  - a\n  -{null}\n")
    assert "`caption` is empty" in refused(f"caption:{null}\nlabels: [a]\n")
    assert "has no prompts" in refused(f"labels:\n  - name: a\n    prompts:{null}\n")


def test_a_quoted_null_is_a_word() -> None:
    assert LabelSet.from_yaml("labels: ['null', \"~\"]", "x").names == ("null", "~")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('"traffic light", dog', ("traffic light", "dog")),
        ("'traffic light','stop sign'", ("traffic light", "stop sign")),
        ("“salt, pepper”, dog", ("salt, pepper", "dog")),
        ("cat\ndog\n", ("cat", "dog")),
        ("cat,\r\ndog,\r\n", ("cat", "dog")),
        ("- cat\n- dog", ("cat", "dog")),
        ('["cat", "dog"]', ("cat", "dog")),
        ("[cat, dog]", ("cat", "dog")),
        ("rock 'n' roll, 5\" pipe", ("rock 'n' roll", '5" pipe')),
        ("'80s car, dog", ("'80s car", "dog")),
        ("t-shirt, sea - lion", ("t-shirt", "sea - lion")),
        ("ca\u200bt, d\ufeffog", ("cat", "dog")),
        ("cat , ", ("cat",)),
    ],
)
def test_names_are_read_as_they_are_meant_at_every_entrance(text: str, names: tuple[str, ...]) -> None:
    assert LabelSet.from_short_form(text).names == names
    assert LabelSet.load(text).names == names
    block = "labels: |\n" + "".join(f"  {line}\n" for line in text.splitlines())
    assert LabelSet.from_yaml(block, "x").names == names


@pytest.mark.parametrize(
    "text", ['"traffic light', "cat; dog", "a,,b", "a, a", "café, cafe\u0301", "dog, d\u200bog", "Ａ, a"]
)
def test_names_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(LabelSetError, match="--labels: "):
        LabelSet.from_short_form(text)


def test_prompts_between_commas_are_several() -> None:
    several = LabelSet.from_yaml("labels:\n  - name: fruit\n    prompts: banana, apple\n", "x")
    assert several["fruit"].prompts == ("banana", "apple")
    assert several == LabelSet.from_yaml("labels:\n  - name: fruit\n    prompts: [banana, apple]\n", "x")
    one = LabelSet.from_yaml('labels:\n  - name: fruit\n    prompts: "banana, apple"\n', "x")
    assert one["fruit"].prompts == ("banana, apple",)


def test_a_dash_that_is_indented_too_far_is_pointed_out() -> None:
    message = refused("labels:\n  - apple\n   - banana\n")
    assert "line 2" in message
    assert "'apple - banana'" in message
    assert "indent" in message
    assert "several lines" in refused("labels: apple\n  banana\n")


def test_a_name_may_be_folded_over_two_lines() -> None:
    assert LabelSet.from_yaml("labels:\n  - traffic\n    light\n", "x").names == ("traffic light",)


def test_escaped_halves_of_an_emoji_are_joined_and_lone_ones_refused() -> None:
    whole = LabelSet.from_yaml('caption: "\\ud83c\\udf4c x"\nlabels: [banana]\n', "x")
    assert whole.caption == "\N{BANANA} x"
    assert whole.to_yaml().encode()
    assert "half of a character" in refused('caption: "\\ud83c x"\nlabels: [banana]\n')
    assert "half of a character" in refused('labels: ["\\udf4c"]\n')


@pytest.mark.parametrize("key", ["caption", "detector"])
@pytest.mark.parametrize("escape", ["\\0", "\\a", "\\e", "\\x7f", "\\x9b"])
def test_control_characters_are_refused_wherever_text_is(key: str, escape: str) -> None:
    assert f"`{key}` contains a control character" in refused(f'{key}: "a{escape}b"\nlabels: [banana]\n')
    assert "control character" in refused(f'labels: ["a{escape}b"]\n')
    assert "control character" in refused(f'labels:\n- name: a\n  prompts: ["a{escape}b"]\n')


def test_invisible_characters_make_no_second_label() -> None:
    assert LabelSet.from_yaml('labels: ["ba\\u200bnana"]\n', "x").names == ("banana",)
    assert "occurs twice" in refused('labels: [banana, "ba\\u200bnana"]\n')
    assert "occurs twice" in refused('labels: [banana, "ba\\u200dnana"]\n')
    assert "is empty" in refused('labels: ["\\u200b\\u200d"]\n')
    family = "\N{MAN}\u200d\N{WOMAN}"
    assert LabelSet.from_yaml(f"labels: ['{family}']", "x").names == (family,)


@pytest.mark.parametrize(
    "text",
    [
        "labels:\n  - name: a\n    id: " + "9" * 5_000,
        "labels:\n  - name: a\n    threshold: " + "9" * 5_000,
        "labels: [a]\ntiling: {size: " + "9" * 5_000 + "}",
        "labels: [a]\ntiling: {size: 640, overlap: " + "9" * 5_000 + "}",
        "labels:\n  - name: a\n    id: 4294967296\n",
        "labels:\n  - name: a\n    threshold: ٠.٥\n",
        "labels:\n  - name: a\n    threshold: 0_5\n",
        'labels: ["\\U00110000"]',
        "%YAML 999\n---\nlabels: [a]\n",
        "%YAML " + "9" * 5_000 + ".1\n---\nlabels: [a]\n",
        "labels: [a]\n---\nlabels: [b]\n",
        "labels: &a [*a]\n",
        "labels: [*nothing]\n",
        "[" * 2_000,
        "labels:\n" + "".join(" " * n + "- a:\n" for n in range(1, 200)),
        "labels: [" + "a" * 150_000 + "]",
        "labels: [" + ", ".join(f"n{i}" for i in range(MAX_LABELS + 1)) + "]",
        "#" * (MAX_TEXT + 1),
        "caption: " + "x" * 600 + "\nlabels: [a]",
        LAUGHS,
        LAUGHS.replace("? ", "labels:\n  - name: a\n    threshold: ").replace("\n: x\nlabels: [a]", ""),
        "labels:\n\t- a\n",
    ],
    ids=lambda text: text[:40],
)
def test_what_is_unbounded_or_unexpected_is_refused_in_a_short_message(text: str) -> None:
    began = time.process_time()
    refused(text)
    assert time.process_time() - began < 5  # milliseconds, in fact: this only excludes what never ends


def test_aliases_may_repeat_a_few_words() -> None:
    text = "labels:\n  - name: a\n    threshold: &t 0.3\n  - name: b\n    threshold: *t\n"
    assert [label.threshold for label in LabelSet.from_yaml(text, "x")] == [0.3, 0.3]


def documents(seed: int, count: int) -> list[str]:
    """Documents near `labels.yaml`: valid ones, and pieces put together in the wrong way."""
    rng = random.Random(seed)
    pieces = [
        *("labels:", "caption:", "detector:", "tiling:", "prompts:", "threshold:", "id:", "color:", "name:"),
        *("- ", "? ", "\n", "\n  ", "\n    ", " ", "[", "]", "{", "}", ", ", ": ", "&a ", "*a ", "!!int "),
        *("!!python/name:os ", "|\n", ">\n", '"', "'", "\\u200b", "\\ud83c", "\\U00110000", "\\0", "\t"),
        *("%YAML 1.1\n---\n", "---\n", "...\n", "<<: ", "~", "null", "banana", "apple", "0.5", "9" * 400),
        *("-1", "nan", ".inf", "1e999", "640", "#", "#ff0000", "é", "\ufeff", "\u2028", "\N{BANANA}", "0x1F"),
        *("off", "auto", "=", "@", "`"),
    ]
    valid = "caption: c\nlabels:\n  - a\n  - name: b\n    prompts: [x, y]\n    threshold: 0.5\n"
    made = []
    for _ in range(count):
        if rng.random() < 0.5:
            made.append("".join(rng.choices(pieces, k=rng.randint(1, 30))))
        else:
            place = rng.randrange(len(valid))
            cut = valid[place + rng.randrange(4) :]
            made.append(valid[:place] + "".join(rng.choices(pieces, k=rng.randint(1, 4))) + cut)
    return made


@pytest.mark.slow
def test_ten_thousand_documents_are_read_or_refused_and_nothing_else() -> None:
    seed = 20261128
    read = longest = 0
    for number, text in enumerate(documents(seed, 10_000)):
        began = time.process_time()
        try:
            label_set = LabelSet.from_yaml(text, "labels.yaml")
            read += 1
            assert LabelSet.from_yaml(label_set.to_yaml()) == label_set
            assert LabelSet.from_snapshot(label_set.to_yaml(), "x") == label_set
            label_set.to_yaml().encode()
        except LabelSetError as error:
            longest = max(longest, len(str(error).encode()))
        except Exception as error:
            pytest.fail(f"seed {seed}, document {number}: {text!r}: {error!r}")
        assert time.process_time() - began < 5, (seed, number, text)
    assert longest <= 10_000
    assert read > 200


@given(st.text(max_size=60))
def test_any_text_as_labels_is_read_or_refused(text: str) -> None:
    try:
        label_set = LabelSet.from_short_form(text)
    except LabelSetError:
        return
    assert LabelSet.from_yaml(label_set.to_yaml()) == label_set
    assert all(unicodedata.category(each) not in ("Cc", "Cs") for name in label_set.names for each in name)


@given(st.text(max_size=60))
def test_any_caption_is_read_the_same_from_the_command_line_and_the_file(text: str) -> None:
    try:
        caption = clean_caption(text)
    except LabelSetError:
        with pytest.raises(LabelSetError):
            LabelSet.from_yaml(f"caption: {json.dumps(text)}\nlabels: [a]", "x")
        return
    assert LabelSet.from_yaml(f"caption: {json.dumps(text)}\nlabels: [a]", "x").caption == caption


def test_what_older_versions_accepted_is_read_from_its_snapshot_as_it_is() -> None:
    stored = (
        'caption: "a\\0b"\nlabels:\n- name: "ca\\u200Bt"\n  prompts: ["ca\\u200Bt"]\n  id: 99999999999\n'
        "  color: '#112233'\n- name: m²\n  prompts: [m²]\n  id: 1\n  color: '#112233'\n"
        "- name: m2\n  prompts: [m2]\n  id: 2\n  color: '#112233'\n"
    )
    old = LabelSet.from_snapshot(stored, "labelsets/x.yaml")
    assert old.names == ("ca\u200bt", "m²", "m2")
    assert old.caption == "a\0b"
    with pytest.raises(LabelSetError):
        LabelSet.from_yaml(stored, "labels.yaml")


DIGESTS = json.loads((DATA / "digests.json").read_text(encoding="utf-8"))
"""Documents, and the detection digests that version 0.1 gave them for a bundle of 64 zeros."""


@pytest.mark.parametrize("known", DIGESTS)
def test_the_digests_of_existing_label_sets_stay(known: dict[str, str]) -> None:
    """A new digest would run every image of the project again."""
    assert LabelSet.from_yaml(known["labels.yaml"], "labels.yaml").digest("0" * 64) == known["digest"]


@pytest.mark.parametrize("name", ["bigid", "blk", "emo", "laughs", "n", "nulcap", "pc"])
def test_reported_files_come_out_right(name: str) -> None:
    text = (DATA / "reports" / f"{name}.yaml").read_text(encoding="utf-8")
    right = {"blk": ("banana", "apple"), "emo": ("banana",), "pc": ("fruit",)}
    if name in right:
        assert LabelSet.from_yaml(text, name).names == right[name]
    else:
        refused(text)


TAUGHT = """
lesson: 0123456789abcdef
labels:
  - banana
  - {name: cracked housing, examples: only}
"""


def test_a_lesson_and_labels_without_words_are_read_and_written_back() -> None:
    label_set = LabelSet.from_yaml(TAUGHT)
    assert label_set.lesson == "0123456789abcdef"
    assert [label.examples_only for label in label_set] == [False, True]
    assert LabelSet.from_yaml(label_set.to_yaml()) == label_set
    assert LabelSet.from_snapshot(label_set.to_yaml(), "labelsets/x.yaml") == label_set
    assert LabelSet.from_yaml(label_set.to_yaml(brief=True)) == label_set


def test_a_project_teaches_itself_if_it_says_so_which_is_no_reason_to_detect_again() -> None:
    label_set = LabelSet.from_yaml("teach: auto\nlabels: [banana]\n")
    assert label_set.teaches_itself
    assert LabelSet.from_yaml(label_set.to_yaml()) == label_set
    assert label_set.digest("d") == LabelSet.from_yaml("labels: [banana]\n").digest("d")
    with pytest.raises(LabelSetError, match=r"line 1: `teach` must be `auto`, not 'yes'; leave it out to"):
        LabelSet.from_yaml("teach: yes\nlabels: [banana]\n")


def test_a_lesson_whose_id_looks_like_a_number_stays_text() -> None:
    for number in ("1234567890123456", "12345678e0123456", "0000000000000000"):
        label_set = LabelSet.from_yaml(f"lesson: {number}\nlabels: [banana]\n")
        assert label_set.lesson == number
        assert LabelSet.from_yaml(label_set.to_yaml()).lesson == number


@pytest.mark.parametrize("written", ["latest", "0123456789ABCDEF", "[a, b]", "''", "0123456789abcdef0"])
def test_what_is_no_lesson_is_refused_with_the_way_back(written: str) -> None:
    with pytest.raises(LabelSetError, match=r"line 1: `lesson` must be the 16 .* remove the line"):
        LabelSet.from_yaml(f"lesson: {written}\nlabels: [banana]\n")


def test_examples_are_only_or_left_out() -> None:
    with pytest.raises(LabelSetError, match=r"line 2: `examples` of label 'nut' must be `only`, not 'yes'"):
        LabelSet.from_yaml("labels:\n  - {name: nut, examples: yes}\n")


def test_a_lesson_or_a_label_without_words_needs_the_detector_again() -> None:
    plain = LabelSet.from_yaml("labels: [banana, nut]\n")
    digests = {
        plain.digest("0" * 64),
        replace(plain, lesson="0123456789abcdef").digest("0" * 64),
        replace(plain, lesson="0123456789abcdee").digest("0" * 64),
        LabelSet.from_yaml("labels: [banana, {name: nut, examples: only}]\n").digest("0" * 64),
    }
    assert len(digests) == 4
