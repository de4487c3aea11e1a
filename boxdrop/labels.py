"""The label set: what a project looks for, in the user's words.

A label set is written as ``labels.yaml`` or in the short form ``"pineapple, banana, apple"``. It makes the
prompts of the detector, the configuration of Label Studio, the class ids and the exports, so that they cannot
drift apart.
"""

import colorsys
import difflib
import hashlib
import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import yaml

from boxdrop.errors import LabelSetError

MAX_NAME_LENGTH = 100
_LABEL_KEYS = ("name", "prompts", "threshold", "id", "color")
_SET_KEYS = ("caption", "detector", "tiling", "labels")
_TILING_KEYS = ("size", "overlap")
_SMALLEST_TILE = 64
_LARGEST_OVERLAP = 0.5
_GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Label:
    """A class of objects.

    Attributes:
        name: what people see, and what exports carry.
        prompts: the words given to the detector; the best of them is the label's score.
        threshold: lowest score of a box that is shown, 0 to 1; None leaves it to the detector.
        id: the class id, frozen: it never changes meaning in the life of a project.
        color: ``#rrggbb``, a function of the id unless the user chose one.
    """

    name: str
    prompts: tuple[str, ...]
    threshold: float | None = None
    id: int = 0
    color: str = ""

    def __post_init__(self) -> None:
        if not self.color:
            object.__setattr__(self, "color", color_of(self.id))


