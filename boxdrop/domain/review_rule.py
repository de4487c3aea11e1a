"""``review:`` in a labels.yaml: which annotation counts where several people annotated an image."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.label import ReviewRule
from boxdrop.domain.yaml_nodes import Node, shown

REVIEW_KEYS: Final = ("counts", "reviewers")

_WHOLE: Final = re.compile(r"[1-9][0-9]{0,9}")


def read_review(
    entries: Mapping[str, Node], line: int, error: Callable[[int | None, str], LabelSetError]
) -> ReviewRule:
    """Read the entries of ``review:``.

    Args:
        line: of the key, for messages.
        error: makes an error that names a line.

    Raises:
        LabelSetError: naming the line and the way out.
    """
    if "counts" not in entries:
        raise error(line, "`review` has no `counts`; give latest, agreed or reviewer")
    node = entries["counts"]
    reviewers = _reviewers(entries["reviewers"], error) if "reviewers" in entries else ()
    match node.text:
        case "latest":
            return ReviewRule("latest", reviewers)
        case "agreed":
            return ReviewRule("agreed", reviewers)
        case "reviewer":
            if not reviewers:
                raise error(line, "`review` has no `reviewers`; list their numbers in Label Studio")
            return ReviewRule("reviewer", reviewers)
    said = "a list" if node.text is None else f"'{shown(node.text)}'"
    raise error(node.line, f"`counts` of `review` must be latest, agreed or reviewer, not {said}")


def review_fields(rule: ReviewRule) -> dict[str, object]:
    """A rule as ``review:`` of a labels.yaml says it."""
    fields: dict[str, object] = {"counts": rule.counts}
    return fields | {"reviewers": list(rule.reviewers)} if rule.reviewers else fields


def _reviewers(node: Node, error: Callable[[int | None, str], LabelSetError]) -> tuple[int, ...]:
    texts = (node.text or "").split(",") if node.items is None else [each.text or "" for each in node.items]
    numbers = [each.strip() for each in texts]
    for number in numbers:
        if not _WHOLE.fullmatch(number):
            raise error(
                node.line,
                f"`reviewers` must be numbers that people have in Label Studio, not '{shown(number)}'",
            )
    return tuple(dict.fromkeys(map(int, numbers)))
