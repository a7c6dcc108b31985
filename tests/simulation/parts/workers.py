"""A worker: the real rules of what it holds, and tasks that take virtual time."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from quakegrid.errors import PeerError
from quakegrid.services.agent.worker.holdings import Holdings, ReceivedTask, WorkerIdentity
from quakegrid.transport import lane_names, lane_sockets
from quakegrid.wire.v1 import lane_pb2
from tests.simulation.fabric.wires import Wire

if TYPE_CHECKING:
    from tests.simulation.parts.nodes import SimulatedNode
    from tests.simulation.world import World


class WorkerPlace(NamedTuple):
    """Who a worker is, where its lane is, and how it proves itself."""

    session_id: int
    worker_id: str
    token: str
    port: int
    cores: tuple[int, ...]


class SimulatedWorker:
    """One worker process.

    Args:
        world: where it is.
        node: that it runs on.
        place: who it is.
        pid: of its process.
    """

    def __init__(self, world: World, node: SimulatedNode, place: WorkerPlace, pid: int) -> None:
        self._world, self.node, self.place, self.pid = world, node, place, pid
        self.is_alive, self.ended_s = True, math.inf
        identity = lane_names.worker_name(place.session_id, place.worker_id, place.token)
        self.wire = Wire(world.network, node.machine, identity, place.port, self._take)
        who = WorkerIdentity(place.session_id, place.worker_id, node.machine)
        self.held = Holdings(who, self.wire.send)
        self.running: ReceivedTask | None = None
        self.done: list[tuple[int, int, int]] = []  # session, task and attempt
        self._refused_s = math.inf  # since when its lane does not know its session
        self._stopped: list[Sequence[Any]] | None = None
        self._is_due = False
        self._retry: asyncio.TimerHandle | None = None
        world.promises.on_worker_began(self)

    def end(self, status: int) -> None:
        """Its process ends."""
        if not self.is_alive:
            return
        self.is_alive, self.ended_s = False, self._world.now_s
        self.wire.close(is_orderly=status == 0)
        if self._retry is not None:
            self._retry.cancel()
        self._world.promises.on_worker_ended(self)
        self.node.on_exit(self.pid, status)

    def stop_for(self, seconds: float) -> None:
        """Stand still for a while (SIGSTOP)."""
        if self._stopped is None and self.is_alive:
            self._stopped = []
            self._world.loop.call_later(seconds, self._go_on_again)

    def _go_on_again(self) -> None:
        if not self.is_alive or self._stopped is None:
            return
        waiting, self._stopped = self._stopped, None
        for frames in waiting:
            self._take(frames)
        if self._is_due and self.running is not None:
            self._is_due = False
            self._finish(self.running)
        self._go_on()

    def _take(self, frames: Sequence[Any]) -> None:
        if not self.is_alive:
            return
        if self._stopped is not None:
            self._stopped.append(frames)
            return
        self._note_refusal(frames)
        try:
            self.held.take(frames, self._world.now_s)
        except PeerError:
            if self._refused_s < math.inf:
                self._world.promises.on_gave_up(self, self._world.now_s - self._refused_s)
            self.end(0)
            return
        self._go_on()

    def _note_refusal(self, frames: Sequence[Any]) -> None:
        """Note since when all that the lane says is that it does not know the session."""
        message = lane_pb2.LaneMessage.FromString(frames[0].bytes)
        if message.HasField("refused") and message.refused.is_unknown_session:
            self._refused_s = min(self._refused_s, self._world.now_s)
        elif not (lane_sockets.is_probe(frames) or message.HasField("hello")):
            self._refused_s = math.inf

    def _go_on(self) -> None:
        if not self.is_alive:
            return
        if self.running is None:
            if self.held.waiting:
                self._begin(self.held.begin())
            elif self.held.is_over:
                if self.held._is_drained:
                    self._world.promises.on_drained(self)
                self.end(0)
                return
        retry_s = self.held.retry_s
        if retry_s < math.inf and self._retry is None:
            self._retry = self._world.loop.call_at(retry_s, self._tell_again)

    def _tell_again(self) -> None:
        self._retry = None
        if self.is_alive and self._stopped is None:
            self.held.tell_due(self._world.now_s)
            self._go_on()

    def _begin(self, task: ReceivedTask) -> None:
        self.running = task
        words = task.frames[0].buffer.tobytes().decode().split()
        duration_s, is_poison = float(words[1]), words[2] != "work"
        lease = task.run.lease
        self._world.promises.on_task_began(self, lease.task_id, lease.attempt)
        if is_poison:
            self._world.loop.call_later(
                duration_s / 2, self._break_down, words[2].replace("_", " "), lease.task_id
            )
        else:
            self._world.loop.call_later(duration_s, self._finish, task)

    def _break_down(self, calculation: str, task_id: int) -> None:
        if self.is_alive:
            self._world.on_poison(calculation, task_id)
            self.end(signal.SIGSEGV)

    def _finish(self, task: ReceivedTask) -> None:
        if not self.is_alive or self.running is not task:
            return
        if self._stopped is not None:
            self._is_due = True
            return
        lease = task.run.lease
        words = task.frames[0].buffer.tobytes().decode().split()
        outcome = lane_pb2.Outcome(
            lease=lease, worker_id=self.place.worker_id, node=self.node.machine, duration_s=float(words[1])
        )
        self.running = None
        self.done.append((lease.session_id, lease.task_id, lease.attempt))
        content = f"{self.place.session_id} {lease.task_id} {lease.attempt} {self.place.worker_id}"
        self._world.promises.on_task_done(self, lease.task_id, lease.attempt)
        self.held.send_outcome(outcome, [content.encode()])
        self._go_on()
