"""Connections of drivers and workers with lanes, as ZeroMQ makes them.

A peer sends whenever it likes: without a connection its messages wait, and go out first on the next one. The
lane greets each connection with a probe. Messages of a connection come in order, late or never: those that
are on the way when it breaks are lost. A lane that sends to a peer without a connection is told so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq
from tests.simulation.fabric.clock import VirtualLoop
from tests.simulation.fabric.faults import Channel, FaultKind, Faults

# A peer tries to connect again after so long, and its link counts as gone after so long without a sign.
CONNECT_S = 0.08
SILENT_S = 10.0
Message = Sequence[Any]
UP, DOWN = 0, 1  # towards the lane, and from it


class PlayedFrame:
    """A frame of ZeroMQ's."""

    __slots__ = ("buffer", "bytes")

    def __init__(self, content: bytes) -> None:
        self.bytes = content
        self.buffer = memoryview(content)

    def __len__(self) -> int:
        return len(self.bytes)


class Listening(Protocol):
    """A lane that has a port."""

    connections: dict[bytes, Connection]
    door: Any

    def receive(self, identity: bytes, message: Message) -> None:
        """A message of a peer has come."""


class Network:
    """All connections with lanes, and the links between machines.

    Args:
        loop: of the world.
        faults: of the run.
        message_s: how long each message occupies its connection: the next one comes later by that.
    """

    def __init__(self, loop: VirtualLoop, faults: Faults, message_s: float) -> None:
        self.loop, self.faults, self.message_s = loop, faults, message_s
        self.ports: dict[int, Listening] = {}
        self._deaf: set[str] = set()  # machines that hear nothing of the master
        self._mute: set[str] = set()  # machines that the master does not hear
        self.connections: dict[int, Connection] = {}
        self.streams: dict[int, Any] = {}  # of calls, see `calls.py`
        self.numbers = itertools.count(1)

    def is_cut(self, machine: str, direction: int) -> bool:
        """Whether nothing gets through."""
        return machine in (self._mute if direction == UP else self._deaf)

    def is_reachable(self, machine: str) -> bool:
        """Whether a connection can be made."""
        return machine not in self._mute and machine not in self._deaf

    def cut(self, machine: str, *, up: bool, down: bool) -> None:
        """Cut a machine off from the master, in one direction or in both."""
        self._mute |= {machine} if up else set()
        self._deaf |= {machine} if down else set()
        for link in [*self.connections.values(), *self.streams.values()]:
            if link.machine == machine:
                self.loop.call_later(SILENT_S, link.look)

    def heal(self, machine: str) -> None:
        """Let everything through again."""
        self._mute.discard(machine)
        self._deaf.discard(machine)
        for link in [*self.connections.values(), *self.streams.values()]:
            if link.machine == machine:
                link.resume()


