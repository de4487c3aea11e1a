"""Parses label sets as people write them: ``labels.yaml``, and ``--labels "pineapple, banana, apple"``.

For every text, the result is a label set or a `LabelSetError` that names the line and the way out.
"""

import difflib
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from boxdrop.domain.detector_names import PLUS, joined, split_names
from boxdrop.domain.errors import BundleError, LabelSetError
from boxdrop.domain.identity import LESSON_DIGITS, is_lesson_id
from boxdrop.domain.label import FIRST_ID, LATEST, MAX_NAME_LENGTH, UNTILED, Label, ReviewRule, Tiling
from boxdrop.domain.review_rule import REVIEW_KEYS, read_review
from boxdrop.domain.tiling_rule import TILING_KEYS, read_tiling, read_tiling_word
from boxdrop.domain.words import same_word
from boxdrop.domain.yaml_nodes import Node, YamlError, read_nodes, shown

MAX_TEXT: Final = 200_000
"""Characters per file: 2,000 labels with a few prompts each need half of it."""

MAX_LABELS: Final = 2_000
MAX_PROMPTS: Final = 100
"""Prompts per label."""

MAX_CAPTION: Final = 500
MAX_ID: Final = 2**31 - 1
"""Class ids are 32-bit integers in most tools that read exports."""

_LONGEST_NUMBER: Final = 40
_MAX_MESSAGE: Final = 2_000

_LABEL_KEYS: Final = ("name", "prompts", "threshold", "examples", "classes", "id", "color")
_SET_KEYS: Final = ("caption", "detector", "detectors", "tiling", "lesson", "teach", "review", "labels")

_NUMBER: Final = re.compile(r"[+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,3})?")
_WHOLE: Final = re.compile(r"[0-9]{1,18}")
_QUOTES: Final = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“"}
_INVISIBLE: Final = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb]"
)
"""Invisible characters without meaning in a label: zero-width space, soft hyphen, byte order mark, direction
marks. Joiners (U+200C, U+200D) stay: emoji and several scripts need them."""

_VARIANTS: Final = frozenset(map(chr, range(0xFE00, 0xFE10)))  # variation selectors: colour of an emoji


class Written(NamedTuple):
    """The content of a file: the fields of `boxdrop.domain.labels.LabelSet`, in its order."""

    labels: tuple[Label, ...]
    caption: str | None = None
    detector: str | None = None
    tiling: Tiling = UNTILED
    lesson: str | None = None
    review: ReviewRule = LATEST
    teaches_itself: bool = False


def read_text(text: str, source: str) -> Written:
    """Read the text of a ``labels.yaml``.

    Args:
        text: YAML as described in docs/labels.md.
        source: the file's name, for messages.

    Raises:
        LabelSetError: naming the source, the line and the way out.
    """
    return _Reader(source).read(text)


def read_snapshot(text: str, source: str) -> Written:
    """Read a label set that boxdrop itself wrote with `LabelSet.to_yaml`, unchanged.

    The rules for users have become stricter over time; older projects keep their labels.

    Raises:
        LabelSetError: it is not one.
    """
    return _Reader(source, stored=True).read(text)


def read_short_form(text: str, source: str = "--labels") -> tuple[Label, ...]:
    """Read ``"pineapple, banana, apple"``: each name is its own prompt.

    Commas and line breaks separate names; quotes around a name are not part of it and may hold a comma.

    Raises:
        LabelSetError: there is no name, or one is empty, too long or given twice.
    """
    reader = _Reader(source)
    if len(text) > MAX_TEXT:
        raise reader.error(None, f"{len(text):,} characters are too many for a label set")
    names = reader.split(text, None, "a label's name")
    if not names:
        raise reader.error(None, 'no label given; write names with commas between: "pineapple, banana"')
    return reader.finish([_Draft(line=None, name=name) for name in names])


