"""Two rows of numbers, compared within a tolerance."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

# The engine computes in 32 bits here and there, and writes five or six digits.
RELATIVE = 1e-4
ABSOLUTE = 1e-10


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much two numbers may differ and still count as the same.

    Args:
        relative: part of the larger of the two; 0 for none.
        absolute: in the unit of the numbers; it matters near zero.
    """

    relative: float = RELATIVE
    absolute: float = ABSOLUTE

    def allows(self, left: float, right: float) -> bool:
        """Whether two numbers count as the same; what is no number (NaN) is the same as itself."""
        if left == right or (math.isnan(left) and math.isnan(right)):
            return True
        gap = abs(left - right)
        return gap <= self.absolute or gap <= self.relative * max(abs(left), abs(right)) < math.inf


@dataclass(frozen=True, slots=True)
class NumbersDifference:
    """How far two rows of numbers are apart.

    Args:
        count: numbers that were compared.
        differing_count: those that are not the same.
        largest: the largest difference of those, as a part of the larger number; infinite beside what is no
            number. 0 if none differs.
        at: position of that number, -1 if none differs.
    """

    count: int = 0
    differing_count: int = 0
    largest: float = 0.0
    at: int = -1


def compare(
    left: Iterable[float], right: Iterable[float], tolerance: Tolerance | None = None
) -> NumbersDifference:
    """Compare numbers one by one.

    Args:
        left: numbers of one calculation.
        right: of the other; as many.
        tolerance: None for the usual one.
    Raises:
        ValueError: there are not as many.
    """
    tolerance = tolerance or Tolerance()
    count, differing_count, largest, at = 0, 0, 0.0, -1
    for one, other in zip(left, right, strict=True):
        if not tolerance.allows(one, other):
            differing_count += 1
            apart = relative(one, other)
            if apart > largest:
                largest, at = apart, count
        count += 1
    return NumbersDifference(count, differing_count, largest, at)


def relative(left: float, right: float) -> float:
    """The difference of two numbers as a part of the larger one; infinite beside what is no number."""
    if not (math.isfinite(left) and math.isfinite(right)):
        return math.inf
    return abs(left - right) / max(abs(left), abs(right))
