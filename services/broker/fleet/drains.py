"""Which workers make way: those above what their node gives, and those whose cores other sessions lack.

Pure. A drained worker ends after the task that it runs, so that nothing is lost. The placement decides how
many cores each session is to have; here is chosen who gives them.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from services.broker.fleet.state import FleetNode, FleetSession, FleetWorker
from services.broker.fleet.widths import Lack


@dataclass(frozen=True, slots=True)
class Stake:
    """The workers of a session that stay, what the session lacks, and the workers that it can spare.

    Of the spare ones the idle come last.
    """

    session: FleetSession
    workers: Sequence[FleetWorker]
    lack: Lack
    spares: Sequence[FleetWorker]


def surplus(
    nodes: Iterable[FleetNode],
    staying: Mapping[int, Sequence[FleetWorker]],
    excess: Mapping[int, int],
    busy: AbstractSet[str],
) -> list[FleetWorker]:
    """Workers above what their nodes give: from the session with the most above its target, idle ones first.

    Args:
        nodes: that give fewer cores than workers have there.
        staying: workers by session, without those that drain.
        excess: cores that each of these sessions has above its target.
        busy: ids of workers that hold a task.
    """
    above = dict(excess)
    here: dict[str, list[FleetWorker]] = {node.host: [] for node in nodes}
    for workers in staying.values():
        for worker in workers:
            if worker.host in here:
                here[worker.host].append(worker)
    chosen: list[FleetWorker] = []
    for node in nodes:
        mine = here[node.host]
        count = sum(worker.core_count for worker in mine)
        while count > node.core_count:
            worker = max(mine, key=lambda each: (above[each.session_id], each.worker_id not in busy))
            mine.remove(worker)
            count -= worker.core_count
            above[worker.session_id] -= worker.core_count
            chosen.append(worker)
    return chosen


def spare(workers: Iterable[FleetWorker], target: int, busy: AbstractSet[str]) -> list[FleetWorker]:
    """The workers of a session above its target of cores: the idle ones last, as the first to go."""
    found = []
    for worker in sorted(workers, key=lambda worker: worker.worker_id not in busy):
        target -= worker.core_count
        if target < 0:
            target += worker.core_count
            found.append(worker)
    return found


def anywhere(core_count: int, spares: Sequence[Sequence[FleetWorker]]) -> list[FleetWorker]:
    """Workers of so many cores, each from the session that has the most workers to spare.

    Args:
        core_count: how many cores are missing.
        spares: of each session, the first to go last.
    """
    left = [list(each) for each in spares]
    heap = [(-len(each), number) for number, each in enumerate(left) if each]
    heapq.heapify(heap)
    chosen: list[FleetWorker] = []
    while core_count > 0 and heap:
        _, number = heap[0]
        worker = left[number].pop()
        core_count -= worker.core_count
        chosen.append(worker)
        if left[number]:
            heapq.heapreplace(heap, (-len(left[number]), number))
        else:
            heapq.heappop(heap)
    return chosen


def where_they_fit(stakes: Sequence[Stake], rooms: Mapping[str, int]) -> list[FleetWorker]:
    """Workers to drain when sessions leave nodes out: a core helps only on a node that fits.

    Spare workers go first; else a worker whose session finds a free core on another node, and moves there.

    Args:
        stakes: of all sessions that may have workers.
        rooms: free cores by host, those of workers that are being drained included.
    """
    aimed = _AimedDrains(stakes, rooms)
    # The session that leaves out most nodes chooses first, here as when workers start.
    for stake in sorted(stakes, key=lambda stake: -stake.session.unfit_count):
        aimed.serve(stake)
    return aimed.chosen


class _AimedDrains:
    """The choices so far, and what is left for others."""

    def __init__(self, stakes: Sequence[Stake], rooms: Mapping[str, int]) -> None:
        self.chosen: list[FleetWorker] = []
        self._stakes = stakes
        self._left = Counter(rooms)
        self._spare_counts = [len(stake.spares) for stake in stakes]
        self._chosen_ids: set[str] = set()

    def serve(self, stake: Stake) -> None:
        """Find the cores that a session lacks: free ones first, then those of workers to drain."""
        missing = stake.lack.core_count
        while missing > 0 and (host := self._free_host(stake.session)):
            taken = min(missing, self._left[host])
            self._left[host] -= taken
            missing -= taken
        useful: dict[int, deque[FleetWorker]] = {}
        while missing > 0:
            worker = self._take_spare(stake.session, useful) or self._take_movable(stake.session, useful)
            if worker is None:
                break
            self.chosen.append(worker)
            self._chosen_ids.add(worker.worker_id)
            missing -= worker.core_count

    def _free_host(self, session: FleetSession) -> str:
        return next((host for host, count in self._left.items() if count > 0 and session.fits_host(host)), "")

    def _take_spare(self, session: FleetSession, useful: dict[int, deque[FleetWorker]]) -> FleetWorker | None:
        """A worker on a node that fits, from the session with the most workers above its share."""
        numbers = [number for number, count in enumerate(self._spare_counts) if count > 0]
        for number in sorted(numbers, key=lambda number: -self._spare_counts[number]):
            worker = self._take(session, number, useful)
            if worker:
                return worker
        return None

    def _take_movable(
        self, session: FleetSession, useful: dict[int, deque[FleetWorker]]
    ) -> FleetWorker | None:
        """A worker on a node that fits whose session has a free core on a node that does not."""
        for number, stake in enumerate(self._stakes):
            host = self._free_host(stake.session) if stake.session is not session else ""
            worker = self._take(session, number, useful) if host else None
            if worker:
                self._left[host] -= worker.core_count
                return worker
        return None

    def _take(
        self, session: FleetSession, number: int, useful: dict[int, deque[FleetWorker]]
    ) -> FleetWorker | None:
        """A worker of a stake whose core the session could use, an idle one if there is one.

        Args:
            session: that lacks a core.
            number: of the stake.
            useful: workers that this session could use, by stake; filled here, once for each stake.
        """
        stake = self._stakes[number]
        if number not in useful:
            busy = stake.session.busy_worker_ids
            fitting = (worker for worker in stake.workers if session.fits_host(worker.host))
            useful[number] = deque(sorted(fitting, key=lambda worker: worker.worker_id in busy))
        while useful[number]:
            worker = useful[number].popleft()
            if worker.worker_id not in self._chosen_ids:
                self._spare_counts[number] -= 1
                return worker
        return None
