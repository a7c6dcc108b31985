"""Which sessions may execute: as many with jobs as `serialize_jobs` says, and as many of one person as may.

Pure. The next session is one of the person with fewest executing sessions; of equal persons, one of the
person whose last session began first; then the one that was requested first. So nobody waits for all sessions
that another person has queued. A session without a person counts as a person of its own. Sessions without
jobs have no turn to wait for.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from quakegrid.errors import IllegalMoveError
from quakegrid.services.broker.fleet.events import Action, Admit, Queue
from quakegrid.services.broker.fleet.state import NO_LIMITS, FleetSession, Person, PersonLimits, SessionPhase

# A session is told at most so many of the jobs before it: its driver prints them.
MAX_AHEAD = 100
# For so many persons the order in which their last sessions began is known.
MAX_REMEMBERED = 1000


class SessionQueue:
    """Admits sessions.

    Args:
        sessions: that are open, by id, in order of request.
        limit: how many sessions with jobs execute at once; 0 for no limit.
        limits: for one person.
    """

    def __init__(
        self, sessions: Mapping[int, FleetSession], limit: int, limits: PersonLimits = NO_LIMITS
    ) -> None:
        self._sessions, self._limit, self._max_jobs = sessions, limit, limits.max_jobs
        # When the last session of a person began, as a number that grows; the newest last.
        self._last_began: dict[Person, int] = {}
        self._began_count = 0

    def admit(self) -> list[Action]:
        """Admit each session whose turn has come."""
        admitted = [each for each in self._sessions.values() if not each.is_admitted and not each.job_ids]
        executing, queued = self._executing(), self._queued()
        if queued and self._room(executing) > 0:
            admitted += self._line(executing, queued).begin()
        for session in admitted:
            session.move_to(SessionPhase.EXECUTING)
            self.note_begin(session)
        return [Admit(session.session_id) for session in admitted]

    def note_begin(self, session: FleetSession) -> None:
        """A session executes from now on."""
        if not session.job_ids:
            return
        self._began_count += 1
        self._last_began.pop(session.owner, None)
        self._last_began[session.owner] = self._began_count
        if len(self._last_began) > MAX_REMEMBERED:
            del self._last_began[next(iter(self._last_began))]

    def tell(self) -> list[Action]:
        """Tell the sessions that wait for their turn which jobs are before them, if that is news."""
        if not self._limit and not self._max_jobs:
            return []
        executing, queued = self._executing(), self._queued()
        line = self._line(executing, queued)
        beginning = list(line.begin())
        counts = Counter(line.counts)
        before_all = _Before((*executing, *beginning))
        # By owner; the sessions of one owner begin in the order of their requests.
        before_own = {owner: _Before(mine) for owner, mine in _by_owner((*executing, *beginning)).items()}
        places = before_all.follow(line.rest()) if self._limit else {}
        waiting = {session.session_id for session in queued} - {each.session_id for each in beginning}
        told: list[Action] = []
        for session in queued:
            if session.session_id not in waiting:
                continue
            count = counts[session.owner]
            is_full = 0 < self._max_jobs <= count
            own = before_own.setdefault(session.owner, _Before(()))
            is_own = is_full or not self._limit
            ahead = own.job_ids if is_own else places.get(session.session_id, before_all.job_ids)
            reason = _has_all(session.person, count, self._max_jobs) if is_full else ""
            if (ahead, reason) != (session.ahead, session.wait_reason):
                session.ahead, session.wait_reason = ahead, reason
                told.append(Queue(session.session_id, ahead, reason))
            own.add(session)
        return told

    def check(self) -> None:
        """Raise `IllegalMoveError` unless at most as many sessions execute as may."""
        began = [session for session in self._executing() if not session.is_resumed]
        if 0 < self._limit < len(began):
            raise IllegalMoveError(f"{len(began)} sessions execute, {self._limit} may")
        for owner, count in Counter(session.owner for session in began).items():
            if 0 < self._max_jobs < count:
                raise IllegalMoveError(f"{count} sessions of {owner} execute, {self._max_jobs} may")

    def _line(self, executing: Sequence[FleetSession], queued: Sequence[FleetSession]) -> _Line:
        return _Line(queued, executing, self._room(executing), self._max_jobs, self._last_began)

    def _room(self, executing: Sequence[FleetSession]) -> float:
        """How many more sessions with jobs may execute."""
        return self._limit - len(executing) if self._limit else float("inf")

    def _executing(self) -> list[FleetSession]:
        """The sessions with jobs that have had their turn."""
        return [each for each in self._sessions.values() if each.is_admitted and each.job_ids]

    def _queued(self) -> list[FleetSession]:
        """The sessions with jobs that wait for it."""
        return [each for each in self._sessions.values() if not each.is_admitted and each.job_ids]


class _Before:
    """The first jobs of sessions that begin one after the other.

    Args:
        sessions: the first of them.
    """

    def __init__(self, sessions: Iterable[FleetSession]) -> None:
        self.job_ids: tuple[int, ...] = ()
        for session in sessions:
            self.add(session)

    @property
    def is_full(self) -> bool:
        """Whether further sessions change nothing."""
        return len(self.job_ids) >= MAX_AHEAD

    def add(self, session: FleetSession) -> None:
        """One more session begins."""
        if not self.is_full:
            self.job_ids = (self.job_ids + session.job_ids)[:MAX_AHEAD]

    def follow(self, sessions: Iterable[FleetSession]) -> dict[int, tuple[int, ...]]:
        """The jobs before each of the next sessions, by id; for those that are not there it is full."""
        found: dict[int, tuple[int, ...]] = {}
        for session in sessions:
            if self.is_full:
                break
            found[session.session_id] = self.job_ids
            self.add(session)
        return found


class _Line:
    """The order in which sessions begin, if those that execute end in the order of their requests.

    Args:
        queued: sessions that wait for their turn, in order of request.
        executing: sessions that have had it, likewise.
        room: how many more may begin.
        max_jobs: sessions that execute for one person at once; 0 for no limit.
        last_began: when the last session of each person began.
    """

    def __init__(
        self,
        queued: Sequence[FleetSession],
        executing: Sequence[FleetSession],
        room: float,
        max_jobs: int,
        last_began: Mapping[Person, int],
    ) -> None:
        self._room, self._max_jobs = room, max_jobs
        self.counts = Counter(session.owner for session in executing)
        self._ending = deque(session.owner for session in executing)
        self._last_began = dict(last_began)
        self._began_count = max(last_began.values(), default=0)
        self._waiting: dict[Person, deque[tuple[int, FleetSession]]] = {}
        for age, session in enumerate(queued):
            self._waiting.setdefault(session.owner, deque()).append((age, session))
        # Persons with sessions that wait: their executing sessions, when the last one began, the age of the
        # next one, the person's number. An entry with values of before has been replaced by another one.
        self._persons = list(self._waiting)
        self._numbers = {person: number for number, person in enumerate(self._persons)}
        self._heap: list[tuple[int, int, int, int]] = []
        for person in self._persons:
            self._enter(person)

    def begin(self) -> Iterator[FleetSession]:
        """The sessions that may begin now."""
        while self._room > 0 and (person := self._next()) is not None:
            _, session = self._waiting[person].popleft()
            self._room -= 1
            self.counts[person] += 1
            self._ending.append(person)
            self._began_count += 1
            self._last_began[person] = self._began_count
            self._enter(person)
            yield session

    def rest(self) -> Iterator[FleetSession]:
        """The sessions after those, as others end."""
        while self._ending and any(self._waiting.values()):
            person = self._ending.popleft()
            self.counts[person] -= 1
            self._room += 1
            self._enter(person)
            yield from self.begin()

    def _enter(self, person: Person) -> None:
        """Put a person in line, at the place of the present counts."""
        waiting = self._waiting.get(person)
        if waiting:
            last = self._last_began.get(person, 0)
            heapq.heappush(self._heap, (self.counts[person], last, waiting[0][0], self._numbers[person]))

    def _next(self) -> Person | None:
        """The person whose session begins next; None if nobody's may."""
        while self._heap:
            count, last, age, number = heapq.heappop(self._heap)
            person = self._persons[number]
            waiting = self._waiting[person]
            now = (self.counts[person], self._last_began.get(person, 0))
            is_old = not waiting or (count, last, age) != (*now, waiting[0][0])
            # A person who may not have more is entered again when a session ends.
            if not is_old and not 0 < self._max_jobs <= count:
                return person
        return None


def _by_owner(sessions: Iterable[FleetSession]) -> dict[Person, list[FleetSession]]:
    found: dict[Person, list[FleetSession]] = {}
    for session in sessions:
        found.setdefault(session.owner, []).append(session)
    return found


def _has_all(person: str, count: int, max_jobs: int) -> str:
    """Why a session of a person waits, for people."""
    return f"{person} has {count} of {max_jobs} calculations that may execute at once"
