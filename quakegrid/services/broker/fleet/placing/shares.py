"""Dividing cores: max-min fair, by weight, in whole cores.

Pure arithmetic. Each session with a demand gets a core if there are enough. Further cores go by weight, and
those that a session cannot use go to the others. With fewer cores than demands, the sessions that were served
least get one each.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """How many cores a session asks for.

    `limit` is how many at most, 0 for none; `weight` counts against those of others; `served` orders
    demands when there are fewer cores than demands, the smallest first. `had` cores come from an earlier
    division: they count as part of its share, and it gets none instead of them.
    """

    limit: int
    weight: float = 1.0
    served: float = 0.0
    had: int = 0


def divide(core_count: int, demands: Sequence[Demand]) -> list[int]:
    """Whole cores for each demand: each within one core of its exact share, never above its limit."""
    shares = [0] * len(demands)
    numbers = [number for number, demand in enumerate(demands) if demand.limit > 0]
    without = [number for number in numbers if not demands[number].had]
    if core_count <= len(without):
        for number in sorted(without, key=lambda number: demands[number].served)[:core_count]:
            shares[number] = 1
        return shares
    if not numbers:
        return shares
    wanting = [demands[number] for number in numbers]
    part, rest = divmod(core_count, len(numbers))
    if _are_alike(wanting, part + (rest > 0)):  # no need to look for the level
        for place, number in enumerate(numbers):
            shares[number] = part + (place < rest)
        return shares
    exact = exact_shares(core_count, wanting)
    for number, share in zip(numbers, exact, strict=True):
        shares[number] = int(share)
    left_count = min(core_count, sum(demand.limit for demand in wanting)) - sum(shares)
    by_remainder = sorted(zip(exact, numbers, strict=True), key=lambda pair: int(pair[0]) - pair[0])
    for _, number in by_remainder[:left_count]:
        shares[number] += 1
    return shares


def _are_alike(demands: Sequence[Demand], most: int) -> bool:
    """Whether all have the same weight, had nothing, and can use so many cores."""
    weight = demands[0].weight
    return all(each.limit >= most and each.weight == weight and not each.had for each in demands)


def exact_shares(core_count: int, demands: Sequence[Demand]) -> list[float]:
    """Shares before rounding: `level * weight`, at least 1 and at most the limit, the same level for all.

    What a demand had before is taken off its share, and then it may get nothing.

    Args:
        core_count: more than there are demands that had no core before.
        demands: with limits of 1 or more.
    """

    def at(level: float) -> list[float]:
        return [
            min(max(level * demand.weight - demand.had, 0.0 if demand.had else 1.0), demand.limit)
            for demand in demands
        ]

    def total(level: float) -> float:
        return sum(at(level))

    if sum(demand.limit for demand in demands) <= core_count:
        return [float(demand.limit) for demand in demands]
    # Between these levels the sum of all shares grows in a straight line.
    bounds = [(demand.had or 1, demand.had + demand.limit, demand.weight) for demand in demands]
    levels = sorted({bound / weight for least, most, weight in bounds for bound in (least, most)})
    place = bisect.bisect_left(levels, float(core_count), key=total)
    low, high = levels[place - 1], levels[place]
    below, above = total(low), total(high)
    return at(low + (high - low) * (core_count - below) / (above - below))
