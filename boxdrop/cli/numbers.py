"""Numbers of the command line: finite ones, within their range."""

import math
from typing import Any

import click


class Finite(click.FloatRange):
    """A float within a range; `nan` compares with nothing, so `click.FloatRange` lets it through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a number to work with; give one such as 0.5", param, ctx)
        return number


SCORE = Finite(0, 1, min_open=True)
"""A score: over 0, at most 1."""