def clean_caption(text: str, source: str = "--caption") -> str:
    """Normalize a caption: one line, without characters that Label Studio or a terminal would refuse.

    Raises:
        LabelSetError: it is empty, too long, or contains a control character.
    """
    return _Reader(source).clean(text, None, "the caption", MAX_CAPTION)


@dataclass(slots=True)
class _Draft:
    """A label as written, before names, prompts and ids are checked against each other."""

    line: int | None
    name: str
    prompts: list[str] | None = None
    threshold: float | None = None
    id: int | None = None
    color: str = ""
    examples_only: bool = False
    classes: list[str] = field(default_factory=list)


class _Reader:
    """Turns text into a label set.

    Args:
        source: the text's name in messages.
        stored: boxdrop wrote the text, and accepted it before: it is neither validated nor changed.
    """

    def __init__(self, source: str, stored: bool = False) -> None:
        self.source = source
        self.stored = stored

    def error(self, line: int | None, message: str) -> LabelSetError:
        where = f"{self.source}: line {line}" if line is not None else self.source
        return LabelSetError(f"{where}: {message}"[:_MAX_MESSAGE])

    def read(self, text: str) -> Written:
        if len(text) > MAX_TEXT and not self.stored:
            raise self.error(None, f"{len(text):,} characters are too many for a label set")
        try:
            root = read_nodes(text)
        except YamlError as error:
            raise self.error(error.line, str(error)) from None
        if root is None or root.is_null:
            raise self.error(None, "the file is empty; give at least `labels:` and one name")
        if root.items is not None:
            return Written(self.finish([self._draft(node) for node in root.items]))
        entries = self._mapping(root, _SET_KEYS, "the file")
        if "labels" not in entries:
            raise self.error(1, "there is no `labels:`; give a list of names under it")
        drafts = self._drafts(entries["labels"])
        caption = detector = None
        if "caption" in entries:
            node = entries["caption"]
            caption = self.clean(self._text(node, "caption"), node.line, "`caption`", MAX_CAPTION)
        if "detector" in entries:
            node = entries["detector"]
            detector = self._visible(self._text(node, "detector"), node.line, "`detector`").strip()
            if not detector or len(detector) > MAX_CAPTION:
                raise self.error(node.line, "`detector` must be the name or folder of a detector")
        if "detectors" in entries:
            node = entries["detectors"]
            if detector is not None:
                raise self.error(node.line, "give `detector` or `detectors`, not both")
            detector = self._detectors(node)
        tiling = self._tiling(entries["tiling"]) if "tiling" in entries else UNTILED
        lesson = self._lesson(entries["lesson"]) if "lesson" in entries else None
        review = LATEST
        if "review" in entries:
            node = entries["review"]
            review = read_review(self._mapping(node, REVIEW_KEYS, "`review`"), node.line, self.error)
        teaches_itself = False
        if "teach" in entries:
            node = entries["teach"]
            if node.text != "auto":
                raise self.error(
                    node.line,
                    f"`teach` must be `auto`, not {_quoted(node.text)}; leave it out to teach by hand",
                )
            teaches_itself = True
        return Written(self.finish(drafts), caption, detector, tiling, lesson, review, teaches_itself)

    def split(self, text: str, line: int | None, what: str) -> list[str]:
        """Names between commas and line breaks, without quotes, dashes and brackets around them."""
        text = text.strip()
        if text.startswith("[") and text.endswith("]"):  # a list pasted from elsewhere
            text = text[1:-1].strip()
        names: list[str] = []
        place = 0
        while place < len(text):
            rest = text[place:]
            skipped = len(rest) - len(rest.lstrip(" \t"))
            opening = rest[skipped : skipped + 1]
            closing = _QUOTES.get(opening)
            end = rest.find(closing, skipped + 1) if closing else -1
            after = re.match(r"[ \t]*([,\n\r]|$)", rest[end + 1 :]) if end > 0 else None
            if after:
                names.append(rest[skipped + 1 : end])
                place += end + 1 + after.end()
                continue
            if opening == '"':
                raise self.error(
                    line, f"the quote of {_quoted(rest[skipped:])} is not closed; close or remove it"
                )
            match = re.search(r"[,\n\r]", rest)
            name = rest[: match.start()] if match else rest
            place += match.end() if match else len(rest)
            separator = match[0] if match else ""
            name = re.sub(r"^\s*[-*•] +", "", name)
            if not name.strip() and (separator != "," or not text[place:].strip(" ,\t\n\r")):
                continue  # an empty line, or a comma at the end
            names.append(name)
        if len(names) == 1 and ";" in names[0]:
            raise self.error(line, f"{_quoted(names[0])}: separate names by commas, not by semicolons")
        if any(not name.strip() for name in names):
            raise self.error(line, f"{what} is empty; remove a comma, or write a name")
        return names

    def finish(self, drafts: list[_Draft]) -> tuple[Label, ...]:
        """Check the drafts against each other and number them."""
        if not drafts:
            raise self.error(None, "there is no label; give at least one")
        if len(drafts) > MAX_LABELS and not self.stored:
            raise self.error(None, f"{len(drafts):,} labels are too many; a project may have {MAX_LABELS:,}")
        names: dict[str, str] = {}
        prompt_owners: dict[str, str] = {}
        class_owners: dict[str, str] = {}
        taken = {draft.id for draft in drafts if draft.id is not None}
        free = (n for n in range(FIRST_ID, FIRST_ID + len(drafts) + len(taken)) if n not in taken)
        ids: set[int] = set()
        labels = []
        for draft in drafts:
            name = self.clean(draft.name, draft.line, "a label's name")
            word = self.word(name)
            if word in names:
                raise self.error(draft.line, f"label {name!r} occurs twice (as {names[word]!r}); remove one")
            names[word] = name
            if draft.prompts is not None and not draft.prompts:
                raise self.error(draft.line, f"label {name!r} has no prompts; give at least one")
            if draft.prompts is not None and len(draft.prompts) > MAX_PROMPTS and not self.stored:
                raise self.error(
                    draft.line,
                    f"label {name!r} has {len(draft.prompts):,} prompts; give {MAX_PROMPTS} at most",
                )
            prompts: list[str] = []
            for written in draft.prompts if draft.prompts is not None else [name]:
                prompt = self.clean(written, draft.line, f"a prompt of label {name!r}")
                owner = prompt_owners.setdefault(self.word(prompt), name)
                if owner != name:
                    raise self.error(
                        draft.line, f"prompt {prompt!r} belongs to {owner!r} and {name!r}; keep it in one"
                    )
                if prompt not in prompts:
                    prompts.append(prompt)
            classes: list[str] = []
            for written in draft.classes:
                each = self.clean(written, draft.line, f"a class of label {name!r}")
                owner = class_owners.setdefault(self.word(each), name)
                if owner != name:
                    raise self.error(
                        draft.line, f"class {each!r} belongs to {owner!r} and {name!r}; keep it in one"
                    )
                if each not in classes:
                    classes.append(each)
            number = draft.id if draft.id is not None else next(free)
            if number in ids:
                raise self.error(draft.line, f"id {number} of label {name!r} is taken; ids are used once")
            ids.add(number)
            labels.append(
                Label(
                    name,
                    tuple(prompts),
                    draft.threshold,
                    number,
                    draft.color,
                    draft.examples_only,
                    tuple(classes),
                )
            )
        return tuple(labels)

    def clean(self, text: str, line: int | None, what: str, limit: int = MAX_NAME_LENGTH) -> str:
        """One line of visible text in composed characters (NFC)."""
        if self.stored:
            return text
        visible = self._visible(text, line, what)
        clean = " ".join(unicodedata.normalize("NFC", visible).split())
        if not same_word(clean):
            raise self.error(line, f"{what} is empty; remove the dash or comma, or write a name")
        if len(clean) > limit:
            raise self.error(line, f"{what} is over {limit} characters: {_quoted(clean)}; shorten it")
        return clean

    def word(self, text: str) -> str:
        """A normalised text for finding duplicates."""
        return text.casefold() if self.stored else same_word(text)

    def _visible(self, text: str, line: int | None, what: str) -> str:
        """Without invisible characters; escaped surrogate pairs (``\\ud83c\\udf4c``) are joined."""
        try:
            whole = text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise self.error(
                line,
                f"{what} contains a lone surrogate, half of a character: {_quoted(text)}; write the "
                "whole character",
            ) from None
        seen = _INVISIBLE.sub("", whole)
        for character in seen:
            if unicodedata.category(character) in ("Cc", "Cs") and not character.isspace():
                raise self.error(line, f"{what} contains a control character: {_quoted(seen)}; remove it")
        return seen

    def _drafts(self, node: Node) -> list[_Draft]:
        if node.is_null:
            raise self.error(node.line, "`labels` is empty; list names under it, each after a dash")
        if node.items is not None:
            return [self._draft(each) for each in node.items]
        if node.text is None:
            raise self.error(node.line, "`labels` must be a list of names, each after a dash")
        if node.lines > 1 and not node.block:
            self._one_line(node)
            if "," not in node.text:
                raise self.error(node.line, "`labels` runs over several lines; put a dash before each name")
        return [_Draft(node.line, name) for name in self.split(node.text, node.line, "a label's name")]

    def _draft(self, node: Node) -> _Draft:
        if node.text is not None:
            return _Draft(node.line, self._text(node, "a label's name"))
        entries = self._mapping(node, _LABEL_KEYS, "a label")
        if "name" not in entries:
            raise self.error(node.line, "this label has no name; give `name:`")
        draft = _Draft(node.line, self._text(entries["name"], "name"))
        if "prompts" in entries:
            draft.prompts = self._words(entries["prompts"], draft.name, "prompts")
        if "threshold" in entries:
            draft.threshold = self._number(
                entries["threshold"], f"threshold of label {_quoted(draft.name)} must be over 0 and at most 1"
            )
            if not 0.0 < draft.threshold <= 1.0:
                raise self.error(
                    entries["threshold"].line,
                    f"threshold of label {_quoted(draft.name)} must be over 0 and at most 1, not "
                    f"{_quoted(entries['threshold'].text)}",
                )
        if "examples" in entries:
            node = entries["examples"]
            if node.text != "only":
                raise self.error(
                    node.line,
                    f"`examples` of label {_quoted(draft.name)} must be `only`, not {_quoted(node.text)}; "
                    "leave it out for a label that words describe",
                )
            draft.examples_only = True
        if "classes" in entries:
            node = entries["classes"]
            draft.classes = self._words(node, draft.name, "classes")
            if not draft.classes:
                raise self.error(
                    node.line, f"`classes` of label {_quoted(draft.name)} is empty; name one, or leave it out"
                )
        if "id" in entries:
            draft.id = self._id(entries["id"], draft.name)
        if "color" in entries:
            draft.color = self._color(entries["color"], draft.name)
        return draft

    def _words(self, node: Node, name: str, key: Literal["prompts", "classes"]) -> list[str]:
        one = {"prompts": "a prompt", "classes": "a class"}[key]
        if node.items is not None:
            return [self._text(each, one) for each in node.items]
        if node.text is None:
            raise self.error(node.line, f"`{key}` of label {_quoted(name)} must be a list of words")
        if node.is_null:
            return []
        self._one_line(node)
        if not node.plain and not node.block:  # in quotes, a comma is intended
            return [node.text] if node.text.strip() else []
        return self.split(node.text, node.line, f"{one} of label {_quoted(name)}")

    def _detectors(self, node: Node) -> str:
        """Two names as one text, see `boxdrop.domain.detector_names`."""
        texts = (
            [self._text(each, "detectors") for each in node.items]
            if node.items is not None
            else self.split(self._text(node, "detectors"), node.line, "a name of `detectors`")
        )
        names = [self._visible(text, node.line, "a name of `detectors`").strip() for text in texts]
        if with_plus := [name for name in names if PLUS in name]:
            raise self.error(
                node.line, f"`detectors`: {_quoted(with_plus[0])} contains a +; list names one by one"
            )
        if not names or any(len(name) > MAX_CAPTION for name in names):
            raise self.error(node.line, "`detectors` must list the names or folders of two detectors")
        try:
            return joined(split_names(joined(names)))
        except BundleError as error:
            raise self.error(node.line, f"`detectors`: {error}") from None

    def _mapping(self, node: Node, allowed: tuple[str, ...], what: str) -> dict[str, Node]:
        if node.entries is None:
            raise self.error(node.line, f"{what} must be written as `key: value` ({', '.join(allowed)})")
        entries: dict[str, Node] = {}
        for key_node, value in node.entries:
            if key_node.text is None:
                raise self.error(key_node.line, f"a key must be a word; use one of {', '.join(allowed)}")
            key = key_node.text
            if key not in allowed:
                close = difflib.get_close_matches(key[:50], allowed, n=1)
                way_out = f"did you mean `{close[0]}`?" if close else f"use one of {', '.join(allowed)}"
                raise self.error(key_node.line, f"unknown key `{shown(key)}`; {way_out}")
            if key in entries:
                raise self.error(key_node.line, f"`{key}` occurs twice; keep one")
            entries[key] = value
        return entries

    def _text(self, node: Node, what: str) -> str:
        if node.text is None:
            raise self.error(node.line, f"`{what}` must be text")
        if node.is_null:
            raise self.error(node.line, f"`{what}` is empty; write the text after it")
        self._one_line(node)
        return node.text

    def _one_line(self, node: Node) -> None:
        """In YAML, a dash that is indented too far continues the line above it."""
        if node.plain and node.lines > 1 and re.search(r"(^|\s)-\s", node.text or ""):
            raise self.error(
                node.line,
                f"this and the next line are read as one text, {_quoted(node.text)}: indent the dash below "
                "as far as the one before",
            )

    def _tiling(self, node: Node) -> Tiling:
        if node.text is not None:
            return read_tiling_word(node, self.error)
        return read_tiling(self._mapping(node, TILING_KEYS, "`tiling`"), node.line, self.error, self._number)

    def _lesson(self, node: Node) -> str:
        if node.text is None or not is_lesson_id(node.text):
            raise self.error(
                node.line,
                f"`lesson` must be the {LESSON_DIGITS} hexadecimal digits that `boxdrop teach` printed, not "
                f"{_quoted(node.text)}; remove the line to go back to words",
            )
        return node.text

    def _number(self, node: Node, allowed: str) -> float:
        text = (node.text or "").strip()
        if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
            raise self.error(node.line, f"{allowed}, not {_quoted(node.text)}")
        return float(text)

    def _id(self, node: Node, name: str) -> int:
        text = node.text or ""
        if not _WHOLE.fullmatch(text) or (int(text) > MAX_ID and not self.stored):
            raise self.error(
                node.line, f"id of label {_quoted(name)} must be a whole number, 0 or more, up to {MAX_ID:,}"
            )
        return int(text)

    def _color(self, node: Node, name: str) -> str:
        digits = (node.text or "").lower().removeprefix("#")
        if not re.fullmatch(r"[0-9a-f]{6}", digits):
            raise self.error(
                node.line,
                f"color of label {_quoted(name)} must be six hexadecimal digits in quotes, such as '#ffaa00'",
            )
        return f"#{digits}"


def _quoted(text: str | None) -> str:
    return "a list" if text is None else f"'{shown(text)}'"
