"""How large a calculation will be, from the counts of its inputs. Pure.

What depends on chance (ruptures of an event-based calculation) or on the machine (time) is not estimated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# The engine wants so many tasks for each core.
TASKS_PER_CORE = 2
# Bytes of a number in the map of rates that the driver keeps, and in stored curves.
_RATE_BYTES = 4
_CURVE_BYTES = 4
_WITH_RATES = ("classical", "classical_risk", "classical_damage", "classical_bcr", "disaggregation")
# Of the memory that is free, from which on a map of rates is told to be large.
_LARGE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Estimates:
    """What a calculation will need, as far as it can be known.

    Args:
        task_count: tasks of the stage that takes longest, about; 0 if it cannot be known.
        driver_bytes: memory of the driver for the map of rates; 0 without one.
        curve_bytes: of the mean hazard curves that are stored; 0 without any.
    """

    task_count: int = 0
    driver_bytes: int = 0
    curve_bytes: int = 0


def estimate(mode: str, facts: Mapping[str, int], core_count: int) -> Estimates:
    """Estimate what a calculation will need.

    Args:
        mode: of the calculation.
        facts: counts, as the engine told them.
        core_count: cores that it will have.
    """
    sources, sites, levels = facts.get("sources", 0), facts.get("sites", 0), facts.get("levels", 0)
    if not sources:
        return Estimates()
    has_rates = mode in _WITH_RATES
    return Estimates(
        task_count=max(1, min(sources, TASKS_PER_CORE * core_count)),
        driver_bytes=has_rates * _RATE_BYTES * sites * levels * facts.get("ground_motion_models", 1),
        curve_bytes=has_rates * _CURVE_BYTES * sites * levels,
    )


def doubts(found: Estimates, facts: Mapping[str, int], free_bytes: int) -> Iterable[str]:
    """Sentences on what may go wrong.

    Args:
        found: what the calculation needs.
        facts: counts, as the engine told them.
        free_bytes: memory of this machine that is free.
    """
    if found.driver_bytes > free_bytes:
        yield "its driver needs more memory than this machine has free: fewer sites or levels need less"
    elif found.driver_bytes > _LARGE_SHARE * free_bytes:
        yield "its driver will take more than half of the memory of this machine that is free"
    if facts.get("realizations", 0) > 10_000:
        yield (
            f"the logic tree has {facts['realizations']} paths: number_of_logic_tree_samples takes some of "
            "them"
        )
    if facts.get("sources") and facts.get("ruptures") == 0:
        yield "its sources have no rupture"
