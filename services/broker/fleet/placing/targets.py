"""How many cores each session should have, where not all cores can be divided among all sessions.

Pure arithmetic on top of `shares`. Three things keep the plain division from being fair: a worker in a long
call keeps its core after its turn, a session that has never had a task demands every core, and a session
cannot use the nodes that it leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.broker.fleet.cores import Kind
from services.broker.fleet.placing import shares
from services.broker.fleet.placing.shares import Demand

# So many sets of kinds are looked at, those with fewest cores first: their sessions are the first to starve.
# More sets than this come from fleets in which nodes differ in many ways, and each one costs a division.
MAX_FITS = 8


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


def divide_by_kind(
    core_count: int, wishes: Sequence[Wish], pools: Mapping[Kind, int], fits: Sequence[frozenset[Kind]]
) -> list[int]:
    """Cores for each session, where each can use nodes of some kinds only.

    Sessions that together would have more cores than there are on the nodes that fit them divide these cores
    among themselves; the other sessions divide the rest.

    Args:
        core_count: as for `divide`.
        wishes: one a session.
        pools: cores of the nodes of each kind.
        fits: the kinds that fit each session.
    """
    targets = [0] * len(wishes)
    numbers = list(range(len(wishes)))
    rooms = {fit: sum(pools[kind] for kind in fit) for fit in set(fits)}
    narrow = sorted(rooms, key=lambda fit: rooms[fit])[:MAX_FITS]
    used: set[Kind] = set()
    while True:
        _assign(targets, core_count, wishes, numbers)
        for fit in narrow:
            inside = [number for number in numbers if fits[number] <= fit]
            room = sum(pools[kind] for kind in fit - used)
            if sum(targets[number] for number in inside) > room:
                break
        else:
            return targets
        _assign(targets, room, wishes, inside)
        used |= fit
        core_count -= room
        numbers = [number for number in numbers if not fits[number] <= fit]


def is_crowded(wishes: Sequence[Wish], targets: Sequence[int]) -> bool:
    """Whether a session that wants cores gets none, idle sessions aside."""
    wanting = [(wish, target) for wish, target in zip(wishes, targets, strict=True) if wish.demand.limit > 0]
    active = [(wish, target) for wish, target in wanting if not wish.is_idle]
    return any(target == 0 for _, target in active or wanting)


def _assign(targets: list[int], core_count: int, wishes: Sequence[Wish], numbers: Sequence[int]) -> None:
    """Divide cores among some sessions."""
    found = divide(max(0, core_count), [wishes[number] for number in numbers])
    for number, target in zip(numbers, found, strict=True):
        targets[number] = target


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
