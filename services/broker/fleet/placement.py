"""Who gets which cores: workers to start and to drain, so that every session has its share.

Pure. Looks at the fleet's nodes, sessions and workers, enters the workers that it starts and marks those
that it drains. The fleet core asks for a placement when something has changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.broker.fleet import drains, targets, unfit
from services.broker.fleet.events import Action, DrainWorker, StartWorkers
from services.broker.fleet.state import FleetNode, FleetSession, FleetWorker
from services.broker.fleet.targets import Wish
from services.broker.fleet.widths import Lack, Opening, find_openings
from services.broker.fleet.workers import WorkerTable


@dataclass(frozen=True, slots=True)
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
        run_name: how names of workers begin, unique for each run of a broker.
    """

    def __init__(
        self,
        nodes: Mapping[str, FleetNode],
        sessions: Mapping[int, FleetSession],
        workers: WorkerTable,
        run_name: str,
    ) -> None:
        self._nodes, self._sessions, self._workers = nodes, sessions, workers
        self._run_name = run_name
        self._worker_number = 0
        # Whether a session that wants cores has none to expect, so that sessions take turns.
        self._is_crowded = False

    def place(self) -> list[Action]:
        """Start workers where shares and free cores allow; drain as many as are missing for that."""
        # Of equals the session with most workers comes first, so that no worker moves for nothing.
        sessions = sorted(
            self._placeable(),
            key=lambda each: (each.was_served, -self._workers.staying_count(each.session_id)),
        )
        self._is_crowded = False
        if not sessions:
            return []
        actions = unfit.fail(sessions, self._nodes, self._workers.counts)
        shares = self._share(sessions)
        actions += self._drain_surplus(shares)
        lacks = [(share.session, self._lack(share)) for share in shares]
        missing = sum(lack.core_count for _, lack in lacks)
        if any(session.unfit_count for session in sessions):
            return [*actions, *self._place_aimed(shares, lacks)]
        if not missing:
            return actions
        lacking = missing - sum(self._rooms().values())
        if lacking > 0:
            actions += self._drain(drains.anywhere(lacking, [self._spares(share) for share in shares]))
        return [*actions, *self._start(lacks)]

    def end_turn(self) -> None:
        """Let sessions that had a core go behind those that waited; one that wanted none saves up nothing."""
        core_count = sum(node.core_count for node in self._nodes.values())
        asking = [session for session in self._placeable() if session.demand(core_count).limit]
        wanting = [session for session in asking if not session.is_idle] or asking
        for session in wanting:
            session.was_served = self._is_crowded and session.session_id in self._workers.counts
            session.served += session.was_served / session.weight
        least = min((session.served for session in wanting), default=0.0)
        for session in self._sessions.values():
            session.served = max(session.served, least) if self._is_crowded else 0.0

    def least_served(self) -> float:
        """What a new session begins with, so that it comes neither before nor behind all others."""
        return min((session.served for session in self._placeable()), default=0.0)

    def _placeable(self) -> list[FleetSession]:
        """The sessions that may have workers."""
        return [each for each in self._sessions.values() if each.may_have_workers]

    def _share(self, sessions: Sequence[FleetSession]) -> list[_Share]:
        """Divide the cores among the sessions."""
        stuck = self._workers.stuck_cores()
        total = sum(node.core_count for node in self._nodes.values())
        fitting, wishes = [], []
        for session in sessions:
            is_complete = 0 < session.max_workers <= self._workers.staying_count(session.session_id)
            session.core_cap = self._workers.held[session.session_id] if is_complete else None
            fitting.append(self._fitting_count(session))
            wishes.append(Wish(session.demand(fitting[-1]), stuck[session.session_id], session.is_idle))
        # Nobody can have what workers of sessions that have ended still hold.
        found = targets.divide(total - stuck[None], wishes)
        self._is_crowded = targets.is_crowded(wishes, found)
        return [_Share(*each) for each in zip(sessions, fitting, wishes, found, strict=True)]

    def _fitting_count(self, session: FleetSession) -> int:
        """Cores of the nodes that a session does not leave out."""
        return sum(node.core_count for node in self._nodes.values() if session.fits_host(node.host))

    def _lack(self, share: _Share) -> Lack:
        """What a session lacks by its share."""
        wanted = min(share.target, share.session.wanted_count(share.fitting_count)) - share.wish.stuck_count
        return self._lack_of(share.session, wanted)

    def _lack_of(self, session: FleetSession, wanted: int) -> Lack:
        """What a session lacks until it has the wanted cores."""
        count = self._workers.staying_count(session.session_id)
        missing = max(0, wanted - self._workers.held[session.session_id])
        most = max(0, session.max_workers - count) if session.max_workers else missing
        return Lack(missing, most, session.width, count > 0)

    def _spares(self, share: _Share) -> list[FleetWorker]:
        """The workers of a session above its share."""
        target = share.target - share.wish.stuck_count
        if self._workers.held[share.session.session_id] <= target:
            return []
        staying = self._workers.staying(share.session.session_id)
        return drains.spare(staying, target, share.session.busy_worker_ids)

    def _rooms(self) -> dict[str, int]:
        """Cores of each node that are free, or will be soon."""
        firm = self._workers.firm_cores()
        return {node.host: max(0, node.core_count - firm[node.host]) for node in self._nodes.values()}

    def _place_aimed(
        self, shares: Sequence[_Share], lacks: Sequence[tuple[FleetSession, Lack]]
    ) -> list[Action]:
        """Drain and start where not every node fits every session.

        Cores that are left go to any session that fits their nodes.
        """
        actions: list[Action] = []
        if any(lack.core_count for _, lack in lacks):
            stakes = [
                drains.Stake(
                    share.session, self._workers.staying(share.session.session_id), lack, self._spares(share)
                )
                for share, (_, lack) in zip(shares, lacks, strict=True)
            ]
            actions += self._drain(drains.where_they_fit(stakes, self._rooms()))
        # The session that leaves out most nodes chooses first.
        choosy_first = sorted(lacks, key=lambda each: -each[0].unfit_count)
        actions += self._start(choosy_first)
        if not self._workers.is_any_draining:
            for session, _ in choosy_first:
                wanted = session.wanted_count(self._fitting_count(session))
                actions += self._start([(session, self._lack_of(session, wanted))])
        return actions

    def _drain_surplus(self, shares: Sequence[_Share]) -> list[Action]:
        """Drain what nodes have above the cores that they give, where that is known."""
        kept = self._workers.kept
        above = [node for node in self._nodes.values() if kept[node.host] > node.core_count]
        above = [node for node in above if node.tells_cores]
        if not above:
            return []
        staying, excess, busy = {}, {}, set[str]()
        # Of equals the older session gives a worker: ids grow with the requests.
        for share in sorted(shares, key=lambda share: share.session.session_id):
            session_id = share.session.session_id
            staying[session_id] = self._workers.staying(session_id)
            excess[session_id] = self._workers.held[session_id] - share.target
            busy |= share.session.busy_worker_ids
        return self._drain(drains.surplus(above, staying, excess, busy))

    def _drain(self, workers: Iterable[FleetWorker]) -> list[Action]:
        found: list[Action] = []
        for worker in workers:
            self._workers.drain(worker)
            found.append(DrainWorker(worker.session_id, worker.worker_id))
        return found

    def _start(self, lacks: Sequence[tuple[FleetSession, Lack]]) -> list[Action]:
        lacking = [(session, lack) for session, lack in lacks if lack.core_count]
        if not lacking:
            return []
        used, firm = self._workers.used, self._workers.firm_cores()
        nodes = [node for node in self._nodes.values() if not node.is_refusing]
        room = Counter({node.host: node.core_count - used[node.host] for node in nodes})
        leaving = Counter({node.host: used[node.host] - firm[node.host] for node in nodes})
        started: list[Action] = []
        for session, lack in lacking:
            fitting = [node for node in nodes if session.fits_host(node.host)]
            openings = find_openings(lack, fitting, room, leaving)
            started += [self._start_at(opening, session.session_id) for opening in openings]
        return started

    def _start_at(self, opening: Opening, session_id: int) -> StartWorkers:
        """Enter the workers for an opening."""
        first = self._worker_number + 1
        self._worker_number += opening.count
        names = tuple(f"{self._run_name}-{number}" for number in range(first, first + opening.count))
        for name in names:
            self._workers.add(FleetWorker(name, session_id, opening.host, core_count=opening.width))
        return StartWorkers(opening.host, session_id, names, opening.width)
