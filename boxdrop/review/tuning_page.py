"""Suggested thresholds as one HTML file: figures, and pictures of boxes that would appear or disappear."""

import html
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from boxdrop.assessment.outcomes import Change
from boxdrop.review.differences import Difference
from boxdrop.review.examples import Cut, Example, Picked
from boxdrop.review.page import figure_of, named_number, section

if TYPE_CHECKING:
    from boxdrop.assessment.thresholds import Suggestion

_KINDS: Final = {
    Change.ADDED: ("Boxes that appear", "In images that nobody has verified; with their scores."),
    Change.DELETED: ("Boxes that disappear", "In images that nobody has verified; with their scores."),
}


class BoxChanges(Picked):
    """Counts boxes won and lost, and picks examples of both.

    Attributes:
        won, lost: boxes by label.
    """

    def __init__(self) -> None:
        super().__init__()
        self.won: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()

    def __call__(self, difference: Difference) -> None:
        """Look at an image."""
        row, version = difference.row, difference.prediction.version
        for change, boxes, counts in (
            (Change.ADDED, difference.won, self.won),
            (Change.DELETED, difference.lost, self.lost),
        ):
            counts.update(box.label for box in boxes)
            for number, box in enumerate(boxes):
                before, after = (box.xyxy, None) if change == Change.DELETED else (None, box.xyxy)
                example = Example(row.key, version, change, box.label, None, box.score, before, after)
                self.add(example, f"{row.image_id}/{change}/{number}")


def render(
    project: str,
    names: Iterable[str],
    suggestion: "Suggestion",
    changes: BoxChanges,
    pictures: Iterable[tuple[Example, Cut | None]],
    at: datetime,
) -> str:
    """Make the page.

    Args:
        names: of the labels, in their order.
        suggestion: what verified work says.
        changes: the boxes won and lost.
        pictures: of `changes`.
        at: when it was made.
    """
    style, template = (
        (files("boxdrop.review") / name).read_text(encoding="utf-8") for name in ("page.css", "page.html")
    )
    facts = [
        ("verified images", f"{suggestion.images:,}"),
        ("F1 as now", f"{suggestion.before.f_score():.3f}"),
        ("F1, suggested", f"{suggestion.after.f_score():.3f}"),
        ("boxes that appear", f"{changes.won.total():,}"),
        ("boxes that disappear", f"{changes.lost.total():,}"),
    ]
    shown: dict[Change, list[str]] = {kind: [] for kind in _KINDS}
    for example, cut in pictures:
        shown[example.change].append(figure_of(example, cut))
    galleries = "".join(
        section(title, hint, f'<div class="gallery">{"".join(shown[kind])}</div>')
        for kind, (title, hint) in _KINDS.items()
        if shown[kind]
    )
    values = {
        "title": html.escape(f"{project}: thresholds"),
        "heading": html.escape(f"{project}: thresholds from verified work"),
        "origin": f"{at:%Y-%m-%d %H:%M} UTC",
        "style": style,
        "counts": "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts),
        "notice": "",
        "sections": _table(names, suggestion, changes) + galleries,
    }
    start, *rest = template.split("{{")
    return start + "".join(values[name] + after for name, _, after in (part.partition("}}") for part in rest))


def _table(names: Iterable[str], suggestion: "Suggestion", changes: BoxChanges) -> str:
    columns = ("threshold", "suggested", "95 % interval", "verified", "appear", "disappear")
    head = "<th></th>" + "".join(f'<th class="number">{name}</th>' for name in columns)
    body = ""
    for name, each in zip(names, suggestion.labels, strict=True):
        cells = (
            f"{each.before:g}",
            "=" if each.after == each.before else f"{each.after:g}",
            f"{each.low:.2f}–{each.high:.2f}",
            f"{each.objects:,}",
            f"{changes.won[name]:,}",
            f"{changes.lost[name]:,}",
        )
        row = "".join(map(named_number, columns, cells))
        body += f"<tr><td>{html.escape(name)}</td>{row}</tr>"
    table = f'<table class="numbers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    hint = "F1 of images that the thresholds were not learned from; boxes in images that nobody has verified."
    return section("Thresholds", hint, f'<div class="scroll">{table}</div>')
