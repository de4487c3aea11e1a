"""Parses YAML into nodes with line numbers, within limits, so no text can expand to gigabytes.

PyYAML builds values: it reads ``- no`` as a boolean, expands every alias, and for some escapes and numbers
raises plain Python errors. This module reads its events instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import yaml

MAX_NODES: Final = 50_000
"""Nodes per file; an alias counts as all nodes that it refers to."""

MAX_DEPTH: Final = 12

_NULLS: Final = ("", "~", "null", "Null", "NULL")
_SHOWN: Final = 40


class YamlError(Exception):
    """The text is not YAML, or too large.

    Attributes:
        line: from 1; None if unknown.
    """

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line


def read_nodes(text: str) -> "Node | None":
    """Read the only document of a text.

    Returns:
        Its root; None if the text is empty.

    Raises:
        YamlError: and nothing else, whatever the text.
    """
    try:
        return _Events(iter(yaml.parse(text, Loader=yaml.SafeLoader))).document()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        problem = shown(str(error.problem or error.context), 200)
        hint = "; indent with spaces, not tabs" if "\\t" in problem else ""
        raise YamlError(line, f"this is not YAML: {problem}{hint}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"U+{ord(text[error.position]):04X}"
        raise YamlError(line, f"this is not YAML: remove the character {character}") from None
    except YamlError:
        raise
    except Exception as error:  # such as ValueError for "\U00110000" and for numbers of 5,000 digits
        raise YamlError(None, f"this is not YAML: {shown(str(error), 200)}") from None


def shown(text: str, limit: int = _SHOWN) -> str:
    """The user's text for a message: printable, at most one line."""
    short = text if len(text) <= limit else f"{text[:limit]}…"
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in short)


@dataclass(slots=True)
class Node:
    """A node of the file.

    Attributes:
        line: from 1.
        text: of a scalar, else None.
        plain: whether a scalar is written without quotes and not as a block.
        block: whether a scalar is a block that keeps its line breaks (``|``).
        lines: how many lines a scalar spans.
        items: of a list, else None.
        entries: of a mapping, else None.
        size: number of nodes, with aliases expanded.
    """

    line: int
    text: str | None = None
    plain: bool = False
    block: bool = False
    lines: int = 1
    items: "list[Node] | None" = None
    entries: "list[tuple[Node, Node]] | None" = None
    size: int = 1

    @property
    def is_null(self) -> bool:
        return self.text in _NULLS and self.plain


@dataclass(slots=True)
class _Events:
    """Builds nodes from YAML's events, within limits."""

    events: Iterator[yaml.Event]
    anchors: dict[str, Node | None] = field(default_factory=dict)
    count: int = 0

    def document(self) -> Node | None:
        """The only document; None if there is none."""
        root: Node | None = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise YamlError(_line(event), "a second document begins here (`---`); keep one")
                root = self.node(next(self.events), 0)
        return root

    def node(self, event: yaml.Event, depth: int) -> Node:
        line = _line(event)
        if depth > MAX_DEPTH:
            raise YamlError(line, "this is nested far too deeply")
        if isinstance(event, yaml.AliasEvent):
            known = self.anchors.get(event.anchor or "")
            if known is None:
                raise YamlError(
                    line, f"`*{shown(event.anchor or '')}` is an alias without an anchor before it"
                )
            self._count(line, known.size)
            return known
        self._count(line, 1)
        anchor = event.anchor if isinstance(event, yaml.NodeEvent) else None
        if anchor is not None:
            self.anchors[anchor] = None  # until it is complete, since a node must not contain itself
        found = self._made(event, line, depth)
        if anchor is not None:
            self.anchors[anchor] = found
        return found

    def _made(self, event: yaml.Event, line: int, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            end = event.end_mark.line + 1 if event.end_mark else line
            plain = event.style is None
            return Node(line, str(event.value), plain, event.style == "|", 1 + end - line)
        before = self.count
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(each := next(self.events), yaml.SequenceEndEvent):
                items.append(self.node(each, depth + 1))
            return Node(line, items=items, size=1 + self.count - before)
        entries = []
        while not isinstance(each := next(self.events), yaml.MappingEndEvent):
            key = self.node(each, depth + 1)
            entries.append((key, self.node(next(self.events), depth + 1)))
        return Node(line, entries=entries, size=1 + self.count - before)

    def _count(self, line: int, nodes: int) -> None:
        self.count += nodes
        if self.count > MAX_NODES:
            raise YamlError(line, "this is far too much")


def _line(event: yaml.Event) -> int:
    return int(event.start_mark.line) + 1 if event.start_mark else 1
