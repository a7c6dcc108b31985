"""The workers of a fleet, with sums that placement needs kept up to date as workers come and go.

Pure. A worker *stays* until it is drained or its session ends, and then it is *leaving* until it has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from quakegrid.errors import IllegalMoveError
from services.broker.fleet.state import FleetWorker, count_cores


class WorkerTable(Mapping[str, FleetWorker]):
    """All workers by their ids. Only the fleet core changes it.

    Args:
        session_ids: the sessions that are open; a view that changes with them.
    """

    def __init__(self, session_ids: Mapping[int, object]) -> None:
        self._session_ids = session_ids
        self._workers: dict[str, FleetWorker] = {}
        self._staying: dict[int, dict[str, FleetWorker]] = {}
        self._leaving: dict[str, FleetWorker] = {}
        # Leaving workers that take too long: nobody waits for their cores any more.
        self.stuck: dict[str, FleetWorker] = {}
        # How many workers a session has, leaving ones included.
        self.counts = Counter[int]()
        # Cores of each node: of all workers, and of those that stay.
        self.used = Counter[str]()
        self.kept = Counter[str]()
        # Cores of a session's workers that stay.
        self.held = Counter[int]()

    def __getitem__(self, worker_id: str) -> FleetWorker:
        return self._workers[worker_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._workers)

    def __len__(self) -> int:
        return len(self._workers)

    def add(self, worker: FleetWorker) -> None:
        """Enter a worker of an open session."""
        self._workers[worker.worker_id] = worker
        self.counts[worker.session_id] += 1
        self.used[worker.host] += worker.core_count
        if worker.is_draining:
            self._leaving[worker.worker_id] = worker
        else:
            self._staying.setdefault(worker.session_id, {})[worker.worker_id] = worker
            self._keep(worker, worker.core_count)

    def remove(self, worker_id: str) -> FleetWorker | None:
        """Take out a worker that has ended; None if there is none of this id."""
        worker = self._workers.pop(worker_id, None)
        if worker is None:
            return None
        self.counts[worker.session_id] -= 1
        if not self.counts[worker.session_id]:
            del self.counts[worker.session_id]
        self.used[worker.host] -= worker.core_count
        if self._leaving.pop(worker_id, None) is None:
            del self._staying[worker.session_id][worker_id]
            self._keep(worker, -worker.core_count)
        self.stuck.pop(worker_id, None)
        if not self.used[worker.host]:
            del self.used[worker.host], self.kept[worker.host]
        return worker

    def drain(self, worker: FleetWorker) -> None:
        """A worker that stays is to end after the task that it holds."""
        worker.is_draining = True
        del self._staying[worker.session_id][worker.worker_id]
        self._leave(worker)

    def end_session(self, session_id: int) -> list[FleetWorker]:
        """All workers of a session are to end; returns them, those that were leaving already included."""
        for worker in self._staying.pop(session_id, {}).values():
            self._leave(worker)
        del self.held[session_id]
        return [worker for worker in self._workers.values() if worker.session_id == session_id]

    def pass_second(self) -> None:
        """About a second went by."""
        for worker in self._leaving.values():
            worker.leaving_s += 1
            if worker.is_stuck:
                self.stuck[worker.worker_id] = worker

    def staying(self, session_id: int) -> list[FleetWorker]:
        """The workers of a session that stay, the oldest first."""
        return list(self._staying.get(session_id, {}).values())

    def staying_count(self, session_id: int) -> int:
        """How many workers of a session stay."""
        return len(self._staying.get(session_id, ()))

    @property
    def is_any_draining(self) -> bool:
        """Whether a worker was drained and has not ended."""
        return any(worker.is_draining for worker in self._leaving.values())

    def stuck_cores(self) -> Counter[int | None]:
        """Cores of stuck workers by session; those of ended sessions under None."""
        found = Counter[int | None]()
        for worker in self.stuck.values():
            found[worker.session_id if worker.session_id in self._session_ids else None] += worker.core_count
        return found

    def firm_cores(self) -> Counter[str]:
        """Cores of each node that will not be free soon: of workers that stay, and of stuck ones."""
        found = self.kept.copy()
        for worker in self.stuck.values():
            found[worker.host] += worker.core_count
        return found

    def check(self) -> None:
        """Raise `IllegalMoveError` unless the sums are those of the workers."""
        staying = [
            worker
            for worker in self._workers.values()
            if not worker.is_draining and worker.session_id in self._session_ids
        ]
        is_right = (
            sum(self.used.values()) == count_cores(self._workers.values())
            and sum(self.kept.values()) == sum(self.held.values()) == count_cores(staying)
            and len(self._leaving) + len(staying) == len(self._workers) == self.counts.total()
            and self.stuck.keys() <= self._leaving.keys()
        )
        if not is_right:
            raise IllegalMoveError(f"the sums of {len(self._workers)} workers are wrong: {self.used}")

    def _leave(self, worker: FleetWorker) -> None:
        self._leaving[worker.worker_id] = worker
        self._keep(worker, -worker.core_count)

    def _keep(self, worker: FleetWorker, core_count: int) -> None:
        self.kept[worker.host] += core_count
        self.held[worker.session_id] += core_count
