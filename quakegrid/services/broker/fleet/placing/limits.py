"""How many cores one person, and workers one session may have: which workers make way, and which may start.

Pure. A person's cores are those of all workers of open sessions, also of workers that are about to end.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from quakegrid.services.broker.fleet.placing.drains import Stake
from quakegrid.services.broker.fleet.placing.openings import Lack
from quakegrid.services.broker.fleet.state import FleetSession, FleetWorker, Person
from quakegrid.services.broker.fleet.workers import WorkerTable


def over(stakes: Sequence[Stake], workers: WorkerTable, most: int) -> Iterator[FleetWorker]:
    """Workers to drain so that each person keeps to the limit when the sessions have what they lack.

    They are of the sessions with most cores above their targets, idle workers first.

    Args:
        stakes: of all sessions that may have workers.
        workers: of the fleet.
        most: cores for one person.
    """
    of_person: dict[Person, list[Stake]] = {}
    for stake in stakes:
        of_person.setdefault(stake.session.owner, []).append(stake)
    for mine in of_person.values():
        core_count = sum(stake.missing + _kept(stake, workers) for stake in mine) - most
        if core_count > 0:
            yield from _choose(mine, workers, core_count)


def cut(
    lacks: Iterable[tuple[FleetSession, Lack]],
    sessions: Iterable[FleetSession],
    workers: WorkerTable,
    most: int,
) -> Iterator[tuple[FleetSession, Lack]]:
    """What sessions lack, as far as their persons may have more cores now.

    Args:
        lacks: by session, the first to start workers first.
        sessions: that may have workers.
        workers: of the fleet.
        most: cores for one person.
    """
    used = Counter[Person]()
    for session in sessions:
        used[session.owner] += workers.used[session.session_id]
    for session, lack in lacks:
        person = session.owner
        core_count = max(0, min(lack.core_count, most - used[person]))
        used[person] += core_count
        yield session, replace(lack, core_count=core_count)


def beyond(sessions: Iterable[FleetSession], workers: WorkerTable) -> Iterator[FleetWorker]:
    """Workers above what their session may have, idle ones first: nodes that were out of reach brought them.

    Args:
        sessions: that may have workers.
        workers: of the fleet.
    """
    for session in sessions:
        surplus = workers.staying_count(session.session_id) - session.max_workers
        if session.max_workers and surplus > 0:
            yield from _idle_last(session, workers)[-surplus:]


def _kept(stake: Stake, workers: WorkerTable) -> int:
    """Cores that a session keeps unless workers of it are drained now."""
    session_id = stake.session.session_id
    return workers.held[session_id] + workers.stuck_cores[session_id]


def _choose(stakes: Sequence[Stake], workers: WorkerTable, core_count: int) -> Iterator[FleetWorker]:
    """Workers with so many cores, of sessions that are above their targets."""
    heap = [(-stake.excess, number) for number, stake in enumerate(stakes) if stake.excess > 0]
    heapq.heapify(heap)
    candidates: dict[int, list[FleetWorker]] = {}
    while core_count > 0 and heap:
        excess, number = heap[0]
        if number not in candidates:
            candidates[number] = _idle_last(stakes[number].session, workers)
        worker = candidates[number].pop()
        core_count -= worker.core_count
        yield worker
        if excess + worker.core_count < 0:
            heapq.heapreplace(heap, (excess + worker.core_count, number))
        else:
            heapq.heappop(heap)


def _idle_last(session: FleetSession, workers: WorkerTable) -> list[FleetWorker]:
    busy = session.busy_worker_ids
    staying = workers.staying(session.session_id)
    return sorted(staying, key=lambda worker: worker.worker_id not in busy)
