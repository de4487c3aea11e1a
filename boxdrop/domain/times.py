"""Times as text: ISO 8601 in UTC to the microsecond, ``2026-11-24T21:57:03.120000Z``.

All times that boxdrop stores or sends are written by `time_text`. They all have the same width, so their text
order is their time order; the ledger's indices rely on that.

A time in the ledger is as good as the clock that wrote it. A machine's clock can be a day ahead until it is
set: what waits for a time asks `has_come`, which does not wait for that day.
"""

from datetime import UTC, datetime, timedelta


def time_text(time: datetime) -> str:
    """Write a time that has a time zone."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def has_come(moment: datetime, now: datetime, longest: timedelta) -> bool:
    """Whether a moment is not in the future, or is further ahead than it can be: then the clock that it was
    written by was wrong.

    Args:
        longest: how far ahead of now its writer can have put it.
    """
    return not now < moment <= now + longest


def read_time(text: str) -> datetime:
    """Read a time of any precision and time zone, including those that earlier versions wrote; returns it in
    UTC.

    Raises:
        ValueError: it is not a time, or has no time zone.
    """
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return time.astimezone(UTC)
