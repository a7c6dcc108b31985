"""Which workers make way: those above what their node gives, and those whose cores other sessions lack.

Pure. A drained worker ends after the task that it runs, so that nothing is lost. The placement decides how
many cores each session is to have; here is chosen who gives them. Idle workers go first, the youngest of them
before the others.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from quakegrid.services.broker.fleet.cores import CoreTable, Kind
from quakegrid.services.broker.fleet.state import FleetSession, FleetWorker
from quakegrid.services.broker.fleet.workers import WorkerTable


@dataclass(slots=True)
class Stake:
    """The cores that a session lacks, and those that it has above its target."""

    session: FleetSession
    missing: int
    excess: int


def surplus(
    above: Mapping[str, int],
    workers: WorkerTable,
    excess: Mapping[int, int],
    busy: Mapping[int, AbstractSet[str]],
) -> list[FleetWorker]:
    """Workers above what their nodes give: from the session with the most above its target, idle ones first.

    Of equals the older session gives a worker.

    Args:
        above: cores that nodes give, fewer than workers have there, by host.
        workers: of the fleet.
        excess: cores that each session has above its target.
        busy: ids of workers that hold a task, by session.
    """
    left = dict(excess)
    chosen: list[FleetWorker] = []
    for host, core_count in above.items():
        mine = [worker for worker in workers.of_host(host) if workers.is_staying(worker)]
        mine.sort(key=lambda worker: worker.session_id)
        count = sum(worker.core_count for worker in mine)
        while count > core_count:
            worker = max(
                mine, key=lambda each: (left[each.session_id], each.worker_id not in busy[each.session_id])
            )
            mine.remove(worker)
            count -= worker.core_count
            left[worker.session_id] -= worker.core_count
            chosen.append(worker)
    return chosen


def choose(stakes: Sequence[Stake], workers: WorkerTable, cores: CoreTable) -> list[FleetWorker]:
    """Workers to drain for what sessions lack: a core helps only on a node that fits.

    Free cores are taken first, also those that will be free soon. Then spare workers go, from the session
    with most of them; else a worker whose session finds a free core on another node, and moves there.

    Args:
        stakes: of all sessions that may have workers; they change.
        workers: of the fleet.
        cores: of its nodes.
    """
    choice = _Choice(stakes, workers, cores)
    # The session that leaves out most nodes chooses first, here as when workers start.
    for stake in sorted(stakes, key=lambda stake: -stake.session.unfit_count):
        if stake.missing > 0:
            choice.serve(stake)
    return choice.chosen


class _Choice:
    """The workers chosen so far, and what is left for others."""

    def __init__(self, stakes: Sequence[Stake], workers: WorkerTable, cores: CoreTable) -> None:
        self.chosen: list[FleetWorker] = []
        self._stakes, self._workers, self._cores = stakes, workers, cores
        # Cores of each kind that nobody has taken.
        self._room = {kind: of_kind.room for kind, of_kind in cores.kinds.items()}
        # Workers that stay by session and kind of node, those to go first last.
        self._candidates: dict[int, dict[Kind, list[FleetWorker]]] = {}

    def serve(self, stake: Stake) -> None:
        """Find the cores that a session lacks."""
        while stake.missing > 0 and (kind := self._free_kind(stake.session)) is not None:
            taken = min(stake.missing, self._room[kind])
            self._room[kind] -= taken
            stake.missing -= taken
        if stake.missing > 0:
            self._take_spares(stake)
        if stake.missing > 0 and not self._cores.is_uniform:
            self._take_movable(stake)

    def _free_kind(self, session: FleetSession) -> Kind | None:
        """Where a session would find a free core."""
        for kind, count in self._room.items():
            if count > 0 and session.session_id not in kind:
                return kind
        return None

    def _take_spares(self, stake: Stake) -> None:
        """Take workers from the sessions with most cores above their targets."""
        heap = [(-giver.excess, number) for number, giver in enumerate(self._stakes) if giver.excess > 0]
        heapq.heapify(heap)
        while stake.missing > 0 and heap:
            _, number = heap[0]
            giver = self._stakes[number]
            worker = self._take(giver, stake)
            if worker is not None:
                giver.excess -= worker.core_count
            if worker is not None and giver.excess > 0:
                heapq.heapreplace(heap, (-giver.excess, number))
            else:
                heapq.heappop(heap)

    def _take_movable(self, stake: Stake) -> None:
        """Take workers whose sessions have free cores on other nodes."""
        for giver in self._stakes:
            while stake.missing > 0 and giver is not stake:
                kind = self._free_kind(giver.session)
                worker = None if kind is None else self._take(giver, stake)
                if kind is None or worker is None:
                    break
                self._room[kind] -= worker.core_count

    def _take(self, giver: Stake, stake: Stake) -> FleetWorker | None:
        """A worker of one session whose core another one could use, an idle one if there is one."""
        busy = giver.session.busy_worker_ids
        first: list[FleetWorker] | None = None
        for kind, workers in self._candidates_of(giver.session).items():
            if not workers or stake.session.session_id in kind:
                continue
            if workers[-1].worker_id not in busy:
                first = workers
                break
            first = first or workers
        if first is None:
            return None
        worker = first.pop()
        stake.missing -= worker.core_count
        self.chosen.append(worker)
        return worker

    def _candidates_of(self, session: FleetSession) -> Mapping[Kind, list[FleetWorker]]:
        """The workers of a session that stay, by kind, each looked at once a placement."""
        if session.session_id not in self._candidates:
            busy = session.busy_worker_ids
            groups: dict[Kind, list[FleetWorker]] = {}
            staying = self._workers.staying(session.session_id)
            for worker in sorted(staying, key=lambda worker: worker.worker_id not in busy):
                groups.setdefault(self._cores[worker.host].kind, []).append(worker)
            self._candidates[session.session_id] = groups
        return self._candidates[session.session_id]
