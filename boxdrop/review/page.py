"""The report as one HTML file: pictures and plots are in it, and it needs neither a script nor a network."""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from itertools import groupby
from typing import Final

from boxdrop.assessment.control import say_control
from boxdrop.assessment.intervals import Share
from boxdrop.assessment.outcomes import Change, Corners
from boxdrop.domain.teaching import Teaching
from boxdrop.review.examples import Cut, Example
from boxdrop.review.figures import Figures, Report, Verdict
from boxdrop.review.learning import learning_section
from boxdrop.review.plots import fates, over_time, overlaps, share_range
from boxdrop.review.standing import Standing, standing_line

_MOST_LABELS: Final = 12
"""Labels in the table of confusions; with more, the pairs are listed."""
_HALF_LABELS: Final = 5
"""Labels in a table of confusions that takes half of the page's width."""
_MOST_PAIRS: Final = 30
_MOST_DISAGREEMENTS: Final = 20

_KINDS: Final = {
    Change.RELABELLED: ("Relabelled", "The annotator gave the box another label."),
    Change.DELETED: ("Deleted", "Offered (dashed), and nothing of the kind is there."),
    Change.ADDED: ("Added", "Drawn by the annotator: the detector had not offered it."),
    Change.ADJUSTED: ("Adjusted", "Offered dashed, verified in green."),
}


def render(
    project: str,
    report: Report,
    *,
    trusted: float,
    at: datetime,
    pictures: Iterable[tuple[Example, Cut | None]] = (),
    teachings: Sequence[Teaching] = (),
    standing: Standing | None = None,
) -> str:
    """Make the page.

    Args:
        project: its name, the title.
        report: what is shown.
        trusted: the bar of the verdicts.
        at: when it was counted.
        pictures: examples, those of one kind of change together.
        teachings: what came of teaching the project, oldest first.
        standing: how the images that nobody has to check stand; None where the labels ask for none.
    """
    style, template = (
        (files("boxdrop.review") / name).read_text(encoding="utf-8") for name in ("page.css", "page.html")
    )
    values = {
        "title": html.escape(project),
        "heading": f"{html.escape(project)}: what people changed",
        "origin": html.escape(" · ".join([*report.models, f"{at:%Y-%m-%d %H:%M} UTC"])),
        "style": style,
        "counts": _counts(report),
        "notice": _notice(report),
        "sections": "\n".join(_sections(project, report, trusted, pictures, teachings, standing)),
    }
    first, *rest = template.split("{{")
    return first + "".join(values[name] + after for name, _, after in (part.partition("}}") for part in rest))


def _counts(report: Report) -> str:
    whole = report.whole
    facts = [("images verified", f"{report.images:,}")]
    if whole.images:
        facts.append(("submitted unchanged", f"{100 * whole.untouched / whole.images:.0f} %"))
    facts.append(("boxes offered", f"{whole.offered:,}"))
    facts += [
        (name, f"{100 * share.value:.0f} %")
        for name, share in (("precision", whole.precision), ("recall", whole.recall))
        if share.value is not None
    ]
    if whole.seconds.median is not None:
        facts.append(("seconds per image", f"{whole.seconds.median:.1f}"))
    skipped = report.left_out.get("skipped")
    if skipped:
        facts.append(("skipped", f"{skipped:,}"))
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)


def _notice(report: Report) -> str:
    said = []
    others = {why: count for why, count in report.left_out.items() if why != "skipped"}
    if others:
        said.append("Left out: " + ", ".join(f"{count:,} {why}" for why, count in others.items()) + ".")
    if report.unknown_start:
        said.append(
            f"{report.unknown_start:,} verified images are not counted below: the prediction was replaced "
            "while the task was open."
        )
    return f'<p class="notice">{html.escape(" ".join(said))}</p>' if said else ""


