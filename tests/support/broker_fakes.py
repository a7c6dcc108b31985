"""A broker whose nodes, lanes and database are in memory; what they say goes through the real messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc

from quakegrid import errors
from quakegrid.api.v1 import jobs_pb2, nodes_pb2
from quakegrid.clients.dbserver import job_messages
from quakegrid.internal.v1 import orders_pb2, sessions_pb2
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job
from quakegrid.nodes.fingerprint import CLOCK_FITS
from quakegrid.services.broker.broker import Broker, Outside
from quakegrid.services.broker.drivers.session import DriverSession
from quakegrid.services.broker.nodes.link import AgentListener, NodeLink
from quakegrid.services.broker.nodes.orders import WorkerNeeds
from quakegrid.settings import lane_secrets
from quakegrid.settings.config import Settings
from quakegrid.transport.keys import lane_keys
from quakegrid.wire.v1 import lane_pb2
from tests.support.fake_agent import FakeAgent

NODE = "127.0.0.1"


class FakeLink:
    """An agent that does what it is told; while its link is cut it hears nothing and says nothing."""

    def __init__(self, _settings: Settings, host: str, address: str, listener: AgentListener) -> None:
        self.host, self.address, self.listener = host, address, listener
        self.orders = self
        self.clock = CLOCK_FITS
        self.is_reached = True
        self.status: nodes_pb2.AgentStatus | None = None
        self.sample: nodes_pb2.NodeSample | None = None
        self.proof_kind = nodes_pb2.NODE_PROOF_KIND_AUTHKEY
        self.workers: dict[str, int] = {}
        self.drivers: set[int] = set()
        self.flushed: list[int] = []
        self.process_state = orders_pb2.PROCESS_STATE_RUNNING

    async def run(self) -> None:
        """Watch for ever."""
        await asyncio.Event().wait()

    def stop(self) -> None:
        """Let go."""

    def report(self, *, is_first: bool = False, **fields: Any) -> None:
        """Tell what there is; the node is called as its host, if nothing else is said."""
        status = nodes_pb2.AgentStatus(
            **{
                "node": self.host,
                "core_count": 2,
                "all_core_count": 2,
                "template_state": "warm",
                "template_kind": nodes_pb2.TEMPLATE_KIND_WARM,
                "service_state": nodes_pb2.SERVICE_STATE_SERVING,
                "instance_id": f"agent of {self.host}",
                "workers": [
                    nodes_pb2.WorkerStatus(worker_id=name, session_id=owner)
                    for name, owner in self.workers.items()
                ],
                "drivers": [nodes_pb2.DriverStatus(pid=pid) for pid in self.drivers],
            }
            | fields
        )
        self.listener.on_status(
            self.host, nodes_pb2.AgentStatus.FromString(status.SerializeToString()), is_first
        )

    async def start_workers(
        self, session_id: int, worker_ids: Sequence[str], _needs: WorkerNeeds, **_fields: Any
    ) -> list[str]:
        """Start all that are asked for."""
        if not self.is_reached:
            return []
        self.workers |= dict.fromkeys(worker_ids, session_id)
        return list(worker_ids)

    async def stop_workers(self, session_id: int, *, is_forced: bool, worker_ids: Sequence[str] = ()) -> None:
        """End workers and tell of it."""
        assert isinstance(is_forced, bool)
        if not self.is_reached:
            return
        for name, owner in list(self.workers.items()):
            if owner == session_id and (not worker_ids or name in worker_ids):
                del self.workers[name]
                self.listener.on_worker_ended(self.host, orders_pb2.WorkerEnd(worker_id=name, is_clean=True))
        self.report()

    async def stop_driver(self, pid: int, _person: str) -> None:
        """End a driver."""
        if self.is_reached:
            self.drivers.discard(pid)

    async def find_process(self, _pid: int) -> int:
        """What the driver does."""
        return self.process_state if self.is_reached else orders_pb2.PROCESS_STATE_UNSPECIFIED

    async def flush_output(self, session_id: int) -> None:
        """All has been told."""
        self.flushed.append(session_id)


class FakeLane:
    """A lane that listens at once and keeps what it is told."""

    def __init__(self, _settings: Settings, listening: asyncio.Event) -> None:
        self.listening = listening
        self.told: list[lane_pb2.ControlMessage] = []
        self.port = 0
        self.pid, self.is_alive = 1, True
        self.on_message: Callable[[lane_pb2.ControlMessage], None] = lambda _message: None
        self.on_death: Callable[[str], None] = lambda _reason: None

    def listen(
        self,
        port: int,
        *,
        on_message: Callable[[lane_pb2.ControlMessage], None],
        on_death: Callable[[str], None],
    ) -> None:
        """Begin."""
        self.port, self.on_message, self.on_death = port, on_message, on_death
        self.listening.set()

    def report(self, counts: lane_pb2.LaneCounts) -> None:
        """Tell the counters of a session."""
        self.on_message(lane_pb2.ControlMessage(counts=counts))

    async def wait_until_ready(self) -> None:
        """It is."""

    def send(self, message: lane_pb2.ControlMessage) -> None:
        """Keep it."""
        self.told.append(lane_pb2.ControlMessage.FromString(message.SerializeToString()))

    def kill(self) -> None:
        """End."""

    async def stop(self) -> None:
        """End."""


class FakeDatabase:
    """The dbserver: the state and the reason of each job, while it is there."""

    def __init__(self) -> None:
        self.is_there = True
        self.ends: dict[int, tuple[JobState, str]] = {}

    async def transition(
        self, _channel: grpc.aio.Channel, job_id: int, state: JobState, reason: str, *, address: str
    ) -> Job:
        """Move a job."""
        if not self.is_there:
            raise errors.PeerUnreachableError(f"the dbserver does not answer at {address}")
        if job_id in self.ends:
            raise errors.StateError("it has ended")
        self.ends[job_id] = (state, reason)
        return job_messages.decode_job(jobs_pb2.Job(id=job_id, state=job_messages.encode_state(state)))


class AgentStage:
    """A broker whose links are real and lead to fake agents; lanes and database are fakes, too.

    Make it in a running event loop.

    Args:
        settings: of the cluster.
        agents: by the address that the broker knows them by.
    """

    def __init__(self, settings: Settings, agents: Mapping[str, FakeAgent]) -> None:
        self.settings = settings
        self.lanes: list[FakeLane] = []
        self.listening = asyncio.Event()
        self.database = FakeDatabase()

        def new_link(settings: Settings, host: str, address: str, listener: AgentListener) -> NodeLink:
            agent: Any = agents[address]
            return NodeLink(settings, host, address, listener, open_channel=agent.open_channel)

        def new_lane(settings: Settings) -> Any:
            self.lanes.append(FakeLane(settings, self.listening))
            return self.lanes[-1]

        self.broker = Broker(settings, Outside(new_link, new_lane, self.database.transition))
        self.broker.start()

    def open_session(self, *job_ids: int, **fields: Any) -> DriverSession:
        """A driver comes, from a host that has no agent."""
        request = sessions_pb2.OpenSessionRequest(**{"job_ids": job_ids, "host": "elsewhere"} | fields)
        session = self.broker.open_session(request)
        session.attach()
        return session

    def lane_told(self, kind: str) -> list[Any]:
        """What lanes were told of a kind."""
        messages = [message for lane in self.lanes for message in lane.told]
        return [getattr(message, kind) for message in messages if message.HasField(kind)]  # type: ignore[arg-type]


class Stage:
    """A broker with one node, and what is around it. Make it in a running event loop."""

    def __init__(self, settings: Settings) -> None:
        self.links: dict[str, FakeLink] = {}
        self.lanes: list[FakeLane] = []
        self.listening = asyncio.Event()
        self.database = FakeDatabase()
        outside: Any = Outside(self._new_link, self._new_lane, self.database.transition)  # type: ignore[arg-type]
        self._token_key = lane_keys.token_key(lane_secrets.of_broker(settings.state_dir))
        self.broker = Broker(settings, outside)
        self.broker.start()
        self.link = self.links[NODE]
        self.link.report(is_first=True)

    def _new_link(self, settings: Settings, host: str, address: str, listener: AgentListener) -> FakeLink:
        link = self.links[host] = FakeLink(settings, host, address, listener)
        return link

    def _new_lane(self, settings: Settings) -> FakeLane:
        self.lanes.append(FakeLane(settings, self.listening))
        return self.lanes[-1]

    def token(self, session_id: int) -> str:
        """What the driver of a session got from an earlier broker."""
        return lane_keys.session_token(self._token_key, session_id)

    async def session(self, *job_ids: int, **fields: Any) -> DriverSession:
        """A session of a driver on the node, with its workers started if it has its turn."""
        pid = 100 + len(self.link.drivers)
        self.link.drivers.add(pid)
        request = sessions_pb2.OpenSessionRequest(**{"job_ids": job_ids, "host": NODE, "pid": pid} | fields)
        session = self.broker.open_session(request)
        session.attach()
        await settle()
        self.link.report()
        return session

    async def close(self) -> None:
        """End the broker."""
        for link in self.links.values():
            link.is_reached = True
        await self.broker.stop()


def told(session: DriverSession) -> list[str]:
    """What the driver is told from now on, by kind."""
    kinds = []
    while not session.events.empty():
        event = session.events.get_nowait()
        kinds.append("end" if event is None else str(event.WhichOneof("event")))
    return kinds


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(30):
        await asyncio.sleep(0)


async def until(is_true: Callable[[], bool], what: str) -> None:
    """Let everything run until something is true."""
    for _ in range(20_000):
        if is_true():
            return
        await asyncio.sleep(0)
    raise AssertionError(f"it never came true: {what}")
