"""Changing a ``labels.yaml`` as text, with its comments and layout kept as they are."""

import re
from collections.abc import Mapping
from dataclasses import replace

from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.yaml_nodes import Node, read_nodes

_ITEM = re.compile(r"^(\s*)-(\s+)(\S.*?)(\s+#.*)?$")
_NAME = re.compile(r"^(\s*(?:-\s+)?)name\s*:")
_LESSON_LINE = re.compile(r"^lesson[ \t]*:.*\n?", re.MULTILINE)
_DETECTOR_LINES = re.compile(r"^detectors?[ \t]*:.*\n?(?:[ \t]*-.*\n)*", re.MULTILINE)
_LABELS_LINE = re.compile(r"^labels[ \t]*:", re.MULTILINE)
_THRESHOLD = re.compile(r"(threshold\s*:\s*)[^\s,}#]+")


def with_thresholds(text: str, thresholds: Mapping[str, float]) -> str | None:
    """Set the thresholds of some labels.

    Args:
        text: of a valid ``labels.yaml``.
        thresholds: by label name.

    Returns:
        The new text; None where it is laid out so that only writing it anew helps, such as on one line.
    """
    before = LabelSet.from_yaml(text)
    wanted = replace(
        before,
        labels=tuple(
            replace(label, threshold=thresholds.get(label.name, label.threshold)) for label in before
        ),
    )
    root = read_nodes(text)
    labels = root if root is None or root.entries is None else _entry(root, "labels")
    if labels is None or labels.items is None or len(labels.items) != len(before):
        return None
    lines = text.split("\n")
    for label, item in reversed([*zip(before, labels.items, strict=True)]):
        if label.name in thresholds and not _edit(lines, item, f"{thresholds[label.name]:g}"):
            return None
    edited = "\n".join(lines)
    return edited if LabelSet.from_yaml(edited) == wanted else None


def _entry(mapping: Node, key: str) -> Node | None:
    return next((value for name, value in mapping.entries or () if name.text == key), None)


def _edit(lines: list[str], item: Node, threshold: str) -> bool:
    """Set the threshold of one label in its lines; False where its layout is not one of those known."""
    if item.entries is None:
        written = _ITEM.match(lines[item.line - 1])
        if written is None:
            return False
        indent, gap, name, comment = written.groups()
        lines[item.line - 1] = f"{indent}-{gap}name: {name}{comment or ''}"
        lines.insert(item.line, f"{indent} {gap}threshold: {threshold}")
        return True
    present = _entry(item, "threshold")
    if present is not None:
        place = present.line - 1
        lines[place], count = _THRESHOLD.subn(rf"\g<1>{threshold}", lines[place], count=1)
        return count == 1
    name_node = _entry(item, "name")
    written = _NAME.match(lines[name_node.line - 1]) if name_node is not None else None
    if name_node is None or written is None:
        return False
    indent = written[1].replace("-", " ", 1)
    lines.insert(name_node.line, f"{indent}threshold: {threshold}")
    return True


def with_lesson(text: str, lesson: str | None, source: str = "labels.yaml") -> str:
    """The text of a labels.yaml with another lesson, or (None) with none; all else stays as it is written.

    Raises:
        LabelSetError: the text is no label set.
    """
    wanted = replace(LabelSet.from_yaml(text, source), lesson=lesson)
    line = "" if lesson is None else f'lesson: "{lesson}"\n'
    return _with_line(_LESSON_LINE.sub("", text), line, wanted)


def with_detector(text: str, detector: str, source: str = "labels.yaml") -> str:
    """The text of a labels.yaml with another detector; all else stays as it is written, but for the lesson.

    A lesson belongs to one detector, so there is none with another.

    Raises:
        LabelSetError: the text is no label set.
    """
    wanted = replace(LabelSet.from_yaml(text, source), detector=detector, lesson=None)
    rest = _LESSON_LINE.sub("", _DETECTOR_LINES.sub("", text))
    return _with_line(rest, f"detector: {detector}\n", wanted)


def _with_line(text: str, line: str, wanted: LabelSet) -> str:
    """A text with a line before its labels, if that is the label set that is wanted; else that one, anew."""
    changed = _LABELS_LINE.sub(lambda found: line + found[0], text, count=1)
    try:
        if LabelSet.from_yaml(changed) == wanted:
            return changed
    except LabelSetError:
        pass
    return wanted.to_yaml()  # it was a bare list, or YAML in braces
