"""``review:`` in a labels.yaml: which annotation counts, and which images need nobody."""

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal

from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.label import LATEST, ReviewRule
from boxdrop.domain.yaml_nodes import Node, shown

REVIEW_KEYS: Final = ("counts", "reviewers", "accept_above", "audit", "blind")

_LEAST_PROMISE: Final = 0.5
_LEAST_AUDIT: Final = 0.01
_MOST_BLIND: Final = 0.5
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?|\.[0-9]{1,6})\s*(%?)(?:\s+precision)?")
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
    if not entries:
        raise error(line, "`review` is empty; give `counts`, `accept_above` or `blind`")
    accept_above, audit = None, LATEST.audit
    if "accept_above" in entries:
        accept_above = _share(entries["accept_above"], "accept_above", "0.98 precision", error)
        if not _LEAST_PROMISE <= accept_above < 1:
            said = f"`accept_above` must be from {_LEAST_PROMISE} to below 1, such as 0.98 precision"
            raise error(entries["accept_above"].line, said)
    if "audit" in entries:
        if accept_above is None:
            raise error(entries["audit"].line, "`audit` needs `accept_above`: nothing else is audited")
        audit = _share(entries["audit"], "audit", "5%", error)
        if not _LEAST_AUDIT <= audit <= 1:
            raise error(entries["audit"].line, "`audit` must be from 1% to 100%, such as 5%")
    blind = 0.0
    if "blind" in entries:
        blind = _share(entries["blind"], "blind", "5%", error)
        if blind > _MOST_BLIND:
            raise error(entries["blind"].line, "`blind` must be from 0 to 50%, such as 5%")
    reviewers = _reviewers(entries["reviewers"], error) if "reviewers" in entries else ()
    return ReviewRule(_counts(entries, line, reviewers, error), reviewers, accept_above, audit, blind)


def _counts(
    entries: Mapping[str, Node],
    line: int,
    reviewers: tuple[int, ...],
    error: Callable[[int | None, str], LabelSetError],
) -> Literal["latest", "agreed", "reviewer"]:
    if "counts" not in entries:
        if reviewers:
            raise error(line, "`review` has no `counts`; give latest, agreed or reviewer")
        return "latest"
    node = entries["counts"]
    match node.text:
        case "latest":
            return "latest"
        case "agreed":
            return "agreed"
        case "reviewer":
            if not reviewers:
                raise error(line, "`review` has no `reviewers`; list their numbers in Label Studio")
            return "reviewer"
    said = "a list" if node.text is None else f"'{shown(node.text)}'"
    raise error(node.line, f"`counts` of `review` must be latest, agreed or reviewer, not {said}")


def _share(node: Node, key: str, example: str, error: Callable[[int | None, str], LabelSetError]) -> float:
    """``0.98``, ``98%`` or either with the word precision, 0 to 1."""
    found = _SHARE.fullmatch((node.text or "").strip())
    if found is None:
        said = "a list" if node.text is None else f"'{shown(node.text)}'"
        raise error(node.line, f"`{key}` must be a share such as {example}, not {said}")
    return round(float(found[1]) / (100 if found[2] else 1), 6)


def review_fields(rule: ReviewRule) -> dict[str, object]:
    """A rule as ``review:`` of a labels.yaml says it."""
    fields: dict[str, object] = {"counts": rule.counts}
    if rule.reviewers:
        fields["reviewers"] = list(rule.reviewers)
    if rule.accept_above is not None:
        fields |= {"accept_above": rule.accept_above, "audit": rule.audit}
    if rule.blind:
        fields["blind"] = rule.blind
    return fields


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
