"""The calls of dbserver, broker and agent: every RPC, with messages made from its descriptor."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from quakegrid.api.v1 import (
    checksums_pb2,
    database_pb2,
    fleet_pb2,
    jobs_pb2,
    logs_pb2,
    nodes_pb2,
    outputs_pb2,
    tags_pb2,
)
from quakegrid.internal.v1 import (
    engine_calls_pb2,
    examination_pb2,
    holds_pb2,
    membership_pb2,
    orders_pb2,
    sessions_pb2,
)
from quakegrid.services.dbserver.engine import actions
from quakegrid.transport import grpc_channels
from tests.fuzz import values
from tests.fuzz.door import Door
from tests.fuzz.scenes import ClusterScene

# A call that waits for something that never comes is ended by us; streams sooner, for they go on by design.
CALL_S, STREAM_S = 10.0, 0.2
MOST_ANSWERS = 3
# A service answers with these if it did not foresee the call.
UNFORESEEN = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its path, what is sent, and whether the answer is a stream."""

    path: str
    requests: tuple[bytes, ...]
    is_stream: bool


class Rpcs(Door):
    """Calls of one service, made side by side.

    `unforeseen` counts answers that say that the service did not expect the call, by method.
    """

    protos: ClassVar[tuple[Any, ...]]
    # Their effect, if they are right, ends what neighbours do.
    left_out: ClassVar[frozenset[str]] = frozenset()
    log_bytes_each: ClassVar[int] = 1000
    batch_count: ClassVar[int] = 64
    test_count: ClassVar[int] = 960
    facts: ClassVar[dict[str, list[Any]]] = {}

    def __init__(self) -> None:
        self.unforeseen: Counter[str] = Counter()
        self._methods: list[MethodDescriptor] = [
            method
            for proto in self.protos
            for service in proto.DESCRIPTOR.services_by_name.values()
            for method in service.methods
            if method.name not in self.left_out
        ]
        self._loop: asyncio.AbstractEventLoop | None = None

    def make(self, chance: random.Random) -> Call:
        """A call."""
        method = chance.choice(self._methods)
        count = chance.choice((0, 1, 2, 3)) if method.client_streaming else 1
        path = f"/{method.containing_service.full_name}/{method.name}"
        requests = tuple(self._request(chance, method) for _ in range(count))
        return Call(path, requests, method.server_streaming or method.client_streaming)

    def address(self, scene: ClusterScene) -> str:
        """Where the service listens."""
        raise NotImplementedError

    def open(self, scene: ClusterScene) -> None:
        """Connect."""
        self._loop = asyncio.new_event_loop()
        self._scene = scene

        async def connect() -> grpc.aio.Channel:
            channel = grpc_channels.open_aio_channel(self.address(scene), scene.settings.authkey)
            await asyncio.wait_for(channel.channel_ready(), CALL_S)
            return channel

        self._channel = self._loop.run_until_complete(connect())

    def send(self, batch: Sequence[Call]) -> None:
        """Make all calls at once and wait for their ends."""
        assert self._loop is not None

        async def call_all() -> list[tuple[Call, list[bytes]]]:
            answers = await asyncio.gather(*(self._call(call) for call in batch))
            return list(zip(batch, answers, strict=True))

        self._loop.run_until_complete(self._mend(self._loop.run_until_complete(call_all())))

    def close(self) -> None:
        """Disconnect."""
        if self._loop is not None:
            self._loop.run_until_complete(self._channel.close())
            self._loop.close()
            self._loop = None

    async def _mend(self, done: list[tuple[Call, list[bytes]]]) -> None:
        """Undo what calls that were right have done to others."""

    async def _call(self, call: Call) -> list[bytes]:
        answers: list[bytes] = []

        async def requests() -> AsyncIterator[bytes]:
            for each in call.requests:
                yield each

        # On the wire all kinds of calls are streams.
        stream = self._channel.stream_stream(call.path)(
            requests(), timeout=STREAM_S if call.is_stream else CALL_S
        )
        try:
            async for answer in stream:
                answers.append(answer)
                if len(answers) == MOST_ANSWERS:
                    break
        except grpc.aio.AioRpcError as exc:
            if exc.code() in UNFORESEEN:
                self._note(call.path.rpartition("/")[2], str(exc.details()))
            elif exc.code() is grpc.StatusCode.UNAVAILABLE and "Socket closed" in str(exc.details()):
                raise ConnectionResetError(f"{call.path} was cut off") from None
        finally:
            stream.cancel()
        return answers

    async def _again(self, path: str, request: bytes) -> None:
        await self._call(Call(f"/{path}", (request,), is_stream=False))

    def _note(self, method: str, details: str) -> None:
        """Count an answer; requests that cannot be decoded are gRPC's to answer, whatever the method."""
        what = "cannot be decoded" if "DecodeError" in details else f"{method}: {details}"
        self.unforeseen[what[:200]] += 1

    def _request(self, chance: random.Random, method: MethodDescriptor) -> bytes:
        message = message_factory.GetMessageClass(method.input_type)()
        values.fill(chance, message, self.facts)
        content = values.serialize(message)
        return values.mutate(chance, content) if chance.random() < 0.05 else content


