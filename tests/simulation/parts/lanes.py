"""A lane as the broker starts it: the real door, scheduler and mail, with played sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from quakegrid.errors import QuakeGridError
from quakegrid.reports import task_history_files
from quakegrid.services.lane.door import Door
from quakegrid.services.lane.payloads import Payload, Payloads, SpillError
from quakegrid.services.lane.settings import DoorSettings
from quakegrid.services.lane.tasks.events import Peer
from quakegrid.wire.v1 import lane_pb2
from tests.simulation.fabric.wires import DOWN, Connection, Message, PlayedFrame, unreachable

if TYPE_CHECKING:
    from tests.simulation.world import World

# The socket between a broker and its lane, on one machine.
CONTROL_S = 0.0004
MEMORY_BYTES = 1 << 30


class Packets:
    """The lane's end of the control socket."""

    def __init__(self, lane: SimulatedLane) -> None:
        self._lane = lane

    def send(self, packet: bytes, _flags: int = 0) -> None:
        """Tell the broker."""
        self._lane.tell(packet)

    def getsockopt(self, *_which: int) -> int:
        """Room for packets."""
        return 1 << 20


class PlayedDisk(Payloads):
    """Payloads in memory; a disk that is full takes no task."""

    is_full: Callable[[], bool] = staticmethod(lambda: False)

    def keep(self, frames: Sequence[Any], annex: Any = None, *, is_forced: bool = False) -> Payload:
        """Take in a message."""
        if self.is_full() and not is_forced:
            raise SpillError("the disk of the lane is full")
        self.kept_count += 1
        return Payload(tuple(frame.bytes for frame in frames), annex)

    def drop(self, _payload: Payload) -> None:
        """Forget a payload."""
        self.kept_count -= 1


class SimulatedLane:
    """A process that becomes a lane, as `LaneProcess` is one for the broker.

    Args:
        world: where it is.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.pid, self.is_alive, self.port = world.new_pid(), True, 0
        self.connections: dict[bytes, Connection] = {}
        self.door: Door | None = None
        self._ready = asyncio.Event()
        self._orders: list[bytes] = []
        self._last_s = [0.0, 0.0]
        self._refusal = ""
        self._timer: asyncio.TimerHandle | None = None
        self._stopped: list[tuple[Callable[..., None], tuple[Any, ...]]] | None = None
        self._on_message: Callable[[lane_pb2.ControlMessage], None] = lambda _message: None
        self._on_death: Callable[[str], None] = lambda _reason: None

    # --- what the broker does with it

    def listen(
        self,
        port: int,
        *,
        on_message: Callable[[lane_pb2.ControlMessage], None],
        on_death: Callable[[str], None],
    ) -> None:
        """Have it listen."""
        self.port, self._on_message, self._on_death = port, on_message, on_death
        self._world.loop.call_later(self._world.scenario.lane_start_s, self._begin)

    async def wait_until_ready(self) -> None:
        """Wait for it to listen."""
        await self._ready.wait()
        if self._refusal:
            raise QuakeGridError(self._refusal)

    def send(self, message: lane_pb2.ControlMessage) -> None:
        """Tell it something."""
        self._orders.append(message.SerializeToString())
        if self.door is not None:
            at_s = self._last_s[0] = max(self._world.now_s + CONTROL_S, self._last_s[0] + 1e-7)
            self._world.loop.call_at(at_s, self._obey_next)

    def kill(self) -> None:
        """End it at once."""
        self.die(None)

    async def stop(self) -> None:
        """End it."""
        self.die(None)

    # --- its life

    def die(self, reason: str | None) -> None:
        """Its process is gone; the broker hears why, if it did not do it."""
        if not self.is_alive:
            return
        self.is_alive = False
        self._world.promises.attempts.on_lane_ended(self.port)
        if self._world.network.ports.get(self.port) is self:
            del self._world.network.ports[self.port]
        for connection in list(self.connections.values()):
            connection.break_up()
        if self._timer is not None:
            self._timer.cancel()
        if reason is not None:
            if not self._ready.is_set():
                self._refusal = reason
                self._ready.set()
            else:
                self._world.loop.call_later(0.01, self._on_death, reason)

    def stop_for(self, seconds: float) -> None:
        """Stand still for a while (SIGSTOP)."""
        if self._stopped is None and self.door is not None:
            self._stopped = []
            self._world.loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        waiting, self._stopped = self._stopped or [], None
        for act, args in waiting:
            self._turn(act, *args)
        if self.is_alive:
            self._turn(lambda: None)

    def _begin(self) -> None:
        if not self.is_alive:
            return
        world = self._world
        if self.port in world.network.ports:
            self._refusal = "the port is taken"
            self._ready.set()
            return
        settings = world.settings
        payloads = PlayedDisk(MEMORY_BYTES)
        payloads.is_full = lambda: world.is_disk_full("the lanes")  # type: ignore[method-assign]
        known = DoorSettings(world.token_key, task_history_files.folder(settings), settings.state_dir)
        self.door = Door(self._send, Packets(self), payloads, known)  # type: ignore[arg-type]
        world.network.ports[self.port] = self
        self._ready.set()
        for _ in range(len(self._orders)):
            self._obey_next()

    def _obey_next(self) -> None:
        if self.is_alive and self.door is not None:
            self._turn(self.door.obey, self._orders.pop(0))

    def receive(self, identity: bytes, message: Message) -> None:
        """A message of a peer has come."""
        if self.is_alive and self.door is not None:
            header, *frames = message
            payload = [PlayedFrame(frame) for frame in frames]
            self._turn(self.door.take, Peer(identity), header, payload)

    def _turn(self, act: Callable[..., None], *args: Any) -> None:
        if not self.is_alive or self.door is None:
            return
        if self._stopped is not None:
            self._stopped.append((act, args))
            return
        door = self.door
        door.begin_turn(self._world.now_s)
        act(*args)
        door.finish_turn()
        self._arm()
        self._world.promises.on_step(self)

    def _arm(self) -> None:
        """Have another turn when the door wants one."""
        assert self.door is not None
        timeout_ms = self.door.timeout_ms()
        if timeout_ms is None:
            return
        due_s = self._world.now_s + timeout_ms / 1000
        if self._timer is not None:
            if not self._timer.cancelled() and self._timer.when() <= due_s:
                return
            self._timer.cancel()
        self._timer = self._world.loop.call_at(due_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._turn(lambda: None)

    # --- what it says

    def _send(self, frames: Sequence[Any]) -> None:
        connection = self.connections.get(frames[0])
        if connection is None or not connection.is_open:
            raise unreachable()
        connection.send(DOWN, [bytes(getattr(frame, "bytes", frame)) for frame in frames[1:]])

    def tell(self, packet: bytes) -> None:
        """Tell the broker."""
        at_s = self._last_s[1] = max(self._world.now_s + CONTROL_S, self._last_s[1] + 1e-7)
        self._world.loop.call_at(at_s, self._tell, packet)

    def _tell(self, packet: bytes) -> None:
        if self.is_alive:
            self._on_message(lane_pb2.ControlMessage.FromString(packet))
