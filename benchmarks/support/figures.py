"""Figures of a benchmark: a name, a value, and the target that it must reach.

One line a figure: name, value, target, `ok` or `short`; values without a target are for comparison.
"""

from __future__ import annotations

from collections.abc import Iterable
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
        """Whether the value misses its target."""
        too_small = self.at_least is not None and self.value < self.at_least
        too_large = self.at_most is not None and self.value > self.at_most
        return too_small or too_large

    def __str__(self) -> str:
        bounds = ((">=", self.at_least), ("<=", self.at_most))
        given = (f"{sign} {bound:g} {self.unit}".rstrip() for sign, bound in bounds if bound is not None)
        target = ", ".join(given)
        verdict = ("short" if self.is_short else "ok") if target else "-"
        return f"{self.name:<48} {self.value:>9.3g} {self.unit:<3} {target or '-':<12} {verdict}"


def report(figures: Iterable[Figure]) -> int:
    """Print the figures; the exit code is 1 when any is short of its target."""
    figures = list(figures)
    for figure in figures:
        print(figure)
    return int(any(figure.is_short for figure in figures))