def _sections(
    project: str,
    report: Report,
    trusted: float,
    pictures: Iterable[tuple[Example, Cut | None]],
    teachings: Sequence[Teaching],
    standing: Standing | None,
) -> Iterator[str]:
    if not report.whole.images:
        yield section("Nothing to report yet", "Verify tasks in Label Studio first.", "")
        return
    yield _labels(report, trusted)
    if report.control is not None:
        hint = (
            f"{report.control.blind.images:,} images were verified without seeing boxes, drawn by a hash, "
            f"beside {report.control.shown.images:,} with them; 95 % intervals in brackets."
        )
        said = "".join(f"<p>{html.escape(each)}</p>" for each in say_control(report.control))
        yield section("What boxes do to people", hint, said)
    if standing is not None:
        hint = "Accepted images are not verified work: nothing else on this page counts them."
        line = standing_line(project, standing)
        said = f"<p>{html.escape(line[0].upper() + line[1:])}.</p>"
        yield section("Images that need nobody", hint, said)
    cuts = [("size", report.sizes), ("overlap", report.overlaps), ("", report.qualities)]
    rows = [
        (f"{cut}: {name}" if cut else name, each)
        for cut, parts in cuts
        for name, each in parts.items()
        if each.offered or each.verified
    ]
    note = f" Quality was measured on {report.quality_images:,} images." if report.quality_images else ""
    hint = (
        "Precision by the offered box, recall by the verified one. Small: below 32² pixels, large: from 96² "
        f"on. Overlap: IoU with the nearest other box, some from 0.1 on, much from 0.3 on.{note}"
    )
    yield section("Where the detector fails", hint, _shares("boxes", rows, trusted))
    if report.confusion:
        hint = "Relabelled boxes: rows were offered, columns are what annotators made of them."
        is_wide = len({name for pair in report.confusion for name in pair}) > _HALF_LABELS
        yield section("Confused labels", hint, _confusion(report.confusion), "" if is_wide else "half")
    if report.whole.adjusted:
        title = "How far boxes were adjusted"
        hint = f"{report.whole.adjusted:,} adjusted boxes by their overlap (IoU) with what was offered."
        yield section(title, hint, overlaps(report.whole.ious), "half")
    if report.shared:
        hint = (
            f"{report.shared:,} images were annotated by several people. Agreement: the share of their boxes "
            "that another one drew, too."
        )
        yield section("Agreement of annotators", hint, _agreement(report), "half")
    if len(report.periods) > 1:
        hint = "By day or week of the verification, with 95 % intervals."
        key = _key({"precision": "precision-dot", "recall": "recall-dot"})
        yield section("Over time", hint, key + over_time(report.periods), "half")
    if teachings:
        hint = "On images that the fit had not seen. Changes: boxes to delete or draw. Shaded: 95 % of cases."
        key = _key({"AP": "precision-dot", "changes per image": "recall-dot"})
        yield section("Teaching", hint, key + learning_section(teachings), "half")
    work = [("detector", report.models), ("annotator", report.annotators)]
    tables = "".join(_work(name, parts) for name, parts in work)
    hint = "Annotators by their number in Label Studio. Seconds: median of an image."
    yield section("By detector and annotator", hint, tables, "half")
    by_kind = {kind: list(found) for kind, found in groupby(pictures, lambda pair: pair[0].change)}
    for kind, (title, hint) in _KINDS.items():
        if kind in by_kind:
            figures = "".join(figure_of(example, cut) for example, cut in by_kind[kind])
            yield section(f"Examples: {title.lower()}", hint, f'<div class="gallery">{figures}</div>')


def section(title: str, hint: str, inside: str, kind: str = "") -> str:
    """A part of a page, as HTML; `hint` is text."""
    return (
        f'<section class="{kind}"><h2>{title}</h2><p class="hint">{html.escape(hint)}</p>{inside}</section>'
    )


def _key(classes: Mapping[str, str]) -> str:
    """What the colours mean; a class gives each its colour."""
    square = '<svg viewBox="0 0 11 11"><rect class="{}" width="11" height="11" rx="3"/></svg>'
    items = "".join(f"<li>{square.format(each)}{name}</li>" for name, each in classes.items())
    return f'<ul class="key">{items}</ul>'


def _table(columns: Sequence[tuple[str, str]], rows: Iterable[str], kind: str = "") -> str:
    """A table that scrolls by itself where it is too wide.

    Args:
        columns: name and class of each.
        rows: the cells of each.
    """
    head = "".join(f'<th class="{each}">{html.escape(name)}</th>' for name, each in columns)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _number(text: str) -> str:
    return f'<td class="number">{text}</td>'


def named_number(name: str, text: str) -> str:
    """A cell of a table of the class ``numbers``; narrow windows show the column's name beside it."""
    return f'<td class="number" data-name="{name}">{text}</td>'


def _labels(report: Report, trusted: float) -> str:
    rows = []
    for name, each in report.labels.items():
        verdict = each.verdict(trusted)
        kind = "trust" if verdict == Verdict.TRUST else "" if verdict == Verdict.UNSURE else "not"
        rows.append(
            f'<td>{html.escape(name)}</td><td class="wide">{fates(each)}</td>'
            f"{_number(f'{each.offered:,}')}{_number(f'{each.added:,}')}"
            f"{_share('precision', each.precision, trusted)}{_share('recall', each.recall, trusted)}"
            f'<td class="wide"><span class="verdict {kind}">{verdict}</span></td>'
        )
    names = ("kept", "adjusted", "relabelled", "deleted", "added")
    hint = (
        f"95 % intervals; the line marks {100 * trusted:.0f} %. A label is not trusted where an interval "
        "lies below it. Recall is an upper bound: annotators may overlook what was not offered."
    )
    columns = [("label", ""), ("boxes", ""), ("offered", "number"), ("added", "number")]
    columns += [("precision", ""), ("recall", ""), ("", "")]
    key = _key({name: f"fill-{name}" for name in names})
    return section("Which labels to trust", hint, key + _table(columns, rows, "stack"))


