"""The EngineCalls service: decode, call, encode."""

from __future__ import annotations

from typing import Any

import grpc

from quakegrid import values
from quakegrid.api.v1 import engine_calls_pb2 as pb
from quakegrid.api.v1 import engine_calls_pb2_grpc
from quakegrid.errors import QuakeGridError, UsageError
from services.dbserver import actions, jobs_server
from services.dbserver.database import Readers, Session
from services.dbserver.requests import Requests
from services.dbserver.writer import Writer


class EngineCallsServicer(engine_calls_pb2_grpc.EngineCallsServicer):
    """Answers the engine's calls."""

    def __init__(self, readers: Readers, writer: Writer, requests: Requests) -> None:
        self._readers = readers
        self._writer = writer
        self._requests = requests

    def Call(  # noqa: N802  named in the proto
        self, request: pb.CallRequest, _context: grpc.ServicerContext
    ) -> pb.CallResponse:
        """Run an action or SQL."""
        try:
            args = [values.decode(arg) for arg in request.args]
        except (TypeError, ValueError) as exc:
            raise UsageError(f"an argument of {request.action} cannot be read: {exc}") from exc
        action = actions.resolve(request.action, args)
        if action.is_alone:
            result = self._writer.run_alone(action.run, request.user_name)
        elif action.is_writing:
            return self._write(action, request)
        else:
            result = action.run(self._readers.session(request.user_name))
        return pb.CallResponse(result=_encode(result))

    def _write(self, action: actions.Action, request: pb.CallRequest) -> pb.CallResponse:
        doomed_files: list[str] = []

        def run(session: Session) -> bytes:
            result = pb.CallResponse(result=_encode(action.run(session))).SerializeToString()
            doomed_files[:] = session.doomed_files  # run again if another request fails
            return result

        answer = self._requests.run_once(
            request.request_id, f"Call {request.action}", run, user_name=request.user_name
        )
        try:
            jobs_server.remove_files(doomed_files)
        except QuakeGridError as exc:  # upstream's del_calc says it so
            return pb.CallResponse(result=values.encode({"error": str(exc)}))
        return pb.CallResponse.FromString(answer.result)


def _encode(result: Any) -> pb.Value:
    try:
        return values.encode(result)
    except (TypeError, ValueError, OverflowError) as exc:
        raise UsageError(f"the result cannot be sent: {exc}") from exc
