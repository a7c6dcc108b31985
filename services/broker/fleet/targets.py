"""How many cores each session should have, where some sessions cannot give cores back or have no task yet.

Pure arithmetic on top of `shares`. Two things keep the plain division from being fair: a worker in a long
call keeps its core after its turn, and a session that has never had a task demands every core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.broker.fleet import shares
from services.broker.fleet.shares import Demand


@dataclass(frozen=True, slots=True)
class Wish:
    """What a session may have.

    `stuck_count` are cores of workers that were asked to end long ago and still run their task. An idle
    session has waited long for its first task: sessions with tasks get cores before it.
    """

    demand: Demand
    stuck_count: int = 0
    is_idle: bool = False


def divide(core_count: int, wishes: Sequence[Wish]) -> list[int]:
    """Cores for each session. Its stuck cores count as its own, also where they are more than its share.

    Args:
        core_count: all cores that sessions can have, those that are stuck in open sessions included.
        wishes: one a session.
    """
    kept: dict[int, int] = {}  # sessions whose stuck cores are more than their share: nobody can have them
    while True:
        targets = _divide_rest(core_count - sum(kept.values()), wishes, kept)
        above = {
            number: wish.stuck_count
            for number, wish in enumerate(wishes)
            if number not in kept and wish.stuck_count > targets[number]
        }
        if not above:
            return targets
        kept |= above


def is_crowded(wishes: Sequence[Wish], targets: Sequence[int]) -> bool:
    """Whether a session that wants cores gets none, idle sessions aside."""
    wanting = [(wish, target) for wish, target in zip(wishes, targets, strict=True) if wish.demand.limit > 0]
    active = [(wish, target) for wish, target in wanting if not wish.is_idle]
    return any(target == 0 for _, target in active or wanting)


def _divide_rest(core_count: int, wishes: Sequence[Wish], kept: Mapping[int, int]) -> list[int]:
    """Cores for those that are not in `kept`: first for those with tasks, then for idle ones."""
    targets = [kept.get(number, 0) for number in range(len(wishes))]
    for is_idle in (False, True):
        numbers = [
            number for number, wish in enumerate(wishes) if number not in kept and wish.is_idle is is_idle
        ]
        found = shares.divide(max(0, core_count), [wishes[number].demand for number in numbers])
        for number, share in zip(numbers, found, strict=True):
            targets[number] = share
        core_count -= sum(found)
    return targets
