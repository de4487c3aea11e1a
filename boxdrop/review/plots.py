"""The report's plots as inline SVG, which needs neither a script nor a picture file."""

from collections.abc import Mapping, Sequence
from typing import Final

from boxdrop.assessment.intervals import Share
from boxdrop.review.figures import IOU_BINS, Figures

_WIDTH: Final = 600
_HEIGHT: Final = 190
_LEFT: Final = 44
_RIGHT: Final = 10
_TOP: Final = 10
_BOTTOM: Final = 26
_MOST_DATES: Final = 6


def share_range(share: Share, trusted: float) -> str:
    """An interval from 0 to 100 % with its point, and the bar from which on it is trusted."""
    parts = ['<rect class="track" width="100" height="9" rx="1"/>']
    if share.value is not None:
        width = max(100 * (share.high - share.low), 0.5)
        parts.append(f'<rect class="interval" x="{100 * share.low:.2f}" width="{width:.2f}" height="9"/>')
        point = min(max(100 * share.value - 0.6, 0.0), 98.8)
        parts.append(f'<rect class="point" x="{point:.2f}" width="1.2" height="9"/>')
    parts.append(f'<rect class="bar" x="{100 * trusted - 0.2:.2f}" width="0.4" height="9"/>')
    shape = 'class="range" viewBox="0 0 100 9" preserveAspectRatio="none" aria-hidden="true"'
    return f"<svg {shape}>{''.join(parts)}</svg>"


def fates(figures: Figures) -> str:
    """One bar of what became of the boxes: offered ones by their fate, and added ones."""
    counts = {
        "kept": figures.kept,
        "adjusted": figures.adjusted,
        "relabelled": figures.relabelled,
        "deleted": figures.deleted,
        "added": figures.added,
    }
    total = sum(counts.values()) or 1
    parts, x = [], 0.0
    for name, count in counts.items():
        width = 100 * count / total
        parts.append(f'<rect class="fill-{name}" x="{x:.2f}" width="{width:.2f}" height="10"/>')
        x += width
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    return (
        f'<svg class="fates" viewBox="0 0 100 10" preserveAspectRatio="none" role="img">'
        f"<title>{said}</title>{''.join(parts)}</svg>"
    )


def overlaps(bins: Sequence[int]) -> str:
    """The distribution of the adjusted boxes' overlap with what was offered."""
    most = max(bins) or 1
    across = (_WIDTH - _LEFT - _RIGHT) / IOU_BINS
    down = _HEIGHT - _TOP - _BOTTOM
    bars = []
    for place, count in enumerate(bins):
        height = down * count / most
        bars.append(
            f'<rect class="fill-adjusted" x="{_LEFT + place * across + 1:.1f}" width="{across - 2:.1f}" '
            f'y="{_TOP + down - height:.1f}" height="{height:.1f}"><title>IoU {place / IOU_BINS:.2f} to '
            f"{(place + 1) / IOU_BINS:.2f}: {count:,}</title></rect>"
        )
    ticks = [
        _text(_LEFT + (_WIDTH - _LEFT - _RIGHT) * tick, _HEIGHT - 6, "middle", f"{tick:g}")
        for tick in (0, 0.25, 0.5, 0.75, 1)
    ]
    floor = f'<path class="grid" d="M{_LEFT} {_TOP + down}H{_WIDTH - _RIGHT}"/>'
    scale = _text(_LEFT - 6, _TOP + 11, "end", f"{most:,}")
    return _plot("Overlap of adjusted boxes with what was offered", "".join((floor, *bars, *ticks, scale)))


def over_time(periods: Mapping[str, Figures]) -> str:
    """Precision and recall by day or week, each with its interval as a band."""
    across, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    dates = list(periods)
    step = across / max(len(dates) - 1, 1)

    def y(value: float) -> float:
        return _TOP + down * (1 - value)

    parts = [
        f'<path class="grid" d="M{_LEFT} {y(tick):.1f}H{_WIDTH - _RIGHT}"/>'
        + _text(_LEFT - 6, y(tick) + 4, "end", f"{100 * tick:.0f} %")
        for tick in (0, 0.5, 1)
    ]
    for name in ("precision", "recall"):
        shares = [(place, getattr(each, name)) for place, each in enumerate(periods.values())]
        known = [(_LEFT + step * place, share) for place, share in shares if share.value is not None]
        upper = [f"{x:.1f},{y(share.high):.1f}" for x, share in known]
        lower = [f"{x:.1f},{y(share.low):.1f}" for x, share in reversed(known)]
        parts.append(f'<polygon class="{name}-band" points="{" ".join(upper + lower)}"/>')
        line = " ".join(f"{x:.1f},{y(share.value):.1f}" for x, share in known)
        parts.append(f'<polyline class="{name}" points="{line}"/>')
        if len(known) <= 60:
            parts += [
                f'<circle class="{name}-dot" cx="{x:.1f}" cy="{y(share.value):.1f}" r="3.5"/>'
                for x, share in known
            ]
    every = -(-len(dates) // _MOST_DATES)
    cut = slice(0, 7) if dates and dates[0][:4] != dates[-1][:4] else slice(5, None)
    for place in range(0, len(dates), every):
        anchor = "start" if place == 0 else "end" if place == len(dates) - 1 else "middle"
        parts.append(_text(_LEFT + step * place, _HEIGHT - 6, anchor, dates[place][cut]))
    return _plot("Precision and recall over time", "".join(parts))


def _text(x: float, y: float, anchor: str, said: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{said}</text>'


def _plot(title: str, inside: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>{title}</title>{inside}</svg>'
    )
