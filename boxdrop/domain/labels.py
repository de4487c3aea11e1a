"""The label set: what a project detects, in the user's words.

A label set is written as ``labels.yaml`` or in the short form ``"pineapple, banana, apple"``. The detector's
prompts, Label Studio's configuration, the class ids and the exports are all derived from it, so they cannot
drift apart.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.label import (
    FIRST_ID,
    LATEST,
    MAX_NAME_LENGTH,
    UNTILED,
    Label,
    ReviewRule,
    Tiling,
    color_of,
)
from boxdrop.domain.review_rule import review_fields

__all__ = ["FIRST_ID", "MAX_NAME_LENGTH", "Label", "LabelSet", "Tiling", "color_of"]


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels in the user's order, and the other settings of ``labels.yaml``.

    Attributes:
        labels: at least one; names, prompts and ids are unique among them.
        caption: what the images show ("fruit baskets"); the project's title.
        detector: name or path of the bundle to use, if the user set it; of two, with a + between them.
        tiling: whether images are also processed in parts.
        review: how people's work is used; changes neither prompts nor boxes.
        lesson: id of the lesson that the detector uses, see `boxdrop.domain.lesson`; None for words alone.
        teaches_itself: whether verified images teach the detector without being asked to.

    >>> from boxdrop import LabelSet
    >>> fruit = LabelSet.from_short_form("pineapple, banana")
    >>> fruit.names
    ('pineapple', 'banana')
    >>> "banana" in fruit
    True
    >>> print(fruit.with_threshold(0.3).to_yaml(), end="")  # doctest: +ELLIPSIS
    labels:
    ...
    """

    labels: tuple[Label, ...]
    caption: str | None = None
    detector: str | None = None
    tiling: Tiling = UNTILED
    lesson: str | None = None
    review: ReviewRule = LATEST
    teaches_itself: bool = False
    _by_name: dict[str, Label] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {label.name: label for label in self.labels})

    @classmethod
    def from_short_form(cls, text: str) -> "LabelSet":
        """Read ``"pineapple, banana, apple"``: each name is its own prompt.

        Raises:
            LabelSetError: there is no name, or one is empty, too long or given twice.
        """
        from boxdrop.domain.label_file import read_short_form

        return cls(read_short_form(text))

    @classmethod
    def from_yaml(cls, text: str, source: str = "labels.yaml") -> "LabelSet":
        """Read the text of a ``labels.yaml``.

        Args:
            text: YAML as described in docs/labels.md.
            source: the file's name, for messages.

        Raises:
            LabelSetError: naming the source, the line and the way out.
        """
        from boxdrop.domain.label_file import read_text

        return cls(*read_text(text, source))

    @classmethod
    def from_snapshot(cls, text: str, source: str) -> "LabelSet":
        """Read the output of `to_yaml` unchanged: the rules for users have become stricter since.

        Raises:
            LabelSetError: it is not one.
        """
        from boxdrop.domain.label_file import read_snapshot

        return cls(*read_snapshot(text, source))

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

        A text that ends in ``.yaml`` or ``.yml``, or names an existing file, is a path.
        """
        path = Path(labels)
        if path.suffix.lower() in (".yaml", ".yml") or _is_file(path):
            return cls.from_file(path)
        return cls.from_short_form(labels)

    def to_yaml(self, brief: bool = False) -> str:
        """Write a labels.yaml.

        Args:
            brief: as a person would write it, without what boxdrop can work out. Otherwise everything,
                including ids and colours: `from_yaml` of the result equals this label set.

        Raises:
            LabelSetError: `brief`, and no person could write it: a caption of spaces, for example.
        """
        import yaml

        document: dict[str, object] = {}
        if self.caption is not None:
            document["caption"] = self.caption
        if self.detector is not None:
            document["detector"] = self.detector
        if self.tiling.mode == "fixed":
            document["tiling"] = {"size": self.tiling.size, "overlap": self.tiling.overlap}
        elif self.tiling.mode == "auto":
            document["tiling"] = "auto"
        if self.lesson is not None:
            document["lesson"] = self.lesson
        if self.teaches_itself:
            document["teach"] = "auto"
        if self.review != LATEST:
            document["review"] = review_fields(self.review)
        document["labels"] = [_label_field(label, brief) for label in self.labels]
        text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        if brief:
            LabelSet.from_yaml(text)
        return text

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
        """For each of `prompts`, the index of its label in `labels`."""
        return tuple(i for i, label in enumerate(self.labels) for _ in label.prompts)

    def digest(self, bundle_digest: str) -> str:
        """Hash what needs the detector again: bundle, prompts and classes of the labels, tiling, lesson.

        It excludes order, caption, colours, ids and thresholds: they only change the selection from stored
        candidates.

        Returns:
            64 hexadecimal digits.
        """
        content: dict[str, object] = {
            "bundle": bundle_digest,
            "labels": sorted(
                [label.name, sorted(label.prompts), *(["examples"] if label.examples_only else [])]
                for label in self.labels
            ),
        }
        # What is off is left out, so that digests from before there was tiling, or lessons, still hold.
        if classes := sorted([label.name, sorted(label.classes)] for label in self.labels if label.classes):
            content["classes"] = classes
        if self.tiling.mode != "off":
            content["tiling"] = asdict(self.tiling)
        if self.lesson is not None:
            content["lesson"] = self.lesson
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def with_threshold(self, threshold: float) -> "LabelSet":
        """Set a threshold for labels that have none."""
        return replace(
            self,
            labels=tuple(
                replace(label, threshold=threshold) if label.threshold is None else label
                for label in self.labels
            ),
        )

    def with_frozen_ids(self, known: Mapping[str, int]) -> "LabelSet":
        """Keep the ids of known names; new names get ids that were never used.

        A new name keeps its own id if that was never used, so an ``id`` in ``labels.yaml`` is respected.

        Args:
            known: every name that the project ever had, with its id; removed names stay reserved.
        """
        used = set(known.values())
        following = max(used, default=FIRST_ID - 1) + 1
        labels = []
        for label in self.labels:
            if label.name in known:
                frozen = known[label.name]
            elif label.id not in used:
                frozen = label.id
            else:
                frozen = following
            used.add(frozen)
            following = max(following, frozen + 1)
            color = label.color if label.color != color_of(label.id) else color_of(frozen)
            labels.append(replace(label, id=frozen, color=color))
        return replace(self, labels=tuple(labels))


def _label_field(label: Label, brief: bool) -> str | dict[str, object]:
    """A label in labels.yaml; in brief its name alone, if that says it all."""
    entry: dict[str, object] = {"name": label.name}
    if not brief or label.prompts != (label.name,):
        entry["prompts"] = list(label.prompts)
    if label.threshold is not None:
        entry["threshold"] = label.threshold
    if label.examples_only:
        entry["examples"] = "only"
    if label.classes:
        entry["classes"] = list(label.classes)
    if not brief:
        entry["id"] = label.id
    if not brief or label.color != color_of(label.id):
        entry["color"] = label.color
    return label.name if len(entry) == 1 else entry


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a long list of names is not a path
        return False
