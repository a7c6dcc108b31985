"""How many cores each session should have, where not all cores can be divided among all sessions.

Pure arithmetic on top of `claims`. Cores are divided among the persons who have sessions, and what a person
gets is divided among the sessions of that person. A session cannot use the nodes that it leaves out, so that
some cores are divided before others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from quakegrid.services.broker.fleet.cores import Kind
from quakegrid.services.broker.fleet.placing import claims
from quakegrid.services.broker.fleet.placing.claims import NO_LIMIT, Claim
from quakegrid.services.broker.fleet.placing.shares import Demand
from quakegrid.services.broker.fleet.state import Person

# So many sets of kinds are looked at, those with fewest cores first: their sessions are the first to starve.
# More sets than this come from fleets in which nodes differ in many ways, and each one costs a division.
MAX_FITS = 8
# A person's weight against other persons is the largest of the sessions', up to this: a person may step back
# behind others, and not before them.
MAX_PERSON_WEIGHT = 1.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What a session may have.

    `stuck_count` are cores of workers that were asked to end long ago and still run their task. An idle
    session has waited long for its first task: sessions with tasks get cores before it. `person` is whose
    session it is, empty if nobody's.
    """

    demand: Demand
    stuck_count: int = 0
    is_idle: bool = False
    person: str = ""


@dataclass(frozen=True, slots=True)
class PersonRules:
    """What holds for persons: cores that each has at most, 0 for no limit, and how much each was served."""

    max_cores: int = 0
    served: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Crowding:
    """Who has to take turns: persons of whom some get no core, and sessions of a person likewise.

    A session is *asking* if it wants cores, idle ones left aside unless all are idle.
    """

    is_among_persons: bool
    within: AbstractSet[str]


NOBODY_WAITS = Crowding(is_among_persons=False, within=frozenset())
EQUAL = PersonRules()


def divide(core_count: int, wishes: Sequence[Wish], rules: PersonRules = EQUAL) -> list[int]:
    """Cores for each session. Its stuck cores count as its own, also where they are more than its share.

    Args:
        core_count: all cores that sessions can have, those that are stuck in open sessions included.
        wishes: one a session.
        rules: for persons.
    """
    division = _Division(wishes, rules)
    division.give(core_count, range(len(wishes)))
    return division.targets


def divide_by_kind(
    core_count: int,
    wishes: Sequence[Wish],
    pools: Mapping[Kind, int],
    fits: Sequence[frozenset[Kind]],
    rules: PersonRules = EQUAL,
) -> list[int]:
    """Cores for each session, where each can use nodes of some kinds only.

    Sessions that together would have more cores than there are on the nodes that fit them divide these cores
    among themselves; the other sessions divide the rest.

    Args:
        core_count: as for `divide`.
        wishes: one a session.
        pools: cores of the nodes of each kind.
        fits: the kinds that fit each session.
        rules: for persons.
    """
    division = _Division(wishes, rules)
    targets = division.targets
    numbers = list(range(len(wishes)))
    rooms = {fit: sum(pools[kind] for kind in fit) for fit in set(fits)}
    narrow = sorted(rooms, key=lambda fit: rooms[fit])[:MAX_FITS]
    used: set[Kind] = set()
    while True:
        division.give(core_count, numbers)
        for fit in narrow:
            inside = [number for number in numbers if fits[number] <= fit]
            room = sum(pools[kind] for kind in fit - used)
            if sum(targets[number] for number in inside) > room:
                break
        else:
            return targets
        division.give(room, inside)
        division.settle(inside)
        used |= fit
        core_count -= room
        numbers = [number for number in numbers if not fits[number] <= fit]


def find_crowding(wishes: Sequence[Wish], targets: Sequence[int]) -> Crowding:
    """Who wants cores and gets none, idle sessions aside."""
    wanting = [number for number, wish in enumerate(wishes) if wish.demand.limit > 0]
    asking = [number for number in wanting if not wishes[number].is_idle] or wanting
    without = [number for number in asking if not targets[number]]
    if not without:
        return NOBODY_WAITS
    served = {wishes[number].person or number for number in asking if targets[number]}
    waiting = {wishes[number].person or number for number in without}
    return Crowding(not waiting <= served, {person for person in waiting if isinstance(person, str)})


class _Division:
    """A division of cores among persons, and among the sessions of each.

    Args:
        wishes: one a session; those of a person may stand anywhere.
        rules: for persons.
    """

    def __init__(self, wishes: Sequence[Wish], rules: PersonRules) -> None:
        self._wishes, self._rules = wishes, rules
        self.targets = [0] * len(wishes)
        # Cores whose division is done, by person.
        self._had = Counter[str]()

    def give(self, core_count: int, numbers: Sequence[int]) -> None:
        """Divide cores among some sessions anew.

        Args:
            core_count: for all of them.
            numbers: of their wishes.
        """
        of_person: dict[Person, list[int]] = {}
        for number in numbers:
            of_person.setdefault(self._wishes[number].person or number, []).append(number)
        persons = [self._person(person, mine) for person, mine in of_person.items()]
        found = claims.divide(max(0, core_count), persons)
        for mine, share in zip(of_person.values(), found, strict=True):
            parts = [share] if len(mine) == 1 else claims.divide(share, [self._claim(each) for each in mine])
            for number, part in zip(mine, parts, strict=True):
                self.targets[number] = part

    def settle(self, numbers: Sequence[int]) -> None:
        """What these sessions have stays so, and counts as a part of what their persons get."""
        for number in numbers:
            self._had[self._wishes[number].person] += self.targets[number]

    def _claim(self, number: int) -> Claim:
        """What one session claims."""
        wish = self._wishes[number]
        limit = wish.demand.limit
        active_count, idle_count = (0, limit) if wish.is_idle else (limit, 0)
        return Claim(active_count, idle_count, wish.stuck_count, wish.demand)

    def _person(self, person: Person, numbers: Sequence[int]) -> Claim:
        """What the sessions of a person claim together; a session of nobody keeps its own weight."""
        claim = self._claim(numbers[0])
        claim.most = self._rules.max_cores or NO_LIMIT
        if isinstance(person, str):
            demands = [self._wishes[number].demand for number in numbers]
            weight = max((demand.weight for demand in demands if demand.limit), default=0.0)
            served = self._rules.served.get(person, 0.0)
            claim.terms = Demand(0, min(weight, MAX_PERSON_WEIGHT), served, self._had[person])
        for number in numbers[1:]:
            part = self._claim(number)
            claim.active_count += part.active_count
            claim.idle_count += part.idle_count
            claim.stuck_count += part.stuck_count
        return claim
