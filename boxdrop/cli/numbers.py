"""Numbers on the command line: finite, and within their range."""

import math
from typing import Any, Final

import click

from boxdrop.cli.terminal import shortened

MOST: Final = 1_000_000_000
"""The largest number that an option takes: clocks and counters of the system hold it."""


class Finite(click.FloatRange):
    """A float within a range; `click.FloatRange` accepts `nan`, which compares with nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number) or abs(number) > MOST:
            self.fail(f"{shortened(str(value))} is not a finite number; give one such as 0.5", param, ctx)
        return number


class Whole(click.IntRange):
    """A whole number within a range; one that no counter of the system can hold is refused, too.

    Args:
        least, most: both inclusive; the help names only the first.
    """

    def __init__(self, least: int = 1, most: int = MOST) -> None:
        super().__init__(min=least)
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = int(super().convert(value, param, ctx))
        if number > self._most:
            self.fail(f"{shortened(str(value))} is too large; give at most {self._most:,}", param, ctx)
        return number


class Percent(click.ParamType[float]):
    """A share above 0 and below 1, written as ``5%`` or ``0.05``."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = math.nan
        if not 0 < share < 1:
            self.fail(f"{shortened(text)} is not a share above 0 % and below 100 %, such as 5%", param, ctx)
        return share


SCORE = Finite(0, 1, min_open=True)
"""A score: over 0, at most 1."""