@dataclass(frozen=True, slots=True)
class Tiling:
    """Whether, and how, images are also looked at in parts, so that small objects are found.

    Attributes:
        mode: ``off``; ``auto``, which goes by the sizes of the image and of the model's input; or ``fixed``.
        size: side of a tile in upright pixels of the image, where fixed.
        overlap: share of a tile's side that its neighbour sees as well, at most one half. Objects up to
            that size are whole in some tile.
    """

    mode: Literal["off", "auto", "fixed"] = "off"
    size: int = 0
    overlap: float = 0.2


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels in the order in which the user wrote them, and what else ``labels.yaml`` says.

    Attributes:
        labels: at least one; names, prompts and ids are unique among them.
        caption: what the images are about ("fruit baskets"); titles the project.
        detector: name or path of the bundle to use, where the user fixed it.
        tiling: whether images are looked at in parts as well.
    """

    labels: tuple[Label, ...]
    caption: str | None = None
    detector: str | None = None
    tiling: Tiling = Tiling()
    _by_name: dict[str, Label] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {label.name: label for label in self.labels})

    @classmethod
    def from_short_form(cls, text: str) -> "LabelSet":
        """Read ``"pineapple, banana, apple"``: each name is its own prompt.

        Raises:
            LabelSetError: there is no name, or one is empty, too long or given twice.
        """
        parser = _Parser("--labels")
        if not text.strip(" ,\t\n"):
            raise parser.error(None, 'no label given; write names with commas between: "pineapple, banana"')
        drafts = [_Draft(line=None, name=name) for name in text.rstrip(" ,\t\n").split(",")]
        return cls(parser.finish(drafts))

    @classmethod
    def from_yaml(cls, text: str, source: str = "labels.yaml") -> "LabelSet":
        """Read the text of a ``labels.yaml``.

        Args:
            text: YAML as described in docs/labels.md.
            source: the file's name, for messages.

        Raises:
            LabelSetError: naming the source, the line and the mend.
        """
        return _Parser(source).parse(text)

    @classmethod
    def from_file(cls, path: Path) -> "LabelSet":
        """Read a ``labels.yaml`` file.

        Raises:
            LabelSetError: the file cannot be read, or `from_yaml` finds a mistake in it.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise LabelSetError(f"{path}: no such file") from None
        except UnicodeDecodeError:
            raise LabelSetError(f"{path}: this is not UTF-8 text; save it as UTF-8") from None
        except OSError as error:
            raise LabelSetError(f"{path}: cannot be read: {error.strerror}") from None
        return cls.from_yaml(text, source=str(path))

    @classmethod
    def load(cls, labels: str) -> "LabelSet":
        """Read a label set from a path to a YAML file, or from the short form itself.

        What ends in ``.yaml`` or ``.yml``, or is an existing file, is a path.
        """
        path = Path(labels)
        if path.suffix.lower() in (".yaml", ".yml") or _is_file(path):
            return cls.from_file(path)
        return cls.from_short_form(labels)

    def to_yaml(self) -> str:
        """Write everything, ids and colours included: `from_yaml` of it is equal to this label set."""
        labels: list[dict[str, object]] = []
        for label in self.labels:
            entry: dict[str, object] = {"name": label.name, "prompts": list(label.prompts)}
            if label.threshold is not None:
                entry["threshold"] = label.threshold
            entry |= {"id": label.id, "color": label.color}
            labels.append(entry)
        document: dict[str, object] = {}
        if self.caption is not None:
            document["caption"] = self.caption
        if self.detector is not None:
            document["detector"] = self.detector
        if self.tiling.mode == "fixed":
            document["tiling"] = {"size": self.tiling.size, "overlap": self.tiling.overlap}
        elif self.tiling.mode == "auto":
            document["tiling"] = "auto"
        document["labels"] = labels
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Label:
        try:
            return self._by_name[name]
        except KeyError:
            raise KeyError(f"no label {name!r} among {', '.join(self.names)}") from None

    @property
    def names(self) -> tuple[str, ...]:
        """The labels' names, in order."""
        return tuple(label.name for label in self.labels)

    @property
    def prompts(self) -> tuple[str, ...]:
        """All prompts, label by label."""
        return tuple(prompt for label in self.labels for prompt in label.prompts)

    @property
    def prompt_labels(self) -> tuple[int, ...]:
        """For each of `prompts`, the index in `labels` of the label that it stands for."""
        return tuple(i for i, label in enumerate(self.labels) for _ in label.prompts)

    def digest(self, bundle_digest: str) -> str:
        """Hash what needs the detector again: the bundle, each label's prompts, and the tiling.

        Order, caption, colours, ids and thresholds are not in it: they change what stored candidates become.

        Returns:
            64 hexadecimal digits.
        """
        content: dict[str, object] = {
            "bundle": bundle_digest,
            "labels": sorted([label.name, sorted(label.prompts)] for label in self.labels),
        }
        if self.tiling.mode != "off":  # left out where it is off: digests from before there was tiling hold
            content["tiling"] = asdict(self.tiling)
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def with_threshold(self, threshold: float) -> "LabelSet":
        """Give a threshold to the labels that have none of their own."""
        return replace(
            self,
            labels=tuple(
                replace(label, threshold=threshold) if label.threshold is None else label
                for label in self.labels
            ),
        )

    def with_frozen_ids(self, known: Mapping[str, int]) -> "LabelSet":
        """Keep the ids that names already have; new names get ids never used before.

        Args:
            known: every name that the project ever had, with its id; names since removed stay reserved.
        """
        following = max(known.values(), default=-1) + 1
        labels = []
        for label in self.labels:
            if label.name in known:
                frozen = known[label.name]
            else:
                frozen, following = following, following + 1
            color = label.color if label.color != color_of(label.id) else color_of(frozen)
            labels.append(replace(label, id=frozen, color=color))
        return replace(self, labels=tuple(labels))


