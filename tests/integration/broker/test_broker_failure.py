"""What callers hear of a broker that has come upon a bug of its own, until its process has ended."""

from __future__ import annotations

import grpc

from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc
from quakegrid.internal.v1 import membership_pb2, membership_pb2_grpc, sessions_pb2, sessions_pb2_grpc
from quakegrid.services.broker.server import BrokerServer
from quakegrid.services.broker.status.job_totals import JobTotals
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels
from tests.support.broker_fakes import Stage
from tests.support.calls import loops


async def call_a_failed_broker(settings: Settings) -> list[grpc.StatusCode]:
    """The answers to calls that read or change its state."""
    stage = Stage(settings)
    server = BrokerServer(stage.broker, settings, JobTotals())
    await server.start()
    stage.broker.failed.set()
    codes = []
    async with grpc_channels.open_aio_channel(settings.broker_address, settings.authkey) as channel:
        sessions, fleet = sessions_pb2_grpc.SessionsStub(channel), fleet_pb2_grpc.FleetStub(channel)
        membership = membership_pb2_grpc.MembershipStub(channel)
        join = membership_pb2.JoinNodeRequest(host="node9", port=1909, instance_id="a")
        calls = [
            sessions.OpenSession(sessions_pb2.OpenSessionRequest()).read(),
            sessions.CloseSession(sessions_pb2.CloseSessionRequest(session_id=1)),
            fleet.AbortJob(fleet_pb2.AbortJobRequest(job_id=1)),
            membership.JoinNode(join),
        ]
        for call in calls:
            try:
                await call
            except grpc.aio.AioRpcError as exc:
                codes.append(exc.code())
    await server.stop(None)
    stage.broker.failed.clear()
    await stage.close()
    return codes


def test_failed_broker_is_unavailable(settings: Settings) -> None:
    """So drivers wait for the next one, as after any other end of a broker."""
    assert loops.run(call_a_failed_broker(settings)) == [grpc.StatusCode.UNAVAILABLE] * 4
