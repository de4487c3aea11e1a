"""The report's part about teaching: attempts, and the learning curve as lines, fields and a plot."""

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from boxdrop.domain.curve import Curve
from boxdrop.domain.teaching import Teaching, outlook_of, sentence_of

_WIDTH: Final = 600
_HEIGHT: Final = 190
_LEFT: Final = 44
_RIGHT: Final = 44
_TOP: Final = 10
_BOTTOM: Final = 26


def newest_curve(teachings: Sequence[Teaching]) -> Curve | None:
    """The learning curve of the newest attempt that has one."""
    return next((each.curve for each in reversed(teachings) if each.curve is not None), None)


def learning_lines(teachings: Sequence[Teaching]) -> Iterator[str]:
    """For the terminal; nothing if the project was never taught."""
    if not teachings:
        return
    last = teachings[-1]
    yield f"Teaching, {last.at:%Y-%m-%d}: {sentence_of(last)}"
    curve = newest_curve(teachings)
    if curve is None:
        return
    for point in curve.points:
        images = "words alone" if not point.images else f"{point.images:,} images"
        yield f"  {images:>12}: AP {point.ap:.2f}, {point.changes:.1f} changes per image"
    yield from (f"  {each}" for each in outlook_of(curve))


def learning_fields(teachings: Sequence[Teaching]) -> dict[str, Any] | None:
    """For programs: the newest attempt, and the newest curve; None if the project was never taught."""
    if not teachings:
        return None
    last, curve = teachings[-1], newest_curve(teachings)
    fields = asdict(last) | {"at": last.at.isoformat(), "attempts": len(teachings)}
    return fields | {"curve": None if curve is None else asdict(curve)}


def learning_section(teachings: Sequence[Teaching]) -> str:
    """The insides of the page's section: sentences and the plot."""
    curve = newest_curve(teachings)
    said = [sentence_of(teachings[-1]), *([] if curve is None else outlook_of(curve))]
    text = "".join(f"<p>{html.escape(each[0].upper() + each[1:])}.</p>" for each in said)
    return text if curve is None else text + plot(curve)


def plot(curve: Curve) -> str:
    """AP (left scale) and changes per image (right scale) against the square root of the number of images.

    The forecast follows as a wedge that opens to its range.
    """
    last = curve.points[-1] if curve.forecast is None else curve.forecast
    most = max(1.0, *(each.changes for each in curve.points))
    if curve.forecast is not None:
        most = max(most, curve.forecast.changes_range[1])

    def x(images: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.sqrt(images / last.images)

    def y(share: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share)

    parts = [
        f'<path class="grid" d="M{_LEFT} {y(tick):.1f}H{_WIDTH - _RIGHT}"/>'
        + _text(_LEFT - 6, y(tick) + 4, "end", f"{tick:g}")
        + _text(_WIDTH - _RIGHT + 6, y(tick) + 4, "start", f"{most * tick:.1f}")
        for tick in (0, 0.5, 1)
    ]
    for name, of, unit in (("precision", "ap", 1.0), ("recall", "changes", most)):
        points = [(each.images, getattr(each, of) / unit) for each in curve.points]
        line = " ".join(f"{x(images):.1f},{y(value):.1f}" for images, value in points)
        parts.append(f'<polyline class="{name}" points="{line}"/>')
        parts += [
            f'<circle class="{name}-dot" cx="{x(images):.1f}" cy="{y(value):.1f}" r="3.5"><title>'
            f"{images:,} images: {value * unit:.2f}</title></circle>"
            for images, value in points
        ]
        if curve.forecast is not None:
            low, high = (each / unit for each in getattr(curve.forecast, f"{of}_range"))
            images, value = points[-1]
            begin, end = f"{x(images):.1f},{y(value):.1f}", x(curve.forecast.images)
            corners = f"{begin} {end:.1f},{y(high):.1f} {end:.1f},{y(low):.1f}"
            parts.append(f'<polygon class="{name}-band" points="{corners}"/>')
    shown = [each.images for each in curve.points if each.images >= last.images / 20 or not each.images]
    parts += [_text(x(images), _HEIGHT - 6, "middle", f"{images:,}") for images in shown]
    if curve.forecast is not None:
        parts.append(_text(x(last.images), _HEIGHT - 6, "middle", f"{last.images:,}"))
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>AP and changes per image by '
        f"the number of verified images</title>{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, anchor: str, said: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{said}</text>'
