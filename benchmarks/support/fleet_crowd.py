"""A fleet core with agents, lanes and drivers that do as they are told, at any size.

Nothing waits: an order is obeyed when somebody asks for it. Of every ten nodes the last one has other code,
and if the crowd is mixed, every second session (1, 3, ...) leaves these nodes out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import Fleet
from quakegrid.services.broker.fleet.state import NO_LIMITS, PersonLimits
from quakegrid.settings.hosts import HostCores

CORE_COUNT = 64
# Far more than cores: a session that has so many wants every core.
MANY_TASKS = 1_000_000
# What a node tells of itself besides the one value that differs.
COMMON = {f"package-{number}": "1.2.3" for number in range(12)}


class FleetCrowd:
    """A fleet that has started, and the orders that nobody has obeyed yet.

    Args:
        node_count: how many nodes it has.
        is_mixed: whether every second session leaves out every tenth node.
        core_count: of each node.
        limits: for one person.
    """

    def __init__(
        self,
        node_count: int,
        *,
        is_mixed: bool,
        core_count: int = CORE_COUNT,
        limits: PersonLimits = NO_LIMITS,
    ) -> None:
        self._is_mixed, self._core_count = is_mixed, core_count
        self.hosts = [f"n{number}" for number in range(node_count)]
        self.core = Fleet([HostCores(host, -1) for host in self.hosts], 0, "run", limits=limits)
        # Who runs where, as the agents know it.
        self.seats: dict[str, dict[str, int]] = {host: {} for host in self.hosts}
        self.ending: dict[str, None] = {}
        self.starting: list[tuple[str, ...]] = []
        self._host_of: dict[str, str] = {}
        # What the core has cost so far.
        self.cpu_s = 0.0
        for host in self.hosts:
            self.turn([self.report(host)])

    def report(self, host: str, *, is_first: bool = False) -> fleet.NodeReported:
        """What the agent of a node tells each second."""
        number = int(host[1:])
        workers = self.seats[host]
        return fleet.NodeReported(
            host,
            host,
            self._core_count,
            "warm",
            present=frozenset(workers) if is_first else None,
            workers=tuple(workers.items()),
            fingerprint={**COMMON, "code": "old" if number % 10 == 9 else "new"},
        )

    def turn(self, events: Sequence[fleet.Event]) -> list[fleet.Action]:
        """A turn of the broker's loop."""
        actions: list[fleet.Action] = []
        start_s = time.process_time()
        for event in events:
            actions += self.core.handle(event, 0.0)
        actions += self.core.place()
        self.cpu_s += time.process_time() - start_s
        for action in actions:
            self._hear(action)
        return actions

    def open(self, session_id: int, *, max_workers: int = 0, weight: float = 1.0, person: str = "") -> None:
        """A driver comes."""
        has_code = self._is_mixed and session_id % 2 == 1
        wanted = {**COMMON, "code": "new"} if has_code else COMMON
        request = fleet.SessionRequested(
            session_id,
            (session_id,),
            max_workers=max_workers,
            weight=weight,
            fingerprint=wanted,
            person=person,
        )
        self.turn([request])

    def count(self, session_id: int, task_count: int = MANY_TASKS) -> fleet.TasksCounted:
        """A lane's counts: each worker of the session that stays holds a task."""
        staying = self.core.workers.staying(session_id)
        return fleet.TasksCounted(session_id, task_count, frozenset(each.worker_id for each in staying))

    def exit(self, worker_id: str) -> WorkerEnd:
        """A worker's end, as its agent tells it."""
        host = self._host_of.pop(worker_id)
        del self.seats[host][worker_id]
        self.ending.pop(worker_id, None)
        return WorkerEnd(0, worker_id, "exit code 0", is_clean=True, node=host)

    def lose_workers(self, host: str) -> None:
        """All processes of a node are gone, and nobody tells it."""
        for worker_id in self.seats[host]:
            del self._host_of[worker_id]
            self.ending.pop(worker_id, None)
        self.seats[host] = {}

    def obey(self, burst: int) -> int:
        """Agents start and end workers as they were told, so many ends a turn, until all is done.

        Returns:
            How many workers started.
        """
        started_count = 0
        while self.ending or self.starting:
            ending = list(self.ending)
            for first in range(0, len(ending), burst):
                self.turn([self.exit(name) for name in ending[first : first + burst]])
            started, self.starting = self.starting, []
            started_count += sum(len(names) for names in started)
            for names in started:
                self.turn([fleet.WorkersStarted(names)])
        return started_count

    def _hear(self, action: fleet.Action) -> None:
        match action:
            case fleet.StartWorkers(host, session_id, names):
                self.seats[host].update(dict.fromkeys(names, session_id))
                self._host_of.update(dict.fromkeys(names, host))
                self.starting.append(names)
            case fleet.DrainWorker(_, worker_id):
                self.ending[worker_id] = None
            case fleet.StopWorkers(host, session_id):
                mine = [name for name, owner in self.seats[host].items() if owner == session_id]
                self.ending.update(dict.fromkeys(mine))
            case _:
                pass
