"""Who gets which cores: workers to start and to drain, so that every session has its share.

Pure. Looks at the fleet's nodes, sessions and workers, enters the workers that it starts and marks those
that it drains; the fleet core tells it when something has changed.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from services.broker.fleet import aimed_drains, targets
from services.broker.fleet.aimed_drains import Stake
from services.broker.fleet.events import Action, DrainWorker, FailSession, StartWorkers
from services.broker.fleet.state import FleetNode, FleetSession, FleetWorker, count_cores
from services.broker.fleet.surplus import surplus_workers
from services.broker.fleet.targets import Wish
from services.broker.fleet.widths import Lack, find_openings


class Placement:
    """Divides the cores of one fleet.

    Args:
        nodes: by host.
        sessions: by id, in order of request.
        workers: by id; those that start are entered here.
        run_name: how names of workers begin, unique for each run of a broker.
    """

    def __init__(
        self,
        nodes: Mapping[str, FleetNode],
        sessions: Mapping[int, FleetSession],
        workers: dict[str, FleetWorker],
        run_name: str,
    ) -> None:
        self._nodes, self._sessions, self._workers = nodes, sessions, workers
        self._run_name = run_name
        self._worker_number = 0
        # Whether a session that wants cores has none to expect, so that sessions take turns.
        self.is_crowded = False

    def sessions(self) -> list[FleetSession]:
        """The sessions that may have workers."""
        return [each for each in self._sessions.values() if each.may_have_workers]

    def is_leaving(self, worker: FleetWorker) -> bool:
        """Whether its cores will soon be free."""
        return worker.is_draining or worker.session_id not in self._sessions

    def place(self, actions: list[Action]) -> None:
        """Start workers where shares and free cores allow; drain as many as are missing for that."""
        staying: dict[int, list[FleetWorker]] = {session.session_id: [] for session in self.sessions()}
        self.is_crowded = False
        if not staying:
            return
        for worker in self._workers.values():
            if worker.session_id in staying and not worker.is_draining:
                staying[worker.session_id].append(worker)
        # Of equals who has most comes first, so that no worker moves for nothing.
        sessions = sorted(
            self.sessions(), key=lambda session: (session.was_served, -len(staying[session.session_id]))
        )
        self._check_fits(sessions, actions)
        for session in sessions:
            workers = staying[session.session_id]
            is_complete = 0 < session.max_workers <= len(workers)
            session.core_cap = count_cores(workers) if is_complete else None
        fitting = [self._fitting_count(session) for session in sessions]
        stuck_workers = [worker for worker in self._workers.values() if worker.is_stuck]
        stuck = self._owned_cores(stuck_workers)
        wishes = [
            Wish(session.demand(count), stuck[session.session_id], session.is_idle)
            for session, count in zip(sessions, fitting, strict=True)
        ]
        # What a session that has ended still holds can be nobody's.
        core_count = sum(node.core_count for node in self._nodes.values()) - stuck[None]
        shared = targets.divide(core_count, wishes)
        self.is_crowded = targets.is_crowded(wishes, shared)
        self._drain_surplus(sessions, shared, staying, actions)
        lacks: list[tuple[FleetSession, Lack]] = []
        spares: list[list[FleetWorker]] = []
        for session, wish, target, count in zip(sessions, wishes, shared, fitting, strict=True):
            workers = staying[session.session_id]
            wanted = min(target, session.wanted_count(count)) - wish.stuck_count
            lacks.append((session, _lack(session, wanted, workers)))
            spares.append(_spare_workers(workers, target - wish.stuck_count, session.busy_worker_ids))
        rooms = self._rooms(stuck_workers, staying)
        if any(session.left_out or session.avoided for session in sessions):
            stakes = [
                Stake(session, staying[session.session_id], lack, len(spare))
                for (session, lack), spare in zip(lacks, spares, strict=True)
            ]
            self._place_aimed(stakes, rooms, actions)
            return
        _drain(sum(lack.core_count for _, lack in lacks) - sum(rooms.values()), spares, actions)
        self._start(lacks, actions)

    def _owned_cores(self, workers: Iterable[FleetWorker]) -> Counter[int | None]:
        """Cores of workers by session; those of ended sessions under None."""
        owned = Counter[int | None]()
        for worker in workers:
            owned[worker.session_id if worker.session_id in self._sessions else None] += worker.core_count
        return owned

    def _rooms(
        self, stuck: Iterable[FleetWorker], staying: Mapping[int, Sequence[FleetWorker]]
    ) -> dict[str, int]:
        """Cores of each node that are free, or will be soon."""
        kept = Counter[str]()
        for worker in itertools.chain(stuck, *staying.values()):
            kept[worker.host] += worker.core_count
        return {node.host: max(0, node.core_count - kept[node.host]) for node in self._nodes.values()}

    def _place_aimed(self, stakes: list[Stake], rooms: dict[str, int], actions: list[Action]) -> None:
        """Drain and start where not every node fits every session; what is left goes to who can use it."""
        for worker in aimed_drains.choose(stakes, rooms):
            worker.is_draining = True
            actions.append(DrainWorker(worker.session_id, worker.worker_id))
        stakes.sort(key=lambda stake: -stake.session.unfit_count)
        self._start([(stake.session, stake.lack) for stake in stakes], actions)
        if any(worker.is_draining for worker in self._workers.values()):
            return
        for session in (stake.session for stake in stakes):
            workers = [each for each in self._workers.values() if each.session_id == session.session_id]
            wanted = session.wanted_count(self._fitting_count(session))
            self._start([(session, _lack(session, wanted, workers))], actions)

    def _fitting_count(self, session: FleetSession) -> int:
        """Cores of the nodes that a session does not leave out."""
        return sum(node.core_count for node in self._nodes.values() if session.fits(node))

    def _drain_surplus(
        self,
        sessions: Sequence[FleetSession],
        targets: Sequence[int],
        staying: dict[int, list[FleetWorker]],
        actions: list[Action],
    ) -> None:
        """Drain what nodes have above the cores that they give, and take it out of `staying`."""
        by_id = {session.session_id: target for session, target in zip(sessions, targets, strict=True)}
        busy = {worker_id for session in sessions for worker_id in session.busy_worker_ids}
        for worker in surplus_workers(self._nodes.values(), staying, by_id, busy):
            staying[worker.session_id].remove(worker)
            worker.is_draining = True
            actions.append(DrainWorker(worker.session_id, worker.worker_id))

    def _check_fits(self, sessions: Sequence[FleetSession], actions: list[Action]) -> None:
        """Fail sessions that have no worker and no node that could work for them, when all nodes are up.

        A fleet without nodes, all of which join, gets some when a scheduler starts their agents.
        """
        if not self._nodes or not all(node.is_ready for node in self._nodes.values()):
            return
        having = {worker.session_id for worker in self._workers.values()}
        for session in sessions:
            if session.is_failed or session.session_id in having:
                continue
            if all(node.host in session.left_out for node in self._nodes.values()):
                session.is_failed = True
                lines = [
                    f"{node.title}: {', '.join(session.left_out[node.host])}" for node in self._nodes.values()
                ]
                reason = f"every node is left out: {'; '.join(lines)}"
                actions.append(FailSession(session.session_id, reason))

    def _start(self, lacks: Sequence[tuple[FleetSession, Lack]], actions: list[Action]) -> None:
        room = Counter({node.host: node.core_count for node in self._nodes.values()})
        leaving = Counter[str]()
        for worker in self._workers.values():
            room[worker.host] -= worker.core_count
            is_soon = self.is_leaving(worker) and not worker.is_stuck
            leaving[worker.host] += worker.core_count * is_soon
        nodes = [node for node in self._nodes.values() if not node.is_refusing]
        for session, lack in lacks:
            fitting = [node for node in nodes if session.fits(node)] if lack.core_count else []
            for found in find_openings(lack, fitting, room, leaving):
                names = tuple(
                    self._new_worker(session.session_id, found.host, found.width) for _ in range(found.count)
                )
                actions.append(StartWorkers(found.host, session.session_id, names, found.width))

    def _new_worker(self, session_id: int, host: str, core_count: int) -> str:
        self._worker_number += 1
        worker_id = f"{self._run_name}-{self._worker_number}"
        self._workers[worker_id] = FleetWorker(worker_id, session_id, host, core_count=core_count)
        return worker_id


def _lack(session: FleetSession, wanted: int, workers: Sequence[FleetWorker]) -> Lack:
    """What a session lacks that should have so many cores."""
    missing = max(0, wanted - count_cores(workers))
    most = max(0, session.max_workers - len(workers)) if session.max_workers else missing
    return Lack(missing, most, session.width, bool(workers))


def _spare_workers(workers: list[FleetWorker], target: int, busy: frozenset[str]) -> list[FleetWorker]:
    """What a session has above its target: the idle ones last, as the first to go."""
    spare = []
    for worker in sorted(workers, key=lambda worker: worker.worker_id not in busy):
        target -= worker.core_count
        if target < 0:
            target += worker.core_count
            spare.append(worker)
    return spare


def _drain(count: int, spares: list[list[FleetWorker]], actions: list[Action]) -> None:
    """Drain workers of so many cores, each from who has the most to spare."""
    while count > 0:
        most = max(spares, key=len)
        if not most:
            return
        worker = most.pop()
        count -= worker.core_count
        worker.is_draining = True
        actions.append(DrainWorker(worker.session_id, worker.worker_id))
