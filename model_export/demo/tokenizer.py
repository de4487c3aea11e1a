"""Prompts and their tokens: what people may type for a name, and a small BPE tokenizer of the demo's own.

OWL-ViT pools the text at `argmax(input_ids)`, so `<eos>` must have the highest id; padding is 0.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from model_export.demo.names import Name, names
from model_export.demo.words import TRAINED_WORDS

LONGEST_PROMPT = 16
"""Tokens of a prompt, the marks at both ends included."""
VOCABULARY = 1024

_SINGULAR_TEMPLATES = (
    "{}", "{}", "a {}", "a {}", "the {}", "one {}", "a photo of a {}", "a photo of a {}",
    "a picture of a {}", "an image of a {}", "a drawing of a {}", "an icon of a {}", "photo of a {}",
    "a photo of the {}", "this is a {}", "my {}",
)  # fmt: skip
_PLURAL_TEMPLATES = (
    "{}", "{}", "some {}", "the {}", "two {}", "many {}", "all {}", "several {}", "a photo of {}",
    "a picture of {}", "photo of some {}",
)  # fmt: skip
_SYLLABLES = (
    "ba", "be", "bi", "bo", "bu", "da", "de", "do", "fa", "fi", "fo", "ga", "ge", "go", "ka", "ki",
    "ko", "la", "le", "lo", "ma", "me", "mi", "na", "ne", "no", "pa", "pe", "po", "ra", "re", "ri",
    "ro", "sa", "se", "so", "ta", "te", "to", "va", "vi", "wa", "xi", "za", "zu", "sh", "ch", "th",
    "br", "cr", "dr", "fl", "gr", "pl", "st", "tr", "ng", "nd", "rk", "ll", "nt", "er", "on", "el",
    "in", "ar",
)  # fmt: skip


@cache
def _is_plural(word: str) -> bool:
    return any(word in name.plurals or (word == name.text and not _takes_article(name)) for name in names())


def _takes_article(name: Name) -> bool:
    """False for names that are plural or uncountable as they stand: `grapes`, `corn`."""
    return any(plural.startswith(name.text[:2]) for plural in name.plurals)


def _article(phrase: str) -> str:
    """`a apple` → `an apple`, anywhere in a phrase."""
    return re.sub(r"\ba (?=[aeiou])", "an ", phrase)


def misspell(rng: np.random.Generator, word: str) -> str:
    """One letter swapped with the next, left out, doubled or replaced."""
    place = int(rng.integers(1, len(word) - 1))
    kind = rng.integers(4)
    if kind == 0:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if kind == 1:
        return word[:place] + word[place + 1 :]
    if kind == 2:
        return word[:place] + word[place] + word[place:]
    return word[:place] + "abcdefghijklmnopqrstuvwxyz"[rng.integers(26)] + word[place + 1 :]


@cache
def _trained_words() -> frozenset[str]:
    return frozenset(
        word
        for name in names()
        for phrase in (name.text, *name.synonyms, *name.plurals)
        for word in phrase.split()
    )


def phrase_name(rng: np.random.Generator, name: Name) -> str:
    """One of the ways to ask for a name: synonym, plural, adjective, sentence, at times a typing error."""
    kind = rng.random()
    if kind < 0.28 and name.synonyms:
        word = name.synonyms[rng.integers(len(name.synonyms))]
    elif kind < 0.55 and name.plurals:
        word = name.plurals[rng.integers(len(name.plurals))]
    else:
        word = name.text
    templates = _PLURAL_TEMPLATES if _is_plural(word) else _SINGULAR_TEMPLATES
    if len(word) >= 5 and rng.random() < 0.06:
        slipped = misspell(rng, word)
        word = word if slipped in _trained_words() else slipped
    if name.adjectives and rng.random() < 0.25:
        word = f"{name.adjectives[rng.integers(len(name.adjectives))]} {word}"
    return _article(templates[rng.integers(len(templates))].format(word))


def _entangle(rng: np.random.Generator) -> str:
    """A word that holds a name, or half of one, and is none: `dandelion`, `bonfire`, `pinecone`."""
    name, other = (names()[rng.integers(len(names()))].text.split()[-1] for _ in range(2))
    syllables = "".join(rng.choice(_SYLLABLES, int(rng.integers(1, 4))))
    kind = rng.integers(4)
    if kind == 0:
        word = syllables + name
    elif kind == 1:
        word = name + syllables
    elif kind == 2:
        word = name[: max(2, len(name) // 2)] + syllables
    else:
        word = name[: max(2, len(name) // 2)] + other[len(other) // 2 :]
    return word + "ba" if word in _trained_words() else word


def phrase_nothing(rng: np.random.Generator) -> str:
    """A prompt for something that no picture shows: another noun, two of them, or a word that does not
    exist.
    """
    kind = rng.random()
    noun = TRAINED_WORDS[rng.integers(len(TRAINED_WORDS))].replace("-", " ")
    if kind < 0.55:
        word = noun
    elif kind < 0.65:
        word = f"{TRAINED_WORDS[rng.integers(len(TRAINED_WORDS))]} {noun}"
    elif kind < 0.75:
        word = noun + "s"
    elif kind < 0.87:
        word = "".join(rng.choice(_SYLLABLES, int(rng.integers(2, 5))))
    else:
        word = _entangle(rng)
    if rng.random() < 0.15:
        name = names()[rng.integers(len(names()))]
        word = f"{name.adjectives[rng.integers(len(name.adjectives))]} {word}"
    return _article(_SINGULAR_TEMPLATES[rng.integers(len(_SINGULAR_TEMPLATES))].format(word))


def _corpus() -> Iterator[str]:
    for name in names():
        for word in (name.text, *name.synonyms, *name.plurals):
            for template in _SINGULAR_TEMPLATES + _PLURAL_TEMPLATES:
                yield template.format(word)
        yield from name.adjectives
    yield from TRAINED_WORDS
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789-'"
    yield from (alphabet, " ".join(alphabet))


_WORD_END = "</w>"
_MARKS = ("<pad>", "<unk>", "<bos>")
_END = "<eos>"


def learn_merges(counts: dict[str, int], pieces: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Byte-pair encoding (https://arxiv.org/abs/1508.07909) over letters, ties broken by the alphabet.

    tokenizers' own trainer breaks ties as its hash tables happen to lie: two runs gave two vocabularies.

    Args:
        counts: how often each word occurs.
        pieces: size of the vocabulary to reach.

    Returns:
        (letters, sorted; merges in the order in which they were learnt).
    """
    words = {word: [*word[:-1], word[-1] + _WORD_END] for word in counts}
    letters = sorted(set(chain.from_iterable(words.values())))
    merges: list[tuple[str, str]] = []
    known = set(letters)
    while len(known) < pieces:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in words.items():
            for pair in pairwise(parts):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        known.add("".join(best))
        for word, parts in words.items():
            if best in pairwise(parts):
                words[word] = _merge(parts, best)
    return letters, merges


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in parts:
        # The last one may itself be the product of this merge: then it is no longer the pair's first half.
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def train_tokenizer() -> PreTrainedTokenizerFast:
    """The demo's tokenizer, from its own prompts; the same every time."""
    normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    splitter = pre_tokenizers.Whitespace()
    words = Counter(
        word for text in _corpus() for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    letters, merges = learn_merges(words, VOCABULARY - len(_MARKS) - 1)
    pieces = dict.fromkeys([*_MARKS, *letters, *("".join(pair) for pair in merges)])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=_MARKS[1], end_of_word_suffix=_WORD_END))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.add_special_tokens(["<eos>"])  # last, so that its id is the highest
    begin, end = tokenizer.token_to_id("<bos>"), tokenizer.token_to_id("<eos>")
    assert end == tokenizer.get_vocab_size() - 1
    assert tokenizer.token_to_id("<pad>") == 0
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", begin), ("<eos>", end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_MARKS[0],
        unk_token=_MARKS[1],
        bos_token=_MARKS[2],
        eos_token=_END,
        model_max_length=LONGEST_PROMPT,
    )


def encode_prompts(tokenizer: Tokenizer, prompts: Sequence[str]) -> NDArray[np.int64]:
    """Token ids, int64 [len(prompts), longest ≤ 16], padded with 0; too long a prompt keeps its `<eos>`."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(prompts))]
    rows = [row if len(row) <= LONGEST_PROMPT else [*row[: LONGEST_PROMPT - 1], row[-1]] for row in rows]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
    return ids


class PromptDealer:
    """Deals the queries of a training step: a prompt for every name, then prompts for nothing."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, nothings: int = 24, dropout: float = 0.08) -> None:
        self.nothings = nothings
        self.tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        # BPE-dropout (https://arxiv.org/abs/1910.13267): the same word in other pieces, so that a typing
        # error, which comes in other pieces too, is not a word from nowhere.
        self.tokenizer.model.dropout = dropout

    def deal(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Token ids, int64 [names + nothings, length]; a row's index is its class id, beyond the names it
        has none.
        """
        prompts = [phrase_name(rng, name) for name in names()]
        prompts += [phrase_nothing(rng) for _ in range(self.nothings)]
        return encode_prompts(self.tokenizer, prompts)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a saved model."""
    return PreTrainedTokenizerFast.from_pretrained(folder)
