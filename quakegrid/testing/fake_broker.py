"""A broker for tests of drivers: it says what the test wants on each stream, and admits nobody by itself.

`FakeBroker.connect` gives a `Session` a connection in memory, without sockets; added to a gRPC server as the
service `Sessions` it answers over a real one. Either way requests and answers are encoded and decoded.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from quakegrid.internal.v1 import orders_pb2, sessions_pb2, sessions_pb2_grpc
from quakegrid.settings import lane_secrets
from quakegrid.settings.config import Settings
from quakegrid.transport.keys import lane_keys

WAIT_S = 20.0
_LOOK_S = 0.01
Request = sessions_pb2.OpenSessionRequest
Response = sessions_pb2.OpenSessionResponse


class FakeStreamError(grpc.RpcError):
    """A stream in memory that broke, as gRPC tells it."""

    def code(self) -> grpc.StatusCode:
        """The broker is gone."""
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        """In the words of gRPC, which nobody reads."""
        return "the test wants it"


class FakeBroker(sessions_pb2_grpc.SessionsServicer):
    """The sessions of a broker."""

    def __init__(self) -> None:
        # What drivers asked for, in order.
        self.requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        # What the next stream says; None breaks it.
        self.answers: queue.SimpleQueue[Response | None] = queue.SimpleQueue()
        self.closed = threading.Event()  # a driver has closed its session
        self.flush_count = 0
        self.stages: queue.SimpleQueue[sessions_pb2.TellStagesRequest] = queue.SimpleQueue()
        self.is_up = True  # connections in memory are refused while it is not

    # --- what the test wants

    def admit(self, settings: Settings, session_id: int, lane_endpoint: str, core_count: int = 2) -> None:
        """Admit the session, or admit it again."""
        token = lane_keys.session_token(
            lane_keys.token_key(lane_secrets.of_broker(settings.state_dir)), session_id
        )
        door = lane_keys.curve_keys(lane_secrets.of_broker(settings.state_dir)).door
        keys = orders_pb2.LaneKeys(
            server_public=door.server_public.decode(),
            client_public=door.client_public.decode(),
            client_secret=door.client_secret.decode(),
        )
        admitted = sessions_pb2.SessionAdmitted(
            session_id=session_id,
            lane_endpoint=lane_endpoint,
            core_count=core_count,
            session_token=token,
            lane_keys=keys,
        )
        self.answers.put(Response(admitted=admitted))

    def tell(self, **event: Any) -> None:
        """Say anything else, such as `queued={"ahead_job_ids": [7]}`."""
        self.answers.put(Response(**event))

    def break_stream(self) -> None:
        """End the stream as a broker does that is killed."""
        self.answers.put(None)

    def hear(self) -> Request:
        """The next request for a session.

        Raises:
            queue.Empty: there was none in time.
        """
        return self.requests.get(timeout=WAIT_S)

    # --- in memory

    def connect(self, _settings: Settings) -> MemoryLink:
        """A connection in memory, for `Session`."""
        return MemoryLink(self)

    def stream(self, is_active: Callable[[], bool]) -> Iterator[Response]:
        """What one stream says.

        Raises:
            FakeStreamError: the test breaks it.
        """
        while is_active():
            try:
                answer = self.answers.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if answer is None:
                raise FakeStreamError
            yield Response.FromString(answer.SerializeToString())

    # --- the service

    def OpenSession(self, request: Request, context: grpc.ServicerContext) -> Iterator[Response]:  # noqa: N802
        """A stream."""
        self.requests.put(request)
        context.send_initial_metadata(())
        try:
            yield from self.stream(context.is_active)
        except FakeStreamError as exc:
            context.abort(exc.code(), exc.details())

    def FlushSessionOutput(  # noqa: N802
        self,
        request: sessions_pb2.FlushSessionOutputRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> sessions_pb2.FlushSessionOutputResponse:
        """All that workers printed has been told."""
        self.flush_count += 1
        self.tell(output_flushed={"session_id": request.session_id})
        return sessions_pb2.FlushSessionOutputResponse()

    def CloseSession(  # noqa: N802
        self,
        request: sessions_pb2.CloseSessionRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> sessions_pb2.CloseSessionResponse:
        """A driver's end."""
        self.closed.set()
        return sessions_pb2.CloseSessionResponse()

    def TellStages(  # noqa: N802
        self,
        request: sessions_pb2.TellStagesRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> sessions_pb2.TellStagesResponse:
        """How far a driver is."""
        self.stages.put(request)
        return sessions_pb2.TellStagesResponse()


class MemoryStream:
    """One call of `OpenSession` in memory.

    Args:
        broker: that answers.
    """

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self._is_active = broker.is_up

    def initial_metadata(self) -> object:
        """Comes at once."""
        return ()

    def is_active(self) -> bool:
        """Whether the call goes on."""
        return self._is_active

    def cancel(self) -> None:
        """The driver ends the call."""
        self._is_active = False

    def __iter__(self) -> Iterator[Response]:
        if not self._is_active:
            raise FakeStreamError
        yield from self._broker.stream(self.is_active)


class MemoryLink:
    """A connection in memory.

    Args:
        broker: at its other end.
    """

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self._stream: MemoryStream | None = None

    def open(self, request: Request) -> MemoryStream:
        """Ask for a session."""
        if self._broker.is_up:
            self._broker.requests.put(Request.FromString(request.SerializeToString()))
        self._stream = MemoryStream(self._broker)
        return self._stream

    def flush_output(self, session_id: int, token: str, timeout_s: float) -> None:  # noqa: ARG002
        """Ask for what the workers have printed."""
        self._check()
        self._broker.flush_count += 1
        self._broker.tell(output_flushed={"session_id": session_id})

    def close_session(self, session_id: int, token: str, timeout_s: float) -> None:  # noqa: ARG002
        """Tell of the session's end."""
        self._check()
        self._broker.closed.set()

    def tell_stages(self, request: sessions_pb2.TellStagesRequest, timeout_s: float) -> None:  # noqa: ARG002
        """Tell how far the driver is."""
        self._check()
        self._broker.stages.put(sessions_pb2.TellStagesRequest.FromString(request.SerializeToString()))

    def close(self) -> None:
        """End the connection, and its stream."""
        if self._stream is not None:
            self._stream.cancel()

    def _check(self) -> None:
        if not self._broker.is_up:
            raise FakeStreamError