def color_of(class_id: int) -> str:
    """Colour of a class id, ``#rrggbb``: hues a golden ratio apart, so that neighbours always differ."""
    hue = (0.02 + class_id * _GOLDEN_RATIO) % 1.0
    lightness = (0.46, 0.58, 0.38)[class_id // 8 % 3]
    red, green, blue = (round(255 * value) for value in colorsys.hls_to_rgb(hue, lightness, 0.78))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a long list of names is no path
        return False


@dataclass(slots=True)
class _Draft:
    """A label as written, before names, prompts and ids are checked against each other."""

    line: int | None
    name: str
    prompts: list[str] | None = None
    threshold: float | None = None
    id: int | None = None
    color: str = ""


class _Parser:
    """Reads YAML nodes instead of values: they know their line, and ``- no`` stays the word it is."""

    def __init__(self, source: str) -> None:
        self.source = source

    def error(self, line: int | None, message: str) -> LabelSetError:
        where = f"{self.source}: line {line}" if line is not None else self.source
        return LabelSetError(f"{where}: {message}")

    def parse(self, text: str) -> LabelSet:
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else None
            raise self.error(line, f"this is not YAML: {error.problem or error.context}") from None
        except yaml.YAMLError as error:
            raise self.error(None, f"this is not YAML: {str(error).splitlines()[0]}") from None
        except RecursionError:
            raise self.error(None, "this is nested far too deeply for a label set") from None
        if root is None:
            raise self.error(None, "the file is empty; give at least `labels:` and one name")
        if isinstance(root, yaml.SequenceNode):
            return LabelSet(self.finish([self._draft(node) for node in root.value]))
        entries = self._mapping(root, _SET_KEYS, "the file")
        if "labels" not in entries:
            raise self.error(1, "there is no `labels:`; give a list of names under it")
        labels = entries["labels"]
        if isinstance(labels, yaml.ScalarNode) and labels.value.strip():
            drafts = [_Draft(_line(labels), name) for name in labels.value.split(",")]
        elif isinstance(labels, yaml.SequenceNode):
            drafts = [self._draft(node) for node in labels.value]
        else:
            raise self.error(_line(labels), "`labels` must be a list of names, each after a dash")
        texts = {key: self._text(entries[key], key) for key in ("caption", "detector") if key in entries}
        tiling = self._tiling(entries["tiling"]) if "tiling" in entries else Tiling()
        return LabelSet(self.finish(drafts), texts.get("caption"), texts.get("detector"), tiling)

    def finish(self, drafts: list[_Draft]) -> tuple[Label, ...]:
        """Check the drafts against each other and number them."""
        if not drafts:
            raise self.error(None, "there is no label; give at least one")
        names: dict[str, str] = {}
        prompt_owners: dict[str, str] = {}
        taken = {draft.id for draft in drafts if draft.id is not None}
        free = (number for number in range(len(drafts) + len(taken)) if number not in taken)
        ids: set[int] = set()
        labels = []
        for draft in drafts:
            name = self._clean(draft.name, draft.line, "a label's name")
            if name.casefold() in names:
                raise self.error(
                    draft.line, f"label {name!r} is there twice (as {names[name.casefold()]!r}); remove one"
                )
            names[name.casefold()] = name
            if draft.prompts is not None and not draft.prompts:
                raise self.error(draft.line, f"label {name!r} has no prompts; give at least one")
            prompts: list[str] = []
            for written in draft.prompts if draft.prompts is not None else [name]:
                prompt = self._clean(written, draft.line, f"a prompt of label {name!r}")
                owner = prompt_owners.setdefault(prompt.casefold(), name)
                if owner != name:
                    raise self.error(
                        draft.line,
                        f"prompt {prompt!r} belongs to {owner!r} and {name!r}; keep it in one",
                    )
                if prompt not in prompts:
                    prompts.append(prompt)
            number = draft.id if draft.id is not None else next(free)
            if number in ids:
                raise self.error(draft.line, f"id {number} of label {name!r} is taken; ids are used once")
            ids.add(number)
            labels.append(Label(name, tuple(prompts), draft.threshold, number, draft.color))
        return tuple(labels)

    def _draft(self, node: yaml.Node) -> _Draft:
        line = _line(node)
        if isinstance(node, yaml.ScalarNode):
            return _Draft(line, self._text(node, "a label's name"))
        entries = self._mapping(node, _LABEL_KEYS, "a label")
        if "name" not in entries:
            raise self.error(line, "this label has no name; give `name:`")
        draft = _Draft(line, self._text(entries["name"], "name"))
        if "prompts" in entries:
            prompts = entries["prompts"]
            if isinstance(prompts, yaml.SequenceNode):
                draft.prompts = [self._text(prompt, "a prompt") for prompt in prompts.value]
            elif isinstance(prompts, yaml.ScalarNode):
                text = prompts.value.strip()
                draft.prompts = [] if text in ("", "null", "~") else [text]
            else:
                raise self.error(_line(prompts), f"`prompts` of label {draft.name!r} must be a list of words")
        if "threshold" in entries:
            draft.threshold = self._threshold(entries["threshold"], draft.name)
        if "id" in entries:
            draft.id = self._id(entries["id"], draft.name)
        if "color" in entries:
            draft.color = self._color(entries["color"], draft.name)
        return draft

    def _mapping(self, node: yaml.Node, allowed: tuple[str, ...], what: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self.error(_line(node), f"{what} must be written as `key: value` ({', '.join(allowed)})")
        entries: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = str(key_node.value)
            if key not in allowed:
                close = difflib.get_close_matches(key, allowed, n=1)
                mend = f"did you mean `{close[0]}`?" if close else f"use one of {', '.join(allowed)}"
                raise self.error(_line(key_node), f"unknown key `{key}`; {mend}")
            if key in entries:
                raise self.error(_line(key_node), f"`{key}` is there twice; keep one")
            entries[key] = value
        return entries

    def _text(self, node: yaml.Node, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(_line(node), f"`{what}` must be text")
        if node.style is None and node.value in ("", "null", "~"):
            raise self.error(_line(node), f"`{what}` is empty; write the text after it")
        return str(node.value)

    def _clean(self, text: str, line: int | None, what: str) -> str:
        text = " ".join(unicodedata.normalize("NFC", text).split())
        if not text:
            raise self.error(line, f"{what} is empty; remove the dash or comma, or write a name")
        if len(text) > MAX_NAME_LENGTH:
            raise self.error(line, f"{what} is over {MAX_NAME_LENGTH} characters: {text[:30]!r}…; shorten it")
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
            raise self.error(line, f"{what} holds a control character: {text!r}; remove it")
        return text

    def _tiling(self, node: yaml.Node) -> Tiling:
        if isinstance(node, yaml.ScalarNode):
            if node.value == "off":
                return Tiling()
            if node.value == "auto":
                return Tiling("auto")
            raise self.error(
                _line(node), f"`tiling` must be auto, off, or size and overlap, not {node.value!r}"
            )
        entries = self._mapping(node, _TILING_KEYS, "`tiling`")
        if "size" not in entries:
            raise self.error(
                _line(node), "`tiling` has no `size`; give the side of a tile in pixels, or auto"
            )
        size = entries["size"].value
        if not (isinstance(size, str) and size.isascii() and size.isdigit() and int(size) >= _SMALLEST_TILE):
            raise self.error(
                _line(entries["size"]),
                f"`size` of `tiling` must be a whole number of pixels, {_SMALLEST_TILE} or more",
            )
        overlap = Tiling().overlap if "overlap" not in entries else self._overlap(entries["overlap"])
        return Tiling("fixed", int(size), overlap)

    def _overlap(self, node: yaml.Node) -> float:
        try:
            value = float(node.value)
        except (TypeError, ValueError):
            value = float("nan")
        if not 0.0 <= value <= _LARGEST_OVERLAP:
            raise self.error(
                _line(node),
                f"`overlap` of `tiling` must be from 0 to {_LARGEST_OVERLAP}, a share of the tile, "
                f"not {node.value!r}",
            )
        return value

    def _threshold(self, node: yaml.Node, name: str) -> float:
        try:
            value = float(node.value)
        except (TypeError, ValueError):
            value = float("nan")
        if not 0.0 < value <= 1.0:
            raise self.error(
                _line(node), f"threshold of label {name!r} must be over 0 and at most 1, not {node.value!r}"
            )
        return value

    def _id(self, node: yaml.Node, name: str) -> int:
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        if not (text.isascii() and text.isdigit()):
            raise self.error(_line(node), f"id of label {name!r} must be a whole number, 0 or more")
        return int(text)

    def _color(self, node: yaml.Node, name: str) -> str:
        text = str(node.value).lower() if isinstance(node, yaml.ScalarNode) else ""
        digits = text.removeprefix("#")
        if len(digits) != 6 or any(digit not in "0123456789abcdef" for digit in digits):
            raise self.error(
                _line(node),
                f"color of label {name!r} must be six hexadecimal digits in quotes, such as '#ffaa00'",
            )
        return f"#{digits}"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
