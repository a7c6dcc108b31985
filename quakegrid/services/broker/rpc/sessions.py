"""The calls of drivers: decode, call the broker, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from quakegrid.internal.v1 import sessions_pb2, sessions_pb2_grpc
from quakegrid.services.broker.broker import Broker
from quakegrid.services.broker.rpc import peer_input
from quakegrid.services.broker.rpc.answers import Context, answering
from quakegrid.transport import callers


class SessionsServicer(sessions_pb2_grpc.SessionsServicer):
    """See protos/quakegrid/internal/v1/sessions.proto."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def OpenSession(  # noqa: N802
        self,
        request: sessions_pb2.OpenSessionRequest,
        context: grpc.aio.ServicerContext[sessions_pb2.OpenSessionRequest, sessions_pb2.OpenSessionResponse],
    ) -> AsyncIterator[sessions_pb2.OpenSessionResponse]:
        """OpenSession, see the contract."""
        principal = callers.current()
        request.user_name = principal.asker(request.user_name)
        async with answering(context):
            await self._broker.speakers.check_jobs(request, principal)
            session = self._broker.open_session(request, principal)
        events = session.attach()
        try:
            await context.send_initial_metadata(())  # the driver is heard, whatever we have to say
            while (event := await events.get()) is not None:
                session.output.on_taken(event)
                yield event
        finally:
            self._broker.on_stream_ended(session, events)

    async def CloseSession(  # noqa: N802
        self,
        request: sessions_pb2.CloseSessionRequest,
        context: grpc.aio.ServicerContext[
            sessions_pb2.CloseSessionRequest, sessions_pb2.CloseSessionResponse
        ],
    ) -> sessions_pb2.CloseSessionResponse:
        """CloseSession, see the contract."""
        async with answering(context):
            self._broker.speakers.check(request.session_id, request.session_token, callers.current())
            self._broker.close_session(request.session_id)
        return sessions_pb2.CloseSessionResponse()

    async def FlushSessionOutput(  # noqa: N802
        self,
        request: sessions_pb2.FlushSessionOutputRequest,
        context: grpc.aio.ServicerContext[
            sessions_pb2.FlushSessionOutputRequest, sessions_pb2.FlushSessionOutputResponse
        ],
    ) -> sessions_pb2.FlushSessionOutputResponse:
        """FlushSessionOutput, see the contract."""
        async with answering(context):
            self._broker.speakers.check(request.session_id, request.session_token, callers.current())
        await self._broker.flush_output(request.session_id)
        return sessions_pb2.FlushSessionOutputResponse()

    async def TellStages(  # noqa: N802
        self, request: sessions_pb2.TellStagesRequest, context: Context
    ) -> sessions_pb2.TellStagesResponse:
        """TellStages, see the contract."""
        async with answering(context):
            self._broker.speakers.check(request.session_id, request.session_token, callers.current())
            peer_input.check_stages(request.stages)
            self._broker.note_stages(request.session_id, tuple(request.stages))
        return sessions_pb2.TellStagesResponse()
