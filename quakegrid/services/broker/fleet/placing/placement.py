"""Who gets which cores: workers to start and to drain, so that every session has its share.

Pure. Looks at the fleet's nodes, sessions and workers, enters the workers that it starts and marks those
that it drains. The fleet core asks for a placement when something has changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from quakegrid.services.broker.fleet.cores import CoreTable
from quakegrid.services.broker.fleet.events import Action, DrainWorker, StartWorkers
from quakegrid.services.broker.fleet.placing import drains, limits, targets, unfit
from quakegrid.services.broker.fleet.placing.kinds import Kinds
from quakegrid.services.broker.fleet.placing.openings import Lack, Opening, Openings
from quakegrid.services.broker.fleet.placing.targets import NOBODY_WAITS, PersonRules, Wish
from quakegrid.services.broker.fleet.placing.turns import TurnTable
from quakegrid.services.broker.fleet.state import FleetNode, FleetSession, FleetWorker, Person
from quakegrid.services.broker.fleet.workers import WorkerTable

NO_LACK = Lack(0, 0)


@dataclass(frozen=True, slots=True)
class PlacementRules:
    """What holds for all placements of a fleet.

    Args:
        run_name: how names of workers begin, unique for each run of a broker.
        is_packed: whether workers fill one node after the other, rather than spread over all.
        max_cores_per_person: cores that the workers of one person have at most; 0 for no limit.
    """

    run_name: str
    is_packed: bool = False
    max_cores_per_person: int = 0


@dataclass(slots=True)
class _Share:
    """What a session may have, and how many cores it should have by that."""

    session: FleetSession
    fitting_count: int
    wish: Wish
    target: int


class Placement:
    """Divides the cores of one fleet.

    Args:
        nodes: by host.
        sessions: by id, in order of request.
        workers: of the fleet; those that start are entered here.
        cores: of the nodes.
        rules: of the fleet.
    """

    def __init__(
        self,
        nodes: Mapping[str, FleetNode],
        sessions: Mapping[int, FleetSession],
        workers: WorkerTable,
        cores: CoreTable,
        rules: PlacementRules,
    ) -> None:
        self._nodes, self._sessions, self._workers, self._cores = nodes, sessions, workers, cores
        self._rules = rules
        self._worker_number = 0
        self._kinds = Kinds(cores)
        self._turns = TurnTable(lambda session: workers.count_of_session(session.session_id) > 0)

    def place(self) -> list[Action]:
        """Start workers where shares and free cores allow; drain as many as are missing for that."""
        sessions = self._placeable()
        self._turns.crowding = NOBODY_WAITS
        if not sessions:
            return []
        self._kinds.update(sessions)
        sessions = self._in_order(sessions)
        actions = unfit.fail(sessions, self._nodes, self._workers)
        actions += self._drain(list(limits.beyond(sessions, self._workers)))
        shares = self._share(sessions)
        actions += self._drain_surplus(shares)
        lacks = [(share.session, self._lack(share)) for share in shares]
        if self._rules.max_cores_per_person:
            actions += self._drain_over_limit(shares, lacks)
        missing = sum(lack.core_count for _, lack in lacks)
        if missing and not (self._cores.is_uniform and missing <= self._cores.room):
            actions += self._drain_for(shares, lacks)
        # The session that leaves out most nodes chooses first.
        lacks.sort(key=lambda each: -each[0].unfit_count)
        actions += self._start(lacks)
        is_any_left = self._cores.is_any_free and not self._workers.draining_count
        if is_any_left and not self._cores.is_uniform:
            actions += self._start(self._further_lacks(shares))
        return actions

    def end_turn(self) -> None:
        """Let sessions that had a core go behind those that waited; one that wanted none saves up nothing."""
        core_count = self._cores.given
        asking = [session for session in self._placeable() if session.demand(core_count).limit]
        wanting = [session for session in asking if not session.is_idle] or asking
        self._turns.end_turn(wanting, self._sessions.values())

    def least_served(self, person: str) -> float:
        """What a new session of a person begins with: it comes neither before nor behind all others."""
        return self._turns.least_served(person, self._placeable())

    def _placeable(self) -> list[FleetSession]:
        """The sessions that may have workers."""
        return [each for each in self._sessions.values() if each.may_have_workers]

    def _in_order(self, sessions: Sequence[FleetSession]) -> list[FleetSession]:
        """Of equal persons, and of equal sessions of a person, the one with most workers comes first.

        So no worker moves for nothing.
        """
        counts = {each.session_id: self._workers.staying_count(each.session_id) for each in sessions}
        if not any(each.person for each in sessions):
            return sorted(sessions, key=lambda each: (each.was_served, -counts[each.session_id]))
        of_owner = Counter[Person]()
        for each in sessions:
            of_owner[each.owner] += counts[each.session_id]
        turns = self._turns.of(sessions)

        def rank(each: FleetSession) -> tuple[bool, int, bool, int]:
            owner = each.owner
            return turns[owner].was_served, -of_owner[owner], each.was_served, -counts[each.session_id]

        return sorted(sessions, key=rank)

    def _share(self, sessions: Sequence[FleetSession]) -> list[_Share]:
        """Divide the cores among the sessions."""
        stuck = self._workers.stuck_cores
        shares = []
        for session in sessions:
            is_complete = 0 < session.max_workers <= self._workers.staying_count(session.session_id)
            session.core_cap = self._workers.held[session.session_id] if is_complete else None
            fitting_count = self._cores.given_to(session.session_id)
            demand = session.demand(fitting_count)
            wish = Wish(demand, stuck[session.session_id], session.is_idle, session.person)
            shares.append(_Share(session, fitting_count, wish, 0))
        # Nobody can have what workers of sessions that have ended still hold.
        wishes = [share.wish for share in shares]
        core_count = self._cores.given - stuck[None]
        rules = PersonRules(self._rules.max_cores_per_person, self._turns.served())
        if self._cores.is_uniform:
            found = targets.divide(core_count, wishes, rules)
        else:
            pools = {kind: cores.given for kind, cores in self._cores.kinds.items() if cores.given}
            fits = [frozenset(kind for kind in pools if each.session_id not in kind) for each in sessions]
            found = targets.divide_by_kind(core_count, wishes, pools, fits, rules)
        self._turns.crowding = targets.find_crowding(wishes, found)
        for share, target in zip(shares, found, strict=True):
            share.target = target
        return shares

    def _lack(self, share: _Share) -> Lack:
        """What a session lacks by its share."""
        if share.target - share.wish.stuck_count <= self._workers.held[share.session.session_id]:
            return NO_LACK
        wanted = min(share.target, share.session.wanted_count(share.fitting_count)) - share.wish.stuck_count
        return self._lack_of(share.session, wanted)

    def _lack_of(self, session: FleetSession, wanted: int) -> Lack:
        """What a session lacks until it has the wanted cores."""
        missing = max(0, wanted - self._workers.held[session.session_id])
        count = self._workers.staying_count(session.session_id)
        most = max(0, session.max_workers - count) if session.max_workers else missing
        return Lack(missing, most, session.width, count > 0)

    def _further_lacks(self, shares: Sequence[_Share]) -> Iterable[tuple[FleetSession, Lack]]:
        """What sessions could use beyond their shares, of the cores that nobody else can."""
        for share in sorted(shares, key=lambda share: -share.session.unfit_count):
            wanted = share.session.wanted_count(share.fitting_count)
            yield share.session, self._lack_of(share.session, wanted)

    def _drain_for(
        self, shares: Sequence[_Share], lacks: Sequence[tuple[FleetSession, Lack]]
    ) -> list[Action]:
        """Drain workers for what sessions lack beyond the cores that are free, or will be soon."""
        stakes = self._stakes(shares, lacks)
        return self._drain(drains.choose(stakes, self._workers, self._cores))

    def _drain_over_limit(
        self, shares: Sequence[_Share], lacks: Sequence[tuple[FleetSession, Lack]]
    ) -> list[Action]:
        """Drain workers of persons whose sessions would have more cores together than one person may."""
        stakes = self._stakes(shares, lacks)
        return self._drain(limits.over(stakes, self._workers, self._rules.max_cores_per_person))

    def _stakes(
        self, shares: Sequence[_Share], lacks: Sequence[tuple[FleetSession, Lack]]
    ) -> list[drains.Stake]:
        return [
            drains.Stake(share.session, lack.core_count, self._excess(share))
            for share, (_, lack) in zip(shares, lacks, strict=True)
        ]

    def _drain_surplus(self, shares: Sequence[_Share]) -> list[Action]:
        """Drain what nodes have above the cores that they give, where that is known."""
        above = {
            host: node.given for host, node in self._cores.above.items() if self._nodes[host].tells_cores
        }
        if not above:
            return []
        excess = {
            share.session.session_id: self._workers.held[share.session.session_id] - share.target
            for share in shares
        }
        busy = {share.session.session_id: share.session.busy_worker_ids for share in shares}
        return self._drain(drains.surplus(above, self._workers, excess, busy))

    def _excess(self, share: _Share) -> int:
        """Cores of a session above its share, those that are stuck left aside."""
        return self._workers.held[share.session.session_id] - share.target + share.wish.stuck_count

    def _drain(self, workers: Iterable[FleetWorker]) -> list[Action]:
        found: list[Action] = []
        for worker in workers:
            self._workers.drain(worker)
            found.append(DrainWorker(worker.session_id, worker.worker_id))
        return found

    def _start(self, lacks: Iterable[tuple[FleetSession, Lack]]) -> list[Action]:
        if self._rules.max_cores_per_person:
            most = self._rules.max_cores_per_person
            lacks = limits.cut(lacks, self._placeable(), self._workers, most)
        lacking = [(session.session_id, lack) for session, lack in lacks if lack.core_count]
        if not lacking or not self._cores.is_any_free:
            return []
        openings = Openings(self._nodes, self._cores, is_packed=self._rules.is_packed)
        return [
            self._start_at(opening, session_id)
            for session_id, lack in lacking
            for opening in openings.take(session_id, lack)
        ]

    def _start_at(self, opening: Opening, session_id: int) -> StartWorkers:
        """Enter the workers for an opening."""
        first = self._worker_number + 1
        self._worker_number += opening.count
        names = tuple(f"{self._rules.run_name}-{number}" for number in range(first, first + opening.count))
        for name in names:
            self._workers.add(FleetWorker(name, session_id, opening.host, core_count=opening.width))
        return StartWorkers(opening.host, session_id, names, opening.width)
