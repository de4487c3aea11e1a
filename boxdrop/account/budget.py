"""How much machine time long work may take, in hours or dollars."""

import re
from dataclasses import dataclass
from typing import Final

from boxdrop.domain.errors import BoxdropError

START_S: Final = 600
"""Counted for the start of each attempt: the machine starts and pulls an image of some gigabytes."""

TEACH_AT_MOST: Final = "1h"
"""Of a teaching, unless a person allows more."""

LEAST_S: Final = 2 * START_S
_HOUR: Final = 3600
_LIMIT = re.compile(r"(?P<dollars>\$)?\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>h|m|min|usd)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit of machine time.

    Attributes:
        limit_s: of all attempts together, with their starts, seconds.
        usd_per_hour: highest price of a machine.
    """

    limit_s: int
    usd_per_hour: float

    @property
    def usd(self) -> float:
        """The most that it may cost."""
        return self.limit_s / _HOUR * self.usd_per_hour

    def sentence(self, machines: str) -> str:
        """What it may cost at most, before it begins.

        >>> Budget(14_400, 1.01).sentence("g5.xlarge")
        'at most 4 h on g5.xlarge, at $1.01 per hour or less: at most $4.04'
        """
        return (
            f"at most {span(self.limit_s)} on {machines}, at ${self.usd_per_hour:.2f} per hour or less: at "
            f"most ${self.usd:.2f}"
        )


def read_budget(text: str, usd_per_hour: float, most_hours: float) -> Budget:
    """Read ``4h``, ``90m``, ``$5`` or ``5usd``.

    Raises:
        BoxdropError: it is none of these, or outside what the deployment allows.

    >>> [read_budget(text, 1.0, 24).limit_s for text in ("4h", "90m", "1.5 h", "$2", "2USD")]
    [14400, 5400, 5400, 7200, 7200]
    """
    found = _LIMIT.fullmatch(text.strip())
    unit = (found["unit"] or "").lower() if found else ""
    if found is None or bool(found["dollars"]) == bool(unit):
        raise BoxdropError(
            f"--at-most {text!r}: write hours such as 4h, minutes such as 90m, or dollars such as $5"
        )
    number = float(found["number"])
    hours = {"h": number, "m": number / 60, "min": number / 60}.get(unit, number / usd_per_hour)
    if not LEAST_S <= round(hours * _HOUR) <= most_hours * _HOUR:
        raise BoxdropError(
            f"--at-most {text} is {span(hours * _HOUR)} of machine time; it must be {LEAST_S // 60} min or "
            f"more, of which {START_S // 60} are for the start, and {most_hours:g} h or less "
            "(long_jobs.most_hours)"
        )
    return Budget(round(hours * _HOUR), usd_per_hour)


def span(seconds: float) -> str:
    """``4 h``, ``1.5 h`` or ``20 min``."""
    return f"{seconds / _HOUR:.3g} h" if seconds >= _HOUR else f"{seconds / 60:.0f} min"
