"""Which sessions may execute: as many with jobs as `serialize_jobs` says, and as many of one person as may.

Pure. The next session is one of the person with fewest executing sessions; of equal persons, one of the
person whose last session began first; then the one that was requested first. So nobody waits for all sessions
that another person has queued. A session without a person counts as a person of its own. Sessions without
jobs have no turn to wait for.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence

from quakegrid.errors import IllegalMoveError
from services.broker.fleet.events import Action, Admit, Queue
from services.broker.fleet.state import NO_LIMITS, FleetSession, Person, PersonLimits, SessionPhase

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
        admitted += self._line().begin()
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
        line = self._line()
        ahead = _Ahead(self._executing())
        for session in line.begin():
            ahead.add(session)
        counts = Counter(line.counts)
        told: list[Action] = []
        for session in line.rest():
            count = counts[session.owner]
            is_full = 0 < self._max_jobs <= count
            before = ahead.of(session, is_own=is_full or not self._limit)
            reason = _has_all(session.person, count, self._max_jobs) if is_full else ""
            if (before, reason) != (session.ahead, session.wait_reason):
                session.ahead, session.wait_reason = before, reason
                told.append(Queue(session.session_id, before, reason))
            ahead.add(session)
        return told

    def check(self) -> None:
        """Raise `IllegalMoveError` unless at most as many sessions execute as may."""
        began = [session for session in self._executing() if not session.is_resumed]
        if 0 < self._limit < len(began):
            raise IllegalMoveError(f"{len(began)} sessions execute, {self._limit} may")
        for owner, count in Counter(session.owner for session in began).items():
            if 0 < self._max_jobs < count:
                raise IllegalMoveError(f"{count} sessions of {owner} execute, {self._max_jobs} may")

    def _line(self) -> _Line:
        room = self._limit - len(self._executing()) if self._limit else float("inf")
        queued = [each for each in self._sessions.values() if not each.is_admitted and each.job_ids]
        return _Line(queued, self._executing(), room, self._max_jobs, self._last_began)

    def _executing(self) -> list[FleetSession]:
        """The sessions with jobs that have had their turn."""
        return [each for each in self._sessions.values() if each.is_admitted and each.job_ids]


class _Ahead:
    """The jobs before a session in the queue, those that execute included.

    Args:
        executing: the sessions that execute.
    """

    def __init__(self, executing: Sequence[FleetSession]) -> None:
        self._all: list[int] = []
        self._of_owner: dict[Person, list[int]] = {}
        for session in executing:
            self.add(session)

    def add(self, session: FleetSession) -> None:
        """The next session begins, before all that follow."""
        job_ids = session.job_ids[:MAX_AHEAD]
        for known in (self._all, self._of_owner.setdefault(session.owner, [])):
            known.extend(job_ids[: max(0, MAX_AHEAD - len(known))])

    def of(self, session: FleetSession, *, is_own: bool) -> tuple[int, ...]:
        """The jobs before a session: those of its person only, or of everybody."""
        return tuple(self._of_owner.get(session.owner, ()) if is_own else self._all)


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


def _has_all(person: str, count: int, max_jobs: int) -> str:
    """Why a session of a person waits, for people."""
    return f"{person} has {count} of {max_jobs} calculations that may execute at once"
