"""The master: the real broker in virtual time, killed and started again, with played links and lanes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from quakegrid import errors
from quakegrid.internal.v1 import sessions_pb2
from quakegrid.jobs.states import JobState
from quakegrid.services.broker.broker import Broker, Outside
from quakegrid.services.broker.drivers.session import DriverSession
from quakegrid.services.broker.nodes.link import AgentListener, NodeLink
from quakegrid.settings.config import Settings
from tests.simulation.fabric.calls import DOWN, UP, Calls, NodeChannel, Stream, unreachable
from tests.simulation.fabric.faults import Channel
from tests.simulation.parts.lanes import SimulatedLane

if TYPE_CHECKING:
    from tests.simulation.parts.drivers import SimulatedDriver
    from tests.simulation.world import World


class _DriverEnd:
    """The broker's end of a driver's stream."""

    def __init__(self, master: SimulatedMaster) -> None:
        self._master = master
        self.task: asyncio.Task[None] | None = None

    def on_stream_broken(self, _stream: Stream) -> None:
        """The call is cancelled, as gRPC does it."""
        if self.task is not None:
            self.task.cancel()


class SimulatedMaster:
    """The machine of the broker.

    Args:
        world: where it is.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.broker: Broker | None = None
        self.lanes: list[SimulatedLane] = []
        self.life = 0
        self._streams: list[Stream] = []
        self.channels: list[NodeChannel] = []
        network = world.network
        self._calls = {
            machine: Calls(network, f"broker to the agent of {machine}", machine, DOWN)
            for machine in world.nodes
        }
        self._tellings = {
            machine: Channel(network.faults, f"agent of {machine} to the broker") for machine in world.nodes
        }
        self._driver_channels: dict[int, Channel] = {}
        self._database = Calls(network, "broker to the dbserver", "", UP)

    # --- its life

    def start(self) -> None:
        """Start a broker."""
        self.life += 1
        self.broker = Broker(self._world.settings, Outside(self._new_link, self._new_lane, self._transition))  # type: ignore[arg-type]
        self.broker.start()

    def crash(self, back_s: float) -> None:
        """The broker is killed, and its lanes with it."""
        if self.broker is None:
            return
        broker, self.broker = self.broker, None
        lanes, self.lanes = self.lanes, []
        for lane in lanes:
            lane.die(None)
        for channel in self.channels:
            channel.is_closed = True
        broker.failed.set()  # nothing enters it any more
        for task in sorted(asyncio.all_tasks(self._world.loop), key=_age):
            task.cancel()
        for channel in self.channels:
            for stream in channel._streams:
                stream.leave()
        self.channels.clear()
        for stream in self._streams:
            stream.break_up("the broker was killed")
        self._streams.clear()
        self._world.loop.call_later(back_s, self.start)

    def fail_if_broken(self) -> None:
        """A bug of its own ends a broker."""
        if self.broker is not None and self.broker.failed.is_set():
            raise AssertionError("the broker came upon a bug of its own")

    # --- what it reaches

    def _new_link(self, settings: Settings, host: str, address: str, listener: AgentListener) -> NodeLink:
        def open_channel(_address: str, _proof: object, _host: str) -> Any:
            channel = NodeChannel(
                self._world.network, self._world.nodes[host], self._calls[host], self._tellings[host]
            )
            self.channels = [each for each in self.channels if not each.is_closed]
            self.channels.append(channel)
            return channel

        return NodeLink(settings, host, address, listener, open_channel=open_channel)

    def _new_lane(self, _settings: Settings) -> SimulatedLane:
        lane = SimulatedLane(self._world)
        self.lanes = [each for each in self.lanes if each.is_alive]
        self.lanes.append(lane)
        return lane

    async def _transition(
        self, _channel: object, job_id: int, state: JobState, reason: str, **_address: str
    ) -> None:
        """Move a job, as `jobs_aio.transition_job` does."""
        future: asyncio.Future[None] = self._world.loop.create_future()

        def answer(_result: Any, error: errors.QuakeGridError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self._database.call(lambda: self._world.database.transition(job_id, state, reason), answer)
        await future

    # --- what drivers and people ask for

    def _reach(self) -> Broker:
        if self.broker is None or self.broker.failed.is_set():
            raise unreachable("the broker does not answer")
        return self.broker

    def open_session(self, driver: SimulatedDriver, request: sessions_pb2.OpenSessionRequest) -> Stream:
        """OpenSession, as the servicer does it."""
        broker = self._reach()
        session = broker.open_session(request)
        channel = self._driver_channels.get(driver.pid)
        if channel is None:
            name = f"broker to {driver.program.name}"
            channel = self._driver_channels[driver.pid] = Channel(self._world.faults, name)
        end = _DriverEnd(self)
        stream = Stream(self._world.network, channel, driver.node.machine, DOWN, end)
        self._streams = [each for each in self._streams if each.is_open]
        self._streams.append(stream)
        end.task = self._world.loop.create_task(self._serve(broker, session, stream))
        return stream

    async def _serve(self, broker: Broker, session: DriverSession, stream: Stream) -> None:
        events = session.attach()
        try:
            await asyncio.sleep(0.003)  # the answer to the call goes first
            while (event := await events.get()) is not None:
                session.output.on_taken(event)
                stream.send(event)
            stream.finish()
        finally:
            with contextlib.suppress(errors.QuakeGridError):
                broker.on_stream_ended(session, events)

    def close_session(self, session_id: int, _token: str) -> None:
        """CloseSession."""
        self._reach().close_session(session_id)

    def abort(self, job_id: int) -> None:
        """A person aborts a job."""
        broker = self._reach()
        self._world.loop.create_task(self._abort(broker, job_id))

    async def _abort(self, broker: Broker, job_id: int) -> None:
        with contextlib.suppress(errors.QuakeGridError):
            await broker.abort_job(job_id, "ben")


def _age(task: asyncio.Task[Any]) -> int:
    """The number of a task, in the order of their beginnings."""
    return int(task.get_name().rpartition("-")[2])


class PlayedChannel:
    """Stands in for a channel to the dbserver."""

    async def __aenter__(self) -> AsyncIterator[None]:
        return self  # type: ignore[return-value]

    async def __aexit__(self, *_exc: object) -> None:
        """Nothing is open."""
