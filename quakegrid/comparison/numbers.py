"""When two numbers count as the same, and how far apart they are."""

from __future__ import annotations

import math
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


def relative(left: float, right: float) -> float:
    """The difference of two numbers as a part of the larger one; infinite beside what is no number."""
    if not (math.isfinite(left) and math.isfinite(right)):
        return math.inf
    return abs(left - right) / max(abs(left), abs(right))
