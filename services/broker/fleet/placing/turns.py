"""Turns: who comes first where there are fewer cores than persons, or fewer than sessions of a person.

Pure. What has had a core in a turn goes behind what has waited. Persons take turns with persons, and the
sessions of a person with each other; a session that belongs to nobody takes turns with persons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from services.broker.fleet.placing.targets import MAX_PERSON_WEIGHT, Crowding
from services.broker.fleet.state import FleetSession

NOBODY_WAITS = Crowding(is_among_persons=False, within=frozenset())


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
        self._persons: dict[str, PersonTurns] = {}
        # As of the last placement.
        self.crowding = NOBODY_WAITS

    def of(self, session: FleetSession) -> Turns:
        """What takes turns with others for a session: its person, or itself if it is nobody's."""
        if not session.person:
            return session
        turns = self._persons.get(session.person)
        if turns is None:
            turns = self._persons[session.person] = PersonTurns(self._least())
        return turns

    def served(self) -> dict[str, float]:
        """How much each person was served."""
        return {person: turns.served for person, turns in self._persons.items()}

    def least_served(self, person: str, sessions: Iterable[FleetSession]) -> float:
        """What a new session begins with, so that it comes neither before nor behind all others.

        Args:
            person: whose session it is; empty if nobody's.
            sessions: that may have workers.
        """
        if not person:
            others: Iterable[Turns] = (
                *self._persons.values(),
                *(each for each in sessions if not each.person),
            )
        else:
            others = (each for each in sessions if each.person == person)
        return min((each.served for each in others), default=0.0)

    def end_turn(self, asking: Sequence[FleetSession], sessions: Iterable[FleetSession]) -> None:
        """Let those that had a core go behind those that waited; one that wanted none saves up nothing.

        Args:
            asking: the sessions that want cores.
            sessions: all of the fleet.
        """
        sessions = list(sessions)
        present = {session.person for session in sessions}
        self._persons = {person: turns for person, turns in self._persons.items() if person in present}
        together: dict[int, list[FleetSession]] = {}
        for session in asking:
            together.setdefault(id(self.of(session)), []).append(session)
        everyone: list[Turns] = [*self._persons.values(), *(each for each in sessions if not each.person)]
        askers = [self._person(mine) for mine in together.values()]
        _pass(askers, everyone, is_crowded=self.crowding.is_among_persons)
        of_person: dict[str, list[FleetSession]] = {}
        for session in sessions:
            of_person.setdefault(session.person, []).append(session)
        of_person.pop("", None)
        wanting = {session.session_id for session in asking}
        for person, mine in of_person.items():
            askers = [self._session(each) for each in mine if each.session_id in wanting]
            _pass(askers, mine, is_crowded=person in self.crowding.within)

    def _session(self, session: FleetSession) -> _Asker:
        return _Asker(session, session.weight, self._has_worker(session))

    def _person(self, sessions: Sequence[FleetSession]) -> _Asker:
        """The person of these sessions, or the one session of nobody."""
        turns = self.of(sessions[0])
        weight = max(session.weight for session in sessions)
        if isinstance(turns, PersonTurns):
            weight = min(weight, MAX_PERSON_WEIGHT)
        return _Asker(turns, weight, any(map(self._has_worker, sessions)))

    def _least(self) -> float:
        return min((turns.served for turns in self._persons.values()), default=0.0)


def _pass(asking: Iterable[_Asker], everyone: Iterable[Turns], *, is_crowded: bool) -> None:
    asking = list(asking)
    for asker in asking:
        asker.turns.was_served = is_crowded and asker.has_worker
        asker.turns.served += asker.turns.was_served / asker.weight
    least = min((asker.turns.served for asker in asking), default=0.0)
    for turns in everyone:
        turns.served = max(turns.served, least) if is_crowded else 0.0
