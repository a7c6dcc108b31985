"""Calls between services, as gRPC makes them: each may be late, may not arrive, or may have no answer.

A call is made from a machine to the master or the other way. What the caller hears of a call that was lost is
that nobody answers, also if it was done. A stream is a connection: in order, until it breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import grpc

from quakegrid import errors
from tests.simulation.fabric.faults import Channel, Fate, FaultKind
from tests.simulation.fabric.wires import DOWN, SILENT_S, UP, Network

# A caller hears so much later that nobody answers.
LOST_S = 1.0
REFUSED_S = 0.01
# How often a call that waits for a link looks again.
LOOK_S = 0.25
Answer = Callable[[Any, errors.QuakeGridError | None], None]


def unreachable(words: str = "nobody answers") -> errors.PeerUnreachableError:
    """What a caller hears."""
    return errors.PeerUnreachableError(words)


def broken(words: str) -> grpc.aio.AioRpcError:
    """The same for callers that use gRPC."""
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, words)


class Calls:
    """Calls of one caller to one service.

    Args:
        network: between them.
        where: names the calls in stories.
        machine: of caller or service that is not the master; empty if both are there.
        direction: of the requests.
    """

    def __init__(self, network: Network, where: str, machine: str, direction: int) -> None:
        self._network, self._machine, self._direction = network, machine, direction
        self._channel = Channel(network.faults, where, is_call=True)
        self._made_count = self._last_served = 0

    def call(self, serve: Callable[[], Any], answer: Answer, timeout_s: float = 10.0) -> None:
        """Call a service.

        Args:
            serve: what it does; raises our errors. A stream that it opens breaks if nobody hears of it.
            answer: gets the result or the error.
            timeout_s: when a caller gives up a link that is cut.
        """
        loop = self._network.loop
        fate = self._channel.next(loop.now_s)
        self._made_count += 1
        if fate.kind is FaultKind.LOST:
            loop.call_later(LOST_S, answer, None, unreachable())
        else:
            args = (self._made_count, fate, (serve, answer, timeout_s))
            give_up_s = loop.now_s + min(timeout_s, SILENT_S)
            loop.call_later(fate.delay_s, self._pass, self._direction, give_up_s, (self._serve, args), answer)

    def _pass(
        self, direction: int, give_up_s: float, step: tuple[Callable[..., None], Any], answer: Answer
    ) -> None:
        """Go on when the link lets it through, which may be late, or never."""
        loop = self._network.loop
        if not self._network.is_cut(self._machine, direction):
            step[0](*step[1])
        elif loop.now_s >= give_up_s:
            answer(None, unreachable())
        else:
            loop.call_later(LOOK_S, self._pass, direction, give_up_s, step, answer)

    def _serve(self, number: int, fate: Fate, call: tuple[Callable[[], Any], Answer, float]) -> None:
        serve, answer, timeout_s = call
        loop = self._network.loop
        if number < self._last_served:
            self._network.faults.count(FaultKind.OVERTAKEN)
        self._last_served = max(number, self._last_served)
        result, error = None, None
        try:
            result = serve()
        except errors.QuakeGridError as exc:
            error = exc

        def tell(told: Any, error: errors.QuakeGridError | None) -> None:
            if isinstance(result, Stream) and error is not None:
                result.break_up("its answer was lost")
            answer(told, error)

        if fate.kind is FaultKind.REPEATED:
            loop.call_later(LOST_S, tell, None, unreachable())
        else:
            step = tell, (result, error)
            give_up_s = loop.now_s + min(timeout_s, SILENT_S)
            loop.call_later(0.001, self._pass, 1 - self._direction, give_up_s, step, tell)


class StreamEnd(Protocol):
    """Who sends over a stream, and hears of its end."""

    def on_stream_broken(self, stream: Stream) -> None:
        """The stream is gone."""


class Stream:
    """Messages from one part to another, in order.

    Args:
        network: between them.
        channel: the fates of the messages.
        machine: of the end that is not at the master.
        direction: of the messages.
        sender: hears when the stream breaks.
    """

    def __init__(
        self, network: Network, channel: Channel, machine: str, direction: int, sender: StreamEnd
    ) -> None:
        self._network, self._channel = network, channel
        self._machine, self._direction, self._sender = machine, direction, sender
        self._last_s = 0.0
        self._on_way = 0
        self.is_open = True
        self.machine = machine
        network.streams[id(self)] = self
        self._stalled: list[Any] = []
        self._early: list[Any] = []  # what came before the receiver knew that there is a stream
        self._take: Callable[[Any], None] = self._early.append
        self._end: Callable[[str | None], None] = lambda _words: None
        self._end_words: str | None = None

    def read(self, take: Callable[[Any], None], end: Callable[[str | None], None]) -> None:
        """The receiver reads from now on.

        Args:
            take: called with each message.
            end: called with why it broke; None if it ended in order.
        """
        early, self._early = self._early, []
        self._take, self._end = take, end
        for message in early:
            take(message)
        if not self.is_open:
            end(self._end_words)

    def send(self, message: Any) -> None:
        """Send a message."""
        if not self.is_open:
            return
        loop = self._network.loop
        fate = self._channel.next(loop.now_s)
        self._on_way += 1
        if fate.kind is FaultKind.BROKEN:
            self.break_up("the connection broke")
            return
        at_s = self._last_s = max(loop.now_s + fate.delay_s, self._last_s + 1e-6)
        loop.call_at(at_s, self._arrive, message)

    def finish(self) -> None:
        """End it in order, after what was sent."""
        self._network.loop.call_at(max(self._network.loop.now_s, self._last_s) + 1e-6, self._finish, None)

    def break_up(self, words: str) -> None:
        """It breaks; what is on the way is lost, and both ends hear of it."""
        if self.is_open:
            self._network.faults.count(FaultKind.LOST, self._on_way)
            self._finish(words)
            self._sender.on_stream_broken(self)

    def leave(self) -> None:
        """The receiver is gone: the sender hears of it if it can."""
        if self.is_open:
            self.is_open = False
            self._network.streams.pop(id(self), None)
            self._network.loop.call_later(0.002, self._sender.on_stream_broken, self)

    def look(self) -> None:
        """The link was cut some time ago; if it still is, both ends give it up."""
        if self.is_open and not self._network.is_reachable(self._machine):
            self.break_up("nothing was heard")

    def resume(self) -> None:
        """The link is there again."""
        held, self._stalled = self._stalled, []
        self._network.faults.count(FaultKind.LATE, len(held))
        for message in held:
            self._arrive(message)

    def _arrive(self, message: Any) -> None:
        if not self.is_open:
            return
        if self._stalled or self._network.is_cut(self._machine, self._direction):
            self._stalled.append(message)
            return
        self._on_way -= 1
        self._take(message)

    def _finish(self, words: str | None) -> None:
        if self.is_open:
            self.is_open = False
            self._network.streams.pop(id(self), None)
            self._end_words = words
            self._end(words)


class Agentlike(Protocol):
    """A node, as the channel of a broker reaches it."""

    machine: str
    is_powered: bool
    is_agent_up: bool

    def order(self, method: str, request: Any) -> Any:
        """Do what the broker orders; raises our errors."""

    def watch(self, stream: Stream) -> None:
        """Tell everything over a stream from now on."""


class NodeChannel:
    """A channel of the broker to an agent, for the generated stubs.

    Args:
        network: between them.
        node: that the agent is on.
        calls: of brokers to this agent.
        telling: the fates of what the agent tells.
    """

    def __init__(self, network: Network, node: Agentlike, calls: Calls, telling: Channel) -> None:
        self._network, self._node, self._calls, self._telling = network, node, calls, telling
        self._streams: list[Stream] = []
        self._queues: list[asyncio.Queue[Any]] = []
        self._waiting: dict[asyncio.Future[Any], None] = {}
        self._unanswered_count = 0
        self.is_closed = False

    def unary_unary(self, method: str, **_rest: Any) -> Callable[..., Any]:
        """A call of one request and one answer."""
        name = method.rpartition("/")[2]

        async def call(request: Any, *, timeout: float = 10.0) -> Any:  # noqa: ASYNC109 - as gRPC's
            future: asyncio.Future[Any] = self._network.loop.create_future()
            self._waiting[future] = None

            def answer(result: Any, error: errors.QuakeGridError | None) -> None:
                if future.done():
                    return
                if error is None:
                    future.set_result(result)
                    return
                future.set_exception(broken(str(error)))
                self._unanswered_count += 1
                if self._unanswered_count % 2 == 1:
                    return  # only this call was left unanswered
                for stream in self._streams:  # it was on the same connection
                    stream.break_up(str(error))

            self._calls.call(lambda: self._order(name, request), answer, timeout)
            try:
                return await future
            finally:
                self._waiting.pop(future, None)

        return call

    def unary_stream(self, _method: str, **_rest: Any) -> Callable[..., AsyncIterator[Any]]:
        """The stream of what the agent tells."""

        async def call(_request: Any) -> AsyncIterator[Any]:
            queue: asyncio.Queue[Any] = asyncio.Queue()
            stream = Stream(self._network, self._telling, self._node.machine, UP, _Watcher(self._node))
            stream.read(
                queue.put_nowait, lambda words: queue.put_nowait(broken(words or "its agent stopped"))
            )
            self._streams.append(stream)
            self._queues.append(queue)
            if not self._node.is_powered or not self._network.is_reachable(self._node.machine):
                await asyncio.Event().wait()  # nobody says that nobody is there
            await asyncio.sleep(REFUSED_S)
            if not self._node.is_agent_up:
                raise broken("the connection was refused")
            self._node.watch(stream)
            while not isinstance(message := await queue.get(), BaseException):
                yield message
            raise message

        return call

    async def close(self, _grace: float | None = None) -> None:
        """End all calls; who reads a stream is cancelled, as gRPC does it."""
        self.is_closed = True
        for queue in self._queues:
            queue.put_nowait(asyncio.CancelledError())
        for stream in self._streams:
            stream.leave()
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(broken("the channel was closed"))

    def _order(self, name: str, request: Any) -> Any:
        if self.is_closed or not self._node.is_powered or not self._node.is_agent_up:
            raise unreachable("its agent is not there")
        return self._node.order(name, request)


class _Watcher:
    """The agent's end of a stream."""

    def __init__(self, node: Any) -> None:
        self._node = node

    def on_stream_broken(self, stream: Stream) -> None:
        """Tell nothing over it any more."""
        if stream in self._node.watchers:
            self._node.watchers.remove(stream)


__all__ = ["DOWN", "UP", "Calls", "NodeChannel", "Stream", "broken", "unreachable"]
