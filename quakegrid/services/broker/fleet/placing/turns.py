"""Turns: who comes first where there are fewer cores than persons, or fewer than sessions of a person.

Pure. What has had a core in a turn goes behind what has waited. Persons take turns with persons, and the
sessions of a person with each other; a session that belongs to nobody takes turns with persons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from quakegrid.services.broker.fleet.placing.targets import MAX_PERSON_WEIGHT, NOBODY_WAITS
from quakegrid.services.broker.fleet.state import FleetSession, Person


@dataclass(slots=True)
class PersonTurns:
    """How much a person was served, and whether in the last turn."""

    served: float = 0.0
    was_served: bool = False


Turns = FleetSession | PersonTurns


@dataclass(frozen=True, slots=True)
class _Asker:
    """A person or a session that wants cores: its turns, its weight, and whether it has a worker."""

    turns: Turns
    weight: float
    has_worker: bool


class TurnTable:
    """The turns of the persons of a fleet, and of their sessions.

    Args:
        has_worker: whether a session has one.
    """

    def __init__(self, has_worker: Callable[[FleetSession], bool]) -> None:
        self._has_worker = has_worker
        # Of the persons with sessions in the last turn, and of those that came since.
        self._persons: dict[str, PersonTurns] = {}
        # Of the last placement.
        self.crowding = NOBODY_WAITS

    def of(self, sessions: Iterable[FleetSession]) -> dict[Person, Turns]:
        """What takes turns with others, by owner: the persons of these sessions, and sessions of nobody."""
        found: dict[Person, Turns] = {}
        for session in sessions:
            owner = session.owner
            if owner not in found:
                found[owner] = self._person(session.person) if session.person else session
        return found

    def served(self) -> dict[str, float]:
        """How much each person was served."""
        return {person: turns.served for person, turns in self._persons.items()}

    def least_served(self, person: str, sessions: Iterable[FleetSession]) -> float:
        """What a new session begins with, so that it comes neither before nor behind all others.

        Args:
            person: whose session it is; empty if nobody's.
            sessions: that may have workers.
        """
        others: Iterable[Turns]
        if person:
            others = (each for each in sessions if each.person == person)
        else:
            others = self.of(sessions).values()
        return min((each.served for each in others), default=0.0)

    def end_turn(self, asking: Sequence[FleetSession], sessions: Iterable[FleetSession]) -> None:
        """Let those that had a core go behind those that waited; one that wanted none saves up nothing.

        Args:
            asking: the sessions that want cores.
            sessions: all of the fleet.
        """
        asking_of, all_of = _by_owner(asking), _by_owner(sessions)
        self._persons = {person: turns for person, turns in self._persons.items() if person in all_of}
        turns = self.of(mine[0] for mine in all_of.values())
        askers = [self._owner(owner, turns[owner], mine) for owner, mine in asking_of.items()]
        _pass(askers, turns.values(), is_crowded=self.crowding.is_among_persons)
        for owner, mine in all_of.items():
            if isinstance(owner, str):
                askers = [
                    _Asker(each, each.weight, self._has_worker(each)) for each in asking_of.get(owner, ())
                ]
                _pass(askers, mine, is_crowded=owner in self.crowding.within)

    def _person(self, person: str) -> PersonTurns:
        turns = self._persons.get(person)
        if turns is None:
            least = min((each.served for each in self._persons.values()), default=0.0)
            turns = self._persons[person] = PersonTurns(least)
        return turns

    def _owner(self, owner: Person, turns: Turns, sessions: Sequence[FleetSession]) -> _Asker:
        """A person with sessions that want cores, or such a session of nobody."""
        weight = max(session.weight for session in sessions)
        if isinstance(owner, str):
            weight = min(weight, MAX_PERSON_WEIGHT)
        return _Asker(turns, weight, any(map(self._has_worker, sessions)))


def _by_owner(sessions: Iterable[FleetSession]) -> dict[Person, list[FleetSession]]:
    found: dict[Person, list[FleetSession]] = {}
    for session in sessions:
        found.setdefault(session.owner, []).append(session)
    return found


def _pass(asking: Sequence[_Asker], everyone: Iterable[Turns], *, is_crowded: bool) -> None:
    for asker in asking:
        asker.turns.was_served = is_crowded and asker.has_worker
        asker.turns.served += asker.turns.was_served / asker.weight
    least = min((asker.turns.served for asker in asking), default=0.0)
    for turns in everyone:
        turns.served = max(turns.served, least) if is_crowded else 0.0
