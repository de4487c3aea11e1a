"""What the demo detector is taught to name, and what it must never have seen."""

from itertools import chain

import numpy as np
import pytest

from model_export.demo.names import HELD_OUT, NEVER_DRAWN, distractors, names, pluralise
from model_export.demo.tokenizer import (
    LONGEST_PROMPT,
    encode_prompts,
    phrase_name,
    phrase_nothing,
    train_tokenizer,
)
from model_export.demo.words import TRAINED_WORDS, UNSEEN_WORDS


def _phrases() -> set[str]:
    return set(chain.from_iterable((name.text, *name.synonyms, *name.plurals) for name in names()))


def test_there_are_enough_names_and_the_three_fruits_are_among_them() -> None:
    texts = [name.text for name in names()]
    assert len(texts) >= 120
    assert {"pineapple", "banana", "apple"} <= set(texts)


def test_no_phrase_stands_for_two_names() -> None:
    phrases = [phrase for name in names() for phrase in (name.text, *name.synonyms, *name.plurals)]
    assert len(phrases) == len(set(phrases))


def test_every_short_name_comes_from_its_icon() -> None:
    known = {
        "orange": "TANGERINE",
        "corn": "EAR OF MAIZE",
        "car": "AUTOMOBILE",
        "laptop": "PERSONAL COMPUTER",
    }
    by_text = {name.text: name.unicode_name for name in names()}
    assert by_text["apple"] == "RED APPLE"
    assert by_text["alarm clock"] == "ALARM CLOCK"
    assert {text: by_text[text] for text in known} == known


def test_held_out_icons_are_never_drawn_in_training() -> None:
    held_out = {name.codepoint for name in HELD_OUT}
    assert held_out.isdisjoint(name.codepoint for name in names())
    assert held_out.isdisjoint(distractors())
    assert set(NEVER_DRAWN).isdisjoint(distractors())


def test_held_out_words_are_in_no_training_text() -> None:
    words = set(chain.from_iterable(phrase.split() for phrase in _phrases())) | set(TRAINED_WORDS)
    for name in HELD_OUT:
        assert words.isdisjoint({name.text, pluralise(name.text)})


def test_words_for_nothing_are_no_names_and_evaluation_has_its_own() -> None:
    assert _phrases().isdisjoint(TRAINED_WORDS)
    assert _phrases().isdisjoint(UNSEEN_WORDS)
    assert set(TRAINED_WORDS).isdisjoint(UNSEEN_WORDS)


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        ("apple", "apples"),
        ("peach", "peaches"),
        ("cherry", "cherries"),
        ("mouse", "mice"),
        ("potato", "potatoes"),
        ("avocado", "avocados"),
        ("monkey", "monkeys"),
        ("glass of milk", "glasses of milk"),
        ("fox", "foxes"),
    ],
)
def test_plurals_are_english(singular: str, plural: str) -> None:
    assert pluralise(singular) == plural


@pytest.mark.slow
def test_eos_has_the_highest_id_and_padding_is_zero() -> None:
    tokenizer = train_tokenizer()
    assert tokenizer.eos_token_id == len(tokenizer) - 1
    assert tokenizer.pad_token_id == 0
    ids = encode_prompts(tokenizer.backend_tokenizer, ["apple", "a photo of a bunch of bananas"])
    assert (ids.max(axis=1) == tokenizer.eos_token_id).all()
    assert ids[0, -1] == 0


@pytest.mark.slow
def test_a_prompt_that_is_too_long_keeps_its_end() -> None:
    tokenizer = train_tokenizer()
    ids = encode_prompts(tokenizer.backend_tokenizer, ["xylophones quivering " * 10])
    assert ids.shape == (1, LONGEST_PROMPT)
    assert ids[0, -1] == tokenizer.eos_token_id


@pytest.mark.slow
def test_the_tokenizer_is_the_same_every_time() -> None:
    assert train_tokenizer().backend_tokenizer.to_str() == train_tokenizer().backend_tokenizer.to_str()


def test_phrases_use_the_right_article() -> None:
    rng = np.random.default_rng(0)
    apple = names()[0]
    phrases = {phrase_name(rng, apple) for _ in range(300)}
    assert "a photo of an apple" in phrases
    assert "a apple" not in phrases
    assert any("apples" in phrase for phrase in phrases)


def test_phrases_for_nothing_name_nothing() -> None:
    rng = np.random.default_rng(0)
    assert _phrases().isdisjoint(phrase_nothing(rng) for _ in range(500))