class DbserverRpcs(Rpcs):
    """Calls of the dbserver, with the engine's actions among them."""

    name: ClassVar[str] = "rpc-dbserver"
    neighbours: ClassVar[tuple[str, ...]] = ("dbserver",)
    protos: ClassVar[tuple[Any, ...]] = (
        checksums_pb2,
        database_pb2,
        engine_calls_pb2,
        holds_pb2,
        jobs_pb2,
        logs_pb2,
        outputs_pb2,
        tags_pb2,
    )
    facts: ClassVar[dict[str, list[Any]]] = {
        "action": sorted(actions.NAMES),
        "job_id": [-1, 0, 1, 2, 3, -2],
        "id": [-1, 0, 1, 2, 3],
        "sql": [
            "SELECT 1",
            "SELECT * FROM job",
            "SELECT",
            "PRAGMA user_version",
            "SELECT ?x, ?x",
            "x" * 70_000,
        ],
        "page_size": [-1, 0, 1, 1000, 1 << 30],
        "user_name": ["a", ""],
    }

    def address(self, scene: ClusterScene) -> str:
        """Where the dbserver listens."""
        return f"127.0.0.1:{scene.settings.dbserver_port}"


class BrokerRpcs(Rpcs):
    """Calls of the broker. Sessions that it admits are closed, nodes that join are forgotten."""

    name: ClassVar[str] = "rpc-broker"
    neighbours: ClassVar[tuple[str, ...]] = ("broker", "dbserver")
    protos: ClassVar[tuple[Any, ...]] = (fleet_pb2, membership_pb2, sessions_pb2)
    left_out: ClassVar[frozenset[str]] = frozenset(
        {"StopNodes", "RestartNodes", "SetNodeCores", "ForgetNode", "LeaveNode"}
    )
    facts: ClassVar[dict[str, list[Any]]] = {
        "resumed_session_id": [0, 0, 1, 1 << 62],
        "weight": [0, 1, 0.01, 100],
    }

    def address(self, scene: ClusterScene) -> str:
        """Where the broker listens."""
        return scene.settings.broker_address

    async def _mend(self, done: list[tuple[Call, list[bytes]]]) -> None:
        for call, answers in done:
            name = call.path.rpartition("/")[2]
            if name == "OpenSession":
                events = [sessions_pb2.OpenSessionResponse.FromString(each) for each in answers]
                for event in events:
                    if event.HasField("admitted"):
                        closing = sessions_pb2.CloseSessionRequest(session_id=event.admitted.session_id)
                        await self._again(
                            "quakegrid.internal.v1.Sessions/CloseSession", closing.SerializeToString()
                        )
            elif name == "JoinNode" and answers:
                joined = membership_pb2.JoinNodeResponse.FromString(answers[0])
                forget = fleet_pb2.ForgetNodeRequest(host=joined.host)
                await self._again("quakegrid.api.v1.Fleet/ForgetNode", forget.SerializeToString())


class AgentRpcs(Rpcs):
    """Calls of an agent. Workers that it starts are stopped again, and it goes on serving."""

    name: ClassVar[str] = "rpc-agent"
    neighbours: ClassVar[tuple[str, ...]] = ("agent", "broker")
    protos: ClassVar[tuple[Any, ...]] = (orders_pb2, nodes_pb2, examination_pb2)
    left_out: ClassVar[frozenset[str]] = frozenset({"RestartServing", "Leave", "Join"})
    facts: ClassVar[dict[str, list[Any]]] = {
        "width": [0, 1, 2, (1 << 32) - 1],
        "session_id": [7],
        "server_public": ["0" * 40],
        "client_public": ["0" * 40],
        "client_secret": ["0" * 40],
    }

    def address(self, scene: ClusterScene) -> str:
        """Where the agent listens."""
        return f"127.0.0.1:{scene.settings.agent_port}"

    async def _mend(self, done: list[tuple[Call, list[bytes]]]) -> None:
        for call, answers in done:
            if answers and call.path.endswith("/StartWorkers"):
                started = orders_pb2.StartWorkersRequest.FromString(call.requests[0])
                for session_id in {each.session_id for each in started.workers}:
                    stop = orders_pb2.StopWorkersRequest(session_id=session_id, force=True)
                    await self._again("quakegrid.internal.v1.Orders/StopWorkers", stop.SerializeToString())
        serve = nodes_pb2.StartServingRequest(core_count=-1)
        await self._again("quakegrid.api.v1.Nodes/StartServing", serve.SerializeToString())
