"""Figures of a benchmark: a name, a value, and the target that it must reach.

One line a figure: name, value, target, `ok` or `short`; values without a target are for comparison. Every
benchmark prints and keeps its figures by `records.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value and its targets, if any."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_short(self) -> bool:
        """Whether the value misses its target; one that is no number does."""
        is_enough = self.at_least is None or self.value >= self.at_least
        is_little = self.at_most is None or self.value <= self.at_most
        return not (is_enough and is_little)

    def __str__(self) -> str:
        bounds = ((">=", self.at_least), ("<=", self.at_most))
        given = (
            f"{sign} {in_digits(bound)} {self.unit}".rstrip() for sign, bound in bounds if bound is not None
        )
        target = ", ".join(given)
        verdict = ("short" if self.is_short else "ok") if target else "-"
        return f"{self.name:<48} {in_digits(self.value):>9} {self.unit:<3} {target or '-':<12} {verdict}"


def in_digits(value: float) -> str:
    """A number with three digits, or all before the point: 0.0123, 1.5, 25,000."""
    return f"{value:,.0f}" if 1000 <= abs(value) < math.inf else f"{value:.3g}"
