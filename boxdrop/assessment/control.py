"""What boxes do to the people who see them, by a blind control slice: time saved, and anchoring.

A hash draws the slice, so its images differ from the others by nothing but the boxes. Three things are
compared, each with a 95 % interval:

- the time that an image takes: the ratio of geometric means, since times are skewed (Welch's interval on
  logarithms);
- the share of the detector's boxes that people confirm: higher where they see them, if people keep wrong
  boxes because they are there (Newcombe's interval of a difference, from the intervals of both shares);
- the objects that people draw and the detector did not find: fewer where they see boxes, if people overlook
  what was not offered (Welch's interval of the difference of means per image).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from boxdrop.assessment.intervals import Clusters, Share, student

_LEAST: Final = 2
"""Images below which a spread cannot be estimated."""

_LEAST_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Watched:
    """A verified image.

    Attributes:
        at: when it was saved last.
        is_blind: whether the person saw no boxes.
        seconds: that it took; None if unknown.
        right, boxes: of the detector, whether the person saw them or not.
        beyond: verified boxes that the detector did not find.
    """

    at: datetime
    is_blind: bool
    seconds: float | None
    right: int
    boxes: int
    beyond: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Side:
    """Images verified with boxes, or without.

    Attributes:
        images: how many.
        seconds: median of an image; None if unknown.
        confirmed: the detector's boxes that people confirm.
        beyond: objects per image that the detector did not find.
    """

    images: int
    seconds: float | None
    confirmed: Share
    beyond: float


@dataclass(frozen=True, slots=True)
class Control:
    """What boxes do to people.

    Attributes:
        shown, blind: the images of both kinds, since the first blind one was verified.
        time: how long an image with boxes takes, as a multiple of one without; None where times are unknown.
        led: by how much more of the detector's boxes people confirm where they see them, as a difference of
            shares.
        overlooked: how many objects per image fewer people draw beyond the detector's where they see boxes.
    """

    shown: Side
    blind: Side
    time: Interval | None
    led: Interval | None
    overlooked: Interval | None


def compare_sides(images: Sequence[Watched]) -> Control | None:
    """Compare images verified with boxes and without; None where there are not two of each.

    Only images since the first blind one count: before, people may have worked differently.
    """
    first = min((each.at for each in images if each.is_blind), default=None)
    if first is None:
        return None
    shown = [each for each in images if not each.is_blind and each.at >= first]
    blind = [each for each in images if each.is_blind]
    if min(len(shown), len(blind)) < _LEAST:
        return None
    sides = _side(shown), _side(blind)
    logs = [
        [math.log(max(each.seconds, _LEAST_SECONDS)) for each in side if each.seconds is not None]
        for side in (shown, blind)
    ]
    time = _difference(*logs)
    beyond = [[float(each.beyond) for each in side] for side in (blind, shown)]
    return Control(
        *sides,
        time=None if time is None else Interval(*map(math.exp, (time.value, time.low, time.high))),
        led=_newcombe(sides[0].confirmed, sides[1].confirmed),
        overlooked=_difference(*beyond),
    )


def _side(images: Sequence[Watched]) -> Side:
    clusters = Clusters()
    for each in images:
        clusters.add(each.right, each.boxes)
    seconds = [each.seconds for each in images if each.seconds is not None]
    return Side(
        len(images),
        statistics.median(seconds) if seconds else None,
        clusters.share(),
        sum(each.beyond for each in images) / len(images),
    )


def _difference(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """The difference of two means with Welch's interval; None where a spread cannot be estimated."""
    if min(len(first), len(second)) < _LEAST:
        return None
    value = statistics.fmean(first) - statistics.fmean(second)
    parts = [statistics.variance(each) / len(each) for each in (first, second)]
    error = math.sqrt(sum(parts))
    if not error:
        return Interval(value, value, value)
    spread = sum(part * part / (len(each) - 1) for part, each in zip(parts, (first, second), strict=True))
    half = student(max(1, int(error**4 / spread))) * error
    return Interval(value, value - half, value + half)


def _newcombe(first: Share, second: Share) -> Interval | None:
    """The difference of two shares, by their own intervals (Newcombe 1998, *Statistics in Medicine*)."""
    if first.value is None or second.value is None:
        return None
    value = first.value - second.value
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return Interval(value, low, high)


def say_control(control: Control) -> list[str]:
    """One sentence for each of the three, as the report says it; each says where nothing is sure."""
    said = []
    if control.time is not None and control.shown.seconds is not None and control.blind.seconds is not None:
        saved = [1 - each for each in (control.time.value, control.time.high, control.time.low)]
        medians = f"{control.blind.seconds:.1f} s without boxes, {control.shown.seconds:.1f} s with them"
        does, more = ("save", "of the time") if saved[0] >= 0 else ("cost", "more time")
        low, high = sorted(saved[1:]) if saved[0] >= 0 else sorted(-each for each in saved[1:])
        said.append(
            f"Time: {medians} (medians); boxes {does} {_percent(abs(saved[0]))} {more} "
            f"({_percent(low)} to {_percent(high)}){_unsure(saved[1], saved[2])}."
        )
    first, second = control.shown.confirmed.value, control.blind.confirmed.value
    if control.led is not None and first is not None and second is not None:
        said.append(
            f"Kept because they are there: people confirm {_percent(first)} of the detector's boxes where "
            f"they see them, {_percent(second)} where they do not; {_points(control.led.value)} more "
            f"({_points(control.led.low)} to {_points(control.led.high)})"
            f"{_unsure(control.led.low, control.led.high)}."
        )
    if control.overlooked is not None:
        missed = control.overlooked
        said.append(
            f"Overlooked because they are not: beyond the detector's boxes, people draw "
            f"{control.shown.beyond:.2f} objects per image where they see boxes, {control.blind.beyond:.2f} "
            f"where they do not; {missed.value:.2f} fewer ({missed.low:.2f} to {missed.high:.2f})"
            f"{_unsure(missed.low, missed.high)}."
        )
    return said


def _unsure(low: float, high: float) -> str:
    return ", which may be chance" if low <= 0 <= high else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _points(difference: float) -> str:
    return f"{100 * difference:.0f} points"


def control_fields(control: Control) -> dict[str, Any]:
    """The comparison as JSON fields; docs/blind.md describes them."""

    def interval(each: Interval | None) -> dict[str, float] | None:
        if each is None:
            return None
        return {"value": round(each.value, 4), "low": round(each.low, 4), "high": round(each.high, 4)}

    def side(each: Side) -> dict[str, Any]:
        share = each.confirmed
        return {
            "images": each.images,
            "seconds": each.seconds,
            "confirmed": {"right": share.right, "of": share.of, "low": share.low, "high": share.high},
            "beyond_per_image": round(each.beyond, 4),
        }

    return {
        "shown": side(control.shown),
        "blind": side(control.blind),
        "time_ratio": interval(control.time),
        "confirmed_more": interval(control.led),
        "overlooked_per_image": interval(control.overlooked),
    }