class Connection:
    """One connection between a peer and a lane."""

    def __init__(self, network: Network, wire: Wire, lane: Listening) -> None:
        self._network, self.wire, self.lane = network, wire, lane
        self.machine = wire.machine
        self.is_open = True
        self._last_s = [0.0, 0.0]
        self._on_way = [0, 0]
        self._stalled: list[list[Message]] = [[], []]
        self._stalled_s = [0.0, 0.0]
        self.number = next(network.numbers)
        network.connections[self.number] = self

    def send(self, direction: int, message: Message) -> None:
        """Send a message; what is on the way arrives in order."""
        network = self._network
        loop = network.loop
        fate = self.wire.channels[direction].next(loop.now_s)
        if fate.kind is FaultKind.BROKEN:
            self._on_way[direction] += 1
            self.break_up()
            return
        at_s = max(loop.now_s + fate.delay_s, self._last_s[direction] + network.message_s)
        self._last_s[direction] = at_s
        self._on_way[direction] += 1
        loop.call_at(at_s, self._arrive, direction, message)

    def _arrive(self, direction: int, message: Message) -> None:
        if not self.is_open:
            return
        if self._stalled[direction] or self._network.is_cut(self.machine, direction):
            if not self._stalled[direction]:
                self._stalled_s[direction] = self._network.loop.now_s
            self._stalled[direction].append(message)
            return
        self._on_way[direction] -= 1
        if direction == UP:
            self.lane.receive(self.wire.identity, message)
        else:
            self.wire.receive(message)

    def resume(self) -> None:
        """The link is there again: what was held up arrives late."""
        for direction in (UP, DOWN):
            held, self._stalled[direction] = self._stalled[direction], []
            self._network.faults.count(FaultKind.LATE, len(held))
            for message in held:
                self._arrive(direction, message)

    def look(self) -> None:
        """The link was cut some time ago; if it still is, both ends give the connection up."""
        if self.is_open and not self._network.is_reachable(self.machine):
            self.break_up()

    def break_up(self) -> None:
        """The connection is gone, with all that was on its way."""
        if not self.is_open:
            return
        self.close()
        self._network.faults.count(FaultKind.LOST, sum(self._on_way))
        self.wire.on_broken()

    def close(self) -> None:
        """Nothing passes any more."""
        self.is_open = False
        self._network.connections.pop(self.number, None)
        if self.lane.connections.get(self.wire.identity) is self:
            del self.lane.connections[self.wire.identity]


class Wire:
    """A peer's end: one DEALER.

    Args:
        network: where it is.
        machine: the peer's; empty for the master.
        identity: the name that the peer proves itself with.
        port: of the lane.
        take: called with each message of the lane.
    """

    def __init__(
        self, network: Network, machine: str, identity: bytes, port: int, take: Callable[[Message], None]
    ) -> None:
        self._network, self.machine, self.identity, self._port = network, machine, identity, port
        self._take = take
        self._connection: Connection | None = None
        self._waiting: list[Message] = []
        self.is_closed = False
        self.last_broken_s = -math.inf
        words = identity.decode().split(" ")
        name = f"{words[0]} {words[-1] if words[0] == 'worker' else words[1]}"
        self.channels = (
            Channel(network.faults, f"{name} to its lane"),
            Channel(network.faults, f"lane to {name}"),
        )
        network.loop.call_later(0.002, self._connect)

    def send(self, frames: Sequence[bytes | memoryview]) -> None:
        """Send without waiting."""
        if self.is_closed:
            return
        message = [bytes(frame) for frame in frames]
        if self._connection is None:
            self._waiting.append(message)
        else:
            self._connection.send(UP, message)

    def receive(self, message: Message) -> None:
        """A message of the lane has come."""
        if not self.is_closed:
            self._take([PlayedFrame(frame) for frame in message])

    def on_broken(self) -> None:
        """The connection is gone: make another one."""
        self._connection, self.last_broken_s = None, self._network.loop.now_s
        if not self.is_closed:
            self._network.loop.call_later(CONNECT_S, self._connect)

    def close(self, *, is_orderly: bool) -> None:
        """The peer is gone; if in order, what it has sent still arrives."""
        self.is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None and connection.is_open:
            if is_orderly:
                self._network.loop.call_later(1.0, connection.close)
            else:
                connection.close()

    def _connect(self) -> None:
        if self.is_closed or self._connection is not None:
            return
        lane = self._network.ports.get(self._port)
        if lane is None or not self._network.is_reachable(self.machine):
            self._network.loop.call_later(CONNECT_S, self._connect)
            return
        connection = self._connection = Connection(self._network, self, lane)
        earlier = lane.connections.get(self.identity)
        if earlier is not None:
            earlier.close()
        lane.connections[self.identity] = connection
        connection.send(DOWN, [lane_sockets.PROBE])
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            if self._connection is connection:
                connection.send(UP, message)
            else:  # it broke just now
                self._waiting.append(message)


def unreachable() -> zmq.ZMQError:
    """What a ROUTER says of a peer that is not there."""
    return zmq.ZMQError(zmq.EHOSTUNREACH)
