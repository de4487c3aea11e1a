"""Numbers on the command line: finite, and within their range."""

import math
from typing import Any

import click


class Finite(click.FloatRange):
    """A float within a range; `click.FloatRange` accepts `nan`, which compares with nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number; give one such as 0.5", param, ctx)
        return number


SCORE = Finite(0, 1, min_open=True)
"""A score: over 0, at most 1."""
