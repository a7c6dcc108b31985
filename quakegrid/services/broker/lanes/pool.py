"""The broker's lanes: starts and stops their processes as `ports.py` decides, and talks to them.

Runs in the broker's event loop. Knows which process has which session; decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from quakegrid.api.v1 import fleet_pb2
from quakegrid.errors import QuakeGridError
from quakegrid.services.broker.guard import StateGuard, guarded
from quakegrid.services.broker.lanes import ports as core
from quakegrid.services.broker.lanes.process import LaneProcess
from quakegrid.settings.config import Settings
from quakegrid.wire.v1 import lane_pb2

log = logging.getLogger("quakegrid.broker")


@dataclass(frozen=True, slots=True)
class Listener:
    """The part of the broker that asks for lanes and is told of them.

    Args:
        opening: what a lane is told of a session.
        on_counts: called with each report of a session's counters.
        on_overdue: called with each worker whose task has run for too long.
        on_placed: called with a session and the endpoint of its lane when it has one.
        on_failed: called with a session that has no lane, or lost it, and the reason.
        on_lost: called with the port of a lane that died, and the reason.
    """

    opening: Callable[[int], Sequence[lane_pb2.ControlMessage]]
    on_counts: Callable[[lane_pb2.LaneCounts], None]
    on_overdue: Callable[[lane_pb2.TaskOverdue], None]
    on_placed: Callable[[int, str], None]
    on_failed: Callable[[int, str], None]
    on_lost: Callable[[int, str], None]


class LanePool:
    """All lanes of a broker.

    Args:
        settings: of the cluster.
        guard: through which readers and timers enter.
        spawn: runs a coroutine in the background until the broker stops.
        listener: the broker's sessions.
        new_process: starts a process that becomes a lane.
    """

    def __init__(
        self,
        settings: Settings,
        guard: StateGuard,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        listener: Listener,
        *,
        new_process: Callable[[Settings], LaneProcess] = LaneProcess,
    ) -> None:
        self._settings, self._guard, self._spawn = settings, guard, spawn
        self._listener, self._new_process = listener, new_process
        cpu_count = len(os.sched_getaffinity(0))
        limit = max(1, min(len(settings.lane_ports), cpu_count))
        self._places = core.LanePlaces(settings.lane_ports, limit)
        self._processes: dict[int, LaneProcess] = {}
        # Started ahead: Python and its imports are most of what a lane's death costs.
        self._spare: LaneProcess | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Open the first lane."""
        self._handle(core.RetryDue())

    async def stop(self) -> None:
        """End every lane; the tasks of `spawn` were cancelled before."""
        if self._timer:
            self._timer.cancel()
        await asyncio.gather(*(process.stop() for process in self._all()))

    def kill(self) -> None:
        """End every lane at once."""
        for process in self._all():
            process.kill()

    def place(self, session_id: int) -> None:
        """Find a lane for a session; `on_placed` or `on_failed` tells."""
        self._handle(core.SessionArrived(session_id))

    def resume(self, session_id: int, port: int) -> None:
        """Give a session the lane that it had with an earlier broker; `on_placed` or `on_failed` tells."""
        self._handle(core.SessionResumed(session_id, port))

    def remove(self, session_id: int) -> None:
        """Close a session on its lane, if it has one."""
        closing = lane_pb2.CloseLaneSession(session_id=session_id)
        self.send(session_id, lane_pb2.ControlMessage(close=closing))
        self._handle(core.SessionLeft(session_id))

    def lane_of(self, session_id: int) -> LaneProcess | None:
        """The lane of a session; None while it is to be started again."""
        lane = self._places.lane_of(session_id)
        return self._processes.get(lane.lane_id) if lane else None

    def endpoint_of(self, session_id: int) -> str | None:
        """Where drivers and workers of a session connect to, or will once its lane is started again."""
        lane = self._places.lane_of(session_id)
        return f"tcp://{self._settings.broker_host}:{lane.port}" if lane else None

    def tell_place(self, session_id: int) -> None:
        """Tell the listener where the lane of a session is, if the session has one."""
        endpoint = self.endpoint_of(session_id)
        if endpoint is not None:
            self._listener.on_placed(session_id, endpoint)

    def send(self, session_id: int, message: lane_pb2.ControlMessage) -> None:
        """Tell a session's lane something; nobody is told if it has none."""
        process = self.lane_of(session_id)
        if process:
            process.send(message)

    def statuses(self) -> list[fleet_pb2.LaneStatus]:
        """The lanes, and the ports that could not be had."""
        found = []
        for lane in self._places.lanes.values():
            session_count, task_count = lane.load
            process = self._processes.get(lane.lane_id)
            found.append(
                fleet_pb2.LaneStatus(
                    port=lane.port,
                    pid=process.pid if process else 0,
                    session_count=session_count,
                    state=lane.state.value,
                    task_count=task_count,
                )
            )
        for port, reason in self._places.refusals.items():
            found.append(fleet_pb2.LaneStatus(port=port, state="refused", error=reason))
        return found

    @guarded
    def _handle(self, event: core.Event) -> None:
        for action in self._places.handle(event, time.monotonic()):
            self._perform(action)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        deadline_s = self._places.next_deadline_s()
        if deadline_s is not None:
            delay_s = max(0.0, deadline_s - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._handle, core.RetryDue())

    def _perform(self, action: core.Action) -> None:
        match action:
            case core.OpenLane(lane_id, port, session_ids):
                process = self._processes[lane_id] = self._take_spare()
                process.listen(
                    port, on_message=self._on_message, on_death=lambda reason: self._on_death(lane_id, reason)
                )
                for session_id in session_ids:  # read by the lane before it listens
                    self._introduce(session_id, process)
                self._spawn(self._open(lane_id))
            case core.CloseLane(lane_id):
                process = self._processes.pop(lane_id)
                log.info("lane_closed port=%d pid=%d", process.port, process.pid)
                self._spawn(process.stop())
            case core.PlaceSession(session_id, lane_id):
                self._introduce(session_id, self._processes[lane_id])
                self.tell_place(session_id)
            case core.GiveUpSession(session_id, reason):
                self._listener.on_failed(session_id, reason)
            case _ as unreachable:
                assert_never(unreachable)

    def _all(self) -> list[LaneProcess]:
        return [*self._processes.values(), *([self._spare] if self._spare else [])]

    def _take_spare(self) -> LaneProcess:
        spare, self._spare = self._spare, None
        if spare and spare.is_alive:
            return spare
        if spare:
            spare.kill()
        return self._new_process(self._settings)

    def _introduce(self, session_id: int, process: LaneProcess) -> None:
        for message in self._listener.opening(session_id):
            process.send(message)

    async def _open(self, lane_id: int) -> None:
        process = self._processes[lane_id]
        try:
            await process.wait_until_ready()
        except QuakeGridError as exc:
            log.error("lane_refused port=%d reason=%s", process.port, exc)  # noqa: TRY400 - it says all
            del self._processes[lane_id]
            self._handle(core.LaneRefused(lane_id, str(exc)))
            await process.stop()
        else:
            log.info("lane_opened port=%d pid=%d", process.port, process.pid)
            self._handle(core.LaneOpened(lane_id))
            if self._spare is None:  # only now: the lane that sessions wait for comes first
                self._spare = self._new_process(self._settings)

    @guarded
    def _on_death(self, lane_id: int, reason: str) -> None:
        process = self._processes.pop(lane_id, None)
        if process is None:
            return  # it was closed meanwhile
        log.error("lane_died port=%d pid=%d reason=%s", process.port, process.pid, reason)
        self._spawn(process.stop())
        self._listener.on_lost(process.port, reason)
        self._handle(core.LaneDied(lane_id, reason))

    @guarded
    def _on_message(self, message: lane_pb2.ControlMessage) -> None:
        match message.WhichOneof("body"):
            case "counts":
                self._on_counts(message.counts)
            case "overdue":
                self._listener.on_overdue(message.overdue)
            case "broken":
                log.error("lane_session_broken session=%d", message.broken.session_id)
                self._listener.on_failed(message.broken.session_id, message.broken.reason)
            case other:
                raise ValueError(f"a lane sent {other!r} to its broker")

    def _on_counts(self, counts: lane_pb2.LaneCounts) -> None:
        self._handle(core.LoadCounted(counts.session_id, counts.queued_count + counts.running_count))
        self._listener.on_counts(counts)
