"""Every attempt of every task, and why a task may be computed again: by worker, machine, lane and time.

A task is computed again if its worker ended, if its worker was out of reach and was given up, or if its
outcome was lost between lane and driver. Each of these needs a fault at that worker, its machine, that lane
or that connection. A fault elsewhere is no reason.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.fabric.faults import FaultKind

if TYPE_CHECKING:
    from tests.simulation.parts.workers import SimulatedWorker
    from tests.simulation.world import World

_K = FaultKind
# What a machine or a worker suffers while its workers run on and are given up.
AWAY = frozenset({_K.CUT, _K.CUT_IN, _K.CUT_OUT, _K.AGENT_STOPPED})
# What keeps a worker from a new lane until that waits no longer.
SLOW = frozenset({_K.STOPPED, _K.BROKEN, _K.LATE, _K.LOST, _K.REPEATED})
# A fault lasts for 26 s at most, and a node is given up 15 s after it was heard last; with some to spare.
LASTING_S = 45.0


@dataclass(slots=True)
class Attempt:
    """One attempt of a task.

    Args:
        worker: that computes it.
        begun_s: when it began.
        delivered_s: when a lane passed its outcome on to the driver; infinity if none did.
    """

    worker: SimulatedWorker
    begun_s: float
    delivered_s: float = math.inf


class Attempts:
    """The attempts of one world.

    Args:
        world: where they are.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._of_task: defaultdict[tuple[int, int], list[Attempt]] = defaultdict(list)
        self._sent_s: dict[tuple[int, int, int, str], float] = {}
        self._lane_ends_s: defaultdict[int, list[float]] = defaultdict(list)

    def on_sent(self, session_id: int, task_id: int, number: int, worker_id: str) -> None:
        """A lane hands out a task."""
        self._sent_s[session_id, task_id, number, worker_id] = self._world.now_s

    def on_delivered(self, session_id: int, task_id: int, worker_id: str) -> None:
        """A lane passes an outcome on to its driver."""
        for attempt in self._of_task[session_id, task_id]:
            if attempt.worker.place.worker_id == worker_id and attempt.delivered_s == math.inf:
                attempt.delivered_s = self._world.now_s

    def on_lane_ended(self, port: int) -> None:
        """The process of a lane is gone."""
        self._lane_ends_s[port].append(self._world.now_s)

    def on_began(self, worker: SimulatedWorker, task_id: int, number: int) -> str:
        """A worker begins a task.

        Returns:
            In words, an attempt before it that gives no reason for another one; empty if there is none.
        """
        place = worker.place
        before = self._of_task[place.session_id, task_id]
        sent_s = self._sent_s[place.session_id, task_id, number, place.worker_id]
        found = next((each for each in before if not self._is_explained(each, worker, sent_s)), None)
        before.append(Attempt(worker, self._world.now_s))
        if found is None:
            return ""
        who = found.worker.place.worker_id
        if found.delivered_s <= sent_s:
            return f"it was done by {who}, and its outcome was not lost"
        return f"{who} has it since {found.begun_s:.3f} s, and was in reach"

    def _is_explained(self, before: Attempt, worker: SimulatedWorker, sent_s: float) -> bool:
        """Whether a task may be computed again.

        Args:
            before: the attempt before.
            worker: that begins it now.
            sent_s: when the task was sent to this worker.
        """
        if before.begun_s > sent_s:  # it was sent to this worker first, and to the other one after that
            return self._was_away(worker, sent_s)
        if before.delivered_s > sent_s:
            return before.worker.ended_s <= sent_s or self._was_away(before.worker, before.begun_s)
        has_ended = self._has_lane_ended(worker.place.port, before.delivered_s)
        return has_ended or self._has_driver_lost(worker.place.session_id, before.delivered_s)

    def _has_lane_ended(self, port: int, since_s: float) -> bool:
        return any(at_s >= since_s for at_s in self._lane_ends_s[port])

    def _has_driver_lost(self, session_id: int, since_s: float) -> bool:
        """Whether a connection of the driver with its lane broke, with what was on its way."""
        for driver in self._world.drivers:
            if driver.rules is not None and driver.rules.session_id == session_id:
                return driver.last_broken_s >= since_s
        return False

    def _was_away(self, worker: SimulatedWorker, since_s: float) -> bool:
        """Whether a worker that runs may have been given up."""
        faults, machine, worker_id = self._world.faults, worker.node.machine, worker.place.worker_id
        if faults.has_hit([machine], AWAY, since_s - LASTING_S):
            return True
        port = worker.place.port
        where = [f"worker {worker_id}", f"lane {port}", f"worker {worker_id} to its lane"]
        where += [f"lane to worker {worker_id}", f"broker to the agent of {machine}"]
        where.append(f"agent of {machine} to the broker")
        return self._has_lane_ended(port, since_s) and faults.has_hit(where, SLOW, since_s - LASTING_S)