def _share(name: str, share: Share, trusted: float) -> str:
    if share.value is None:
        return f'<td class="share" data-name="{name}"><span>·</span></td>'
    said = f"<b>{100 * share.value:.0f} %</b><small>{100 * share.low:.0f}–{100 * share.high:.0f}</small>"
    return f'<td class="share" data-name="{name}"><span>{said}</span>{share_range(share, trusted)}</td>'


def _shares(title: str, rows: Sequence[tuple[str, Figures]], trusted: float) -> str:
    columns = [(title, ""), ("offered", "number"), ("precision", ""), ("verified", "number"), ("recall", "")]
    body = (
        f'<td class="wide">{html.escape(name)}</td>{_number(f"{each.offered:,}")}'
        f"{_share('precision', each.precision, trusted)}{_number(f'{each.verified:,}')}"
        f"{_share('recall', each.recall, trusted)}"
        for name, each in rows
    )
    return _table(columns, body, "stack")


def _confusion(confusion: Mapping[tuple[str, str], int]) -> str:
    names = sorted({name for pair in confusion for name in pair})
    if len(names) > _MOST_LABELS:
        pairs = sorted(confusion.items(), key=lambda pair: -pair[1])[:_MOST_PAIRS]
        return _table(
            [("offered → verified", ""), ("boxes", "number")],
            (f"<td>{html.escape(' → '.join(pair))}</td>{_number(f'{count:,}')}" for pair, count in pairs),
        )
    most = max(confusion.values())

    def cell(count: int) -> str:
        return f'<td class="number" style="--heat: {70 * count / most:.0f}%">{count or ""}</td>'

    rows = (
        f"<td>{html.escape(offered)}</td>"
        + "".join(cell(confusion.get((offered, verified), 0)) for verified in names)
        for offered in names
    )
    return _table([("", ""), *((name, "number") for name in names)], rows, "matrix")


def _agreement(report: Report) -> str:
    rows = []
    for name, share in report.agreement.items():
        value, low, high = (100 * each for each in (share.value or 0.0, share.low, share.high))
        cells = _number(f"{share.of:,}") + _number(f"{value:.0f} % ({low:.0f}–{high:.0f})")
        rows.append(f"<td>{html.escape(name)}</td>{cells}")
    listed = []
    for each in report.disagreements[:_MOST_DISAGREEMENTS]:
        label, other = each.difference.label, each.difference.other or "nothing"
        first, second = (str(user or "?") for user in each.users)
        said = f"{html.escape(label)} by {first}, {html.escape(other)} by {second}"
        listed.append(f"<td>task {each.task_id}</td><td>{said}</td>")
    tables = _table([("label", ""), ("boxes", "number"), ("agreement", "number")], rows)
    return tables + (_table([("disagreement", ""), ("annotators", "")], listed) if listed else "")


def _work(title: str, parts: Mapping[str, Figures]) -> str:
    def row(name: str, each: Figures) -> str:
        shares = [
            "·" if share.value is None else f"{100 * share.value:.0f} %"
            for share in (each.precision, each.recall)
        ]
        median = "·" if each.seconds.median is None else f"{each.seconds.median:.1f}"
        cells = (f"{each.images:,}", f"{each.untouched:,}", *shares, median)
        title_cell = f"<td>{html.escape(f'{title} {name}' if name.isdecimal() else name)}</td>"
        return title_cell + "".join(map(named_number, columns, cells))

    columns = ("images", "unchanged", "precision", "recall", "seconds")
    head = [(title, ""), *((column, "number") for column in columns)]
    return _table(head, (row(name, each) for name, each in parts.items()), "numbers")


def figure_of(example: Example, cut: Cut | None) -> str:
    """An example with its picture, as HTML."""
    if cut is None:
        inside = "<p>The image can no longer be read.</p>"
    else:
        left, top, right, bottom = cut.corners
        boxes = [("before", example.before), ("after", example.after)]
        rects = "".join(_rect(name, box) for name, box in boxes if box is not None)
        inside = (
            f'<svg viewBox="{left:g} {top:g} {right - left:g} {bottom - top:g}" role="img">'
            f'<image href="{cut.jpeg}" x="{left:g}" y="{top:g}" width="{right - left:g}" '
            f'height="{bottom - top:g}" preserveAspectRatio="none"/>{rects}</svg>'
        )
    said = html.escape(example.label)
    if example.change == Change.RELABELLED and example.became is not None:
        said += f" → {html.escape(example.became)}"
    if example.score is not None:
        said += f" <small>{example.score:.2f}</small>"
    name = html.escape(example.key.rpartition("/")[2])
    caption = f"<figcaption>{said}<span>{name}</span></figcaption>"
    return f'<figure><span class="pic">{inside}</span>{caption}</figure>'


def _rect(name: str, box: Corners) -> str:
    left, top, right, bottom = box
    place = f'x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}"'
    return f'<rect class="halo" {place}/><rect class="{name}" {place}/>'
