"""A node: its agent with the real roster, the processes that it starts, and the orders of the broker."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quakegrid import errors
from quakegrid.api.v1 import nodes_pb2
from quakegrid.internal.v1 import orders_pb2
from quakegrid.nodes import worker_end_messages
from quakegrid.services.agent.linux.exits import describe_exit
from quakegrid.services.agent.node import workers as agent_workers
from quakegrid.services.agent.node.status import describe_end
from quakegrid.services.agent.rules.roster import Roster
from quakegrid.services.agent.rules.roster_events import (
    CoresServed,
    GraceElapsed,
    LimitBroken,
    MemberForked,
    MemberGone,
    OrderMember,
    RosterEvent,
    SignalMember,
    WorkersAsked,
)
from tests.simulation.fabric.calls import Stream, unreachable
from tests.simulation.fabric.clock import WallClock
from tests.simulation.parts.workers import SimulatedWorker, WorkerPlace

if TYPE_CHECKING:
    from tests.simulation.parts.drivers import SimulatedDriver
    from tests.simulation.world import World

FORK_S = 0.02
BEAT_S = 1.0


class SimulatedNode:
    """One machine with an agent.

    Args:
        world: where it is.
        machine: its name.
        core_count: of the machine.
    """

    def __init__(self, world: World, machine: str, core_count: int) -> None:
        self._world, self.machine, self.core_count = world, machine, core_count
        self.wall = WallClock(world.loop)
        self.is_powered = self.is_agent_up = True
        self.watchers: list[Stream] = []
        self.drivers: dict[int, SimulatedDriver] = {}
        self.workers: dict[int, SimulatedWorker] = {}
        self._places: dict[str, WorkerPlace] = {}
        self._life = 0
        self._timer: asyncio.TimerHandle | None = None
        # What its agent does when it goes on again; None while it does not stand still.
        self._stopped: list[tuple[Callable[..., Any], tuple[Any, ...]]] | None = None
        self._start()
        world.loop.call_later(BEAT_S * (0.5 + len(machine) % 7 / 10), self._beat)

    def _start(self) -> None:
        self._life += 1
        self.instance_id = f"{self.machine}/{self._life}"
        self.roster = Roster(list(range(self.core_count)))
        self._places.clear()
        self._stopped = None

    # --- crashes

    def stop_for(self, seconds: float) -> bool:
        """Let its agent stand still for a while (SIGSTOP); its children go on. Returns whether it can."""
        if not self.is_agent_up or self._stopped is not None:
            return False
        self._stopped = []
        self._world.loop.call_later(seconds, self._go_on, self._life)
        return True

    def _go_on(self, life: int) -> None:
        if life != self._life or self._stopped is None:
            return
        waiting, self._stopped = self._stopped, None
        for act, args in waiting:
            act(*args)
        self.tell_status()

    def _is_postponed(self, act: Callable[..., Any], *args: Any) -> bool:
        """Whether the agent stands still, and does this when it goes on."""
        if self._stopped is None:
            return False
        self._stopped.append((act, args))
        return True

    def crash_agent(self, back_s: float) -> None:
        """Its agent is killed, with its template and all children; it is started again."""
        if not self.is_agent_up:
            return
        self._end_all()
        for stream in list(self.watchers):
            stream.break_up("its agent was killed")
        self._world.loop.call_later(back_s, self._start_agent)

    def crash(self, back_s: float) -> None:
        """It loses its power, and boots later; nobody hears of that."""
        if not self.is_powered:
            return
        self.is_powered = False
        self._end_all()
        self._world.network.cut(self.machine, up=True, down=True)
        self._world.loop.call_later(back_s, self._boot)

    def _end_all(self) -> None:
        self.is_agent_up = False
        workers, drivers = list(self.workers.values()), list(self.drivers.values())
        self.workers, self.drivers = {}, {}
        for worker in workers:
            worker.end(signal.SIGKILL)
        for driver in drivers:
            driver.die()

    def _boot(self) -> None:
        self.is_powered = True
        self.wall.offset_s = 0.0
        self._world.mend_link(self.machine)
        self._start_agent()

    def _start_agent(self) -> None:
        if self.is_powered and not self.is_agent_up:
            self.is_agent_up = True
            self.watchers.clear()
            self._start()

    # --- what it tells

    def watch(self, stream: Stream) -> None:
        """Tell everything over a stream from now on."""
        self.watchers.append(stream)
        if self._stopped is None:
            stream.send(orders_pb2.WatchResponse(status=self.status()))

    def publish(self, message: orders_pb2.WatchResponse) -> None:
        """Tell all who watch."""
        if self.is_agent_up and self._stopped is None:
            for stream in list(self.watchers):
                stream.send(message)

    def tell_status(self) -> None:
        """Tell what there is."""
        if self.watchers:
            self.publish(orders_pb2.WatchResponse(status=self.status()))

    def _beat(self) -> None:
        self._world.loop.call_later(BEAT_S, self._beat)
        self.publish(orders_pb2.WatchResponse())

    def status(self) -> nodes_pb2.AgentStatus:
        """What there is."""
        roster = self.roster
        status = nodes_pb2.AgentStatus(
            node=self.machine,
            core_count=self.core_count,
            all_core_count=self.core_count,
            template_state="warm",
            template_kind=nodes_pb2.TEMPLATE_KIND_WARM,
            service_state=nodes_pb2.SERVICE_STATE_SERVING,
            instance_id=self.instance_id,
            workers=[
                nodes_pb2.WorkerStatus(worker_id=member.name, session_id=member.session_id, pid=member.pid)
                for member in roster.workers
            ],
            drivers=[nodes_pb2.DriverStatus(pid=pid) for pid in self.drivers],
        )
        status.sent_time.FromNanoseconds(int(self.wall.time() * 1e9))
        return status

    # --- orders of the broker

    def order(self, method: str, request: Any) -> Any:
        """Do what the broker orders; late, and without an answer, if the agent stands still."""
        if self._is_postponed(self._obey, method, request):
            raise unreachable("its agent stands still")
        return self._obey(method, request)

    def _obey(self, method: str, request: Any) -> Any:
        match method:
            case "StartWorkers":
                return self._start_workers(request)
            case "StopWorkers":
                return self._stop_workers(request)
            case "StopDriver":
                driver = self.drivers.get(request.pid)
                if driver is not None:
                    self._world.loop.call_later(0.05, driver.die)
                return orders_pb2.StopDriverResponse(was_running=driver is not None)
            case "GetProcess":
                is_there = request.pid in self.drivers
                state = orders_pb2.PROCESS_STATE_RUNNING if is_there else orders_pb2.PROCESS_STATE_GONE
                return orders_pb2.GetProcessResponse(state=state)
            case "FlushOutput":
                flushed = orders_pb2.OutputFlushed(session_id=request.session_id)
                self.publish(orders_pb2.WatchResponse(output_flushed=flushed))
                return orders_pb2.FlushOutputResponse()
            case "GetStatus":
                return nodes_pb2.GetAgentStatusResponse(status=self.status())
            case _:
                raise errors.UsageError(f"no agent knows {method}")

    def _start_workers(self, request: orders_pb2.StartWorkersRequest) -> orders_pb2.StartWorkersResponse:
        self._handle(CoresServed(self.core_count))
        port = int(request.lane_endpoint.rpartition(":")[2])
        started = []
        for ref in request.workers:
            for name in self._handle(WorkersAsked(ref.session_id, (ref.worker_id,), request.width or 1)):
                cores = self.roster.members[name].cores
                self._places[name] = WorkerPlace(ref.session_id, name, ref.token, port, cores)
                started.append(orders_pb2.StartedWorker(worker_id=name))
                self._world.loop.call_later(FORK_S, self._fork, name, self._life)
        if started:
            self.tell_status()
        return orders_pb2.StartWorkersResponse(started=started)

    def _fork(self, name: str, life: int) -> None:
        if self._is_postponed(self._fork, name, life):
            return
        if life != self._life or not self.is_agent_up or name not in self.roster.members:
            return
        pid = self._world.new_pid()
        self.workers[pid] = SimulatedWorker(self._world, self, self._places[name], pid)
        self._handle(MemberForked(name, pid))

    def _stop_workers(self, request: orders_pb2.StopWorkersRequest) -> orders_pb2.StopWorkersResponse:
        members = self.roster.of_session(request.session_id, request.worker_ids)
        for member in members:
            if request.reason and not member.is_ending:
                self._handle(LimitBroken(member.name, request.reason))
            elif not request.reason:
                self._handle(agent_workers.asked_to_end(member.name, is_forced=request.force))
        return orders_pb2.StopWorkersResponse(stopped_count=len(members))

    # --- its children

    def on_exit(self, pid: int, status: int) -> None:
        """A worker has ended."""
        if self.workers.pop(pid, None) is None or not self.is_agent_up:
            return
        self._world.loop.call_later(0.002, self._tell_exit, pid, status, self._life)

    def _tell_exit(self, pid: int, status: int, life: int) -> None:
        if self._is_postponed(self._tell_exit, pid, status, life):
            return
        member = self.roster.of_pid(pid)
        if life != self._life or not self.is_agent_up or member is None:
            return
        self._handle(MemberGone(member.name))
        is_terminated = status == signal.SIGTERM and not member.is_ending
        end = describe_end(
            member,
            status,
            member.stop_reason or describe_exit(status),
            is_blameless=member.is_blameless or is_terminated,
            last_output=(),
            peak_memory_bytes=0,
        )
        self.publish(orders_pb2.WatchResponse(worker_ended=worker_end_messages.encode(end)))
        self.tell_status()

    def _handle(self, event: RosterEvent) -> list[str]:
        """Give an event to the roster; returns those that it has entered."""
        roster = self.roster
        entered = []
        for action in roster.handle(event, self._world.now_s):
            match action:
                case OrderMember(name):
                    entered.append(name)
                case SignalMember(pid, number):
                    self._world.loop.call_later(0.001, self._signal, pid, number)
        roster.check()
        if self._timer is not None:
            self._timer.cancel()
        due_s = roster.next_deadline_s()
        life = self._life
        self._timer = None if due_s is None else self._world.loop.call_at(due_s, self._elapse, life)
        return entered

    def _elapse(self, life: int) -> None:
        if self._is_postponed(self._elapse, life):
            return
        if life == self._life and self.is_agent_up:
            self._handle(GraceElapsed())

    def _signal(self, pid: int, number: int) -> None:
        worker = self.workers.get(pid)
        if worker is not None:
            worker.end(number)

    def forget_driver(self, pid: int) -> None:
        """A driver has ended."""
        if self.drivers.pop(pid, None) is not None:
            self.tell_status()
